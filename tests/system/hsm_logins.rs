//! How often a token is asked to let the proxy in: a PIN that it refused is brought once, by
//! whichever upstream, and so is one that may have been counted. Any other failure is no PIN's.

use system_tests::softhsm::PIN;
use system_tests::{Kind, SoftHsm, World, eventually};

use crate::ALICE;
use crate::hsm_act::Act;

const UNAVAILABLE: &str =
    r#"kms_errors_total{signer_kid="ec",upstream="pkcs11",region="payments",kind="unavailable"}"#;

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

#[tokio::test]
async fn a_login_that_fails_with_a_vendors_own_code_is_not_tried_again_soon() {
    let world = World::new();
    let act = Act::shut_for(&world, "upstream_unhealthy", |hsm| {
        hsm.order("login=80000001");
    })
    .await;
    act.proxy.process.says("it may have counted this as a wrong PIN").await;
    let failed = || async { act.proxy.metric(UNAVAILABLE).await.unwrap_or_default() };
    let before = failed().await;
    eventually("sixty more canaries", || async { (failed().await >= before + 60.0).then_some(()) })
        .await;
    assert_eq!(act.hsm.said("C_Login"), 1);
    // Whoever has mended the cause says so.
    act.hsm.mend();
    std::fs::write(act.hsm.pin_file(), PIN).unwrap();
    act.signs().await;
}

#[tokio::test]
async fn a_login_that_fails_for_another_reason_than_the_pin_is_just_tried_again() {
    // CKR_HOST_MEMORY, CKR_GENERAL_ERROR (a TPM without memory), CKR_FUNCTION_FAILED,
    // CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY.
    for code in ["2", "5", "6", "30", "31"] {
        let world = World::new();
        let hsm = SoftHsm::new("payments");
        let keys = ["ec", "ed", "more"].map(|kid| (kid, hsm.key(kid, Kind::P256)));
        hsm.order(&format!("login={code}"));
        // All three are open at once then, also where a canary of one comes late.
        let proxy = world.proxy().rare_canaries();
        let builder =
            keys.iter().fold(proxy, |builder, (kid, key)| builder.token(kid, &hsm, key, ""));
        let proxy = builder.caller(ALICE, &["ec", "ed", "more"]).start_shut().await;
        proxy.unhealthy_for("upstream_unhealthy").await;
        // Each signer comes back to it, and none gives up.
        eventually("logins", || std::future::ready((hsm.said("login") >= 9).then_some(()))).await;
        assert!(!proxy.process.output().contains("counted this as a wrong PIN"), "{code}");
        hsm.mend();
        proxy.healthy().await;
    }
}
