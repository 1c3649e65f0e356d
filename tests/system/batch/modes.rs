//! A key that signed single inputs never becomes a batch signer's, nor the other way round: its journal knows.

use serde_json::json;
use system_tests::proxy::batch_entry;
use system_tests::{Kind, ProxyBuilder, World};

use super::{ALICE, KID, builder};

const MAKE_A_NEW_KEY: &str = "make a new key";

/// What the start says. `check` says the same before it.
async fn does_not_start(builder: ProxyBuilder<'_>) -> String {
    let checked = builder.verb("check", &builder.write()).output().unwrap();
    let checked = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    let said = match builder.try_start(None).await {
        Ok(_) => panic!("it starts"),
        Err(said) => said,
    };
    let mistake = checked.lines().find(|line| line.contains(MAKE_A_NEW_KEY)).unwrap_or(&checked);
    let mistake = mistake.split_once("registry.file: ").unwrap_or_else(|| panic!("{checked}")).1;
    assert!(said.contains(mistake), "{mistake} is not in {said}");
    said
}

#[tokio::test]
async fn a_key_that_signed_single_inputs_is_no_batch_signers_after_a_restart() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let single = || world.proxy().rare_canaries().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = single().start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    drop(proxy);
    // Neither under its own kid, nor under another one.
    let said = does_not_start(builder(&world, &key)).await;
    assert!(said.contains(MAKE_A_NEW_KEY) && said.contains("registry.file"), "{said}");
    let other = world.proxy().rare_canaries().batch_signer("other", &key).caller(ALICE, &["other"]);
    let said = does_not_start(other).await;
    assert!(said.contains(MAKE_A_NEW_KEY), "{said}");
    // As it was, it serves on, and check finds nothing also beside the proxy that writes the journal.
    let proxy = single().start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    let builder = single();
    let checked = builder.verb("check", &builder.write()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn a_key_of_batches_is_no_other_signers_by_a_reload_or_a_restart() {
    let world = World::new();
    let (key, first) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
    let base = || world.proxy().rare_canaries().signer("first", &first);
    let proxy = base().caller(ALICE, &["first"]).start().await;
    let reload = async |next: &ProxyBuilder<'_>| {
        let _ = next.write();
        proxy.admin("POST", "/v1/reload", json!({})).await
    };
    let batch = base().signer("bulk", &key).registered(batch_entry("bulk", &key));
    let batch = batch.caller(ALICE, &["first", "bulk"]);
    let answer = reload(&batch).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // It is taken out, and comes back under another kid: the kid says nothing, and the key does.
    let answer = reload(&base().caller(ALICE, &["first"])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let single = base().signer("other", &key).caller(ALICE, &["first", "other"]);
    let answer = reload(&single).await;
    assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{answer:?}");
    assert!(answer.body.to_string().contains(MAKE_A_NEW_KEY), "{answer:?}");
    // The log of the process before knows it too.
    drop(proxy);
    let said = does_not_start(single).await;
    assert!(said.contains(MAKE_A_NEW_KEY), "{said}");
    base().caller(ALICE, &["first"]).start().await;
}
