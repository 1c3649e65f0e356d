//! The one thread that writes the journal. Its system calls, in order, and what is true if
//! the process dies at each:
//!
//! ```text
//! at the start (recovery.rs, directory.rs)
//!   open, flock          the directory; a second process is refused
//!   open, fsync, fadvise the newest segment: unwritten pages first, then the cache is
//!                        dropped, so that what is read is what the disk holds
//!   pread ...            dying here changes nothing
//!   pwrite, fdatasync    zeros over a torn write; dying before the sync: torn still, cut next time
//!
//! a batch
//!   pwrite               the records of a batch and a checkpoint that covers them, at the end.
//!                        Dying before or in it: some of this is not there, nobody was told that it
//!                        is, and the next start cuts what no checkpoint covers
//!   fdatasync            only if somebody waits for one of them, or soon after. Dying before it
//!                        returns: after a crash of the machine they may be lost, and nobody was
//!                        told. If it fails the journal is sealed: it is never tried again
//!   fstat, lstat         the file is still the one of its name: else the journal is sealed
//!                        and nobody is told
//!   ---                  from here on the records are on disk, and those who wait are told
//!
//! nothing came for a while
//!   pwrite               of the newest checkpoint into `durable`, if all that it covers is on disk:
//!                        for readers. Dying in it: they wait for the next write (stated.rs)
//!
//! another segment
//!   (another thread: unlink, open, fallocate, fsync of `next`; dying here leaves a file that is
//!   no part of the journal, and that the next preparation removes)
//!   fdatasync            of the full segment, if something in it is not on disk yet
//!   pwrite, fdatasync    header and first records into `next`
//!   renameat2, fsync     `next` gets its name. Dying before it: the journal ends with the full
//!                        segment. After the rename, before the directory is on disk: either
//!   ---                  from here on the new segment is the journal's end
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use host::shortage;
use signing_core::Moment;
use signing_core::journal::{HEADER_BYTES, Header, Kind, Layout, Leaf};
use signing_core::tree::{Inclusion, Recent, SignedCheckpoint, Signs};

use crate::directory::Directory;
use crate::error::JournalError;
use crate::journal::{Clock, Observer, Shared};
use crate::key::AuditKey;
use crate::queue::{Job, RecordWaiter, space_of};
use crate::receipt::{Durable, Proof};
use crate::scan::segment_name;
use crate::segment::Segment;
use crate::stated::Statement;
use crate::teller::Acknowledgement;

/// Records written at once.
pub(crate) const BATCH_MAX: usize = 512;
/// Records that may lie unsynced.
pub(crate) const UNSYNCED_MAX: usize = 4096;
/// How long records for which nobody waits may lie unsynced.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// How often an idle journal's file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// When it is looked for again if the machine lacked something.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The writer's own.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Directory,
    pub(crate) segment: Segment,
    /// Where the next frame goes.
    pub(crate) end: u64,
    pub(crate) layout: Layout,
    /// All records so far; those in the buffer one by one.
    pub(crate) tree: Recent,
    /// The newest checkpoint.
    pub(crate) newest: SignedCheckpoint,
    pub(crate) key: AuditKey,
    /// The audit key before this one, until it has signed the first checkpoint of this one too.
    pub(crate) previous: Option<AuditKey>,
    /// Space that was kept for more checkpoints than were written.
    pub(crate) spared: Spared,
    pub(crate) clock: Clock,
    pub(crate) observer: Box<dyn Observer>,
    /// Where it states what is on disk while nothing comes; none: that file cannot be had.
    pub(crate) stated: Option<Statement>,
    /// The newest record that is on disk.
    pub(crate) durable: u64,
    /// Records that are not written yet.
    pub(crate) buffer: Vec<u8>,
    /// Who waits for what is written and not on disk.
    pub(crate) unsynced: Vec<Written>,
}

/// A record that is in a frame, and perhaps in the file, but not known to be on disk.
#[derive(Debug)]
pub(crate) struct Written {
    leaf: Leaf,
    pushed: Moment,
    waits: Option<RecordWaiter>,
    /// Its proof, if somebody waits for that: once a checkpoint covers it.
    proof: Option<Box<Proof>>,
    /// Its bytes until then.
    body: Vec<u8>,
}

/// Space that was kept for checkpoints and is not needed, in which segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spared {
    /// How many segments were begun before.
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
}

/// Seals the journal if the writer dies.
struct SealsWhenDead<'s>(&'s Shared);

