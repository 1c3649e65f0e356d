//! A PIN that is refused is tried once, and again only when its file has changed: the proxy
//! never locks a token.

use system_tests::softhsm::PIN;
use system_tests::{Key, Kind, Proxy, SoftHsm, World, eventually};

use crate::ALICE;
use crate::hsm_act::signs;

const KEY_UNAVAILABLE: &str = r#"kms_errors_total{signer_kid="ec",upstream="pkcs11",region="payments",kind="key_unavailable"}"#;

async fn start<'w>(world: &'w World, hsm: &SoftHsm, key: &Key) -> Proxy<'w> {
    let proxy = world.proxy().token("ec", hsm, key, "").caller(ALICE, &["ec"]).start_shut().await;
    is_refused(&proxy).await;
    proxy
}

async fn is_refused(proxy: &Proxy<'_>) {
    proxy.unhealthy_for("key_unavailable").await;
    let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    assert_eq!((answer.status, answer.reason()), (503, "key_unavailable"), "{answer:?}");
    assert!(answer.body.get("signature").is_none(), "{answer:?}");
}

/// Many canaries come to nothing while the library hears of no further attempt.
async fn is_not_tried_again(proxy: &Proxy<'_>, hsm: &SoftHsm, attempts: usize) {
    let failed = || async { proxy.metric(KEY_UNAVAILABLE).await.unwrap_or_default() };
    let before = failed().await;
    eventually("thirty more canaries", || async {
        (failed().await >= before + 30.0).then_some(())
    })
    .await;
    assert_eq!(hsm.said("C_Login"), attempts);
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_and_a_new_one_once() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    std::fs::write(hsm.pin_file(), "0000").unwrap();
    let proxy = start(&world, &hsm, &key).await;
    is_not_tried_again(&proxy, &hsm, 1).await;
    proxy.process.says("CKR_PIN_INCORRECT").await;
    std::fs::write(hsm.pin_file(), "11111").unwrap();
    eventually("a second attempt", || std::future::ready((hsm.said("C_Login") == 2).then_some(())))
        .await;
    is_not_tried_again(&proxy, &hsm, 2).await;
    std::fs::write(hsm.pin_file(), PIN).unwrap();
    signs(&proxy, &key).await;
    assert_eq!(hsm.said("C_Login"), 3);
    assert!(!proxy.process.output().contains(PIN));
}

#[tokio::test]
async fn a_locked_pin_is_left_alone_until_someone_has_unlocked_it() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    // CKR_PIN_LOCKED.
    hsm.order("login=a4");
    let proxy = start(&world, &hsm, &key).await;
    proxy.process.says("CKR_PIN_LOCKED").await;
    is_not_tried_again(&proxy, &hsm, 1).await;
    hsm.mend();
    // The same PIN in a file that was written again: someone says that it is good now.
    std::fs::write(hsm.pin_file(), PIN).unwrap();
    signs(&proxy, &key).await;
    assert_eq!(hsm.said("C_Login"), 2);
}

#[tokio::test]
async fn the_last_attempt_before_a_lockout_is_never_the_proxys() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    // CKF_USER_PIN_FINAL_TRY, then CKF_USER_PIN_LOCKED.
    for (attempts, (directory, flags, words)) in [
        ("final", "20000", "one more wrong PIN would lock the token"),
        ("locked", "40000", "the PIN is locked"),
    ]
    .into_iter()
    .enumerate()
    {
        hsm.order(&format!("flags={flags}"));
        let proxy = world
            .proxy()
            .directory(directory)
            .token("ec", &hsm, &key, "")
            .caller(ALICE, &["ec"])
            .start_shut()
            .await;
        is_refused(&proxy).await;
        proxy.process.says(words).await;
        is_not_tried_again(&proxy, &hsm, attempts).await;
        hsm.mend();
        // Someone has logged in by hand, or had it unlocked, and says so.
        std::fs::write(hsm.pin_file(), PIN).unwrap();
        signs(&proxy, &key).await;
        assert_eq!(hsm.said("C_Login"), attempts + 1);
    }
}

#[tokio::test]
async fn a_pin_file_that_is_not_there_yet_is_waited_for() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    std::fs::remove_file(hsm.pin_file()).unwrap();
    let proxy = start(&world, &hsm, &key).await;
    is_not_tried_again(&proxy, &hsm, 0).await;
    std::fs::write(hsm.pin_file(), PIN).unwrap();
    signs(&proxy, &key).await;
}
