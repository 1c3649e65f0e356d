//! The wire between proxy and signer: every message comes back as it went, in any pieces,
//! and nothing else is taken.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use signing_core::breakglass::Clause;
use signing_core::breakglass::wire::{
    self, Answer, Ask, FRAME_MAX_BYTES, FrameError, Hello, Input, JournalHead, JournalRecord,
    LENGTH_BYTES, Reason, Refused, Sign, Signed,
};
use signing_core::{Algorithm, Canary, Digest, Hash, Kid, SignRequest, ToBeSigned, request};

fn record() -> JournalRecord {
    JournalRecord { log: "0".repeat(32), seq: 8, leaf: "a".repeat(64) }
}

fn head() -> JournalHead {
    JournalHead { log: "0".repeat(32), size: 7, root: "a".repeat(64) }
}

fn sign(id: u64, message: &[u8]) -> Sign {
    let prepared = request::Input::Message(message.to_vec());
    let prepared = ToBeSigned::prepare(&prepared, Algorithm::Ed25519Sha512).unwrap();
    Sign {
        id,
        session: "INC-7-0a1b2c3d".to_owned(),
        caller: "spiffe://test/alice".to_owned(),
        request_id: "r-1".to_owned(),
        signer_kid: "payments".to_owned(),
        algorithm: "ED25519_SHA_512".to_owned(),
        input: Input::of(&prepared),
        justification: None,
        proxy_head: head(),
        proves: false,
    }
}

fn json(frame: &[u8]) -> String {
    String::from_utf8(frame.get(LENGTH_BYTES..).unwrap().to_vec()).unwrap()
}

fn framed(json: &str) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap();
    [&length.to_le_bytes()[..], json.as_bytes()].concat()
}

