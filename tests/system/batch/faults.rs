//! What goes wrong with a batch goes wrong for each of its leaves, and with nobody else's.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::{Fault, Kind, Operation, World, eventually};

use super::{
    ALICE, KID, answers, ask, ask_with, builder, data, gathered, holding, intents, message, proof,
    proves, signer,
};
use signing_core::Input;

#[tokio::test]
async fn i1_a_freeze_between_the_call_and_the_release_withholds_each_leaf() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let client = proxy.http2_client(ALICE).await;
    // A batch of eight is in its call, and four gather behind it.
    let (first, before) = gathered(&world, &key, &client, 8).await;
    key.mend();
    answers(first).await;
    key.break_with(Fault::Hold);
    let mut asking = ask(&client, 8..9);
    intents(&world, 9).await;
    let called = || std::future::ready((key.calls(Operation::Sign) - before == 3).then_some(()));
    eventually("the third call", called).await;
    asking.extend(ask(&client, 9..16));
    intents(&world, 16).await;
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-1"})).await;
    assert_eq!(frozen.status, 200);
    key.mend();
    for (_, answer) in answers(asking).await {
        assert_eq!((answer.status, answer.reason()), (503, "gate_closed_in_flight"), "{answer:?}");
        assert!(answer.body.get("signature").is_none());
    }
    // The one in the call was signed, and withheld; those that gathered were never sent.
    assert_eq!(key.calls(Operation::Sign) - before, 3);
    eventually("its records", || {
        let found = (data(&world, "withheld").len(), data(&world, "failed").len());
        std::future::ready((found == (1, 7)).then_some(()))
    })
    .await;
    assert!(data(&world, "failed").iter().all(|it| it["reason"] == "gate_closed_in_flight"));
    // After it, all is as before.
    let ended = proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    assert_eq!(ended.status, 200);
    for (at, answer) in answers(ask(&client, 0..3)).await {
        proves(&signer(&key), &Input::Message(message(at)), proof(&answer));
    }
}

#[tokio::test]
async fn i1_a_freeze_withholds_every_leaf_of_a_batch_that_was_called_for() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let gathers = builder(&world, &key).of_signer(KID, "batch_wait_ms = 1000");
    let proxy = gathers.start().await;
    let client = proxy.http2_client(ALICE).await;
    let before = key.calls(Operation::Sign);
    key.break_with(Fault::Hold);
    let asking = ask(&client, 0..20);
    eventually("one call for all", || {
        std::future::ready((key.calls(Operation::Sign) > before).then_some(()))
    })
    .await;
    intents(&world, 20).await;
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-1"})).await;
    assert_eq!(frozen.status, 200);
    key.mend();
    for (_, answer) in answers(asking).await {
        assert_eq!((answer.status, answer.reason()), (503, "gate_closed_in_flight"), "{answer:?}");
    }
    eventually("a record of each", || {
        let (withheld, failed) = (data(&world, "withheld").len(), data(&world, "failed").len());
        std::future::ready((withheld + failed == 20 && withheld > 0).then_some(()))
    })
    .await;
}

#[tokio::test]
async fn i10_a_wrong_signature_of_a_batch_seals_and_withholds_all_of_its_leaves() {
    for fault in [Fault::WrongKey, Fault::CorruptSignature] {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        let proxy = builder(&world, &key).start().await;
        let client = proxy.http2_client(ALICE).await;
        let (asking, _) = gathered(&world, &key, &client, 12).await;
        key.mend();
        answers(asking).await;
        key.break_with(fault.clone());
        for (_, answer) in answers(ask(&client, 0..12)).await {
            assert_eq!(answer.status, 503, "{answer:?}");
            let is_sealed = ["signature_rejected", "sealed", "gate_closed_in_flight"];
            assert!(is_sealed.contains(&answer.reason()), "{answer:?}");
        }
        proxy.unhealthy_for("sealed").await;
        let failed = data(&world, "failed");
        assert!(failed.iter().any(|it| it["reason"] == "signature_rejected"), "{failed:?}");
        assert_eq!(data(&world, "intent").len() - 12, failed.len(), "each has its own record");
        assert!(data(&world, "signed").len() == 12);
    }
}

