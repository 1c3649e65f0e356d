//! The two journals held against each other, and against the state directories, by `audit verify`.

use std::path::Path;

use serde_json::{Value, json};

use super::{KID, Site, activated, end};
use crate::ALICE;
use crate::audit_tools::audit;

fn verified(journal: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, said, errors) = audit(journal, &[&["verify", "--json"], arguments].concat());
    (code, serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}")))
}

/// A copy of a journal as it is now.
fn copy(journal: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in system_tests::journal::segments(journal) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn i7_each_journal_holds_the_other_against_whoever_puts_back_a_snapshot() {
    let site = Site::new();
    let older = site.world.scratch.path("older");
    let (signer, proxy) = site.both().await;
    copy(&signer.builder.journal(), &older);
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    for _ in 0..3 {
        let answer = proxy.client(ALICE).await.sign_message(KID, b"hi").await;
        assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
    }
    assert_eq!(end(&proxy).await.status, 200);
    let of_proxy = site.world.scratch.path("proxy/journal");
    let state = site.world.scratch.path("proxy/state");
    let registry = site.world.scratch.path("proxy/signers.json");
    let of_signer = signer.builder.journal();
    proxy.stop().await;
    signer.stop().await;
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (registry, state, older_text) = (text(&registry), text(&state), text(&older));
    let with = text(&of_signer);
    let arguments = ["--signers", &registry, "--state", &state, "--with", &with];
    let (code, said) = verified(&of_proxy, &arguments);
    assert_eq!((code, &said["ok"]), (0, &json!(true)), "{said}");
    // Three signatures, the beginning and the end; each with a head or a record, or both.
    assert!(said["with"]["named"]["found"].as_u64().unwrap() >= 5, "{said}");
    assert!(said["with"]["names"]["found"].as_u64().unwrap() >= 4, "{said}");
    assert!(said["state"]["size"].is_u64(), "{said}");
    assert_eq!(said["clock"], json!({"went_back": [], "more": 0}));
    // The other way round.
    let (code, said) =
        verified(&of_signer, &["--signers", &registry, "--with", of_proxy.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    // The signer's journal from before the session.
    let (code, said) = verified(&of_proxy, &["--signers", &registry, "--with", &older_text]);
    let sentence = said["defect"]["sentence"].as_str().unwrap();
    assert_eq!(code, 1, "{said}");
    for part in [of_proxy.to_str().unwrap(), &older_text, "cut short"] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    // A state directory of another journal.
    let (code, said) = verified(&of_signer, &["--signers", &registry, "--state", &state]);
    let sentence = said["defect"]["sentence"].as_str().unwrap();
    assert!(code == 1 && sentence.contains("freeze-and-seals.json"), "{said}");
    let (code, _, errors) = audit(&of_proxy, &["verify", "--state", &older_text]);
    assert!(code == 1 && errors.contains("neither"), "{errors}");
}
