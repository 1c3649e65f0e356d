//! The journal as the rest of the process holds it: records are pushed, and some are
//! waited for until they are on disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signing_core::Moment;
use signing_core::journal::{
    Head, InForce, InForceSnapshot, Kind, Leaf, Record, Segment as SegmentRecord, Stop,
};
use signing_core::tree::{LogId, SignedCheckpoint};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::error::JournalError;
use crate::queue::{Push, Queue, RecordWaiter, Space};
use crate::receipt::Durable;
use crate::segment_check::Progress;
use crate::teller::Teller;
use crate::writer::{IDLE, SharedU64};

/// How long a write or a sync may take before new records are refused.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// How long a stop waits for its own record.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A journal that is written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    pub(crate) shared: Arc<Shared>,
}

/// What the threads and everyone who pushes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    /// When the writer began what it is at, in nanoseconds since boot; [`IDLE`]: nothing.
    pub(crate) busy_since: SharedU64,
    /// Told when it seals, or when its space changes.
    pub(crate) changed: Notify,
    /// How far it is.
    pub(crate) newest: Mutex<Newest>,
    /// Told whenever that changes.
    pub(crate) went_on: Arc<Notify>,
    pub(crate) log: LogId,
    pub(crate) path: PathBuf,
    pub(crate) writer: Mutex<Option<JoinHandle<()>>>,
    pub(crate) older: Progress,
    /// Tells those who wait for outcomes; none: the writer tells everybody.
    pub(crate) teller: OnceLock<Arc<Teller>>,
}

/// The newest checkpoints of a journal.
#[derive(Clone, Debug)]
pub struct Newest {
    /// All that this one covers is on disk.
    pub on_disk: SignedCheckpoint,
    /// What this one covers is in the files, and on its way to the disk. It proves nothing: whoever has to read it can
    /// begin.
    pub written: SignedCheckpoint,
}

/// The number of an intent, which its outcome consumes.
#[derive(Debug, PartialEq, Eq)]
pub struct IntentSeq(u64);

/// A record on its way to the disk.
#[derive(Debug)]
pub struct Appending {
    journal: Journal,
    waiting: Option<oneshot::Receiver<Durable>>,
}

/// What time it is, asked of whoever knows.
#[derive(Clone, Copy)]
pub struct Clock {
    /// By the boot-time clock.
    pub now: fn() -> Moment,
    /// By the calendar.
    pub wall: fn() -> OffsetDateTime,
}

/// Hears what the writer does, on its thread.
pub trait Observer: fmt::Debug + Send {
    /// A record was laid out.
    fn record(&mut self, kind: Kind);
    /// Its number and its body, which are not on disk yet: [`Journal::head`] says what is.
    fn body(&mut self, _: Kind, _seq: u64, _: &[u8]) {}
    /// Its leaf, for whoever keeps the tree.
    fn leaf(&mut self, _: Leaf) {}
    /// One for which somebody waited is on disk, so long after it was pushed.
    fn appended(&mut self, took: Duration);
    /// A sync succeeded.
    fn synced(&mut self, took: Duration);
    /// So many records were written at once.
    fn batch(&mut self, records: usize);
}

/// Two that hear the same.
impl<A: Observer, B: Observer + ?Sized> Observer for (A, Box<B>) {
    fn record(&mut self, kind: Kind) {
        self.0.record(kind);
        self.1.record(kind);
    }
    fn body(&mut self, kind: Kind, seq: u64, body: &[u8]) {
        self.0.body(kind, seq, body);
        self.1.body(kind, seq, body);
    }
    fn leaf(&mut self, leaf: Leaf) {
        self.0.leaf(leaf);
        self.1.leaf(leaf);
    }
    fn appended(&mut self, took: Duration) {
        self.0.appended(took);
        self.1.appended(took);
    }
    fn synced(&mut self, took: Duration) {
        self.0.synced(took);
        self.1.synced(took);
    }
    fn batch(&mut self, records: usize) {
        self.0.batch(records);
        self.1.batch(records);
    }
}

