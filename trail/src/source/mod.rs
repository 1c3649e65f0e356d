//! One journal's files, read from a position on: what a later checkpoint states to be on disk, under
//! checkpoints that the registry's audit keys signed. Nothing in the files is changed.

mod ends;
mod error;
mod said;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::walk::{Place, Seal, Stop, Walk, WalkStep};
use host::clock::now;
use signing_core::Moment;
use signing_core::journal::{AuditKeys, Head, Leaf, Outline};
use signing_core::tree::{Inclusion, LogId, Recent, SignedCheckpoint, TreeHash};

use crate::event::{Entry, Event, Owner, has_row, of_record};
use crate::lines;
use crate::plan::{Position, gap};

pub(crate) use ends::Ends;
pub use error::SourceError;
pub use said::Said;

/// The records of one or more writes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Their rows.
    pub events: Vec<Event>,
    /// The checkpoint that covers them and all before.
    pub checkpoint: SignedCheckpoint,
}

/// A write: what was made of its records, and the checkpoint that ends it.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its rows; none where lines are made.
    pub events: Vec<Event>,
    /// How many rows it has, whether or not they were taken out.
    pub rows: usize,
    /// A line for each record, as `audit export` writes them; none where rows are made.
    pub lines: Vec<String>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// When its first record was written.
    pub at: String,
}

/// Writes that wait in memory at most, most of which have no row: a journal may be weeks ahead of its sink.
pub(crate) const WRITES_MAX: usize = 100_000;

/// How often whoever is behind looks how far the journal goes: the lag is not what was read ahead.
const LOOK_AHEAD_EVERY: Duration = Duration::from_secs(5);

/// Heads that are kept for [`Source::take_passed`] at most: all of a batch.
const PASSED_MAX: usize = WRITES_MAX;

/// What is made of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOutput {
    /// Rows, of those that have one.
    Rows,
    /// A line of each.
    Lines,
}

/// A journal from a position on.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    owner: Owner,
    keys: AuditKeys,
    makes: SourceOutput,
    walk: Walk,
    log: LogId,
    oldest: u64,
    position: Position,
    /// The tree up to where it has read; none before the first record.
    recent: Option<Recent>,
    /// Records with rows since the newest checkpoint.
    open: Vec<Entry>,
    /// Lines since then.
    lines: Vec<String>,
    opened_at: Option<String>,
    ready: VecDeque<Write>,
    /// Rows and lines in `ready`.
    rows: usize,
    /// The checkpoint that the position is.
    taken: Option<SignedCheckpoint>,
    /// The newest checkpoint that was read.
    newest: Option<SignedCheckpoint>,
    /// What its writer said by itself.
    said: Said,
    /// The newest record that is known to be on disk.
    durable: u64,
    /// Whether all that is here counts as on disk: nobody writes on.
    is_copy: bool,
    /// Checkpoints that the sink holds, since they were last taken.
    passed: VecDeque<Head>,
    /// Whether what is here up to the position is what the sink holds, as far as it is here.
    is_the_same: bool,
    /// Whether the journal went no further when it was read.
    is_at_end: bool,
    /// Whether it was read up to what its writer said, and no further.
    is_as_said: bool,
    /// The newest record that is there, and when that was looked for; none where all was read.
    end: Option<(Moment, u64)>,
    ends: Ends,
}

/// The log of a journal, and the oldest record that is here.
///
/// # Errors
/// [`Stop`].
pub fn identify(path: &Path) -> Result<(LogId, u64), Stop> {
    let mut walk = Walk::open(path, 1)?;
    let oldest = walk.segments().first().map_or(1, |segment| segment.first_seq);
    walk.step()?;
    let log = walk.log().ok_or_else(|| Stop::NoJournal(path.to_owned()))?;
    Ok((log, oldest))
}

