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
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use signing_core::worker::{Failure, Frames};

    const KEY: &[u8] = b"spki";

    /// Calls, and the worker's end of their line.
    fn serving() -> (Calls, UnixStream) {
        let calls = Calls::new(1);
        let worker = serve(&calls, KEY);
        calls.pin(KEY.to_vec());
        (calls, worker)
    }

    fn serve(calls: &Calls, key: &[u8]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        calls.serve(key.to_vec(), Line::new(ours));
        theirs
    }

    fn ask(calls: &Calls, lane: Lane) -> Asked {
        calls.ask(lane, Algorithm::EcdsaSha256, &[7; 32]).unwrap()
    }

    /// What has come to the worker.
    fn came(mut worker: &UnixStream) -> Vec<u64> {
        let (mut frames, mut piece) = (Frames::default(), [0; 4096]);
        while let Ok(length @ 1..) = worker.read(&mut piece) {
            frames.extend(&piece[..length]);
        }
        std::iter::from_fn(|| Some(Call::read(frames.next_frame().unwrap()?).unwrap().id)).collect()
    }

    fn answer(calls: &Calls, id: u64) -> Took {
        calls.take(Answered { id, result: Ok(vec![1]) })
    }

    fn fault(answer: &mut Asked) -> Fault {
        match answer.answer.try_recv().unwrap() {
            Err(UpstreamError::Failed { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn i10_what_was_sent_is_in_doubt_and_what_was_not_is_not() {
        let (calls, worker) = serving();
        let mut asked: Vec<_> = (0..9).map(|_| ask(&calls, Lane::Callers)).collect();
        let sent = came(&worker).len();
        assert!((1..=SENT_PER_THREAD_MAX).contains(&sent), "in flight are bounded: {sent}");
        calls.leave(&starting());
        calls.settle("it died");
        let faults: Vec<_> = asked.iter_mut().map(fault).collect();
        let (sent, unsent) = faults.split_at(sent);
        assert!(sent.iter().all(|fault| *fault == Fault::Indeterminate), "{sent:?}");
        assert!(unsent.iter().all(|fault| *fault == Fault::Unavailable), "{unsent:?}");
        assert!(calls.ask(Lane::Callers, Algorithm::EcdsaSha256, &[7; 32]).is_err());
        assert_eq!((&worker).read(&mut [0]).unwrap(), 0, "it learns that no more comes");
    }

    #[test]
    fn canaries_are_sent_before_the_callers_that_wait() {
        let (calls, worker) = serving();
        let first: Vec<_> = (0..4).map(|_| ask(&calls, Lane::Callers)).collect();
        let sent = came(&worker);
        drop(ask(&calls, Lane::Callers));
        let waiting = ask(&calls, Lane::Callers);
        let canary = ask(&calls, Lane::Canaries);
        assert_eq!(came(&worker), [0_u64; 0], "it has enough");
        for id in &sent {
            assert_eq!(answer(&calls, *id), Took::Answer);
        }
        let unsent = first.iter().map(|asked| asked.id).filter(|id| !sent.contains(id));
        // Those whose callers left are not sent at all.
        let expected: Vec<_> = [canary.id].into_iter().chain(unsent).chain([waiting.id]).collect();
        assert_eq!(came(&worker), expected);
    }

    #[test]
    fn every_call_is_sent_once_and_never_more_than_may() {
        let (calls, worker) = serving();
        let asked: Vec<_> = (0..200).map(|_| ask(&calls, Lane::Callers)).collect();
        let (mut under_way, mut all) = (VecDeque::new(), Vec::new());
        loop {
            let new = came(&worker);
            all.extend_from_slice(&new);
            under_way.extend(new);
            assert!(under_way.len() <= SENT_PER_THREAD_MAX);
            let Some(id) = under_way.pop_front() else { break };
            assert_eq!(answer(&calls, id), Took::Answer);
        }
        assert_eq!(all, asked.iter().map(|asked| asked.id).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_wait_than_may_and_who_gives_up_leaves_the_queue() {
        let (calls, worker) = serving();
        let mut asked = vec![ask(&calls, Lane::Callers)];
        let one_more = loop {
            match calls.ask(Lane::Callers, Algorithm::EcdsaSha256, &[7; 32]) {
                Ok(call) => asked.push(call),
                Err(error) => break error,
            }
        };
        let sent = came(&worker);
        assert_eq!(asked.len(), WAITING_MAX + sent.len());
        let is = |error: &UpstreamError, expected| match error {
            UpstreamError::Failed { fault, .. } => *fault == expected,
            UpstreamError::Doubt { .. } => false,
        };
        assert!(is(&one_more, Fault::Throttled));
        let (waited, next) = (Duration::from_secs(1), &asked[sent.len()..]);
        assert!(is(&calls.give_up(next[0].id, waited), Fault::Unavailable));
        for id in &sent {
            assert_eq!(answer(&calls, *id), Took::Answer);
        }
        assert_eq!(came(&worker)[..2], [next[1].id, next[2].id]);
        assert!(is(&calls.give_up(next[1].id, waited), Fault::Indeterminate));
    }

    #[test]
    fn another_key_under_the_same_name_is_doubted_and_an_uncompared_one_is_not_asked() {
        let calls = Calls::new(1);
        let _worker = serve(&calls, KEY);
        let refused = || calls.ask(Lane::Callers, Algorithm::EcdsaSha256, &[7; 32]).err().unwrap();
        assert!(matches!(refused(), UpstreamError::Failed { fault: Fault::Unavailable, .. }));
        calls.pin(KEY.to_vec());
        let _worker = serve(&calls, b"another");
        assert!(matches!(refused(), UpstreamError::Doubt { .. }));
        let _worker = serve(&calls, KEY);
        drop(ask(&calls, Lane::Callers));
    }

    #[test]
    fn an_answer_nobody_asked_for_is_a_confused_worker() {
        let (calls, worker) = serving();
        assert_eq!(answer(&calls, 0), Took::Confused);
        let mut asked = ask(&calls, Lane::Callers);
        assert_eq!(came(&worker), [asked.id]);
        let failure = Failure { fault: Fault::Unavailable, detail: "gone".into(), last: true };
        let took = calls.take(Answered { id: asked.id, result: Err(failure) });
        assert!(matches!(took, Took::Last(_)), "{took:?}");
        assert_eq!(fault(&mut asked), Fault::Unavailable);
        assert_eq!(calls.oldest_sent(), None);
    }
}
