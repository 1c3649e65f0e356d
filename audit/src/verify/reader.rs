//! Goes through the segments and makes batches of whole writes.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signing_core::journal::{HEADER_BYTES, Head, Leaf};
use signing_core::tree::LogId;

use super::batch::Batch;
use super::keys::Known;
use super::{KeptHead, Options};
use crate::walk::{Defect, Place, Seal, Stop, TornWrite, Walk, WalkStep, is_being_written};

/// A batch is full with so many records, or bytes.
const BATCH_RECORDS: u64 = 256;
const BATCH_BYTES: usize = 1 << 20;
/// How often a record that is being written is looked at again, and after how long.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The reader.
pub(super) struct Reader {
    directory: PathBuf,
    walk: Walk,
    from: u64,
    /// The newest record when this began.
    to: u64,
    keys: Known,
    wanted: Wanted,
    batch: Option<Batch>,
    /// The records of the write that is read, as they lie in the file.
    write: Option<Write>,
    torn: Option<TornWrite>,
}

/// What was kept elsewhere and has to be there, as far as it was not found yet.
pub(super) struct Wanted {
    heads: Vec<KeptHead>,
    receipt: Option<Leaf>,
}

/// Records that no checkpoint was read for yet.
struct Write {
    at: u64,
    bytes: Vec<u8>,
    records: u64,
}

impl KeptHead {
    /// What is wrong, if it is of another log than the one that is read.
    fn is_of_another(&self, walk: &Walk) -> Option<String> {
        let (kept, here) = self.log.zip(walk.log()).filter(|(kept, here)| kept != here)?;
        Some(format!(
            "it is of the log {here}, and {} is of the log {kept}: another journal took its place",
            self.whose
        ))
    }
}

impl Wanted {
    pub(super) fn of(options: &Options<'_>) -> Self {
        Self { heads: options.heads.to_vec(), receipt: options.receipt }
    }
}

/// How its way ended.
pub(super) struct End {
    pub(super) log: Option<LogId>,
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) live: bool,
    pub(super) torn: Option<TornWrite>,
    /// None: at the journal's end, or nobody wanted more.
    pub(super) stop: Option<Stop>,
}

impl Reader {
    /// Reads the records of `range`, and what else there is if it is no record; `wanted` has
    /// to be there.
    pub(super) fn new(
        directory: PathBuf,
        walk: Walk,
        range: RangeInclusive<u64>,
        keys: Known,
        wanted: Wanted,
    ) -> Self {
        let (from, to) = range.into_inner();
        Self { directory, walk, from, to, keys, wanted, batch: None, write: None, torn: None }
    }

    /// Gives out batches until the end, or until `give` says that nobody takes them.
    pub(super) fn read(mut self, mut give: impl FnMut(Batch) -> bool) -> End {
        let first_index = self.walk.index();
        let stop = match self.all(&mut give) {
            Ok(()) => self.wanted_is_missing().map(Stop::Defect),
            Err(stop) => Some(stop),
        };
        // What came before the stop is checked too: a defect in it is the first.
        if let Some(batch) = self.batch.take() {
            give(batch);
        }
        End {
            log: self.walk.log(),
            segments: (self.walk.index() + 1 - first_index) as u64,
            bytes: self.walk.bytes(),
            live: is_being_written(&self.directory),
            torn: self.torn,
            stop,
        }
    }

    fn all(&mut self, give: &mut impl FnMut(Batch) -> bool) -> Result<(), Stop> {
        let mut looks = 0;
        loop {
            match self.walk.step()? {
                // It came since this began. Whoever writes may well be faster: no end then.
                WalkStep::Record(place) if place.leaf.seq > self.to => return Ok(()),
                WalkStep::Record(place) => {
                    looks = 0;
                    self.record(&place)?;
                }
                WalkStep::Sealed(seal) => {
                    if self.seal(&seal)?.is_some_and(|batch| !give(batch)) {
                        return Ok(());
                    }
                }
                WalkStep::End => return Ok(()),
                WalkStep::TornWrite(torn) if !is_being_written(&self.directory) => {
                    self.torn = Some(torn);
                    return Ok(());
                }
                WalkStep::TornWrite(_) if looks == LOOKS => return Ok(()),
                WalkStep::TornWrite(_) => {
                    looks += 1;
                    thread::sleep(LOOK_AGAIN);
                    self.walk.look_again()?;
                }
            }
        }
    }

