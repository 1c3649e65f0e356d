//! `signctl breakglass request`: written as soon as there is an outage, approved meanwhile, valid when the
//! outage is long enough. What could never become valid is not written.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, SOCKET, Signer, approve_with};
use system_tests::{Fault, Proxy, eventually};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{KID, Site, activate, connected, refused, status};
use crate::ALICE;

/// How long an outage has to be here: longer than it takes to write, approve and unlock.
const MIN_OUTAGE_S: u64 = 8;

async fn both(site: &Site) -> (Signer<'_>, Proxy<'_>) {
    let signer = site.signer().min_outage_s(MIN_OUTAGE_S).start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = {MIN_OUTAGE_S}\n");
    let builder = site.proxy(signer.builder.registry_entries()).breakglass(&lines);
    let proxy = builder.start().await;
    connected(&proxy).await;
    (signer, proxy)
}

/// `signctl breakglass request --incident INC-7 --justification down --out FILE ...`.
fn request(proxy: &Proxy<'_>, file: &Path, more: &[&str]) -> (i32, String) {
    let (incident, out) =
        (["--incident", "INC-7", "--justification", "down", "--out"], [file.to_str().unwrap()]);
    let words = [&["breakglass", "request"][..], &incident, &out, more].concat();
    let (code, said, errors) = proxy.signctl(&words);
    (code, said + &errors)
}

fn instant(request: &Value, key: &str) -> OffsetDateTime {
    OffsetDateTime::parse(request[key].as_str().unwrap(), &Rfc3339).unwrap()
}

#[tokio::test]
async fn i5_a_request_made_early_with_no_flags_is_approved_meanwhile_and_valid_later() {
    let site = Site::new();
    let (signer, proxy) = both(&site).await;
    let file = site.world.scratch.path("early.json");
    // Before there is an outage, nobody could attest one.
    let (code, said) = request(&proxy, &file, &[]);
    assert!(code == 1 && said.contains("no signer is in an outage that counts"), "{said}");
    site.key.break_with(Fault::Bare503);
    eventually("an outage that is not long enough yet", || async {
        let outages = status(&proxy).await["outages"].as_array().cloned().unwrap();
        outages.iter().any(|one| one["signer_kid"] == KID && one["running"] == true).then_some(())
    })
    .await;
    let (code, said) = request(&proxy, &file, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("it cannot be activated before "), "{said}");
    let bytes = std::fs::read(&file).unwrap();
    let written: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(written["replaces"], json!([KID]));
    let (since, begins) = (instant(&written, "outage_since"), instant(&written, "not_before"));
    assert_eq!(
        begins - since,
        Duration::seconds(i64::try_from(MIN_OUTAGE_S).unwrap()),
        "{written}"
    );
    // Approved and unlocked before it is valid.
    let approvals = ["security", "finance"].map(|who| {
        STANDARD.encode(approve_with(
            &signer.builder.path(who),
            system_tests::breakglass::NAMESPACE,
            &bytes,
        ))
    });
    let papers = json!({"request_b64": STANDARD.encode(&bytes), "approvals_b64": approvals});
    signer.unlock().await;
    if OffsetDateTime::now_utc() < begins - Duration::SECOND {
        let (reason, detail) = refused(&proxy, &papers).await;
        assert_eq!(reason, "not_yet_valid", "{detail}");
        let at = begins.format(&Rfc3339).unwrap();
        let at = at.trim_end_matches('Z');
        assert!(
            detail.contains(&format!("becomes valid at {at}")) && detail.contains("in "),
            "{detail}"
        );
    }
    let answer = eventually("it is valid", || async {
        let answer = activate(&proxy, &papers).await;
        if answer.status != 200 {
            let reason = answer.body["reason"].as_str().unwrap().to_owned();
            assert!(
                ["not_yet_valid", "outage_too_short"].contains(&reason.as_str()),
                "{}",
                answer.text
            );
        }
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(OffsetDateTime::now_utc() >= begins);
    assert_eq!(answer.body["session"]["emergency_kid"], EMERGENCY_KID);
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
}

#[tokio::test]
async fn what_could_never_become_valid_is_not_written() {
    let site = Site::new();
    let (_signer, proxy) = both(&site).await;
    site.out(&proxy).await;
    let file = site.world.scratch.path("never.json");
    let in_hours = |hours: i64| {
        let at = OffsetDateTime::now_utc() + Duration::hours(hours);
        at.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
    };
    let (yesterday, before, tomorrow) = (in_hours(-24), in_hours(-25), in_hours(72));
    for (more, word) in [
        (&["--not-before", &yesterday, "--outage-since", &before][..], "which is in the past"),
        (&["--not-before", &tomorrow], "hours ahead"),
        (&["--outage-since", &tomorrow], "in the future"),
        (&["--minutes", "10080"], "minutes at most"),
        (&["--max-signatures", "100000000"], "in a session at most"),
        (&["--replaces", "nobody"], "--replaces nobody: this proxy has none"),
        (
            &["--callers", "spiffe://test/nobody"],
            "--callers spiffe://test/nobody: this proxy has none",
        ),
        (
            &["--emergency-kid", "nobody", "--emergency-key-sha256", &"0".repeat(64)],
            "does not hold it",
        ),
    ] {
        let (code, said) = request(&proxy, &file, more);
        assert!(code == 1 && said.contains(word), "{more:?}: {said}");
        assert!(!file.exists(), "{more:?}: it is written all the same");
    }
    // And one that is right is.
    let (code, said) = request(&proxy, &file, &[]);
    assert!(code == 0 && file.exists(), "{said}");
}

#[tokio::test]
async fn an_unlock_says_only_what_it_knows() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let (good, said) = signer.unlock_with("not the passphrase").await;
    assert!(good && said.starts_with("handed over, and not tried yet: "), "{said}");
    assert!(!said.contains("unlocked"), "{said}");
    let mut proxy = signer.connect().await;
    let answer = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(answer["refused"]["reason"], "passphrase_wrong", "{answer}");
}