#[tokio::test]
async fn a_failed_call_fails_each_of_its_leaves_with_its_own_record() {
    for (fault, reason, status) in [
        (Fault::Error("ThrottlingException", 400), "upstream_throttled", 503),
        (Fault::Hang, "indeterminate", 504),
        (Fault::Error("DisabledException", 400), "key_unavailable", 503),
    ] {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        let lines = "call_timeout_ms = 300\nconnect_timeout_ms = 100\nretries_per_second_max = 0";
        let gathers = builder(&world, &key).of_signer(KID, "batch_wait_ms = 1000");
        let proxy = gathers.kms(lines).start().await;
        let client = proxy.http2_client(ALICE).await;
        key.break_with(fault.clone());
        let asking = ask(&client, 0..10);
        for (_, answer) in answers(asking).await {
            assert_eq!((answer.status, answer.reason()), (status, reason), "{fault:?}: {answer:?}");
        }
        let failed = data(&world, "failed");
        assert_eq!(failed.len(), 10, "{fault:?}");
        let intents = data(&world, "intent");
        for record in &failed {
            assert_eq!(record["reason"], reason, "{fault:?}: {record}");
            let intent =
                intents.iter().find(|it| it["request_id"] == record["request_id"]).unwrap();
            let attempt = intent["attempt"].as_str().unwrap();
            assert_eq!(record["attempt"], format!("{attempt}-1"));
        }
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_stops_nobody_elses_leaf() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let client = proxy.http2_client(ALICE).await;
    let (asking, _) = gathered(&world, &key, &client, 6).await;
    // The next one gathers, and its connection ends.
    let leaves = proxy.client(ALICE).await;
    let gone = ask_with(&leaves, 6, &[]);
    intents(&world, 7).await;
    gone.abort();
    drop(leaves);
    key.mend();
    let signer = signer(&key);
    for (at, answer) in answers(asking).await {
        proves(&signer, &Input::Message(message(at)), proof(&answer));
    }
    // What was begun for it is brought to its end: there is a record.
    eventually("seven outcomes", || {
        std::future::ready((data(&world, "signed").len() == 7).then_some(()))
    })
    .await;
}

#[tokio::test]
async fn i8_a_leaf_whose_deadline_passes_while_it_gathers_is_refused_and_never_sent() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let client = proxy.http2_client(ALICE).await;
    let (asking, _) = gathered(&world, &key, &client, 4).await;
    let (_, answer) = ask_with(&client, 4, &[("signing-deadline-ms", "100")]).await.unwrap();
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.reason()), (504, "deadline_exceeded"), "{answer:?}");
    key.mend();
    let signer = signer(&key);
    for (at, answer) in answers(asking).await {
        proves(&signer, &Input::Message(message(at)), proof(&answer));
    }
    let signed = data(&world, "signed");
    assert_eq!(signed.len(), 4);
    assert!(signed.iter().all(|it| it["batch"]["size"].as_u64().unwrap() <= 3), "{signed:?}");
}

#[tokio::test]
async fn what_a_kill_cuts_off_in_a_call_is_concluded_for_each_leaf() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let mut proxy = builder(&world, &key).start().await;
    let client = proxy.http2_client(ALICE).await;
    let (asking, _) = gathered(&world, &key, &client, 10).await;
    proxy.process.signal(Signal::SIGKILL);
    let _ = proxy.process.ended().await;
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    key.mend();
    let again = builder(&world, &key).start().await;
    let failed = data(&world, "failed");
    assert_eq!(failed.len(), 10);
    assert!(failed.iter().all(|it| it["reason"] == "indeterminate"), "{failed:?}");
    // The call that it was cut off in is found by what each of its intents says.
    let called = failed.iter().filter(|it| {
        let attempt = it["attempt"].as_str().unwrap();
        key.received().iter().any(|call| call.attempt().is_some_and(|id| id.starts_with(attempt)))
    });
    assert_eq!(called.count(), 1);
    let answer = again.client(ALICE).await.sign_message(KID, b"hi").await;
    proves(&signer(&key), &Input::Message(b"hi".to_vec()), proof(&answer));
}

/// Calls of one signer that may be in progress (`CALLS_MAX` in `sign/src/batch.rs`).
const CALLS_MAX: u64 = 16;

#[tokio::test]
async fn a_call_that_hangs_holds_the_next_batch_for_a_while_only() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = holding(&world, &key, 20).start().await;
    let client = proxy.http2_client(ALICE).await;
    let before = key.calls(Operation::Sign);
    key.break_with(Fault::Hold);
    let mut asking = ask(&client, 0..1);
    let called = |count: u64| {
        let key = key.clone();
        async move {
            eventually("the next call", || {
                let made = key.calls(Operation::Sign) - before;
                std::future::ready((made == count).then_some(()))
            })
            .await;
        }
    };
    called(1).await;
    // Each goes beside those before it, up to the most that may be in progress.
    for count in 2..=CALLS_MAX {
        let at = usize::try_from(count).unwrap();
        asking.extend(ask(&client, at..at + 1));
        called(count).await;
    }
    // From here on they gather, and share the next call.
    asking.extend(ask(&client, 20..30));
    intents(&world, usize::try_from(CALLS_MAX).unwrap() + 10).await;
    assert_eq!(key.calls(Operation::Sign) - before, CALLS_MAX);
    key.mend();
    let signer = signer(&key);
    for (at, answer) in answers(asking).await {
        proves(&signer, &Input::Message(message(at)), proof(&answer));
    }
    assert_eq!(key.calls(Operation::Sign) - before, CALLS_MAX + 1);
}

#[tokio::test]
async fn a_call_that_hangs_fails_its_own_leaves_alone() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = holding(&world, &key, 20).start().await;
    let client = proxy.http2_client(ALICE).await;
    let before = key.calls(Operation::Sign);
    key.break_with(Fault::Hang);
    let hung = ask_with(&client, 0, &[("signing-deadline-ms", "3000")]);
    eventually("the call that hangs", || {
        std::future::ready((key.calls(Operation::Sign) - before == 1).then_some(()))
    })
    .await;
    key.mend();
    let signer = signer(&key);
    for (at, answer) in answers(ask(&client, 1..4)).await {
        proves(&signer, &Input::Message(message(at)), proof(&answer));
    }
    // Its caller hears at its own deadline, though the call hangs for much longer.
    let (_, answer) = hung.await.unwrap();
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.reason()), (504, "indeterminate"), "{answer:?}");
    assert!(data(&world, "failed").is_empty(), "what came of the call is not known yet");
}
