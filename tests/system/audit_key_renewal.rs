//! A new audit key takes over a journal only with the old one's signature, once; from there on the
//! old one is refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use system_tests::audit_key::audit_entry;
use system_tests::journal::ask;
use system_tests::{Exchange, Kind, ProxyBuilder, World};

use crate::ALICE;
use crate::audit_tools::audit;

/// The registry's entry of the key in `file`, under another name.
fn entry_of(file: &Path, kid: &str) -> Value {
    let mut entry = audit_entry(file);
    entry["signer_kid"] = json!(kid);
    entry
}

/// Starts, signs once, and stops in order.
async fn signs(builder: &ProxyBuilder<'_>) -> Exchange {
    let proxy = builder.clone().start().await;
    let signed = ask(&proxy.client(ALICE).await, "ec", "one message").await;
    proxy.stop().await;
    assert!(signed.seq().is_some(), "{signed:?}");
    signed
}

fn refused(builder: &ProxyBuilder<'_>) -> String {
    let config = builder.write();
    let output = builder.verb("serve", &config).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn i7_a_new_audit_key_takes_over_with_the_old_one_and_the_old_one_is_refused_then() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let mut received = vec![signs(&builder).await];
    let journal = builder.journal();
    let file = |name: &str| journal.with_file_name(name);
    fs::rename(file("audit.key"), file("old.key")).unwrap();
    let renewed = builder.clone().registered(entry_of(&file("old.key"), "old-audit"));

    let said = refused(&renewed);
    assert!(said.contains("audit.previous_key_file"), "{said}");
    let handover = renewed.clone().audit("previous_key_file = \"old.key\"\n");
    received.push(signs(&handover).await);
    // Once is enough, and the name of the old one does no harm afterwards.
    received.push(signs(&renewed).await);
    received.push(signs(&handover).await);
    let signers = file("signers.json");
    for signed in received {
        let Exchange::Signed(got) = signed else { panic!("{signed:?}") };
        let receipt = &got["receipt"];
        let kept = format!("{}:{}", receipt["seq"], receipt["leaf"].as_str().unwrap());
        let (code, out, errors) = audit(
            &journal,
            &["--json", "verify", "--signers", signers.to_str().unwrap(), "--receipt", &kept],
        );
        assert_eq!(code, 0, "{out}{errors}");
    }

    // Whoever has the old key cannot go on with the journal, nor take it over again.
    fs::rename(file("audit.key"), file("new.key")).unwrap();
    fs::rename(file("old.key"), file("audit.key")).unwrap();
    let back = builder.registered(entry_of(&file("new.key"), "new-audit"));
    let said = refused(&back);
    assert!(said.contains("a replaced key never comes back"), "{said}");
    // A third key needs the second's signature, not the first's.
    fs::rename(file("audit.key"), file("old.key")).unwrap();
    let third = back.registered(entry_of(&file("old.key"), "old-audit"));
    let said = refused(&third.audit("previous_key_file = \"old.key\"\n"));
    assert!(said.contains("audit.previous_key_file"), "{said}");
}
