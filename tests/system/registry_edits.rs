//! `signctl signers`: no edit undoes another, and what is missing is said with what to do.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use system_tests::programs::ours;
use system_tests::{Kind, Scratch, World};

fn signctl(registry: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(ours("signctl"));
    command.arg("signers").args(arguments).arg("--signers").arg(registry);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn words(output: &Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A registry of keys that are never used here: their algorithm is another's.
fn entry(number: usize) -> Value {
    json!({"signer_kid": format!("k{number}"), "algorithm": "others"})
}

#[test]
fn of_many_edits_at_once_none_is_lost() {
    const EDITS: usize = 24;
    let scratch = Scratch::new();
    let entries: Vec<_> = (0..EDITS).map(entry).collect();
    let file = scratch.write("signers.json", json!({"signers": entries}).to_string());
    let edits: Vec<_> = (0..EDITS)
        .flat_map(|number| {
            let new = scratch.write(&format!("{number}.json"), entry(EDITS + number).to_string());
            let revoked = signctl(&file, &["revoke", &format!("k{number}")]).spawn().unwrap();
            [revoked, signctl(&file, &["add", new.to_str().unwrap()]).spawn().unwrap()]
        })
        .collect();
    for edit in edits {
        let (good, said) = words(&edit.wait_with_output().unwrap());
        assert!(good, "{said}");
    }
    let after: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let after = after["signers"].as_array().unwrap();
    assert_eq!(after.len(), 2 * EDITS, "{after:?}");
    let revoked = after.iter().filter(|entry| entry["revokedAt"].is_string()).count();
    assert_eq!(revoked, EDITS, "{after:?}");
}

#[test]
fn what_is_not_there_is_said_with_what_makes_it() {
    let scratch = Scratch::new();
    let (missing, entry) = (scratch.path("nowhere.json"), scratch.path("entry.json"));
    let entry = entry.to_str().unwrap();
    let (good, said) = words(&signctl(&missing, &["revoke", "k"]).output().unwrap());
    assert!(
        !good && said.contains("--signers FILE") && said.contains("{\"signers\": []}"),
        "{said}"
    );
    let (good, said) = words(&signctl(&missing, &["add", entry]).output().unwrap());
    assert!(!good && said.contains("entry.json is not there"), "{said}");
    assert!(said.contains("--public-key"), "{said}");
}

#[test]
fn a_public_key_becomes_an_entry_and_nothing_else_does() {
    let world = World::new();
    let file = world.scratch.write("signers.json", "{\"signers\": []}");
    let key = world.kms.key(Kind::P256);
    let pem = world.scratch.write("public.pem", &key.public_key_pem);
    let add = |pem: &Path, algorithm: &str| {
        let pem = pem.to_str().unwrap();
        let of = ["--kid", "new", "--algorithm", algorithm, "--purpose", "audit"];
        signctl(&file, &[&["add", "--public-key", pem][..], &of].concat()).output().unwrap()
    };
    for (algorithm, word) in [
        ("ed25519", "--public-key"),
        ("rot13", "--algorithm \"rot13\""),
        ("ecdsa-secp256k1-sha256", "is a key of kind P-256"),
    ] {
        let (good, said) = words(&add(&pem, algorithm));
        assert!(!good && said.contains(word), "{said}");
    }
    let text = world.scratch.write("text.pem", "not a key");
    let (good, said) = words(&add(&text, "ecdsa-p256-sha256"));
    assert!(!good && said.contains("text.pem"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"signers\": []}");
    let (good, said) = words(&add(&pem, "ecdsa-p256-sha256"));
    assert!(good, "{said}");
    let after: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entry = &after["signers"][0];
    assert_eq!((&entry["signer_kid"], &entry["purpose"]), (&json!("new"), &json!("audit")));
    assert_eq!(
        entry["public_key_pem"].as_str().unwrap().trim(),
        key.public_key_pem.trim(),
        "{after}"
    );
}