impl Journal {
    /// Has whoever waits alone for an outcome told on `runtime`, where callers wait. All else the writer tells by itself.
    /// Once for each journal: a second call changes nothing.
    ///
    /// # Errors
    /// If the system gives no file descriptor for it.
    pub fn tell_outcomes_on(&self, runtime: &Handle) -> io::Result<()> {
        if self.shared.teller.get().is_none() {
            let went_on = Arc::clone(&self.shared.went_on);
            let _ = self.shared.teller.set(Teller::start(runtime, went_on)?);
        }
        Ok(())
    }

    /// Records that an upstream is about to be asked; waits for nothing.
    ///
    /// # Errors
    /// [`JournalError`], at once; the upstream must not be asked.
    pub fn intent(&self, record: &Record<'_>) -> Result<IntentSeq, JournalError> {
        Ok(IntentSeq(self.push(record, None, false)?.0))
    }

    /// Records the outcome of an intent; returns once it is on disk. `proves`: with the proof that
    /// the record is in the log.
    ///
    /// # Errors
    /// [`JournalError`]; nothing may be released then.
    pub async fn outcome(
        &self,
        intent: IntentSeq,
        record: &Record<'_>,
        proves: bool,
    ) -> Result<Durable, JournalError> {
        let (_, waiting) = self.push_as(record, Some(intent.0), Some(proves))?;
        Appending { journal: self.clone(), waiting }.durable().await
    }

    /// Records the outcome of an intent of which nothing is released; waits for nothing.
    ///
    /// # Errors
    /// [`JournalError`]; the next start concludes the intent.
    pub fn conclude(&self, intent: IntentSeq, record: &Record<'_>) -> Result<(), JournalError> {
        self.push(record, Some(intent.0), false).map(|_| ())
    }

    /// Records something that is to be waited for.
    ///
    /// # Errors
    /// [`JournalError`], at once; it is not recorded.
    pub fn begin_append(&self, record: &Record<'_>) -> Result<Appending, JournalError> {
        let (_, waiting) = self.push(record, None, true)?;
        Ok(Appending { journal: self.clone(), waiting })
    }

    /// The same, with the proof that the record is in the log.
    ///
    /// # Errors
    /// [`JournalError`], at once; it is not recorded.
    pub fn begin_prove(&self, record: &Record<'_>) -> Result<Appending, JournalError> {
        let (_, waiting) = self.push_as(record, None, Some(true))?;
        Ok(Appending { journal: self.clone(), waiting })
    }

    /// Records something; waits for nothing.
    ///
    /// # Errors
    /// [`JournalError`]; it is not recorded.
    pub fn note(&self, record: &Record<'_>) -> Result<(), JournalError> {
        self.push(record, None, false).map(|_| ())
    }

    /// Why an intent would be refused now, if it would.
    #[must_use]
    pub fn error(&self) -> Option<JournalError> {
        self.shared.queue.error().or_else(|| self.stalled((self.shared.clock.now)()).err())
    }

    /// Waits until what [`Journal::error`] says may have changed. It does not wake for
    /// a disk that stalls: that is seen by looking.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How much of it is on disk.
    #[must_use]
    pub fn head(&self) -> Head {
        Head::of(self.shared.newest().on_disk.checkpoint())
    }

