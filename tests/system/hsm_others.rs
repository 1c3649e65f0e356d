//! Tokens of other kinds than SoftHSM: each signs, openssl verifies, and each comes back from a wrong
//! PIN, a server that was killed, and a call that hangs, without a restart of the proxy.

use nix::sys::signal::Signal;
use system_tests::softhsm::{signal, workers_of};
use system_tests::tokens::PIN;
use system_tests::{OtherToken, Proxy, World, eventually, openssl};

use crate::ALICE;

/// Signs again, as openssl sees it.
async fn signs(proxy: &Proxy<'_>, token: &OtherToken) {
    proxy.healthy().await;
    eventually("a signature", || async {
        let answer = proxy.client(ALICE).await.sign_message("other", b"hi").await;
        if answer.status != 200 {
            assert!(answer.body.get("signature").is_none(), "{answer:?}");
            return None;
        }
        assert!(openssl::verifies(&token.key, b"hi", &answer.signature()));
        Some(())
    })
    .await;
    let (code, said, _) = proxy.signctl(&["doctor"]);
    assert!(code == 0 && said.contains("all is well"), "{said}");
}

/// What the doctor says while the token does not sign.
async fn doctor_says(proxy: &Proxy<'_>, expected: &str) {
    eventually(&format!("the doctor to say {expected:?}"), || async {
        let (code, said, _) = proxy.signctl(&["doctor"]);
        (code != 0 && said.contains(expected)).then_some(())
    })
    .await;
}

async fn begins_and_returns(mut token: OtherToken, dead_server: &str) {
    let world = World::new();
    // A PIN that is refused is tried once.
    std::fs::write(token.pin_file(), "654321").unwrap();
    let lines = "threads = 2\ncall_timeout_ms = 1500";
    let builder = world.proxy().other_token("other", &token, lines).caller(ALICE, &["other"]);
    let proxy = builder.start_shut().await;
    proxy.unhealthy_for("key_unavailable").await;
    doctor_says(&proxy, "CKR_PIN_INCORRECT").await;
    assert_eq!(token.faults.said("C_Login"), 1);
    std::fs::write(token.pin_file(), PIN).unwrap();
    signs(&proxy, &token).await;

    token.kill_server().await;
    // A library may need its server only to open.
    for worker in workers_of(proxy.process.pid()) {
        signal(worker, Signal::SIGKILL);
    }
    proxy.unhealthy_for("upstream_unhealthy").await;
    doctor_says(&proxy, dead_server).await;
    let (_, said, _) = proxy.signctl(&["doctor"]);
    assert!(!said.contains("no such token"), "{said}");
    token.start_server().await;
    signs(&proxy, &token).await;

    token.faults.order("hang");
    proxy.unhealthy_for("upstream_unhealthy").await;
    proxy.process.says("did not answer within 1500 ms; the worker was killed").await;
    token.faults.mend();
    signs(&proxy, &token).await;
}

#[tokio::test]
async fn a_key_in_a_tpm_signs_and_comes_back() {
    begins_and_returns(OtherToken::tpm().await, "C_Initialize: CKR_GENERAL_ERROR").await;
}

#[tokio::test]
async fn a_key_in_opencryptoki_signs_and_comes_back() {
    begins_and_returns(OtherToken::opencryptoki().await, "C_Initialize: CKR_FUNCTION_FAILED").await;
}
