//! The signer's state and its seal: a start that cannot know what was used, or what time it is, begins no
//! session until an operator has looked.

use std::process::{Command, Output};

use serde_json::{Value, json};
use system_tests::breakglass::{Signer, SignerBuilder};
use system_tests::programs::ours;

use super::Site;
use super::activation::word;
use crate::breakglass::records;
use crate::later::record_of_later;

fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn rebuild(builder: &SignerBuilder<'_>, reason: &str) -> (bool, String) {
    let config = builder.write();
    let mut command = Command::new(ours("breakglass-signer"));
    command.args(["state", "rebuild", "--reason", reason, "--config"]).arg(config);
    said(&command.output().unwrap())
}

async fn unseal(signer: &Signer<'_>, reason: &str) -> (bool, String) {
    let mut command = Command::new(ours("signctl"));
    command.args(["unseal", "--reason", reason, "--operator-socket"]);
    command.arg(signer.operator_socket());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    said(&output)
}

async fn activates(signer: &Signer<'_>, request: &Value) -> Value {
    let mut proxy = signer.connect().await;
    signer.unlock().await;
    proxy.ask(signer.activation(request)).await
}

#[tokio::test]
async fn i7_a_signer_without_its_state_does_not_start_and_starts_sealed_once_it_is_rebuilt() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let request = signer.request();
    assert!(activates(&signer, &request).await["activated"].is_object());
    let builder = signer.builder.clone();
    signer.stop().await;
    let (is_rebuilt, why) = rebuild(&builder, "no need");
    assert!(!is_rebuilt && why.contains("nothing to rebuild"), "{why}");

    let file = builder.path("state/breakglass-signer.json");
    for damage in [None, Some("{")] {
        std::fs::remove_file(&file).unwrap();
        if let Some(damage) = damage {
            std::fs::write(&file, damage).unwrap();
        }
        let (starts, why) = said(&builder.command().output().unwrap());
        assert!(!starts && why.contains("breakglass-signer state rebuild"), "{damage:?}: {why}");
        // Nor does `init` make one.
        let (made, why) = said(&builder.verb("init", &builder.write()).output().unwrap());
        assert!(!made && why.contains("breakglass-signer state rebuild"), "{damage:?}: {why}");
        assert_eq!(file.exists(), damage.is_some());
        let (is_rebuilt, why) = rebuild(&builder, "INC-9: disk replaced");
        assert!(is_rebuilt && why.contains("starts sealed"), "{damage:?}: {why}");
        assert_eq!(builder.path("state/breakglass-signer.json.aside-1").exists(), damage.is_some());

        let signer = builder.clone().start().await;
        let answer = activates(&signer, &signer.request()).await;
        assert_eq!(word(&answer), "sealed", "{answer}");
        // What the journal tells is known all the same.
        assert_eq!(word(&activates(&signer, &request).await), "nonce_used");
        let (unsealed, why) = unseal(&signer, "held against the proxy's journal").await;
        assert!(unsealed && why.contains("INC-9: disk replaced"), "{why}");
        let answer = activates(&signer, &signer.request()).await;
        assert!(answer["activated"].is_object(), "{answer}");
        signer.stop().await;
    }
    let ended = records(&builder.journal(), "unseal");
    assert_eq!(ended.len(), 2, "{ended:?}");
    assert_eq!(ended[0]["reason"], json!("held against the proxy's journal"));
    assert!(ended[0]["by"].as_str().unwrap().ends_with("at the operator socket"), "{ended:?}");
    // Until somebody ends it, a seal outlives restarts.
    std::fs::remove_file(&file).unwrap();
    assert!(rebuild(&builder, "again").0);
    builder.clone().start().await.stop().await;
    let signer = builder.clone().start().await;
    assert_eq!(word(&activates(&signer, &signer.request()).await), "sealed");
}

#[tokio::test]
async fn i5_a_signer_whose_clock_is_behind_its_journal_is_sealed_until_an_operator_has_looked() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    record_of_later(&builder.journal(), "signer-audit");
    // Also after a start whose own records are of now.
    for _ in 0..2 {
        let signer = builder.clone().start().await;
        let answer = activates(&signer, &signer.request()).await;
        assert_eq!(word(&answer), "sealed", "{answer}");
        let output = signer.process.output();
        assert!(output.contains("clock: at the start this machine's clock was"), "{output}");
        signer.stop().await;
    }
    let signer = builder.clone().start().await;
    let (unsealed, why) = unseal(&signer, "it was ahead, and is right now").await;
    assert!(unsealed && why.contains("clock"), "{why}");
    let answer = activates(&signer, &signer.request()).await;
    assert!(answer["activated"].is_object(), "{answer}");
    let (unsealed, why) = unseal(&signer, "again").await;
    assert!(!unsealed && why.contains("is not sealed"), "{why}");
    signer.stop().await;
    // The way out is no new journal, and lasts.
    let signer = builder.start().await;
    let answer = activates(&signer, &signer.request()).await;
    assert!(answer["activated"].is_object(), "{answer}");
}