/// Shows for as long as it lives since when the writer is at work, and so with the disk.
/// No step of the work ends it: a call that hangs is noticed whichever it is.
struct Busy<'s>(&'s SharedU64);

impl Writer {
    /// Writes until the queue is closed and empty, or until something fails.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _seals = SealsWhenDead(&shared);
        loop {
            let patience = if self.unsynced.is_empty() { LOOK_EVERY } else { SYNC_AFTER };
            let Some(jobs) = self.shared.queue.take(BATCH_MAX, patience, self.spared) else {
                break;
            };
            self.spared.bytes = 0;
            if let Err(error) = self.work(jobs) {
                return self.shared.seal(&error);
            }
        }
        let _busy = Busy::since(&shared, (self.clock.now)());
        match self.sync() {
            Ok(()) => self.state(),
            Err(error) => self.shared.seal(&error),
        }
    }

    /// One turn: a batch, or what is due when nothing came. The disk has to be done with
    /// all of it in time: slow calls add up.
    fn work(&mut self, jobs: Vec<Job>) -> Result<(), JournalError> {
        let shared = Arc::clone(&self.shared);
        let _busy = Busy::since(&shared, (self.clock.now)());
        if jobs.is_empty() {
            self.sync()?;
            self.check_place()?;
            self.state();
            return Ok(());
        }
        let count = jobs.len();
        for job in jobs {
            if job.kind == Kind::Segment {
                self.begin_segment(job)?;
            } else {
                self.frame(job);
            }
        }
        self.write()?;
        let waited_for = |written: &Written| written.waits.is_some();
        if self.unsynced.len() >= UNSYNCED_MAX || self.unsynced.iter().any(waited_for) {
            self.sync()?;
        }
        self.observer.batch(count);
        Ok(())
    }

    /// Lays out a record.
    fn frame(&mut self, job: Job) {
        let Job { kind, seq, body, pushed, waits } = job;
        let leaf = self.layout.record(seq, &body, &mut self.buffer);
        self.tree.push(leaf.hash);
        debug_assert_eq!(self.tree.now().size(), seq);
        self.spared.bytes += space_of(body.len());
        self.observer.record(kind);
        self.observer.body(kind, seq, &body);
        self.observer.leaf(leaf);
        let proves = waits.as_ref().is_some_and(|waits| waits.proves);
        let body = if proves { body } else { Vec::new() };
        self.unsynced.push(Written { leaf, pushed, waits, proof: None, body });
    }

    /// Writes what is laid out, and a checkpoint that covers it.
    fn write(&mut self) -> Result<(), JournalError> {
        if self.tree.now().size() == self.newest.checkpoint().size {
            return Ok(());
        }
        self.checkpoint();
        let written = self.segment.write(&self.buffer, self.end);
        written.map_err(|error| self.sealed("written", &error))?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        // The handover is in the file. Dying before it is on disk: the next start needs both keys again.
        self.previous = None;
        Ok(())
    }

    fn checkpoint(&mut self) {
        let Self { layout, tree, durable, key, previous, buffer, .. } = self;
        let keys = [Some(&*key), previous.as_ref()].into_iter().flatten();
        let signs: Vec<_> = keys.map(|key| (key.public(), |text: &[u8]| key.sign(text))).collect();
        let signers: Vec<Signs<'_>> =
            signs.iter().map(|(public, sign)| (*public, sign as _)).collect();
        self.newest = layout.checkpoint(tree.now(), *durable, &signers, buffer);
        let of_records = self.buffer.len() as u64;
        self.spared.bytes = self.spared.bytes.saturating_sub(of_records);
        for written in &mut self.unsynced {
            written.prove(&self.tree, &self.newest);
        }
        self.tree.forget();
    }

    /// Brings what is written to the disk, and tells those who wait.
    fn sync(&mut self) -> Result<(), JournalError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.shared.written(&self.newest);
        let began = (self.clock.now)();
        let synced = self.segment.sync();
        synced.map_err(|error| self.sealed("brought to the disk", &error))?;
        self.check_place()?;
        self.acknowledge(began);
        Ok(())
    }

    /// From here on the records are on disk, in a file that is in its place.
    fn acknowledge(&mut self, began: Moment) {
        let now = (self.clock.now)();
        self.durable = self.newest.checkpoint().size;
        self.shared.on_disk(&self.newest);
        self.observer.synced(now.since(began));
        let mut outcomes = Vec::new();
        for Written { leaf, pushed, waits, proof, .. } in self.unsynced.drain(..) {
            if let Some(waits) = waits {
                self.observer.appended(now.since(pushed));
                let durable = Durable::new(self.shared.log, leaf, proof);
                let told = Acknowledgement::new(waits.sender, durable);
                if waits.is_for_outcome {
                    outcomes.push(told);
                } else {
                    told.now();
                }
            }
        }
        match (self.shared.teller.get(), outcomes.len()) {
            // Where more than one wait, the runtime is awake.
            (Some(teller), 1) => teller.tell(outcomes),
            _ => {
                self.shared.went_on.notify_one();
                outcomes.into_iter().for_each(Acknowledgement::now);
            }
        }
    }

    /// Says for readers that all is on disk. Where this fails they wait for the next write, which
    /// says it too: no signature depends on it.
    fn state(&mut self) {
        let is_written = self.newest.checkpoint().size == self.durable;
        if let Some(stated) = self.stated.as_mut().filter(|_| is_written) {
            let _ = stated.state(&self.layout, &self.newest);
        }
    }

    /// The file and its directory are still those that are held. What the machine lacks to look
    /// does not say that they are not: nobody is told anything until it could look.
    fn check_place(&self) -> Result<(), JournalError> {
        loop {
            let looked = self.segment.is_in_place().and_then(|()| self.directory.is_in_place());
            match looked {
                Err(error) if shortage::of(&error).is_some() && !self.shared.queue.is_closed() => {
                    thread::sleep(LOOK_AGAIN);
                }
                looked => return looked.map_err(|error| self.sealed("found in its place", &error)),
            }
        }
    }

    /// Ends the segment, and begins the one that is prepared with `job`.
    fn begin_segment(&mut self, job: Job) -> Result<(), JournalError> {
        self.write()?;
        self.sync()?;
        let Some(next) = self.shared.queue.take_prepared() else {
            // The queue numbered this record because there is one.
            return Err(JournalError::Sealed("the prepared segment is gone".to_owned()));
        };
        let first = self.tree.now().size() + 1;
        let header = Header {
            checkpoint: self.newest.clone(),
            frontier: self.tree.now().clone(),
            segment_bytes: next.bytes(),
        };
        self.segment = next;
        self.end = 0;
        self.spared = Spared { segment: self.spared.segment + 1, bytes: HEADER_BYTES as u64 };
        self.buffer.extend_from_slice(&header.encode());
        self.frame(job);
        self.write()?;
        let synced = self.segment.sync();
        synced.map_err(|error| self.sealed("brought to the disk", &error))?;
        let name = segment_name(first);
        let published = self.segment.publish(self.directory.handle(), &name);
        published.map_err(|error| self.sealed("given its name", &error))?;
        self.shared.queue.published();
        Ok(())
    }

    fn sealed(&self, done: &str, error: &std::io::Error) -> JournalError {
        let path = self.segment.path().display();
        JournalError::Sealed(format!("{path} cannot be {done}: {error}"))
    }
}

