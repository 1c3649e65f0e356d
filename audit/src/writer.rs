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
//!   pwrite               the frames of a batch, at the end. Dying before or in it: some of
//!                        these records are not there, and nobody was told that they are. A record
//!                        that is half there is the last one, and cut by the next start
//!   fdatasync            only if somebody waits for one of them, or soon after. Dying before it
//!                        returns: after a crash of the machine they may be lost, and nobody was
//!                        told. If it fails the journal is sealed: it is never tried again
//!   fstat, lstat         the file is still the one of its name: else the journal is sealed
//!                        and nobody is told
//!   ---                  from here on the records are on disk, and those who wait are told
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
use signing_core::journal::{Chain, Head, Header, Kind, frame_bytes};
use tokio::sync::oneshot;

use crate::directory::Directory;
use crate::error::Trouble;
use crate::journal::{Clock, Durable, Observer, Shared};
use crate::key::AuditKey;
use crate::queue::Job;
use crate::scan::segment_name;
use crate::segment::Segment;

/// Records written at once.
pub(crate) const BATCH_MAX: usize = 512;
/// Records that may lie unsynced.
pub(crate) const UNSYNCED_MAX: usize = 4096;
/// How long records for which nobody waits may lie unsynced.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// How often an idle journal's file is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
    pub(crate) chain: Chain,
    pub(crate) key: AuditKey,
    pub(crate) clock: Clock,
    pub(crate) observer: Box<dyn Observer>,
    /// The newest record that is on disk.
    pub(crate) durable: u64,
    /// Frames that are not written yet.
    pub(crate) buffer: Vec<u8>,
    /// Who waits for what is written and not on disk.
    pub(crate) unsynced: Vec<Written>,
}

/// A record that is in a frame, and perhaps in the file, but not known to be on disk.
#[derive(Debug)]
pub(crate) struct Written {
    head: Head,
    pushed: Moment,
    waits: Option<oneshot::Sender<Durable>>,
}

/// Seals the journal if the writer dies.
struct SealsWhenDead<'s>(&'s Shared);

/// Shows for as long as it lives since when the writer is at work, and so with the disk.
/// No step of the work ends it: a call that hangs is noticed whichever it is.
struct Busy<'s>(&'s Since);

impl Writer {
    /// Writes until the queue is closed and empty, or until something fails.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _seals = SealsWhenDead(&shared);
        loop {
            let patience = if self.unsynced.is_empty() { LOOK_EVERY } else { SYNC_AFTER };
            let Some(jobs) = self.shared.queue.take(BATCH_MAX, patience) else { break };
            if let Err(trouble) = self.work(jobs) {
                return self.shared.seal(&trouble);
            }
        }
        let _busy = Busy::since(&shared, (self.clock.now)());
        if let Err(trouble) = self.sync() {
            self.shared.seal(&trouble);
        }
    }

    /// One turn: a batch, or what is due when nothing came. The disk has to be done with
    /// all of it in time: slow calls add up.
    fn work(&mut self, jobs: Vec<Job>) -> Result<(), Trouble> {
        let shared = Arc::clone(&self.shared);
        let _busy = Busy::since(&shared, (self.clock.now)());
        if jobs.is_empty() {
            self.sync()?;
            return self.look();
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

    /// Chains and signs a record.
    fn frame(&mut self, job: Job) {
        let Self { chain, key, buffer, durable, .. } = self;
        let head = chain.append(&job.body, *durable, |hash| key.sign(hash), buffer);
        debug_assert_eq!(head.seq, job.seq);
        self.observer.record(job.kind);
        let Job { pushed, waits, .. } = job;
        self.unsynced.push(Written { head, pushed, waits });
    }

    fn write(&mut self) -> Result<(), Trouble> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.segment.write(&self.buffer, self.end);
        written.map_err(|error| self.sealed("written", &error))?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Brings what is written to the disk, and tells those who wait.
    fn sync(&mut self) -> Result<(), Trouble> {
        let Some(last) = self.unsynced.last() else { return Ok(()) };
        let head = last.head;
        let began = (self.clock.now)();
        let synced = self.segment.sync();
        synced.map_err(|error| self.sealed("brought to the disk", &error))?;
        self.look()?;
        self.acknowledge(head, began);
        Ok(())
    }

    /// From here on the records are on disk, in a file that is in its place.
    fn acknowledge(&mut self, head: Head, began: Moment) {
        let now = (self.clock.now)();
        self.durable = head.seq;
        self.shared.on_disk(head);
        self.observer.synced(now.since(began));
        for Written { head, pushed, waits } in self.unsynced.drain(..) {
            if let Some(waits) = waits {
                self.observer.appended(now.since(pushed));
                // Whoever waited may be gone; the record is there all the same.
                let _ = waits.send(Durable::new(self.chain.id(), head));
            }
        }
    }

    /// The file and its directory are still those that are held. What the machine lacks to look
    /// does not say that they are not: nobody is told anything until it could look.
    fn look(&self) -> Result<(), Trouble> {
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
    fn begin_segment(&mut self, job: Job) -> Result<(), Trouble> {
        self.write()?;
        self.sync()?;
        let Some(next) = self.shared.queue.take_prepared() else {
            // The queue numbered this record because there is one.
            return Err(Trouble::Sealed("the prepared segment is gone".to_owned()));
        };
        let before = self.chain.head();
        let header = Header { chain: self.chain.id(), before, segment_bytes: next.bytes() };
        self.segment = next;
        self.end = 0;
        self.buffer.extend_from_slice(&header.encode());
        debug_assert!(frame_bytes(job.body.len()) as u64 <= self.segment.bytes());
        self.frame(job);
        self.write()?;
        let synced = self.segment.sync();
        synced.map_err(|error| self.sealed("brought to the disk", &error))?;
        let name = segment_name(before.seq + 1);
        let published = self.segment.publish(self.directory.handle(), &name);
        published.map_err(|error| self.sealed("given its name", &error))?;
        self.shared.queue.published();
        Ok(())
    }

    fn sealed(&self, done: &str, error: &std::io::Error) -> Trouble {
        let path = self.segment.path().display();
        Trouble::Sealed(format!("{path} can not be {done}: {error}"))
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
            self.0.seal(&Trouble::Sealed("its writer died".to_owned()));
        }
    }
}

/// Prepares segments ahead of the writer, on a thread of its own: a file system that is
/// slow to set space aside holds up no record.
pub(crate) fn prepare_segments(shared: &Shared, directory: &std::path::Path, bytes: u64) {
    while shared.queue.wait_until_wanted() {
        let made = Segment::prepare(directory, bytes)
            .map_err(|error| Trouble::of_next_segment(bytes, &error));
        let failed = made.is_err();
        shared.queue.prepared(made);
        shared.changed.notify_one();
        if failed {
            shared.queue.pause(LOOK_EVERY);
        }
    }
}

/// A number that several threads read.
pub(crate) type Since = AtomicU64;
