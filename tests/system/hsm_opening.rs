//! From the library to the key: what cannot be read hides nothing, what hangs holds up nobody,
//! and what is missing is said by name.

use nix::sys::signal::Signal;
use system_tests::softhsm::signal;
use system_tests::{Kind, Proxy, SoftHsm, World, eventually};

use crate::ALICE;
use crate::hsm_act::{Act, signs};

const KIDS: [&str; 3] = ["ec", "more", "most"];

/// Three signers on one token, with those lines each; nothing is waited for.
async fn three<'w>(world: &'w World, hsm: &SoftHsm, lines: &str) -> Proxy<'w> {
    let keys = KIDS.map(|kid| (kid, hsm.key(kid, Kind::P256)));
    let builder =
        keys.iter().fold(world.proxy(), |builder, (kid, key)| builder.token(kid, hsm, key, lines));
    builder.caller(ALICE, &KIDS).start_shut().await
}

/// How many of the three sign.
async fn signing(proxy: &Proxy<'_>) -> usize {
    let alice = proxy.http2_client(ALICE).await;
    let mut signing = 0;
    for kid in KIDS {
        signing += usize::from(alice.sign_message(kid, b"hi").await.status == 200);
    }
    signing
}

async fn doctor_says(proxy: &Proxy<'_>, expected: &[&str]) {
    eventually(&format!("the doctor to say {expected:?}"), || async {
        let (code, said, _) = proxy.signctl(&["doctor"]);
        (code != 0 && expected.iter().all(|words| said.contains(words))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_nobody_can_read_hides_no_token() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    hsm.order("clock");
    let proxy = world.proxy().token("ec", &hsm, &key, "").caller(ALICE, &["ec"]).start().await;
    assert!(hsm.said("clock") > 0);
    signs(&proxy, &key).await;
}

#[tokio::test]
async fn a_slot_that_can_not_be_read_is_said_with_its_error() {
    let world = World::new();
    // CKR_DEVICE_ERROR.
    let act = Act::shut_for(&world, "upstream_unhealthy", |hsm| hsm.order("info=30")).await;
    let expected =
        ["no token with it can be seen", "cannot be read, C_GetTokenInfo: CKR_DEVICE_ERROR"];
    doctor_says(&act.proxy, &expected).await;
    act.hsm.mend();
    act.signs().await;
}

#[tokio::test]
async fn a_library_that_shows_nothing_is_no_missing_token() {
    let world = World::new();
    let act = Act::shut_for(&world, "upstream_unhealthy", |hsm| hsm.order("slotless")).await;
    let expected = ["shows no token at all", "the server or daemon behind the library"];
    doctor_says(&act.proxy, &expected).await;
    let (_, said, _) = act.proxy.signctl(&["doctor"]);
    assert!(!said.contains("no such token"), "{said}");
    act.hsm.mend();
    act.signs().await;
}

#[tokio::test]
async fn a_worker_that_hangs_while_it_opens_holds_up_no_other_signer_of_its_token() {
    for step in ["initialize", "open", "login", "find"] {
        let world = World::new();
        let hsm = SoftHsm::new("payments");
        let order = format!("hang-{step}");
        hsm.order(&format!("once {order}"));
        // So long that nobody waits for its end in this test.
        let proxy = three(&world, &hsm, "start_timeout_ms = 600000").await;
        eventually(&format!("the other two while one hangs in {step}"), || async {
            (signing(&proxy).await == 2).then_some(())
        })
        .await;
        let hanging = hsm.who_said(&order);
        assert_eq!(hanging.len(), 1, "{step}");
        signal(hanging[0], Signal::SIGKILL);
        eventually("all three", || async { (signing(&proxy).await == 3).then_some(()) }).await;
        assert_eq!(hsm.said("C_Login"), if step == "initialize" || step == "open" { 3 } else { 4 });
    }
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_cut_and_counted() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    hsm.order("once hang-open");
    let lines = "start_timeout_ms = 700";
    let builder = world.proxy().token("ec", &hsm, &key, lines).caller(ALICE, &["ec"]);
    let proxy = builder.start_shut().await;
    signs(&proxy, &key).await;
    proxy.process.says("did not open within start_timeout_ms, 700 ms").await;
    let labels = r#"{signer_kid="ec",upstream="pkcs11",region="payments"}"#;
    let hangs = proxy.metric(&format!("pkcs11_worker_hangs_killed_total{labels}")).await;
    assert_eq!(hangs, Some(1.0));
}

#[tokio::test]
async fn a_signature_takes_two_calls() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    act.hsm.order("count");
    for _ in 0..10 {
        assert_eq!(act.ask().await.status, 200);
    }
    assert_eq!((act.hsm.said("C_SignInit"), act.hsm.said("C_Sign")), (10, 10));
}

#[tokio::test]
async fn a_key_that_is_not_there_is_answered_with_those_that_are() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("payments-2026", Kind::P256);
    let _ = hsm.key("payments-2027", Kind::P256);
    let proxy = world.proxy().token("ec", &hsm, &key.named("payments"), "");
    let proxy = proxy.caller(ALICE, &["ec"]).start_shut().await;
    proxy.unhealthy_for("key_unavailable").await;
    let id = hex::encode("payments-2027");
    let expected = [
        "no private key with key_label \"payments\"",
        "key_label \"payments-2026\" key_id",
        &format!("key_label \"payments-2027\" key_id \"{id}\""),
    ];
    doctor_says(&proxy, &expected).await;
}

#[tokio::test]
async fn a_mechanism_that_the_token_lacks_is_named() {
    let world = World::new();
    for (directory, kind, mechanism) in [
        ("ec", Kind::P256, "CKM_ECDSA"),
        ("ed", Kind::Ed25519, "CKM_EDDSA"),
        ("rsa", Kind::Rsa2048, "CKM_RSA_PKCS"),
    ] {
        let hsm = SoftHsm::new("payments");
        let key = hsm.key("key", kind);
        // CKR_MECHANISM_INVALID.
        hsm.order("init=70");
        let proxy = world.proxy().directory(directory).token("ec", &hsm, &key, "");
        let proxy = proxy.caller(ALICE, &["ec"]).start_shut().await;
        let lacks = format!(
            "C_SignInit: CKR_MECHANISM_INVALID: the token or its library lacks {mechanism}"
        );
        doctor_says(&proxy, &[&lacks]).await;
    }
}
