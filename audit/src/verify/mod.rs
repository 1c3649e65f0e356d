//! Verification of a journal, offline or beside the process that writes it.
//!
//! One reader goes through the segments and makes batches of records. A worker for each
//! core checks their bodies and their signatures: the reader has held them against the tree. What follows from the order of records is checked here, batch after batch, so the
//! first defect found is the first there is. Every queue is bounded: memory does not
//! grow with the journal.

mod batch;
mod clock;
mod cross_checks;
mod keys;
mod leaves;
mod reader;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use signing_core::Registry;
use signing_core::journal::{Custody, Head, Leaf};
use signing_core::tree::LogId;

use crate::scan::segments;
use crate::stated::{NAME as STATEMENT, stated};
use crate::walk::{Defect, Stop, TornWrite, Walk, newest};
use batch::{Batch, Checked};
use clock::Follower;
use cross_checks::CrossChecks;
use keys::known;
use reader::{End, Reader, Wanted};

pub use clock::{Backwards, Clock, Timed};
pub use keys::Keys;
pub(crate) use keys::{Known, named};

/// What is to be verified, and against what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'o> {
    /// Only the newest records, that many.
    pub limit: Option<u64>,
    /// The registry with the audit keys. None: the keys that the journal itself names.
    pub registry: Option<&'o Registry>,
    /// What it has to hold: heads that were kept elsewhere.
    pub heads: &'o [KeptHead],
    /// A record that has to be there: a receipt that was kept elsewhere.
    pub receipt: Option<Leaf>,
    /// It is a copy of a journal on which others wrote meanwhile: what the writer stated may be newer than the
    /// segments beside it, and is no claim on them.
    pub is_copy: bool,
}

/// A head that was kept elsewhere: the journal went so far.
#[derive(Clone, Debug)]
pub struct KeptHead {
    /// Where it was kept, to say what the journal differs from.
    pub whose: String,
    /// Of which log. None: that was not kept with it.
    pub log: Option<LogId>,
    /// The head.
    pub head: Head,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which log it is, if a header could be read.
    pub log: Option<LogId>,
    /// The first record that was checked.
    pub first_seq: u64,
    /// How many were, up to the first defect.
    pub records: u64,
    /// The newest checkpoint that covers them.
    pub head: Option<Head>,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// Segments read.
    pub segments: u64,
    /// Bytes read of headers and records.
    pub bytes: u64,
    /// Intents without outcome: they are in flight, or their process died.
    pub open_intents: u64,
    /// Callers' signatures that verified under the registry's keys.
    pub signatures_checked: u64,
    /// Callers' signatures that could not be checked: no registry, the signer is not
    /// in it, or the algorithm signs messages, of which only a hash is recorded.
    pub signatures_unchecked: u64,
    /// Where the records' times run backwards: no defect.
    pub clock: Clock,
    /// Whose word the audit keys are.
    pub keys: Keys,
    /// Whether a process was writing at the end: it may be at the next record already.
    pub live: bool,
    /// The write at the end that a crash tore: no defect.
    pub torn: Option<TornWrite>,
    /// The first defect.
    pub defect: Option<Defect>,
}

/// Why nothing can be said about a journal.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// The registry has no audit key.
    #[error("the registry has no key with the purpose audit; add the proxy's audit key to it")]
    NoAuditKey,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Records checked.
    pub records: u64,
    /// Records there are to check, as far as was known at the beginning.
    pub of: u64,
}

/// Batches that wait, for each worker.
const WAITING: usize = 2;

type Work = (Batch, SyncSender<Checked>);

