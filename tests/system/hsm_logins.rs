//! How often a token is asked to let the proxy in: a PIN that it refused is brought once, by
//! whichever upstream, and a login that fails without a reason is not tried in a row.

use system_tests::softhsm::PIN;
use system_tests::{Kind, SoftHsm, World, eventually};

use crate::ALICE;
use crate::hsm_act::Act;

const UNAVAILABLE: &str =
    r#"kms_errors_total{upstream="pkcs11",region="payments",kind="unavailable"}"#;

#[tokio::test]
async fn of_several_signers_on_one_token_one_brings_the_wrong_pin() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let keys = ["ec", "ed", "more"].map(|kid| (kid, hsm.key(kid, Kind::P256)));
    std::fs::write(hsm.pin_file(), "0000").unwrap();
    let builder =
        keys.iter().fold(world.proxy(), |builder, (kid, key)| builder.token(kid, &hsm, key, ""));
    let proxy = builder.caller(ALICE, &["ec", "ed", "more"]).start_shut().await;
    let alice = proxy.client(ALICE).await;
    for (kid, _) in &keys {
        eventually("a refused PIN", || async {
            let answer = alice.sign_message(kid, b"hi").await;
            (answer.reason() == "key_unavailable").then_some(())
        })
        .await;
    }
    assert_eq!(hsm.said("C_Login"), 1);
    let (code, said, _) = proxy.signctl(&["doctor"]);
    assert!(code != 0 && said.contains("write the right PIN there"), "{said}");
    std::fs::write(hsm.pin_file(), PIN).unwrap();
    proxy.healthy().await;
    // One for each worker: each has sessions of its own.
    assert_eq!(hsm.said("C_Login"), 4);
}

/// Meets that code at its first login, and makes no other one until someone has acted.
async fn is_tried_once(code: &str) {
    let world = World::new();
    let act = Act::shut_for(&world, "upstream_unhealthy", |hsm| {
        hsm.order(&format!("login={code}"));
    })
    .await;
    act.proxy.process.says("it may have counted this as a wrong PIN").await;
    let failed = || async { act.proxy.metric(UNAVAILABLE).await.unwrap_or_default() };
    let before = failed().await;
    eventually("sixty more canaries", || async { (failed().await >= before + 60.0).then_some(()) })
        .await;
    assert_eq!(act.hsm.said("C_Login"), 1, "{code}");
    // Whoever has mended the cause says so.
    act.hsm.mend();
    std::fs::write(act.hsm.pin_file(), PIN).unwrap();
    act.signs().await;
}

#[tokio::test]
async fn a_login_that_just_fails_is_not_tried_again_soon() {
    // CKR_FUNCTION_FAILED.
    is_tried_once("6").await;
}

#[tokio::test]
async fn a_login_that_fails_with_a_vendors_own_code_is_not_tried_again_soon() {
    is_tried_once("80000001").await;
}
