//! Calls on their way to the worker: waiting, sent, answered. Bounded in number and time;
//! what was never sent certainly was not signed, what was sent and not answered may be (I10).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signing_core::gate::Fault;
use signing_core::worker::{Answered, Call};
use signing_core::{Algorithm, Moment};
use tokio::sync::oneshot;

use super::super::UpstreamError;
use super::line::Line;
use crate::time::now;

/// Calls that may wait at once; one more is refused at once.
const WAITING_MAX: usize = 1024;

/// How many calls the worker is given ahead for each of its threads: enough that none
/// waits for its next one, few enough that little is in doubt when it is killed.
const SENT_PER_THREAD_MAX: usize = 4;

/// Who asks. Canaries go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Canaries,
    Callers,
}

/// The answer to a call: a signature that nobody believes yet.
pub(super) type Answer = Result<Vec<u8>, UpstreamError>;

/// A call that was taken in.
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

/// What the upstream's callers and the supervisor share.
#[derive(Debug)]
pub(super) struct Calls {
    sent_max: usize,
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
    canaries: VecDeque<Waiting>,
    callers: VecDeque<Waiting>,
    sent: BTreeMap<u64, Sent>,
    next_id: u64,
    /// The PIN is why nothing can be asked.
    pin_refused: bool,
    /// Nobody is left to ask anything.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    call: Call,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Sent {
    at: Moment,
    reply: oneshot::Sender<Answer>,
}

/// What an answer of the worker leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Nothing.
    Answer,
    /// It wants to be started anew, and says why.
    Last(UpstreamError),
    /// It answered what it was not asked.
    Confused,
}

impl Calls {
    pub(super) fn new(threads: usize) -> Self {
        let state = State {
            away: Some(starting()),
            line: None,
            found: None,
            pinned: None,
            canaries: VecDeque::new(),
            callers: VecDeque::new(),
            sent: BTreeMap::new(),
            next_id: 0,
            pin_refused: false,
            closed: false,
        };
        Self {
            sent_max: threads.saturating_mul(SENT_PER_THREAD_MAX),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Takes a call in, or refuses it at once.
    pub(super) fn ask(
        &self,
        lane: Lane,
        algorithm: Algorithm,
        input: &[u8],
    ) -> Result<Asked, UpstreamError> {
        let mut state = self.state();
        if let Some(error) = &state.away {
            return Err(error.clone());
        }
        match &state.pinned {
            None => {
                return Err(UpstreamError::failed(
                    Fault::Unavailable,
                    "the key has not been compared with the registry yet",
                ));
            }
            Some(_) if state.pinned != state.found => {
                return Err(UpstreamError::Doubt {
                    detail: "the token holds another key under the same name than before; put the \
                             registered one back and unseal"
                        .into(),
                });
            }
            Some(_) => {}
        }
        if state.canaries.len() + state.callers.len() >= WAITING_MAX {
            return Err(UpstreamError::failed(
                Fault::Throttled,
                format!("{WAITING_MAX} calls wait for the token already"),
            ));
        }
        let (reply, answer) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        let waiting = Waiting { call: Call { id, algorithm, input: input.to_vec() }, reply };
        match lane {
            Lane::Canaries => state.canaries.push_back(waiting),
            Lane::Callers => state.callers.push_back(waiting),
        }
        self.send(&mut state);
        Ok(Asked { id, answer })
    }

    /// The caller has waited long enough.
    pub(super) fn give_up(&self, id: u64, waited: Duration) -> UpstreamError {
        let waited_ms = waited.as_millis();
        let mut state = self.state();
        let State { canaries, callers, .. } = &mut *state;
        let mut unsent = false;
        for queue in [canaries, callers] {
            let before = queue.len();
            queue.retain(|waiting| waiting.call.id != id);
            unsent |= queue.len() < before;
        }
        if unsent {
            let detail =
                format!("not sent within {waited_ms} ms: the token is slower than its load");
            UpstreamError::failed(Fault::Unavailable, detail)
        } else {
            let detail = format!("no answer of the token within {waited_ms} ms");
            UpstreamError::failed(Fault::Indeterminate, detail)
        }
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
            // Whoever does not wait any more needs no answer.
            let _ = reply.send(Err(UpstreamError::failed(
                Fault::Unavailable,
                "never sent: the worker ended before",
            )));
        }
    }

    /// The worker is gone: nobody knows what became of what it was sent.
    pub(super) fn settle(&self, why: &str) {
        let sent = std::mem::take(&mut self.state().sent);
        for Sent { reply, .. } in sent.into_values() {
            let _ = reply.send(Err(UpstreamError::failed(Fault::Indeterminate, why)));
        }
    }

    /// Takes in an answer of the worker.
    pub(super) fn take(&self, answered: Answered) -> Took {
        let mut state = self.state();
        let Some(Sent { reply, .. }) = state.sent.remove(&answered.id) else {
            return Took::Confused;
        };
        self.send(&mut state);
        drop(state);
        let (answer, took) = match answered.result {
            Ok(signature) => (Ok(signature), Took::Answer),
            Err(failure) => {
                let error = UpstreamError::failed(failure.fault, failure.detail);
                let took = if failure.last { Took::Last(error.clone()) } else { Took::Answer };
                (Err(error), took)
            }
        };
        let _ = reply.send(answer);
        took
    }

    /// Sends calls that wait, and marks them as sent: once half of those ahead are answered,
    /// several at once, so that not every answer costs a write. The worker's threads have work
    /// until then.
    fn send(&self, state: &mut State) {
        let State { line: Some(line), canaries, callers, sent, .. } = state else { return };
        if sent.len() <= self.sent_max / 2 {
            while sent.len() < self.sent_max {
                let next = canaries.pop_front().or_else(|| callers.pop_front());
                let Some(Waiting { call, reply }) = next else { break };
                // Nobody wants it any more.
                if reply.is_closed() {
                    continue;
                }
                Call::write(call.id, call.algorithm, &call.input, line.frames());
                sent.insert(call.id, Sent { at: now(), reply });
            }
        }
        line.send();
    }

    /// Since when the oldest call is with the worker.
    pub(super) fn oldest_sent(&self) -> Option<Moment> {
        self.state().sent.values().map(|sent| sent.at).min()
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

/// What is said until the first worker serves.
fn starting() -> UpstreamError {
    UpstreamError::failed(Fault::Unavailable, "the worker is starting")
}

#[cfg(test)]
mod tests;