    /// Takes a record.
    fn record(&mut self, place: &Place) -> Result<(), Stop> {
        self.keys.hear(self.walk.body(place));
        let Leaf { seq, hash } = place.leaf;
        if let Some(what) = self.wanted.heads.iter().find_map(|kept| kept.is_of_another(&self.walk))
        {
            return Err(self.defect(seq, place.at, what));
        }
        if let Some(wanted) = self.wanted.receipt.filter(|wanted| wanted.seq == seq) {
            if wanted.hash != hash {
                let what = format!(
                    "its leaf is {hash}, and the receipt's {}: the journal was replaced",
                    wanted.hash
                );
                return Err(self.defect(seq, place.at, what));
            }
            self.wanted.receipt = None;
        }
        let at = place.at;
        let write = self.write.get_or_insert_with(|| Write { at, bytes: Vec::new(), records: 0 });
        write.bytes.extend_from_slice(self.walk.raw(place));
        write.records += 1;
        Ok(())
    }

    /// Puts the write that ends here into its batch; the batch before, if this one does not fit
    /// there.
    fn seal(&mut self, seal: &Seal) -> Result<Option<Batch>, Stop> {
        let Some(mut write) = self.write.take() else { return Ok(None) };
        let head = Head::of(seal.checkpoint.checkpoint());
        let here = self.wanted.heads.extract_if(.., |kept| kept.head.size == head.size);
        if let Some(kept) = here.collect::<Vec<_>>().iter().find(|kept| kept.head != head) {
            let what = format!(
                "the root up to here is {}, and {} has {}: the journal was replaced",
                head.root, kept.whose, kept.head.root
            );
            return Err(self.defect(head.size, seal.at, what));
        }
        if head.size < self.from {
            return Ok(None);
        }
        write.bytes.extend_from_slice(self.walk.raw_seal(seal));
        let begins_segment = write.at == HEADER_BYTES as u64;
        let full = |batch: &Batch| {
            batch.records >= BATCH_RECORDS
                || batch.frames.len() + write.bytes.len() > BATCH_BYTES
                || begins_segment
        };
        let done = if self.batch.as_ref().is_some_and(full) { self.batch.take() } else { None };
        let (first, from) = (head.size - write.records + 1, self.from);
        let (keys, whose) = (Arc::clone(&self.keys.keys), self.keys.whose);
        let (walk, at) = (&self.walk, write.at);
        let batch = self.batch.get_or_insert_with(|| Batch {
            first_seq: first.max(from),
            file: Arc::new(walk.file().to_owned()),
            header: walk.header().filter(|_| begins_segment).map(|it| it.checkpoint.clone()),
            at,
            frames: Vec::with_capacity(BATCH_BYTES / 4),
            records: 0,
            keys: Arc::default(),
            whose,
        });
        batch.frames.append(&mut write.bytes);
        batch.records += write.records;
        batch.keys = keys;
        Ok(done)
    }

    /// The defect that what was kept elsewhere is not there.
    fn wanted_is_missing(&self) -> Option<Defect> {
        let heads = self.wanted.heads.iter().map(|kept| (kept.head.size, kept.whose.as_str()));
        let receipt = self.wanted.receipt.map(|leaf| (leaf.seq, "a receipt"));
        let (seq, kept) = receipt.into_iter().chain(heads).next()?;
        let newest = self.walk.passed().map_or(0, |head| head.size);
        let what = if seq > newest {
            format!(
                "it is not there, and {kept} says that it was: the journal ends with record \
                 {newest}; it was cut short, or an older copy took its place"
            )
        } else if seq < self.from {
            format!(
                "it was moved away: what is here begins with record {}; bring its segment back \
                 to check {kept} of it",
                self.from
            )
        } else {
            format!(
                "no checkpoint covers exactly so much, as {kept} says: the journal was replaced"
            )
        };
        let (file, at) = (self.walk.file().to_owned(), self.walk.position());
        Some(Defect { record: seq, file, at, what })
    }

    fn defect(&self, record: u64, at: u64, what: String) -> Stop {
        Stop::Defect(Defect { record, file: self.walk.file().to_owned(), at, what })
    }
}
