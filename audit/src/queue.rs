//! Records on their way to the writer: bounded, numbered as they are pushed, and only
//! those for which there is space.
//!
//! Records are laid out one after the other, so it is known here, under one lock, in
//! which segment each will lie: the record that begins a segment is put in its place, and no
//! record is numbered that the disk has no space for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signing_core::Moment;
use signing_core::journal::{
    BODY_MAX_BYTES, CHECKPOINT_MAX_BYTES, HEADER_BYTES, InForce, Kind, frame_bytes,
};
use tokio::sync::oneshot;

use crate::error::JournalError;
use crate::receipt::Durable;
use crate::segment::Segment;
use crate::writer::Spared;

/// How long records for which nobody waits may gather while others are written, for one
/// write and one wake-up together. A process that is killed meanwhile loses them; nobody
/// holds anything that they are about.
const GATHERS: Duration = Duration::from_millis(2);
/// Records that do not wait for others to gather.
const GATHERED_MAX: usize = 64;
/// Records that may wait for the writer.
const RECORDS_MAX: usize = 16 * 1024;
/// Of which only what ends or stops something may take the rest.
const ORDINARY_MAX: usize = RECORDS_MAX / 2;
/// Space that only what ends or stops something may use.
const RESERVE_BYTES: u64 = 256 * 1024;
/// Space kept for the outcome of each open intent; the longest caller's name, signature and
/// detail together take less.
const OUTCOME_BYTES: u64 = 8 * 1024;

/// Space that is kept for a record with a body of that length, with a checkpoint of its own: how many
/// records share one is known only when they are written, and what is not needed is given back.
pub(crate) const fn space_of(body: usize) -> u64 {
    (frame_bytes(body) + CHECKPOINT_MAX_BYTES) as u64
}

/// The queue, and the places where the threads wait.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The writer waits here.
    pushed: Condvar,
    /// The thread that prepares segments waits here.
    wanted: Condvar,
}

#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    next_seq: u64,
    /// Bytes left in the segment in which the next record will lie.
    left: u64,
    segment_bytes: u64,
    /// How many segments were begun.
    begun: u64,
    /// Whether another segment waits to be begun; its space counts.
    spare: bool,
    /// That segment, until the writer takes it.
    prepared: Option<Segment>,
    /// The writer has taken it and not given it its name yet: preparing another one would
    /// take this one's place.
    is_nameless: bool,
    /// Why there is none.
    unprepared: Option<JournalError>,
    /// Intents without outcome.
    open: BTreeSet<u64>,
    /// The freeze and the seals in force, as the records so far tell.
    in_force: InForce,
    writer: Writer,
    /// Of the records in the queue, those that somebody waits for.
    awaited: usize,
    closed: bool,
    sealed: Option<JournalError>,
}

/// What rouses the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Nothing: it writes.
    Writes,
    /// A record that somebody waits for, or many records.
    Dozes,
    /// Any record.
    Sleeps,
}

/// A record on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) pushed: Moment,
    /// Who waits until it is durable.
    pub(crate) waits: Option<RecordWaiter>,
}

/// Who waits for a record.
#[derive(Debug)]
pub(crate) struct RecordWaiter {
    pub(crate) sender: oneshot::Sender<Durable>,
    /// Whether for the proof that it is in the log, too.
    pub(crate) proves: bool,
    /// Whether for an outcome: the journal's teller says that, if there is one.
    pub(crate) is_for_outcome: bool,
}

/// What is pushed.
pub(crate) struct Push {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Moment,
    /// The intent that this is the outcome of.
    pub(crate) closes: Option<u64>,
    pub(crate) waits: Option<RecordWaiter>,
}

/// How much space there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes set aside that are not used.
    pub set_aside: u64,
    /// Of these, what is left for signatures: less what is kept for what ends and stops, and
    /// for the outcomes of what is under way.
    pub usable: u64,
    /// What another segment takes.
    pub segment_bytes: u64,
    /// Records that wait for the writer.
    pub queued: usize,
}

