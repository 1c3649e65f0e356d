//! Calls on their way to the worker: waiting, sent, begun, answered. Bounded in number and time;
//! what was never sent certainly was not signed, what was sent and not answered may be (I10).
//!
//! The worker's threads read calls in the order in which they were sent, so that of those that are
//! not answered the oldest are begun, one for each thread. The token's time begins then: how long
//! a call waited before, here or in the worker, says nothing about the token.

mod pace;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signing_core::evidence::Fault;
use signing_core::worker::{Answered, Call};
use signing_core::{Algorithm, Moment};
use tokio::sync::oneshot;

use super::super::{Patience, UpstreamError};
use super::line::Line;
use pace::Pace;

/// Calls that may wait at once; one more is refused at once.
const WAITING_MAX: usize = 1024;

/// The answer to a call: a signature that nobody believes yet.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Result<Vec<u8>, UpstreamError>,
    /// When the token began the call. None: it was never sent.
    pub(super) began: Option<Moment>,
}

/// What the upstream's callers and the supervisor share.
#[derive(Debug)]
pub(super) struct Calls {
    threads: usize,
    /// How long the token may take for one call.
    call_timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Why nothing can be asked. None: a worker serves.
    away: Option<UpstreamError>,
    /// The way to the worker that serves.
    line: Option<Line>,
    /// The key that the worker found.
    found: Option<Vec<u8>>,
    /// The key that was compared with the registered one and equalled it.
    pinned: Option<Vec<u8>>,
    /// Sent first, so that load cannot starve them.
    canaries: VecDeque<Waiting>,
    callers: VecDeque<Waiting>,
    /// By the number under which they were sent.
    sent: BTreeMap<u64, Sent>,
    next_number: u64,
    pace: Pace,
    /// The PIN is why nothing can be asked.
    pin_refused: bool,
    /// Nobody is left to ask anything.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    algorithm: Algorithm,
    input: Vec<u8>,
    /// Begun later its answer would be of no use.
    begin_by: Moment,
    /// Once begun, for so long.
    call_max: Duration,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Sent {
    began: Option<Moment>,
    /// No other one was with the worker when it was sent, and none was sent since.
    alone: bool,
    call_max: Duration,
    /// None: whoever asked was told that it took too long.
    reply: Option<oneshot::Sender<Answer>>,
}

/// What an answer of the worker leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnswerOutcome {
    /// Nothing.
    Answer,
    /// It wants to be started anew, and says why.
    Last(UpstreamError),
    /// It answered what it was not asked.
    Confused,
}

