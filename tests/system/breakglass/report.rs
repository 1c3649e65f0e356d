//! `signctl report`: an incident with a real session, from copies of both journals, as a browser reads it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, succeeds};
use system_tests::programs::ours;
use system_tests::{Scratch, World, journal};

use super::look::looks;
use super::{KID, Site, activated, end, over, records};
use crate::ALICE;

/// What somebody wrote into a request, as a page must not obey it.
const HOSTILE: &str = "</p><script>alert(1)</script> & \"down\"";

/// `signctl report` in a directory of its own: exit status, standard output, standard error.
fn report(directory: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(ours("signctl"));
    let output = command.current_dir(directory).arg("report").args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What is in a page.
fn parsed(file: &Path) -> Value {
    let output = journal::python("tests/report/page.py").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Copies a journal to another place, as to another machine.
fn copied(from: &Path, to: PathBuf) -> String {
    succeeds(Command::new("cp").arg("-r").arg(from).arg(&to));
    to.display().to_string()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_report_tells_an_incident_from_copies_of_both_journals() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"before").await.status, 200);
    site.out(&proxy).await;
    assert_ne!(alice.sign_message(KID, b"refused").await.status, 200);
    let begin = json!({"incident": "INC-7", "reason": "KMS is down"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begin).await.status, 200);
    let mut request = signer.request();
    request["justification"] = json!(HOSTILE);
    activated(&signer, &proxy, &request).await;
    for message in [b"one", b"two"] {
        assert_eq!(alice.sign_message(KID, message).await.status, 200);
    }
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    site.key.mend();
    proxy.healthy().await;
    let ended = json!({"reason": "over", "unfinished": true});
    assert_eq!(proxy.admin("POST", "/v1/incident/end", ended).await.status, 200);
    let destroy = json!({"emergency_kid": EMERGENCY_KID, "reason": "after INC-7"});
    let destroyed = proxy.admin("POST", "/v1/breakglass/destroy", destroy).await;
    assert_eq!(destroyed.status, 200, "{}", destroyed.text);
    let signer_journal = signer.builder.journal();
    let signed = records(&signer_journal, "emergency_signed");
    let activation = &journal::read(&signer_journal, "session_activated")[0];
    proxy.stop().await;
    signer.stop().await;

    // Another machine: copies of the journals, the registry, and nothing else.
    let desk = Scratch::new();
    let proxys = copied(&site.world.scratch.path("proxy/journal"), desk.path("proxy-journal"));
    let signers = copied(&signer_journal, desk.path("signer-journal"));
    let registry =
        copied(&site.world.scratch.path("proxy/signers.json"), desk.path("signers.json"));
    let from = ["--journal", &proxys, "--with", &signers, "--signers", &registry];
    let about = [&["--incident", "INC-7", "--out", "inc-7"], &from[..]].concat();
    let (code, said, errors) = report(desk.dir(), &about);
    assert_eq!((code, said.as_str()), (0, "inc-7.html\ninc-7.md\n"), "{errors}");

    let page = parsed(&desk.path("inc-7.html"));
    assert_eq!(page["title"], "INC-7: test");
    // It runs nothing, loads nothing, and has no colour.
    let tags = strings(&page["tags"]);
    assert!(!tags.iter().any(|tag| tag == "script") && page["loads"] == json!([]), "{page}");
    for colour in strings(&page["colours"]) {
        let parts: Vec<_> = [1..3, 3..5, 5..7].map(|range| &colour[range]).to_vec();
        assert!(colour.len() == 7 && parts[0] == parts[1] && parts[1] == parts[2], "{colour}");
    }
    let section = |title: &str| &page["sections"][title];
    let summary = strings(&section("Summary")["text"]).join("\n");
    assert!(
        summary.contains("records verified, and") && summary.contains("the registry's keys"),
        "{summary}"
    );
    assert_eq!(section("Summary")["alarms"], json!([]), "{summary}");

    // The outage, with both of its measures.
    let outage = &section("Outages")["tables"][0][1];
    assert_eq!(outage[0], KID);
    assert!(outage[4].as_str().unwrap().starts_with("at most "), "{outage}");
    assert!(outage[6] != "not yet" && outage[5] != "not yet", "{outage}");
    assert!(section("Outages")["shapes"][0].as_u64().unwrap() > 3, "{page}");

    // Who approved what, in their roles.
    let approvals = section("Approvals");
    let rows = approvals["tables"][0].as_array().unwrap();
    let mut roles: Vec<_> = rows[1..].iter().map(|row| row[1].as_str().unwrap()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["Finance", "Security"]);
    assert!(strings(&approvals["text"])[0].contains(HOSTILE), "{approvals}");

    // Every emergency signature, each once.
    let rows = section("Emergency signatures")["tables"][0].as_array().unwrap();
    let listed: Vec<_> = rows[1..].iter().map(|row| &row[3]).collect();
    assert_eq!(listed, signed.iter().map(|data| &data["input_digest"]).collect::<Vec<_>>());
    assert_eq!(signed.len(), 2);
    let key = &section("Destruction of emergency keys")["tables"][0][1];
    assert!(key[0] == EMERGENCY_KID && key[3].as_str().unwrap().contains("after INC-7"), "{key}");

    // Both journals are in the timeline, in the order of time.
    let rows = section("Timeline")["tables"][0].as_array().unwrap();
    let times: Vec<_> = rows[1..].iter().map(|row| row[0].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    for (whose, kind) in [
        ("proxy", "incident_begun"),
        ("proxy", "activation"),
        ("proxy", "gate"),
        ("emergency signer", "session_activated"),
        ("emergency signer", "unlock"),
    ] {
        let is = |row: &&Value| row[2] == kind && row[1].as_str().unwrap().starts_with(whose);
        assert!(rows.iter().any(|row| is(&row)), "{kind}: {rows:?}");
    }

    // The sign-off holds the approvals as they are.
    let sign_off = &strings(&section("Sign-off")["lines"])[0];
    for armored in strings(&activation["record"]["data"]["approvals"]) {
        assert!(sign_off.contains(armored.trim()), "{sign_off}");
    }
    assert_eq!(sign_off.matches("signer_role: ").count(), 2);
    let entry = &strings(&section("Entry for RELEASE_CHECKLIST.md")["lines"])[0];
    assert!(entry.contains("- [x] both journals are verified"), "{entry}");
    assert!(
        entry.contains(&format!("- [x] the emergency key {EMERGENCY_KID} is destroyed")),
        "{entry}"
    );
    assert!(entry.contains("- [ ] somebody answers for each credential"), "{entry}");

    looks(&desk.path("inc-7.html"));

    // Markdown says the same, and no report replaces another one.
    let markdown = std::fs::read_to_string(desk.path("inc-7.md")).unwrap();
    assert!(markdown.contains("## Timeline") && !markdown.contains("<script"), "{markdown}");
    assert!(markdown.contains(signed[0]["input_digest"].as_str().unwrap()), "{markdown}");
    let (code, _, errors) = report(desk.dir(), &about);
    assert!(code == 1 && errors.contains("must not exist"), "{errors}");

    // Of the session alone.
    let session = activation["record"]["data"]["session"].as_str().unwrap();
    let about = [&["--session", session, "--out", "session"], &from[..]].concat();
    let (code, _, errors) = report(desk.dir(), &about);
    assert_eq!(code, 0, "{errors}");
    let page = parsed(&desk.path("session.html"));
    assert_eq!(page["sections"]["Emergency signatures"]["tables"][0].as_array().unwrap().len(), 3);
    let about = [&["--session", "nobody", "--out", "nobody"], &from[..]].concat();
    let (code, _, errors) = report(desk.dir(), &about);
    assert!(code == 1 && errors.contains("no beginning of Session nobody"), "{errors}");
}

#[tokio::test]
async fn a_report_of_a_journal_with_a_defect_says_so_at_its_top_and_is_not_good() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    let directory = proxy.socket.with_file_name("journal");
    proxy.stop().await;
    let since = ["--since", "2026-01-01T00:00:00Z", "--journal", directory.to_str().unwrap()];
    let (code, said, errors) = report(world.scratch.dir(), &[&since[..], &["--json"]].concat());
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}"));
    assert_eq!((code, &said["verified"]), (0, &json!(true)), "{said}");
    let page = parsed(&world.scratch.path(said["html"].as_str().unwrap()));
    let summary = strings(&page["sections"]["Summary"]["text"]).join("\n");
    assert!(summary.contains("which proves less"), "{summary}");
    assert_eq!(page["sections"]["Requests"]["tables"], json!([]), "{page}");
    assert!(page["sections"]["Requests"]["shapes"][0].as_u64().unwrap() > 1, "{page}");

    // One byte of the newest record is another one.
    let segment = journal::segments(&directory).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).rposition(|seven| seven == b"\"at\":\"2").unwrap() + 6;
    bytes[at] = b'3';
    std::fs::write(&segment, bytes).unwrap();
    let (code, said, _) = report(world.scratch.dir(), &[&since[..], &["--out", "bad"]].concat());
    assert!(code == 1 && said.contains("NOT PROVEN"), "{said}");
    let page = parsed(&world.scratch.path("bad.html"));
    let alarms = strings(&page["sections"]["Summary"]["alarms"]).join("\n");
    assert!(alarms.contains("DEFECT"), "{alarms}");
}
