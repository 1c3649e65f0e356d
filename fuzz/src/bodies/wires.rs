//! What the processes say to each other, in whatever pieces it comes.

use std::fmt::Debug;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use breakglass_signer::operator::{self, OperatorInput};
use serde::Serialize;
use serde::de::DeserializeOwned;
use signing_core::Algorithm;
use signing_core::breakglass::wire::operator::Unlocked;
use signing_core::breakglass::wire::{self, Answer, Ask, FrameError};
use signing_core::worker::SIGNATURE_MAX_BYTES;
use signing_core::worker::{
    Answered, Call, FRAME_MAX_BYTES, Frames, Start, Started, fault_of_word, receive,
};

use super::{choose, is_no_canary};

/// `signer.sock` in both directions, and `operator.sock`.
pub(super) fn signer(bytes: &[u8]) {
    match choose(&[0, 1, 2, 3], bytes) {
        Some((0, stream)) => messages::<Ask>(stream).iter().for_each(ask),
        Some((1, stream)) => drop(messages::<Answer>(stream)),
        Some((2, stream)) => drop(messages::<Unlocked>(stream)),
        Some((_, frame)) => operators(frame),
        None => {}
    }
}

/// Every message of a stream: each is written so that it reads the same.
fn messages<T: Serialize + DeserializeOwned + PartialEq + Debug>(stream: &[u8]) -> Vec<T> {
    let (mut rest, mut read) = (stream, Vec::new());
    while let Ok(Some((message, taken))) = wire::read::<T>(rest) {
        assert!((wire::LENGTH_BYTES + 1..=rest.len()).contains(&taken));
        // Not before it is whole.
        let cut = rest.get(..taken - 1).unwrap_or_default();
        assert!(matches!(wire::read::<T>(cut), Ok(None)));
        let mut written = Vec::new();
        match wire::write(&message, &mut written) {
            Ok(()) => {
                let again = wire::read(&written);
                let again = again.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(again.as_ref().map(|(message, _)| message), Some(&message));
                assert_eq!(again.map(|(_, taken)| taken), Some(written.len()));
            }
            // With its names, which a list leaves out, it may be too long.
            Err(error) => assert!(matches!(error, FrameError::TooLong(_)), "{error}"),
        }
        read.push(message);
        rest = rest.get(taken..).unwrap_or_default();
    }
    read
}

/// Nothing that is asked for is a canary, whatever a proxy says of it.
fn ask(ask: &Ask) {
    let Ask::Sign(sign) = ask else { return };
    for algorithm in Algorithm::ALL {
        if let Ok(prepared) = sign.input.prepare(*algorithm) {
            is_no_canary(&prepared);
            assert_eq!(wire::Input::of(&prepared).prepare(*algorithm).as_ref(), Ok(&prepared));
        }
    }
    if let Some((log, head)) = sign.proxy_head.parse() {
        assert_eq!(wire::JournalHead::new(log, head).parse(), Some((log, head)));
    }
}

/// All bytes are there, so that nothing waits.
fn operators(mut frame: &[u8]) {
    let (whole, mut context) = (frame, Context::from_waker(Waker::noop()));
    let read = pin!(operator::came(&mut frame)).poll(&mut context);
    let Poll::Ready(read) = read else { panic!("it waits for bytes that do not come") };
    match read {
        Ok(OperatorInput::Passphrase(passphrase)) => {
            assert!((1..=1024).contains(&passphrase.len()));
            assert_eq!(whole.get(4..4 + passphrase.len()), Some(passphrase.as_slice()));
        }
        Ok(OperatorInput::Open(_, passphrase)) => {
            assert!((1..=1024).contains(&passphrase.len()));
            assert!(whole.windows(passphrase.len()).any(|part| part == passphrase.as_slice()));
        }
        Ok(OperatorInput::Ask(_)) => assert_eq!(whole.get(..4), Some(&[0; 4][..])),
        Err(_) => {}
    }
}

/// `pkcs11-worker` in both directions: the frames are those of a blocking read, whatever pieces they
/// come in.
pub(super) fn worker(bytes: &[u8]) {
    let Some(([what, size], stream)) = bytes.split_first_chunk::<2>() else { return };
    let (mut frames, mut read) = (Frames::default(), Vec::new());
    'stream: for piece in stream.chunks(usize::from(*size).max(1)) {
        frames.extend(piece);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => read.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    let mut blocking = stream;
    for frame in &read {
        assert_eq!(receive(&mut blocking).ok().flatten().as_ref(), Some(frame));
        assert!(frame.len() <= FRAME_MAX_BYTES);
        match what % 4 {
            0 => call(frame),
            1 => answered(frame),
            2 => started(frame),
            _ => {
                let start: Option<Start> = serde_json::from_slice(frame).ok();
                let written = start.as_ref().map(|start| serde_json::to_vec(start).ok());
                let again = written.flatten().and_then(|json| serde_json::from_slice(&json).ok());
                assert_eq!(again, start);
            }
        }
    }
    assert!(!matches!(receive(&mut blocking), Ok(Some(_))), "a frame was overlooked");
}

fn call(frame: &[u8]) {
    let Some(Call { id, algorithm, input }) = Call::read(frame) else { return };
    let mut written = Vec::new();
    Call::write(id, algorithm, &input, &mut written);
    assert_eq!(written.get(4..), Some(frame));
}

/// What a vendor's code says: of a bounded length, one line, and the same when it is said again.
fn answered(frame: &[u8]) {
    let Some(answered) = Answered::read(frame) else { return };
    match &answered.result {
        Ok(signature) => assert!((1..=SIGNATURE_MAX_BYTES).contains(&signature.len())),
        Err(failure) => {
            assert!(failure.detail.len() <= 300 && !failure.detail.contains(char::is_control));
        }
    }
    let mut written = Vec::new();
    answered.write(&mut written);
    let again = Answered::read(written.get(4..).unwrap_or_default());
    assert_eq!(again, Some(answered));
}

fn started(frame: &[u8]) {
    if let Ok(Started::Failed { fault, .. }) = serde_json::from_slice(frame) {
        let known = fault_of_word(&fault);
        assert_eq!(fault_of_word(known.word()), known);
    }
}
