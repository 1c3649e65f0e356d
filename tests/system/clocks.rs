//! A clock that is behind what was recorded by it: what expired would be valid again.

use crate::later::record_of_later;
use serde_json::json;
use system_tests::World;

use crate::ALICE;

#[tokio::test]
async fn a_proxy_whose_clock_is_behind_its_journal_signs_nothing_until_an_operator_looked() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    builder.clone().start().await.stop().await;
    record_of_later(&builder.journal(), "test-audit");
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("audit_unavailable").await;
    let (_, said, errors) = proxy.signctl(&["status"]);
    assert!(said.contains("clock: at the start it was"), "{said}{errors}");
    assert_eq!(
        proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(),
        "audit_unavailable"
    );
    proxy.stop().await;
    // A restart, whose clock is behind no record of its own, does not end it.
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("audit_unavailable").await;
    let unsealed = json!({"audit": true, "reason": "the clock is right, it was ahead"});
    assert_eq!(proxy.admin("POST", "/v1/unseal", unsealed).await.status, 200);
    proxy.healthy().await;
    proxy.stop().await;
    builder.start().await;
}
