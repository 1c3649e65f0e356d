//! What becomes of calls: sent or not, begun, answered, shed or in doubt.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use super::*;
use signing_core::worker::{Failure, Frames};

const KEY: &[u8] = b"spki";
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// So far away that it plays no part.
const LATER: Duration = Duration::from_secs(1_000);

type Asked = oneshot::Receiver<Answer>;

/// Calls to a token with so many threads, the worker's end of their line, and the time.
struct Room {
    calls: Calls,
    worker: UnixStream,
    now: Moment,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Room {
    /// A worker serves, and has not signed yet.
    fn new(threads: usize) -> Self {
        let calls = Calls::new(threads, CALL_TIMEOUT);
        let worker = serve(&calls, KEY);
        calls.pin(KEY.to_vec());
        Self { calls, worker, now: Moment::default().after(ms(1)) }
    }

    /// The token has signed one call in that time.
    fn of(threads: usize, call: Duration) -> Self {
        let mut room = Self::new(threads);
        let asked = room.ask();
        room.wait(call);
        room.answer_all();
        drop(asked);
        room
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn try_ask(&self, patience: Patience) -> Result<Asked, UpstreamError> {
        self.calls.ask(Algorithm::EcdsaSha256, &[7; 32], patience, self.now)
    }

    fn ask(&self) -> Asked {
        self.ask_for(LATER).unwrap()
    }

    fn ask_for(&self, time: Duration) -> Result<Asked, UpstreamError> {
        self.try_ask(Patience::Caller { deadline: self.now.after(time) })
    }

    fn canary(&self) -> Asked {
        self.try_ask(Patience::Canary { timeout: ms(500) }).unwrap()
    }

    /// The numbers of what has come to the worker since the last look.
    fn came(&self) -> Vec<u64> {
        let (mut frames, mut piece) = (Frames::default(), [0; 4096]);
        while let Ok(length @ 1..) = (&self.worker).read(&mut piece) {
            frames.extend(&piece[..length]);
        }
        std::iter::from_fn(|| Some(Call::read(frames.next_frame().unwrap()?).unwrap().id)).collect()
    }

    fn answer(&self, id: u64) -> AnswerOutcome {
        self.calls.take(Answered { id, result: Ok(vec![1]) }, self.now)
    }

    /// Answers what has come to the worker; how many that were.
    fn answer_all(&self) -> usize {
        let came = self.came();
        came.iter().for_each(|id| assert_eq!(self.answer(*id), AnswerOutcome::Answer));
        came.len()
    }
}

fn serve(calls: &Calls, key: &[u8]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    calls.serve(key.to_vec(), Line::new(ours));
    theirs
}

fn is(error: &UpstreamError, expected: Fault) -> bool {
    matches!(error, UpstreamError::Failed { fault, .. } if *fault == expected)
}

/// How it failed. None: it is not answered yet.
fn fault(asked: &mut Asked) -> Option<Fault> {
    match asked.try_recv().ok()?.result {
        Err(UpstreamError::Failed { fault, .. }) => Some(fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn i10_what_was_sent_is_in_doubt_and_what_was_not_is_not() {
    let room = Room::of(1, Duration::from_micros(50));
    let mut asked: Vec<_> = (0..9).map(|_| room.ask()).collect();
    let sent = room.came().len();
    assert!((2..=4).contains(&sent), "in flight are bounded: {sent}");
    room.calls.leave(&starting());
    room.calls.settle("it died");
    let faults: Vec<_> = asked.iter_mut().filter_map(fault).collect();
    let (sent, unsent) = faults.split_at(sent);
    assert!(sent.iter().all(|fault| *fault == Fault::Indeterminate), "{sent:?}");
    assert!(unsent.iter().all(|fault| *fault == Fault::Unavailable), "{unsent:?}");
    assert_eq!(sent.len() + unsent.len(), 9);
    assert!(room.ask_for(LATER).is_err());
    assert_eq!((&room.worker).read(&mut [0]).unwrap(), 0, "it learns that no more comes");
}

#[test]
fn a_slow_token_has_one_call_for_each_thread_and_canaries_are_next() {
    let mut room = Room::of(2, ms(100));
    let _first = [room.ask(), room.ask()];
    let under_way = room.came();
    assert_eq!(under_way.len(), 2);
    drop(room.ask());
    let (mut waiting, mut canary) = (room.ask(), room.canary());
    assert!(room.came().is_empty(), "it has enough");
    room.wait(ms(100));
    assert_eq!(room.answer(under_way[0]), AnswerOutcome::Answer);
    let next = room.came();
    assert_eq!(next.len(), 1);
    assert_eq!(room.answer(next[0]), AnswerOutcome::Answer);
    assert!(canary.try_recv().unwrap().result.is_ok());
    // Those whose callers left are not sent at all.
    assert_eq!(room.answer_all(), 1);
    assert!(waiting.try_recv().unwrap().result.is_ok());
}

#[test]
fn every_call_is_sent_once_and_never_more_than_may() {
    let room = Room::of(1, Duration::from_micros(50));
    let mut asked: Vec<_> = (0..200).map(|_| room.ask()).collect();
    let (mut under_way, mut all) = (VecDeque::new(), Vec::new());
    loop {
        let new = room.came();
        all.extend_from_slice(&new);
        under_way.extend(new);
        assert!(under_way.len() <= 4);
        let Some(id) = under_way.pop_front() else { break };
        assert_eq!(room.answer(id), AnswerOutcome::Answer);
    }
    assert_eq!(all, (1..=200).collect::<Vec<_>>());
    assert!(asked.iter_mut().all(|asked| asked.try_recv().unwrap().result.is_ok()));
}

#[test]
fn the_tokens_time_begins_when_a_thread_is_free_for_a_call() {
    let mut room = Room::of(1, ms(1));
    // One is signed and one lies ahead in the worker.
    let (_first, mut second) = (room.ask(), room.ask());
    let came = room.came();
    assert_eq!(came.len(), 2);
    let asked_at = room.now;
    room.wait(ms(1_900));
    assert_eq!(room.answer(came[0]), AnswerOutcome::Answer);
    let free_at = room.now;
    room.wait(ms(1_900));
    assert!(!room.calls.hangs(room.now), "asked {:?} ago", room.now.since(asked_at));
    assert_eq!(room.answer(came[1]), AnswerOutcome::Answer);
    assert_eq!(second.try_recv().unwrap().began, Some(free_at));
}

#[test]
fn a_token_that_keeps_a_call_for_too_long_hangs_however_many_wait() {
    let mut room = Room::of(1, ms(100));
    let (mut first, mut waiting) = (room.ask(), room.ask());
    room.wait(CALL_TIMEOUT - ms(1));
    room.calls.sweep(room.now);
    assert!(!room.calls.hangs(room.now) && fault(&mut first).is_none());
    room.wait(ms(1));
    assert!(room.calls.hangs(room.now));
    room.calls.sweep(room.now);
    assert_eq!(fault(&mut first), Some(Fault::Indeterminate));
    assert_eq!(fault(&mut waiting), None);
}

#[test]
fn a_canary_counts_its_time_from_its_begin_too() {
    let mut room = Room::of(1, ms(100));
    let _first = room.ask();
    let came = room.came();
    let mut canary = room.canary();
    room.wait(ms(400));
    assert_eq!(room.answer(came[0]), AnswerOutcome::Answer);
    room.wait(ms(400));
    room.calls.sweep(room.now);
    assert_eq!(fault(&mut canary), None);
    room.wait(ms(100));
    room.calls.sweep(room.now);
    assert_eq!(fault(&mut canary), Some(Fault::Indeterminate));
    // Its late answer is still expected, and nobody's any more.
    assert_eq!(room.answer_all(), 1);
}

#[test]
fn i8_what_can_not_be_answered_in_time_is_shed_at_once() {
    let room = Room::of(2, ms(100));
    let _under_way = [room.ask(), room.ask()];
    // Each of two threads signs ten in a second; the last ones have to begin 200 ms before.
    let asked: Vec<_> = std::iter::from_fn(|| room.ask_for(ms(1_000)).ok()).take(100).collect();
    assert!((14..=16).contains(&asked.len()), "{} wait", asked.len());
    let refused = room.ask_for(ms(1_000)).unwrap_err();
    assert!(is(&refused, Fault::Overloaded), "{refused:?}");
    let has_room = |time| room.calls.has_room(room.now.after(time), room.now);
    assert!(!has_room(ms(1_000)) && has_room(ms(5_000)));
    drop(room.canary());
}

#[test]
fn what_waits_for_too_long_is_shed_and_certainly_was_not_signed() {
    let mut room = Room::of(1, ms(100));
    let (_under_way, mut next) = (room.ask(), room.ask_for(ms(1_000)).unwrap());
    // The token is far slower than it was.
    room.wait(ms(799));
    room.calls.sweep(room.now);
    assert_eq!(fault(&mut next), None);
    room.wait(ms(2));
    room.calls.sweep(room.now);
    assert_eq!(fault(&mut next), Some(Fault::Overloaded));
    let came = room.came();
    room.answer(came[0]);
    assert!(room.came().is_empty());
}

#[test]
fn a_call_for_which_a_thread_is_free_is_never_shed() {
    let room = Room::of(1, ms(60_000));
    drop(room.ask_for(ms(1)).unwrap());
    assert_eq!(room.answer_all(), 1, "what it takes now is measured");
    let room = Room::new(1);
    drop(room.ask_for(Duration::ZERO).unwrap());
    assert_eq!(room.answer_all(), 1);
}

#[test]
fn no_more_wait_than_may_and_who_gives_up_leaves_the_queue() {
    let room = Room::of(1, Duration::from_nanos(1));
    let mut asked = Vec::new();
    let one_more = loop {
        match room.ask_for(LATER) {
            Ok(call) => asked.push(call),
            Err(error) => break error,
        }
    };
    assert!(is(&one_more, Fault::Overloaded));
    assert_eq!(room.calls.waiting(), WAITING_MAX);
    asked.truncate(asked.len() - 24);
    room.calls.sweep(room.now);
    assert_eq!(room.calls.waiting(), WAITING_MAX - 24);
}

#[test]
fn another_key_under_the_same_name_is_doubted_and_an_uncompared_one_is_not_asked() {
    let calls = Calls::new(1, CALL_TIMEOUT);
    let now = Moment::default();
    let ask = || {
        let patience = Patience::Caller { deadline: now.after(LATER) };
        calls.ask(Algorithm::EcdsaSha256, &[7; 32], patience, now)
    };
    let _worker = serve(&calls, KEY);
    assert!(is(&ask().unwrap_err(), Fault::Unavailable));
    calls.pin(KEY.to_vec());
    let _worker = serve(&calls, b"another");
    assert!(matches!(ask(), Err(UpstreamError::Doubt { .. })));
    let _worker = serve(&calls, KEY);
    drop(ask().unwrap());
}

#[test]
fn an_answer_nobody_asked_for_is_a_confused_worker() {
    let room = Room::new(1);
    assert_eq!(room.answer(0), AnswerOutcome::Confused);
    let mut asked = room.ask();
    let came = room.came();
    let failure = Failure { fault: Fault::Unavailable, detail: "gone".into(), last: true };
    let took = room.calls.take(Answered { id: came[0], result: Err(failure) }, room.now);
    assert!(matches!(took, AnswerOutcome::Last(_)), "{took:?}");
    assert_eq!(fault(&mut asked), Some(Fault::Unavailable));
    assert!(!room.calls.hangs(room.now.after(LATER)));
}