impl Written {
    /// Makes the proof that somebody waits for, out of the tree in memory.
    fn prove(&mut self, tree: &Recent, checkpoint: &SignedCheckpoint) {
        if self.body.is_empty() {
            return;
        }
        let index = self.leaf.seq - 1;
        let record = std::mem::take(&mut self.body);
        self.proof = tree.path(index).map(|path| {
            let inclusion = Inclusion { index, path, checkpoint: checkpoint.clone() };
            Box::new(Proof { record, inclusion })
        });
    }
}

/// In [`Shared::busy_since`]: the writer waits for records.
pub(crate) const IDLE: u64 = 0;

impl<'s> Busy<'s> {
    fn since(shared: &'s Shared, now: Moment) -> Self {
        shared.busy_since.store(now.as_nanos(), Ordering::Release);
        Self(&shared.busy_since)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(IDLE, Ordering::Release);
    }
}

impl Drop for SealsWhenDead<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.seal(&JournalError::Sealed("its writer died".to_owned()));
        }
    }
}

/// Prepares segments ahead of the writer, on a thread of its own: a file system that is
/// slow to set space aside holds up no record.
pub(crate) fn prepare_segments(shared: &Shared, directory: &std::path::Path, bytes: u64) {
    while shared.queue.wait_until_wanted() {
        let made = Segment::prepare(directory, bytes)
            .map_err(|error| JournalError::of_next_segment(bytes, &error));
        let failed = made.is_err();
        shared.queue.prepared(made);
        shared.changed.notify_one();
        if failed {
            shared.queue.pause(LOOK_EVERY);
        }
    }
}

/// A number that several threads read.
pub(crate) type SharedU64 = AtomicU64;