#[test]
fn messages_look_as_the_page_says() {
    let mut out = Vec::new();
    let hello = Hello { id: 1, version: 2, deployment: "d".to_owned(), log: "0".to_owned() };
    wire::write(&Ask::Hello(hello), &mut out).unwrap();
    assert_eq!(json(&out), r#"{"hello":{"id":1,"version":2,"deployment":"d","log":"0"}}"#);
    out.clear();
    let refused = |reason| Refused { id: 2, reason, detail: "no".to_owned(), record: None };
    wire::write(&Answer::Refused(refused(Reason::OutOfScope)), &mut out).unwrap();
    assert_eq!(json(&out), r#"{"refused":{"id":2,"reason":"out_of_scope","detail":"no"}}"#);
    for clause in Clause::ALL {
        out.clear();
        wire::write(&Answer::Refused(refused(Reason::Activation(*clause))), &mut out).unwrap();
        assert!(json(&out).contains(&format!(r#""reason":"{}""#, clause.word())), "{clause:?}");
        let (back, _) = wire::read::<Answer>(&out).unwrap().unwrap();
        assert_eq!(back, Answer::Refused(refused(Reason::Activation(*clause))));
    }
}

#[test]
fn no_word_means_two_reasons() {
    let own = [
        Reason::Invalid,
        Reason::Mismatch,
        Reason::NoSession,
        Reason::OutOfScope,
        Reason::QuotaExhausted,
        Reason::RateLimited,
        Reason::Overloaded,
        Reason::InputRefused,
        Reason::AuditUnavailable,
        Reason::KeyFailed,
    ];
    let clauses = Clause::ALL.iter().map(|clause| Reason::Activation(*clause));
    let mut words: Vec<_> = own.into_iter().chain(clauses).map(Reason::word).collect();
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
    for reason in own {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let good = {
        let mut out = Vec::new();
        wire::write(&Ask::Sign(sign(3, b"hello")), &mut out).unwrap();
        json(&out)
    };
    assert!(wire::read::<Ask>(&framed(&good)).unwrap().is_some());
    for (what, bad) in [
        ("an unknown key", good.replacen("\"id\":3", "\"id\":3,\"more\":1", 1)),
        ("a key twice", good.replacen("\"id\":3", "\"id\":3,\"id\":4", 1)),
        ("an unknown message", good.replacen("\"sign\"", "\"sing\"", 1)),
        ("two messages in one", good.replacen("{\"sign\"", "{\"status\":{\"id\":1},\"sign\"", 1)),
        ("two kinds of input", good.replacen("{\"message\"", "{\"digest\":\"\",\"message\"", 1)),
        ("a missing key", good.replacen("\"caller\":\"spiffe://test/alice\",", "", 1)),
        ("trailing data", format!("{good} 1")),
        ("a negative id", good.replacen("\"id\":3", "\"id\":-3", 1)),
        ("no JSON", "hello".to_owned()),
    ] {
        assert_ne!(bad, good, "{what}");
        let read = wire::read::<Ask>(&framed(&bad));
        assert!(matches!(read, Err(FrameError::Message(_))), "{what}: {read:?}");
    }
    let too_long = u32::try_from(FRAME_MAX_BYTES + 1).unwrap();
    for length in [0, too_long, u32::MAX] {
        let read = wire::read::<Ask>(&length.to_le_bytes());
        assert_eq!(read, Err(FrameError::Length(length)));
    }
}

#[test]
fn a_message_that_is_too_long_is_not_sent_in_part() {
    let mut out = b"before".to_vec();
    let mut long = sign(1, b"x");
    long.justification = Some("j".repeat(FRAME_MAX_BYTES));
    assert!(matches!(wire::write(&Ask::Sign(long), &mut out), Err(FrameError::TooLong(_))));
    assert_eq!(out, b"before");
}

#[test]
fn what_was_prepared_is_prepared_again_and_a_canary_never() {
    let message = SignRequest {
        key_kind: None,
        input: request::Input::Message(b"pay".to_vec()),
        signer: None,
        algorithm: None,
        format: Some(signing_core::SignatureFormat::Der),
        justification: None,
    }
    .input;
    let digest = request::Input::Digest(Hash::Sha256.of(b"pay"));
    for algorithm in [Algorithm::Ed25519Sha512, Algorithm::EcdsaSha256] {
        for input in [&message, &digest] {
            let prepared = ToBeSigned::prepare(input, algorithm).unwrap();
            assert_eq!(Input::of(&prepared).prepare(algorithm).unwrap(), prepared);
        }
    }
    let ed25519 = key_pairs::ed25519(1).1;
    let canary = Canary::new(&Kid::parse("k").unwrap(), [1; signing_core::canary::NONCE_BYTES]);
    let sent = Input::of(&canary.to_be_signed(&ed25519));
    assert!(sent.prepare(Algorithm::Ed25519Sha512).unwrap_err().detail.contains("canaries"));
    // The digest of a canary cannot be told from any other: what signs it is not Ed25519.
    let sent = Input::of(&canary.to_be_signed(&key_pairs::p256(1).1));
    assert!(matches!(sent, Input::Digest(_)), "{sent:?}");
    let short = Digest::new(Hash::Sha256, &[0; 31]);
    assert!(short.is_err());
    for wrong in ["AA==", "no base64"] {
        assert!(Input::Digest(wrong.to_owned()).prepare(Algorithm::EcdsaSha256).is_err());
    }
}

mod key_pairs;

proptest! {
    #[test]
    fn frames_come_through_in_any_pieces(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..8),
        cut in 1_usize..64,
    ) {
        let asks: Vec<_> =
            (0..).zip(&messages).map(|(id, message)| Ask::Sign(sign(id, &[b"m", &message[..]].concat()))).collect();
        let mut sent = Vec::new();
        for ask in &asks {
            wire::write(ask, &mut sent).unwrap();
        }
        let (mut buffer, mut got) = (Vec::new(), Vec::new());
        for piece in sent.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some((ask, taken)) = wire::read::<Ask>(&buffer).unwrap() {
                got.push(ask);
                buffer.drain(..taken);
            }
        }
        prop_assert_eq!(got, asks);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = wire::read::<Ask>(&bytes);
        let _ = wire::read::<Answer>(&framed(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn an_answer_comes_back(id in any::<u64>(), remaining in any::<u64>()) {
        let answer = Answer::Signed(Signed { id, signature: "AA==".to_owned(), record: record(), remaining, proof: None });
        let mut out = Vec::new();
        wire::write(&answer, &mut out).unwrap();
        prop_assert_eq!(wire::read::<Answer>(&out).unwrap(), Some((answer, out.len())));
    }
}