impl Source {
    /// Reads on from `position`. What is gone before it is for [`Source::gap`] to say.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn open(
        path: &Path,
        owner: Owner,
        keys: AuditKeys,
        makes: SourceOutput,
        position: Position,
    ) -> Result<Self, SourceError> {
        let (log, oldest) = identify(path)?;
        let walk = Walk::open(path, position.shipped.max(1))?;
        Ok(Self {
            path: path.to_owned(),
            owner,
            keys,
            makes,
            walk,
            log,
            oldest,
            position,
            recent: None,
            open: Vec::new(),
            lines: Vec::new(),
            opened_at: None,
            ready: VecDeque::new(),
            rows: 0,
            taken: None,
            newest: None,
            said: Said::default(),
            durable: 0,
            is_copy: false,
            passed: VecDeque::new(),
            is_the_same: false,
            is_at_end: false,
            is_as_said: false,
            end: None,
            ends: Ends::default(),
        })
    }

    /// The same of a copy: all that a checkpoint covers in it is on a disk, whether or not the writer had said so
    /// when its files were copied, one after the other.
    #[must_use]
    pub fn as_copy(self) -> Self {
        Self { is_copy: true, ..self }
    }

    /// Which log it is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Records that were gone before they were shipped.
    #[must_use]
    pub fn gap(&self) -> Option<(u64, u64)> {
        gap(self.position, self.oldest)
    }

    /// The root of everything before the oldest record here, as the oldest header says.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn root_before(&self) -> Result<TreeHash, SourceError> {
        let mut walk = Walk::open(&self.path, self.oldest)?;
        walk.step()?;
        Ok(walk.header().map_or(TreeHash::empty(), |header| header.before().root))
    }

    /// Reads on until there are `rows_max` rows or lines or so many writes as may wait, or to the end.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(&mut self, rows_max: usize) -> Result<(), SourceError> {
        let mut looked_again = false;
        (self.is_at_end, self.is_as_said) = (false, false);
        if self.is_read_as_said() {
            return Ok(());
        }
        self.ends.begin(&mut self.walk);
        while self.rows < rows_max && self.ready.len() < WRITES_MAX {
            match self.walk.step()? {
                WalkStep::Record(place) => self.record(place)?,
                WalkStep::Sealed(seal) => {
                    self.sealed(seal)?;
                    if self.is_read_as_said() {
                        return Ok(());
                    }
                }
                WalkStep::End | WalkStep::TornWrite(_) if !looked_again => {
                    looked_again = true;
                    self.ends.found(&mut self.walk);
                    self.walk.look_again()?;
                }
                WalkStep::End | WalkStep::TornWrite(_) => {
                    self.at_end()?;
                    (self.is_at_end, self.end) = (true, None);
                    break;
                }
            }
        }
        if !self.is_at_end && self.end.is_none_or(|(at, _)| now().since(at) >= LOOK_AHEAD_EVERY) {
            self.end = Some((now(), audit::walk::newest(&self.path)?.size));
        }
        Ok(())
    }

    /// Whether the journal went no further when it was last read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether nothing that was read waits here, to be taken out or to be on disk.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ready.is_empty() && self.opened_at.is_none()
    }

    /// Whether so many rows or lines wait: there is more to read.
    #[must_use]
    pub fn has(&self, rows: usize) -> bool {
        self.rows >= rows
    }

    /// Everything up to here may be shipped.
    #[must_use]
    pub fn available(&self) -> u64 {
        let may = self.ready.iter().rev().find(|write| write.size() <= self.durable);
        may.map_or(self.position.shipped, Write::size)
    }

    /// The newest record of the journal, as far as it was read or, by whoever is behind, last looked for.
    #[must_use]
    pub fn newest(&self) -> u64 {
        let read = self.newest.as_ref();
        let read = read.map_or(self.position.shipped, |newest| newest.checkpoint().size);
        read.max(self.end.map_or(0, |(_, end)| end))
    }

    /// Whether any record that may be shipped has a row of its own.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        let mut may = self.ready.iter().take_while(|write| write.size() <= self.durable);
        may.any(|write| write.rows > 0)
    }

    /// When the oldest record was written that is not shipped.
    #[must_use]
    pub fn oldest_at(&self) -> Option<&str> {
        self.ready.front().map(|write| write.at.as_str()).or(self.opened_at.as_deref())
    }

    /// What may be shipped, in about `rows_max` rows, which are taken out. Their writes stay here until
    /// [`Source::shipped`]; whoever cannot ship them has to read anew. None before there is a checkpoint.
    #[must_use]
    pub fn batch(&mut self, rows_max: usize) -> Option<Batch> {
        let mut events = Vec::new();
        let mut checkpoint = self.taken.as_ref();
        let durable = self.durable;
        for write in self.ready.iter_mut().take_while(|write| write.size() <= durable) {
            if !events.is_empty() && events.len() + write.rows > rows_max {
                break;
            }
            events.append(&mut write.events);
            checkpoint = Some(&write.checkpoint);
        }
        let checkpoint = checkpoint?.clone();
        Some(Batch { events, checkpoint })
    }

    /// The next write that may be shipped, taken out.
    pub fn take_write(&mut self) -> Option<Write> {
        let may = |write: &mut Write| write.size() <= self.durable;
        let write = self.ready.pop_front_if(may)?;
        self.rows -= write.rows();
        let said = *write.checkpoint.checkpoint();
        self.position = Position { shipped: said.size, root: said.root, ..self.position };
        Some(write)
    }

    /// The journal's checkpoints that the sink holds, in their order, each once. None before the position was
    /// reached: a journal that was put back and grew holds other records there.
    pub fn take_passed(&mut self) -> VecDeque<Head> {
        if self.is_the_same { std::mem::take(&mut self.passed) } else { VecDeque::new() }
    }

    fn pass(&mut self, head: Head) {
        if self.passed.len() >= PASSED_MAX {
            self.passed.pop_front();
        }
        self.passed.push_back(head);
    }

    /// The sink holds everything up to `position`.
    pub fn shipped(&mut self, position: Position) {
        while let Some(write) = self.ready.pop_front_if(|write| write.size() <= position.shipped) {
            self.rows -= write.rows();
            self.pass(Head::of(write.checkpoint.checkpoint()));
            self.taken = Some(write.checkpoint);
        }
        self.position = position;
    }

    fn record(&mut self, place: Place) -> Result<(), SourceError> {
        let Leaf { seq, hash } = place.leaf;
        if self.recent.is_none() {
            // The first record of a segment: its header holds the tree before it.
            let header = self.walk.header();
            self.recent = header.map(|header| Recent::since(header.frontier.clone()));
            if let Some(header) = header {
                let checkpoint = header.checkpoint.clone();
                let before = Head::of(checkpoint.checkpoint());
                self.is_known(before)?;
                // A proxy may wait for the end of the segment before, which is not read.
                if before.size <= self.position.shipped {
                    self.pass(before);
                }
                if checkpoint.checkpoint().size == self.position.shipped {
                    self.taken = Some(checkpoint.clone());
                }
                // What was removed before it was shipped is a gap, which is named.
                self.is_the_same |= checkpoint.checkpoint().size >= self.position.shipped;
            }
        }
        if let Some(recent) = &mut self.recent {
            recent.push(hash);
            if seq == self.position.shipped {
                // No write needs to end here in a journal that was put back: the tree itself is compared.
                let root = recent.now().root();
                self.is_known(Head { size: seq, root })?;
                self.is_the_same = true;
            }
        }
        if seq <= self.position.shipped {
            return Ok(());
        }
        let unknown = || SourceError::Unknown { path: self.path.clone(), seq };
        let body = self.walk.body(&place);
        let (outline, kind) = Outline::parse(body).ok_or_else(unknown)?;
        self.opened_at.get_or_insert_with(|| outline.at.clone());
        match self.makes {
            SourceOutput::Lines => {
                self.lines.push(lines::of_record(&self.log.origin(), &place.leaf, &outline));
            }
            SourceOutput::Rows if has_row(kind) => {
                let body = body.to_vec();
                self.open.push(Entry { leaf: place.leaf, kind, outline, body });
            }
            SourceOutput::Rows => {}
        }
        Ok(())
    }

    fn sealed(&mut self, seal: Seal) -> Result<(), SourceError> {
        let Seal { checkpoint, durable, .. } = seal;
        let head = Head::of(checkpoint.checkpoint());
        // The same bytes were verified when the proxy said them.
        if !self.said.has(&checkpoint) {
            self.keys.verify(&checkpoint).map_err(|error| SourceError::Checkpoint {
                path: self.path.clone(),
                size: head.size,
                error,
            })?;
        }
        self.is_known(head)?;
        self.durable = self.durable.max(durable);
        let entries = std::mem::take(&mut self.open);
        let Some(recent) = &mut self.recent else { return Ok(()) };
        let (owner, log) = (self.owner, self.log);
        let event = |entry: Entry| {
            let index = entry.leaf.seq - 1;
            let path = recent.path(index)?;
            let proof = Inclusion { index, path, checkpoint: checkpoint.clone() };
            Some(of_record(owner, log, entry, &proof))
        };
        let events: Vec<_> = entries.into_iter().filter_map(event).collect();
        recent.forget();
        self.newest = Some(checkpoint.clone());
        if head.size <= self.position.shipped {
            self.pass(head);
        }
        if head.size == self.position.shipped {
            self.taken = Some(checkpoint);
        } else if head.size > self.position.shipped {
            let at = self.opened_at.take().unwrap_or_default();
            let lines = std::mem::take(&mut self.lines);
            let write = Write { rows: events.len(), events, lines, checkpoint, at };
            self.rows += write.rows();
            self.ready.push_back(write);
        }
        Ok(())
    }

    /// Nothing more is here by now: an idle writer may have stated that all of it is on disk.
    fn at_end(&mut self) -> Result<(), SourceError> {
        let stated = audit::stated(&self.path)
            .map_err(|error| SourceError::Stated { path: self.path.clone(), error })?;
        let is_newest = |newest: &SignedCheckpoint| {
            self.is_copy
                || stated.as_ref().is_some_and(|stated| stated.checkpoint() == newest.checkpoint())
        };
        if let Some(newest) = self.newest.as_ref().filter(|newest| is_newest(newest)) {
            self.durable = self.durable.max(newest.checkpoint().size);
        }
        let size = self.walk.passed().map_or(0, |head| head.size);
        if size < self.position.shipped {
            return Err(self.other(format!("ends with record {size}")));
        }
        Ok(())
    }

    /// Whether what the sink knows is what is here.
    fn is_known(&self, head: Head) -> Result<(), SourceError> {
        let is_other = head.size == self.position.shipped && head.root != self.position.root;
        if is_other { Err(self.other(format!("has the root {} there", head.root))) } else { Ok(()) }
    }

    fn other(&self, here: String) -> SourceError {
        let known = Head { size: self.position.shipped, root: self.position.root };
        SourceError::Other { path: self.path.clone(), known, here }
    }
}

impl Write {
    fn rows(&self) -> usize {
        self.rows + self.lines.len()
    }

    /// The newest record that it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }
}