/// Verifies the journal in `directory`; `progress` is told after each batch.
///
/// # Errors
/// [`VerifyError`]. A defect is no error: it is in the report.
pub fn verify(
    directory: &Path,
    options: &Options<'_>,
    mut progress: impl FnMut(Progress),
) -> Result<Report, VerifyError> {
    // Read first: what a live writer states later is no claim on what is read here.
    let stated = if options.is_copy { None } else { whole(directory)? };
    let last = newest(directory)?.size;
    let newest_only = options.limit.map_or(1, |limit| last.saturating_sub(limit) + 1);
    let oldest =
        segments(directory).map_err(unreadable(directory))?.first().map(|first| first.first_seq);
    let stated = stated.filter(|stated| oldest.is_some_and(|oldest| stated.head.size >= oldest));
    let heads: Vec<_> = options.heads.iter().cloned().chain(stated).collect();
    let options = &Options { heads: &heads, ..*options };
    let wanted = heads.iter().map(|kept| kept.head.size);
    let wanted = wanted.chain(options.receipt.map(|leaf| leaf.seq));
    let from = wanted.fold(newest_only, |from, seq| from.min(seq.max(1)));
    let walk = Walk::open(directory, from)?;
    let from = from.max(walk.segments().first().map_or(1, |segment| segment.first_seq));
    let keys = known(options.registry, &walk)?.ok_or(VerifyError::NoAuditKey)?;
    let mut report = Report {
        log: None,
        first_seq: from,
        records: 0,
        head: None,
        checkpoints: 0,
        segments: 0,
        bytes: 0,
        open_intents: 0,
        signatures_checked: 0,
        signatures_unchecked: 0,
        clock: Clock::default(),
        keys: keys.whose,
        live: false,
        torn: None,
        defect: None,
    };
    let reader = Reader::new(directory.to_owned(), walk, from..=last, keys, Wanted::of(options));
    let mut cross_checks = CrossChecks::new(from);
    let mut custody = Custody::default();
    let mut clock = Follower::default();
    let of = (last + 1).saturating_sub(from);
    let end = check(reader, options.registry, |checked| {
        checked.times.iter().for_each(|time| clock.take(*time));
        let whole = fold(&mut report, &mut cross_checks, &mut custody, checked);
        progress(Progress { records: report.records, of });
        whole
    });
    report.clock = clock.finish();
    report.log = end.log;
    report.segments = end.segments;
    report.bytes = end.bytes;
    report.live = end.live;
    report.torn = end.torn;
    report.open_intents = cross_checks.open_intents();
    match (&report.defect, end.stop) {
        (None, Some(Stop::Defect(defect))) => report.defect = Some(defect),
        (None, Some(stop)) => return Err(stop.into()),
        _ => {}
    }
    Ok(report)
}

/// What the writer itself stated to be on disk, beside the segments: an end that is cut off at a
/// write's first byte looks like the end of a journal, and in the middle of a write like a crash.
fn whole(directory: &Path) -> Result<Option<KeptHead>, Stop> {
    let stated = stated(directory).map_err(unreadable(directory))?;
    Ok(stated.map(|stated| KeptHead {
        whose: format!("the writer's own statement (the file {STATEMENT})"),
        log: None,
        head: Head::of(stated.checkpoint()),
    }))
}

fn unreadable(directory: &Path) -> impl Fn(std::io::Error) -> Stop {
    move |error| Stop::Directory { path: directory.to_owned(), error }
}

/// Runs the reader and the workers; `fold` gets what was checked in the order of the
/// records, until it says that this was enough.
fn check(
    reader: Reader,
    registry: Option<&Registry>,
    mut fold: impl FnMut(Checked) -> bool,
) -> End {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (to_work, work) = sync_channel::<Work>(workers);
    let (to_order, order) = sync_channel::<Receiver<Checked>>(workers * WAITING);
    let work = Mutex::new(work);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((batch, answer)) = next(&work) {
                    // Nobody waits for it any more after the first defect.
                    let _ = answer.send(batch.check(registry));
                }
            });
        }
        let reading = scope.spawn(move || {
            reader.read(|batch| {
                let (answer, checked) = sync_channel(1);
                to_order.send(checked).is_ok() && to_work.send((batch, answer)).is_ok()
            })
        });
        for checked in order {
            // A worker that died ends this scope with its panic.
            if !checked.recv().is_ok_and(&mut fold) {
                break;
            }
        }
        match reading.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The next batch for whichever worker is free.
fn next(work: &Mutex<Receiver<Work>>) -> Option<Work> {
    work.lock().ok()?.recv().ok()
}

/// Adds what was checked to the report; false at the first defect.
fn fold(
    report: &mut Report,
    cross_checks: &mut CrossChecks,
    custody: &mut Custody,
    checked: Checked,
) -> bool {
    let told = checked.events.iter().find_map(|event| {
        let what = cross_checks.tell(event).err()?;
        Some((event.seq, checked.defect_at(event.seq, event.at, what)))
    });
    let followed = checked.seals.iter().find_map(|seal| {
        let what = custody.follow(seal.signed).err()?.to_string();
        Some((seal.head.size, checked.defect_at(seal.head.size, seal.at, what)))
    });
    let out_of_order = [told, followed].into_iter().flatten().min_by_key(|(seq, _)| *seq);
    if let Some((seq, defect)) = out_of_order {
        report.records += seq.saturating_sub(checked.first_seq);
        report.defect = Some(defect);
        return false;
    }
    report.records += checked.records;
    report.checkpoints += checked.seals.len() as u64;
    report.signatures_checked += checked.signatures_checked;
    report.signatures_unchecked += checked.signatures_unchecked;
    report.head = checked.seals.last().map(|seal| seal.head).or(report.head);
    report.defect = checked.defect;
    report.defect.is_none()
}

/// The file of a segment, shared by all that is said of it.
type SegmentPath = std::sync::Arc<PathBuf>;
