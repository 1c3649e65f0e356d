//! Doubt about a signature or a key seals its signer until an operator has
//! looked into it (I10).

use serde_json::json;
use system_tests::{Fault, Kind, World, eventually};

use crate::ALICE;

#[tokio::test]
async fn i10_a_doubtful_answer_seals_the_signer_and_only_that_one() {
    for fault in [
        Fault::WrongKey,
        Fault::CorruptSignature,
        Fault::ShortSignature,
        Fault::NoSignature,
        Fault::OtherKeyId,
        Fault::OtherAlgorithm,
    ] {
        let world = World::new();
        let (good, bad) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
        let proxy = world
            .proxy()
            .signer("good", &good)
            .signer("bad", &bad)
            .caller(ALICE, &["good", "bad"])
            .start()
            .await;
        let alice = proxy.client(ALICE).await;
        bad.break_with(fault.clone());
        proxy.unhealthy_for("sealed").await;
        bad.mend();
        // Its cause is gone, but only an operator ends a seal.
        let refused = alice.sign_message("bad", b"hi").await;
        assert_eq!((refused.status, refused.reason()), (503, "sealed"), "{fault:?}: {refused:?}");
        assert_eq!(alice.sign_message("good", b"hi").await.status, 200, "{fault:?}");
        let (code, said, _) = proxy.signctl(&["unseal", "bad", "--reason", "looked into it"]);
        assert_eq!(code, 0, "{said}");
        proxy.healthy().await;
        assert_eq!(alice.sign_message("bad", b"hi").await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn i1_a_signature_that_does_not_verify_never_leaves() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    // No canary finds it first.
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::WrongKey);
    let answer = alice.sign_message("ec", b"hi").await;
    assert_eq!((answer.status, answer.reason()), (503, "signature_rejected"), "{answer:?}");
    assert!(answer.body.get("signature").is_none());
    proxy.unhealthy_for("sealed").await;
}

#[tokio::test]
async fn a_seal_survives_kill_9_and_its_end_does_too() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    key.break_with(Fault::CorruptSignature);
    proxy.unhealthy_for("sealed").await;
    key.mend();
    // In force first, on disk a little later: what is killed in between finds the cause anew.
    let stored = world.scratch.path("proxy/state/freeze-and-seals.json");
    eventually("the seal on disk", || {
        let text = std::fs::read_to_string(&stored).unwrap_or_default();
        std::future::ready(text.contains("does not verify").then_some(()))
    })
    .await;
    drop(proxy); // kill -9
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("sealed").await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(), "sealed");
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    assert!(
        status.body["signers"][0]["detail"].as_str().unwrap().contains("does not verify"),
        "{status:?}"
    );
    assert_eq!(proxy.signctl(&["unseal", "ec", "--reason", "checked"]).0, 0);
    proxy.healthy().await;
    drop(proxy);
    builder.start().await.stop().await;
}

#[tokio::test]
async fn a_public_key_that_is_not_the_registered_one_seals_its_signer_and_no_other() {
    let world = World::new();
    let (good, bad, other) =
        (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("good", &good)
        .signer_registered_as("bad", &bad, &other)
        .caller(ALICE, &["good", "bad"])
        .start_shut()
        .await;
    proxy.unhealthy_for("sealed").await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("bad", b"hi").await.reason(), "sealed");
    eventually("the good signer opens", || async {
        (alice.sign_message("good", b"hi").await.status == 200).then_some(())
    })
    .await;
    let (code, said, _) = proxy.signctl(&["status"]);
    assert_eq!(code, 1);
    assert!(said.contains("is not the registered one"), "{said}");
    // Unsealing without mending seals again: the key is compared anew.
    assert_eq!(proxy.signctl(&["unseal", "bad", "--reason", "hoping"]).0, 0);
    proxy.unhealthy_for("sealed").await;
}

#[tokio::test]
async fn an_alias_that_is_corrected_works_after_unseal_and_one_that_moves_away_seals() {
    let world = World::new();
    let (right, wrong) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let alias = world.kms.alias("alias/signer", &wrong);
    let proxy = world
        .proxy()
        .signer_registered_as("ec", &alias, &right)
        .caller(ALICE, &["ec"])
        .start_shut()
        .await;
    proxy.unhealthy_for("sealed").await;
    let _ = world.kms.alias("alias/signer", &right);
    assert_eq!(proxy.signctl(&["unseal", "ec", "--reason", "alias corrected"]).0, 0);
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    let _ = world.kms.alias("alias/signer", &wrong);
    proxy.unhealthy_for("sealed").await;
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "sealed");
}
