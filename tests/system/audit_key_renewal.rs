//! A new audit key takes over a journal only with the old one's signature, once; from there on the
//! old one is refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use signing_core::tree::SignedCheckpoint;
use system_tests::audit_key::{AUDIT_KID, audit_entry};
use system_tests::journal::ask;
use system_tests::{Exchange, ProxyBuilder, World};

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
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
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
    shows_both_keys(&journal, &signers);

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

/// The newest checkpoint of a journal, as its export ends with it.
fn newest_checkpoint(journal: &Path) -> SignedCheckpoint {
    let (_, said, errors) = audit(journal, &["export"]);
    let last: Value = serde_json::from_str(said.lines().last().unwrap_or(&errors)).unwrap();
    SignedCheckpoint::parse(last["checkpoint"].as_str().unwrap()).unwrap()
}

/// What `audit key` says of a journal whose key was replaced once.
fn shows_both_keys(journal: &Path, signers: &Path) {
    let signers = signers.to_str().unwrap();
    let (code, said, errors) = audit(journal, &["--json", "key", "--signers", signers]);
    assert_eq!(code, 0, "{said}{errors}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let [old, new] = &said["keys"].as_array().unwrap()[..] else { panic!("{said}") };
    assert_eq!((&old["registered_kid"], &old["in_force"]), (&json!("old-audit"), &json!(false)));
    assert_eq!((&new["registered_kid"], &new["in_force"]), (&json!(AUDIT_KID), &json!(true)));
    // Both signed the checkpoint at which one took over from the other.
    assert_eq!((&old["from_size"], &old["to_size"]), (&json!(0), &new["from_size"]));
    let newest = newest_checkpoint(journal);
    assert_eq!(new["to_size"], newest.checkpoint().size);
    // The lines are what an outside verifier takes.
    let note = signed_note::Note::from_bytes(newest.note().as_bytes()).unwrap();
    for (key, verifies) in [(old, false), (new, true)] {
        let line = key["verifier_key"].as_str().unwrap();
        assert_eq!(line.split('+').nth(1), key["key_id"].as_str());
        let verifier = signed_note::StandardVerifier::new(line).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(note.verify(&known).is_ok(), verifies, "{key}");
    }
    // A registry without one of them is named, and fails.
    let without = json!({"signers": [entry_of(&journal.with_file_name("audit.key"), "new-audit")]});
    let file = journal.with_file_name("without.json");
    fs::write(&file, without.to_string()).unwrap();
    let (code, said, errors) = audit(journal, &["key", "--signers", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}{errors}");
    for part in ["does NOT hold it", "holds it as new-audit", "replaced", "in force"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
