//! Goes through the segments and makes batches of records, each whole in itself.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signing_core::journal::{ChainId, Frame, Head};

use super::batch::Batch;
use super::keys::Known;
use crate::walk::{Defect, Place, Stop, Torn, Walk, Way, is_being_written};

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
    wanted: Option<Head>,
    batch: Option<Batch>,
    torn: Option<Torn>,
}

/// How its way ended.
pub(super) struct End {
    pub(super) chain: Option<ChainId>,
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) live: bool,
    pub(super) torn: Option<Torn>,
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
        wanted: Option<Head>,
    ) -> Self {
        let (from, to) = range.into_inner();
        Self { directory, walk, from, to, keys, wanted, batch: None, torn: None }
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
            chain: self.walk.chain(),
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
                Way::Record(place) if place.head.seq > self.to => return Ok(()),
                Way::Record(place) => {
                    looks = 0;
                    if self.take(&place)?.is_some_and(|batch| !give(batch)) {
                        return Ok(());
                    }
                }
                Way::End => return Ok(()),
                Way::Torn(torn) if !is_being_written(&self.directory) => {
                    self.torn = Some(torn);
                    return Ok(());
                }
                Way::Torn(_) if looks == LOOKS => return Ok(()),
                Way::Torn(_) => {
                    looks += 1;
                    thread::sleep(LOOK_AGAIN);
                    self.walk.look_again()?;
                }
            }
        }
    }

    /// Puts a record into its batch; the batch before, if this one does not fit there.
    fn take(&mut self, place: &Place) -> Result<Option<Batch>, Stop> {
        let raw = self.walk.raw(place);
        if let Ok(Some(frame)) = Frame::parse(raw) {
            self.keys.hear(frame.body);
        }
        let Head { seq, hash } = place.head;
        if seq < self.from {
            return Ok(None);
        }
        let full = |batch: &Batch| {
            batch.records >= BATCH_RECORDS
                || batch.frames.len() + raw.len() > BATCH_BYTES
                || place.begins_segment()
        };
        let done = if self.batch.as_ref().is_some_and(full) { self.batch.take() } else { None };
        let Some(chain) = self.walk.chain() else { return Ok(done) };
        let batch = self.batch.get_or_insert_with(|| Batch {
            chain,
            before: place.before,
            file: Arc::new(self.walk.file().to_owned()),
            at: place.at,
            frames: Vec::with_capacity(BATCH_BYTES / 4),
            records: 0,
            keys: Arc::clone(&self.keys.keys),
            whose: self.keys.whose,
        });
        batch.frames.extend_from_slice(raw);
        batch.records += 1;
        batch.keys = Arc::clone(&self.keys.keys);
        match self.wanted {
            Some(wanted) if wanted.seq == seq && wanted.hash != hash => {
                let what = format!(
                    "its hash is {hash}, and the receipt's {}: the journal was replaced",
                    wanted.hash
                );
                let file = self.walk.file().to_owned();
                Err(Stop::Defect(Defect { record: seq, file, at: place.at, what }))
            }
            _ => Ok(done),
        }
    }

    /// The defect that the record of a receipt is not there.
    fn wanted_is_missing(&self) -> Option<Defect> {
        let wanted = self.wanted?;
        let newest = self.walk.passed().map_or(0, |head| head.seq);
        let what = if wanted.seq > newest {
            format!(
                "it is not there, and a receipt says that it was: the journal ends with record \
                 {newest}; it was cut short, or an older copy took its place"
            )
        } else if wanted.seq < self.from {
            format!(
                "it was moved away: what is here begins with record {}; bring its segment back \
                 to check a receipt of it",
                self.from
            )
        } else {
            return None;
        };
        let (file, at) = (self.walk.file().to_owned(), self.walk.position());
        Some(Defect { record: wanted.seq, file, at, what })
    }
}
