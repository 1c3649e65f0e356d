//! The proxy before a KMS that others wrote: `ministack`, pinned in `tests/requirements.txt`.
//! It makes the keys and answers over the wire as AWS says; openssl looks at what
//! comes out.
//!
//! It has every algorithm of ours right, RSA-PSS with a salt as long as its digest
//! included, so none is left out here. What it takes that AWS refuses (such as `RAW`
//! of more than 4096 bytes) is checked against our own test KMS only.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::{Key, Kind, Ministack, World, eventually, openssl};

use crate::ALICE;
use crate::algorithms::openssl_verifies_every_algorithm;

#[tokio::test]
async fn i1_openssl_verifies_every_algorithm_of_a_foreign_kms_over_messages_and_digests() {
    let world = World::new();
    let ministack = Ministack::start().await;
    let mut keys: Vec<(&str, Key)> = Vec::new();
    for (kid, kind) in
        [("ed", Kind::Ed25519), ("p256", Kind::P256), ("p384", Kind::P384), ("rsa", Kind::Rsa2048)]
    {
        keys.push((kid, ministack.key(kind).await));
    }
    let kids: Vec<_> = keys.iter().map(|(kid, _)| *kid).collect();
    let builder = world.proxy().endpoint(&ministack.endpoint);
    let builder = keys.iter().fold(builder, |builder, (kid, key)| builder.signer(kid, key));
    let proxy = builder.caller(ALICE, &kids).start().await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        openssl_verifies_every_algorithm(&alice, kid, key).await;
    }
}

#[tokio::test]
async fn a_disabled_key_shuts_its_gate_an_enabled_one_opens_it_and_a_dead_kms_shuts_all() {
    let world = World::new();
    let mut ministack = Ministack::start().await;
    let (key, other) = (ministack.key(Kind::P256).await, ministack.key(Kind::Ed25519).await);
    let proxy = world
        .proxy()
        .endpoint(&ministack.endpoint)
        .signer("ec", &key)
        .signer("ed", &other)
        .caller(ALICE, &["ec", "ed"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let signs = async |kid: &str, key: &Key| {
        let answer = alice.sign_message(kid, b"a message").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(openssl::verifies(key, b"a message", &answer.signature()), "{kid}");
    };
    signs("ec", &key).await;

    ministack.call("DisableKey", &json!({"KeyId": key.id})).await;
    proxy.unhealthy_for("key_unavailable").await;
    let refused = alice.sign_message("ec", b"a message").await;
    assert_eq!((refused.status, refused.reason()), (503, "key_unavailable"), "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    signs("ed", &other).await;

    ministack.call("EnableKey", &json!({"KeyId": key.id})).await;
    proxy.healthy().await;
    signs("ec", &key).await;

    ministack.process.signal(Signal::SIGKILL);
    ministack.process.ended().await;
    eventually("both gates shut", || async {
        let health = proxy.unhealthy_for("upstream_unhealthy").await;
        let signers = health.body["signers"].as_array().unwrap().clone();
        assert_eq!(signers.len(), 2, "{health:?}");
        signers.iter().all(|signer| signer["state"] == "shut").then_some(())
    })
    .await;
    for kid in ["ec", "ed"] {
        let refused = alice.sign_message(kid, b"a message").await;
        assert_eq!((refused.status, refused.reason()), (503, "upstream_unhealthy"), "{refused:?}");
    }
}