    /// The signed checkpoint that says so.
    #[must_use]
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.shared.newest().on_disk.clone()
    }

    /// How far it is.
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.shared.newest().clone()
    }

    /// Waits until [`Journal::newest`] may have changed, for the one who does so.
    pub async fn went_on(&self) {
        self.shared.went_on.notified().await;
    }

    /// Which log it is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.shared.log
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// How much space there is, and how much waits.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.queue.space()
    }

    /// Records the stop and ends the writer; what was pushed before is written. Blocks, at
    /// most a few seconds if the disk hangs.
    ///
    /// # Errors
    /// [`JournalError`]; the stop is not recorded.
    pub fn stop(&self, reason: &str) -> Result<(), JournalError> {
        let pushed = self.push(&Record::Stop(Stop { reason }), None, true);
        self.shared.queue.close();
        let waiting = pushed?.1;
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = (self.shared.clock.now)().after(STOP_MAX);
        let is_over = || writer.as_ref().is_none_or(JoinHandle::is_finished);
        while !is_over() && (self.shared.clock.now)() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let durable = waiting.and_then(|mut waiting| waiting.try_recv().ok());
        durable.map(|_| ()).ok_or_else(|| self.gone())
    }

    pub(crate) fn push(
        &self,
        record: &Record<'_>,
        closes: Option<u64>,
        waits: bool,
    ) -> Result<(u64, Option<oneshot::Receiver<Durable>>), JournalError> {
        self.push_as(record, closes, waits.then_some(false))
    }

    /// `waits`: whether somebody does, and whether for the proof too.
    fn push_as(
        &self,
        record: &Record<'_>,
        closes: Option<u64>,
        waits: Option<bool>,
    ) -> Result<(u64, Option<oneshot::Receiver<Durable>>), JournalError> {
        let now = (self.shared.clock.now)();
        let kind = record.kind();
        if !kind.ends_something() {
            self.stalled(now)?;
        }
        let wall = (self.shared.clock.wall)();
        let unwritable =
            || JournalError::Stalled("a record has no canonical form, or is too long".to_owned());
        let body = record.encode(wall).ok_or_else(unwritable)?;
        let (waits, receiver) = waits
            .map(|proves| {
                let (sender, receiver) = oneshot::channel();
                let is_for_outcome = closes.is_some();
                (RecordWaiter { sender, proves, is_for_outcome }, receiver)
            })
            .unzip();
        let push = Push { kind, body, at: now, closes, waits };
        let segment = |oldest_open, in_force: &InForce| {
            let InForceSnapshot { fleet, freeze, incident, key_modes, seals, signer_logs } =
                in_force.snapshot();
            Record::Segment(SegmentRecord {
                fleet,
                freeze,
                incident,
                key_modes,
                oldest_open,
                seals,
                signer_logs,
            })
            .encode(wall)
        };
        Ok((self.shared.queue.push(push, segment)?, receiver))
    }

    fn stalled(&self, now: Moment) -> Result<(), JournalError> {
        let busy_since = self.shared.busy_since.load(Ordering::Acquire);
        let busy = now.since(Moment::from_nanos(busy_since));
        if busy_since == IDLE || busy < STALLED_AFTER {
            return Ok(());
        }
        Err(JournalError::Stalled(format!("the disk has not answered for {} s", busy.as_secs())))
    }

    /// Why a record that was taken is not acknowledged.
    pub(crate) fn gone(&self) -> JournalError {
        let unknown = || JournalError::Sealed("its writer has stopped".to_owned());
        self.shared.queue.error().unwrap_or_else(unknown)
    }
}

impl Appending {
    /// Waits until it is on disk.
    ///
    /// # Errors
    /// [`JournalError`]; whether it will be found there is not known.
    pub async fn durable(self) -> Result<Durable, JournalError> {
        match self.waiting {
            Some(waiting) => waiting.await.map_err(|_| self.journal.gone()),
            None => Err(self.journal.gone()),
        }
    }
}

impl Shared {
    /// Seals for good; the first reason stays.
    pub(crate) fn seal(&self, error: &JournalError) {
        self.queue.seal(error);
        self.changed.notify_one();
    }

    /// What `newest` covers is written, and brought to the disk next.
    pub(crate) fn written(&self, newest: &SignedCheckpoint) {
        self.newest().written.clone_from(newest);
        self.went_on.notify_one();
    }

    /// What `newest` covers is on disk. Whoever is told says that it went on.
    pub(crate) fn on_disk(&self, newest: &SignedCheckpoint) {
        self.newest().on_disk.clone_from(newest);
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IntentSeq {
    /// The number, for the outcome's record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Bytes that the file system of `path` still has for this user.
///
/// # Errors
/// If it cannot be asked.
pub fn file_system_free(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    #[expect(clippy::useless_conversion, reason = "the types differ between platforms")]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    Ok(blocks.saturating_mul(size))
}