impl Queue {
    /// An empty queue, in front of a segment with `left` bytes; `open` are the intents
    /// that have no outcome yet, and `in_force` is what an operator has to end.
    pub(crate) fn new(
        next_seq: u64,
        left: u64,
        segment_bytes: u64,
        open: impl Iterator<Item = u64>,
        in_force: InForce,
    ) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            next_seq,
            left,
            segment_bytes,
            begun: 0,
            spare: false,
            prepared: None,
            is_nameless: false,
            unprepared: None,
            open: open.collect(),
            in_force,
            writer: Writer::Writes,
            awaited: 0,
            closed: false,
            sealed: None,
        };
        Self { state: Mutex::new(state), pushed: Condvar::new(), wanted: Condvar::new() }
    }

    /// Numbers a record and leaves it to the writer. `segment_body` makes the record that
    /// begins a segment.
    ///
    /// # Errors
    /// [`JournalError`], at once: nothing here waits.
    pub(crate) fn push(
        &self,
        push: Push,
        segment_body: impl FnOnce(Option<u64>, &InForce) -> Option<Vec<u8>>,
    ) -> Result<u64, JournalError> {
        let mut state = self.lock();
        state.takes(&push)?;
        if state.left < space_of(push.body.len()) {
            state.begin_segment(push.at, segment_body)?;
            self.wanted.notify_one();
        }
        // Its own records have the form that it hears.
        let _ = state.in_force.hear(push.kind, &push.body);
        let seq = state.enqueue(push.kind, push.body, push.at, push.waits);
        if push.kind == Kind::Intent {
            state.open.insert(seq);
        }
        if let Some(intent) = push.closes {
            state.open.remove(&intent);
        }
        if state.rouses() {
            self.pushed.notify_one();
        }
        Ok(seq)
    }

    /// The next records, at most `most`, in order; empty if none came within `patience` or a
    /// little more. `spared` is given back.
    /// None once the queue is closed and empty.
    pub(crate) fn take(&self, most: usize, patience: Duration, spared: Spared) -> Option<Vec<Job>> {
        let mut state = self.lock();
        // Of a segment before, all places are given out.
        if spared.segment == state.begun {
            state.left += spared.bytes;
        }
        let state = self.wait(state, Writer::Dozes, GATHERS);
        let mut state = self.wait(state, Writer::Sleeps, patience);
        if state.jobs.is_empty() && state.closed {
            return None;
        }
        let count = state.jobs.len().min(most);
        let jobs: Vec<_> = state.jobs.drain(..count).collect();
        state.awaited -= jobs.iter().filter(|job| job.waits.is_some()).count();
        Some(jobs)
    }

    /// The writer waits as `writer` until something rouses it or `most` has passed.
    fn wait<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        writer: Writer,
        most: Duration,
    ) -> MutexGuard<'s, State> {
        state.writer = writer;
        (state, _) = self
            .pushed
            .wait_timeout_while(state, most, |state| !state.closed && !state.rouses())
            .unwrap_or_else(PoisonError::into_inner);
        state.writer = Writer::Writes;
        state
    }

    /// The segment that was prepared, to be begun by the writer.
    pub(crate) fn take_prepared(&self) -> Option<Segment> {
        let mut state = self.lock();
        let taken = state.prepared.take();
        state.is_nameless = taken.is_some();
        taken
    }

    /// That segment has its name: the place of the next one is free.
    pub(crate) fn published(&self) {
        self.lock().is_nameless = false;
        self.wanted.notify_one();
    }

    /// Waits until another segment is wanted; false once the queue is closed.
    pub(crate) fn wait_until_wanted(&self) -> bool {
        let mut state = self.lock();
        while !state.closed && (state.spare || state.prepared.is_some() || state.is_nameless) {
            state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// Waits a while, or until the queue is closed.
    pub(crate) fn pause(&self, pause: Duration) {
        let state = self.lock();
        // Whether time or the end came is for the caller to look at.
        let _ = self.wanted.wait_timeout_while(state, pause, |state| !state.closed);
    }

    /// Hands over what preparing came to.
    pub(crate) fn prepared(&self, made: Result<Segment, JournalError>) {
        let mut state = self.lock();
        match made {
            Ok(segment) => {
                state.prepared = Some(segment);
                state.spare = true;
                state.unprepared = None;
            }
            Err(why) => state.unprepared = Some(why),
        }
    }

    /// Takes no record any more: for good.
    pub(crate) fn seal(&self, why: &JournalError) {
        let mut state = self.lock();
        state.sealed.get_or_insert_with(|| why.clone());
        state.closed = true;
        // Whoever waits for one of these learns that it is gone.
        state.jobs.clear();
        state.awaited = 0;
        self.wanted.notify_one();
    }

    /// Takes no record any more; what is in it is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_one();
        self.wanted.notify_one();
    }

    /// Whether it takes no record any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Why an intent would be refused now.
    pub(crate) fn error(&self) -> Option<JournalError> {
        let state = self.lock();
        let closed = state.closed.then_some(JournalError::Stopping);
        state.sealed.clone().or(closed).or_else(|| state.space_for(Kind::Intent, 0).err())
    }

    /// How much space there is.
    pub(crate) fn space(&self) -> Space {
        let state = self.lock();
        Space {
            set_aside: state.room(),
            usable: state.room().saturating_sub(state.kept()),
            segment_bytes: state.segment_bytes,
            queued: state.jobs.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether what is in the queue rouses the writer.
    fn rouses(&self) -> bool {
        match self.writer {
            Writer::Writes => false,
            Writer::Dozes => self.awaited > 0 || self.jobs.len() >= GATHERED_MAX,
            Writer::Sleeps => !self.jobs.is_empty(),
        }
    }

    fn room(&self) -> u64 {
        let spare = if self.spare { self.segment_bytes - HEADER_BYTES as u64 } else { 0 };
        self.left + spare
    }

    /// Space that only what ends or stops something, and outcomes, may use.
    fn kept(&self) -> u64 {
        RESERVE_BYTES + (self.open.len() as u64 + 1) * OUTCOME_BYTES
    }

    fn takes(&self, push: &Push) -> Result<(), JournalError> {
        if let Some(sealed) = &self.sealed {
            return Err(sealed.clone());
        }
        if self.closed {
            return Err(JournalError::Stopping);
        }
        let most = if push.kind.ends_something() { RECORDS_MAX } else { ORDINARY_MAX };
        if self.jobs.len() >= most {
            return Err(JournalError::Stalled(format!("{most} records wait to be written")));
        }
        self.space_for(push.kind, space_of(push.body.len()))
    }

    fn space_for(&self, kind: Kind, bytes: u64) -> Result<(), JournalError> {
        // Whatever is not an end finds space or not whatever its length: so what `error`
        // says of an intent holds for every one.
        let (bytes, kept) = if kind.ends_something() {
            (bytes, 0)
        } else {
            (space_of(BODY_MAX_BYTES), self.kept())
        };
        // The end of a segment that is too short for a record is lost, and the record that
        // begins the next one takes some.
        let lost = 2 * space_of(BODY_MAX_BYTES);
        if self.room() >= bytes + kept + lost {
            return Ok(());
        }
        let why = self.unprepared.clone();
        Err(match why {
            Some(why) => why,
            None => JournalError::Stalled("the next segment is being prepared".to_owned()),
        })
    }

    fn begin_segment(
        &mut self,
        at: Moment,
        body: impl FnOnce(Option<u64>, &InForce) -> Option<Vec<u8>>,
    ) -> Result<(), JournalError> {
        let body = body(self.open.first().copied(), &self.in_force).filter(|_| self.spare);
        let Some(body) = body else {
            return Err(JournalError::Full("no segment is prepared".to_owned()));
        };
        self.spare = false;
        self.begun += 1;
        self.left = self.segment_bytes - HEADER_BYTES as u64;
        self.enqueue(Kind::Segment, body, at, None);
        Ok(())
    }

    fn enqueue(
        &mut self,
        kind: Kind,
        body: Vec<u8>,
        pushed: Moment,
        waits: Option<RecordWaiter>,
    ) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.left = self.left.saturating_sub(space_of(body.len()));
        self.awaited += usize::from(waits.is_some());
        self.jobs.push_back(Job { kind, seq, body, pushed, waits });
        seq
    }
}
