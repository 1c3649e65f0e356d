//! The pod that makes the file of an emergency key.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;
use system_tests::breakglass::PASSPHRASE;
use system_tests::programs::repository;
use system_tests::tmux::Tmux;
use system_tests::{Engine, Scratch, eventually};

#[tokio::test]
async fn a_key_is_made_in_the_volume_of_the_emergency_signer_by_its_own_user() {
    let (engine, scratch) = (Engine::new(), Scratch::new());
    let _ = engine.build("breakglass-signer", &["breakglass-signer"]);
    let file = repository().join("config/kubernetes/podman/keygen.yaml").display().to_string();
    let _ = engine.said(&["play", "kube", &file]);
    let log = || engine.said(&["logs", "keygen-keygen"]);
    // A person types it twice, at the terminal of the pod.
    let terminal = Tmux::run(&scratch, &engine.line("attach keygen-keygen"));
    for prompt in ["Passphrase for the new key", "The same again"] {
        eventually(prompt, || std::future::ready(log().contains(prompt).then_some(()))).await;
        terminal.type_text(PASSPHRASE);
        terminal.press(&["Enter"]);
    }
    terminal.shows("ended with 0").await;
    let volume = ["volume", "inspect", "--format", "{{.Mountpoint}}"];
    let volume = engine.said(&[&volume[..], &["breakglass-state-signing-service-0"]].concat());
    let key = Path::new(volume.trim()).join("emergency.pem");
    let found = fs::metadata(&key).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (65533, 0o600));
    assert!(fs::read_to_string(&key).unwrap().contains("ENCRYPTED"));
    // The entry stands in the log, and the passphrase does not.
    let log = log();
    let (_, entry) = log.split_once('{').unwrap_or_else(|| panic!("{log}"));
    let entry: Value = serde_json::from_str(&format!("{{{}", entry.trim())).unwrap();
    assert_eq!(entry["signer_kid"], "emergency");
    assert_eq!(entry["purpose"], "breakglass");
    assert!(!log.contains(PASSPHRASE), "{log}");
}