impl Calls {
    pub(super) fn new(threads: usize, call_timeout: Duration) -> Self {
        let state = State {
            away: Some(starting()),
            line: None,
            found: None,
            pinned: None,
            canaries: VecDeque::new(),
            callers: VecDeque::new(),
            sent: BTreeMap::new(),
            next_number: 0,
            pace: Pace::new(threads),
            pin_refused: false,
            closed: false,
        };
        Self { threads, call_timeout, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes a call in, or refuses it at once: also one that could not begin in time.
    pub(super) fn ask(
        &self,
        algorithm: Algorithm,
        input: &[u8],
        patience: Patience,
        now: Moment,
    ) -> Result<oneshot::Receiver<Answer>, UpstreamError> {
        let mut state = self.state();
        state.may_be_asked()?;
        let (begin_by, call_max) = match patience {
            // One that can begin at once does, however near its deadline is.
            Patience::Caller { deadline } => {
                (state.pace.latest_begin(deadline).max(now), self.call_timeout)
            }
            Patience::Canary { timeout } => (now.after(timeout), timeout.min(self.call_timeout)),
        };
        if !state.begins_by(begin_by, patience, now) {
            return Err(overloaded());
        }
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { algorithm, input: input.to_vec(), begin_by, call_max, reply };
        match patience {
            Patience::Canary { .. } => state.canaries.push_back(waiting),
            Patience::Caller { .. } => state.callers.push_back(waiting),
        }
        self.send(&mut state, now);
        Ok(answer)
    }

    /// Whether a caller's call would begin early enough for its deadline, as far as that is known
    /// now. While no worker serves, whoever asks hears why.
    pub(super) fn has_room(&self, deadline: Moment, now: Moment) -> bool {
        let state = self.state();
        let begin_by = state.pace.latest_begin(deadline);
        state.away.is_some() || state.begins_by(begin_by, Patience::Caller { deadline }, now)
    }

    /// How many calls wait and were not sent yet.
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        state.canaries.len() + state.callers.len()
    }

    /// The key that the worker found.
    pub(super) fn public_key(&self) -> Result<Vec<u8>, UpstreamError> {
        let state = self.state();
        match (&state.away, &state.found) {
            (None, Some(found)) => Ok(found.clone()),
            (Some(error), _) => Err(error.clone()),
            (None, None) => Err(starting()),
        }
    }

    /// Whether a worker serves.
    pub(super) fn is_served(&self) -> bool {
        self.state().away.is_none()
    }

    pub(super) fn pin(&self, spki_der: Vec<u8>) {
        self.state().pinned = Some(spki_der);
    }

    pub(super) fn set_pin_refused(&self, refused: bool) {
        self.state().pin_refused = refused;
    }

    pub(super) fn pin_is_refused(&self) -> bool {
        self.state().pin_refused
    }

    /// Nobody asks any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// A worker serves at the end of `line`, with the key that it found.
    pub(super) fn serve(&self, found: Vec<u8>, line: Line) {
        let mut state = self.state();
        state.found = Some(found);
        state.line = Some(line);
        state.away = None;
    }

    /// Nothing can be asked from now on. What waits was never sent.
    pub(super) fn leave(&self, why: &UpstreamError) {
        let mut state = self.state();
        state.away = Some(why.clone());
        state.line = None;
        let State { canaries, callers, .. } = &mut *state;
        let unsent: Vec<_> = canaries.drain(..).chain(callers.drain(..)).collect();
        drop(state);
        for Waiting { reply, .. } in unsent {
            let error =
                UpstreamError::failed(Fault::Unavailable, "never sent: the worker ended before");
            answer(reply, Err(error), None);
        }
    }

    /// The worker is gone: nobody knows what became of what it was sent.
    pub(super) fn settle(&self, why: &str) {
        let sent = std::mem::take(&mut self.state().sent);
        for Sent { reply, began, .. } in sent.into_values() {
            if let Some(reply) = reply {
                answer(reply, Err(UpstreamError::failed(Fault::Indeterminate, why)), began);
            }
        }
    }

    /// Takes in an answer of the worker.
    pub(super) fn take(&self, answered: Answered, now: Moment) -> AnswerOutcome {
        let mut state = self.state();
        let Some(Sent { began, alone, reply, .. }) = state.sent.remove(&answered.id) else {
            return AnswerOutcome::Confused;
        };
        if let (Ok(_), Some(began)) = (&answered.result, began) {
            state.pace.signed_in(now.since(began), alone);
        }
        // The one before it was answered a moment ago: too short to be seen here.
        let began = began.unwrap_or(now);
        self.send(&mut state, now);
        drop(state);
        let (result, took) = match answered.result {
            Ok(signature) => (Ok(signature), AnswerOutcome::Answer),
            Err(failure) => {
                let error = UpstreamError::failed(failure.fault, failure.detail);
                let took = if failure.last {
                    AnswerOutcome::Last(error.clone())
                } else {
                    AnswerOutcome::Answer
                };
                (Err(error), took)
            }
        };
        if let Some(reply) = reply {
            answer(reply, result, Some(began));
        }
        took
    }

    /// Sends calls that wait, several at once where the token is fast, so that not every answer
    /// costs a write: once half of those ahead are begun. The worker's threads have work until
    /// then. What cannot be answered in time any more is not sent.
    fn send(&self, state: &mut State, now: Moment) {
        let sent_max = state.pace.sent_max();
        let enough = (state.pace.at_once() + sent_max).div_ceil(2);
        let State { line: Some(line), canaries, callers, sent, next_number, .. } = state else {
            return;
        };
        if sent.len() < enough {
            while sent.len() < sent_max {
                let next = canaries.pop_front().or_else(|| callers.pop_front());
                let Some(Waiting { algorithm, input, begin_by, call_max, reply }) = next else {
                    break;
                };
                // Nobody wants it any more.
                if reply.is_closed() {
                    continue;
                }
                if now > begin_by {
                    answer(reply, Err(overloaded()), None);
                    continue;
                }
                let number = *next_number;
                *next_number += 1;
                Call::write(number, algorithm, &input, line.frames());
                let alone = sent.is_empty();
                if sent.len() == 1 {
                    sent.values_mut().for_each(|only| only.alone = false);
                }
                let reply = Some(reply);
                sent.insert(number, Sent { began: None, alone, call_max, reply });
            }
        }
        line.send();
        for begun in sent.values_mut().take(self.threads) {
            begun.began.get_or_insert(now);
        }
    }

    /// Answers those whose time is over: what waits for too long is shed, what the token has had
    /// for as long as its asker allows is in doubt. To be called now and then.
    pub(super) fn sweep(&self, now: Moment) {
        let mut state = self.state();
        let State { canaries, callers, sent, .. } = &mut *state;
        for queue in [canaries, callers] {
            let (kept, late) = std::mem::take(queue)
                .into_iter()
                .filter(|waiting| !waiting.reply.is_closed())
                .partition(|waiting| now <= waiting.begin_by);
            *queue = kept;
            let late: VecDeque<Waiting> = late;
            late.into_iter().for_each(|waiting| answer(waiting.reply, Err(overloaded()), None));
        }
        for Sent { began, call_max, reply, .. } in sent.values_mut() {
            let Some(began) = *began else { break };
            if now.since(began) >= *call_max
                && let Some(reply) = reply.take()
            {
                let waited_ms = call_max.as_millis();
                let detail = format!("no answer of the token within {waited_ms} ms");
                let error = UpstreamError::failed(Fault::Indeterminate, detail);
                answer(reply, Err(error), Some(began));
            }
        }
    }

    /// Whether the token has had a call for longer than it may.
    pub(super) fn hangs(&self, now: Moment) -> bool {
        let oldest = self.state().sent.values().filter_map(|sent| sent.began).min();
        oldest.is_some_and(|began| now.since(began) >= self.call_timeout)
    }

    /// Waits for `pause`, or until nobody is left to wait for.
    pub(super) fn pause(&self, pause: Duration) {
        let needed = |state: &mut State| !state.closed;
        drop(
            self.changed
                .wait_timeout_while(self.state(), pause, needed)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way: collections change by whole calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a worker serves with the registered key.
    fn may_be_asked(&self) -> Result<(), UpstreamError> {
        if let Some(error) = &self.away {
            return Err(error.clone());
        }
        match &self.pinned {
            None => Err(UpstreamError::failed(
                Fault::Unavailable,
                "the key has not been compared with the registry yet",
            )),
            Some(_) if self.pinned != self.found => Err(UpstreamError::Doubt {
                detail: "the token holds another key under the same name than before; put the \
                         registered one back and unseal"
                    .into(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Whether one more call would begin by then. One for which a thread is free is never shed,
    /// however slow the token was: else nothing would measure that it is fast again.
    fn begins_by(&self, begin_by: Moment, patience: Patience, now: Moment) -> bool {
        let waiting = match patience {
            Patience::Canary { .. } => self.canaries.len(),
            Patience::Caller { .. } => self.canaries.len() + self.callers.len(),
        };
        if self.canaries.len() + self.callers.len() >= WAITING_MAX {
            return false;
        }
        let waits = self.pace.wait_behind(self.sent.len() + waiting);
        waits.is_zero() || now.after(waits) < begin_by
    }
}

/// What is said until the first worker serves.
fn starting() -> UpstreamError {
    UpstreamError::failed(Fault::Unavailable, "the worker is starting")
}

/// What is said of a call that was shed.
fn overloaded() -> UpstreamError {
    UpstreamError::failed(
        Fault::Overloaded,
        "not sent: more calls wait for the token than it signs in time",
    )
}

fn answer(
    reply: oneshot::Sender<Answer>,
    result: Result<Vec<u8>, UpstreamError>,
    began: Option<Moment>,
) {
    // Whoever does not wait any more needs no answer.
    let _ = reply.send(Answer { result, began });
}

#[cfg(test)]
mod tests;
