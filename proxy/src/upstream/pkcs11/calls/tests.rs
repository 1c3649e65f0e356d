//! What becomes of calls: sent or not, answered or in doubt.

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
