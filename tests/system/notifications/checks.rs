//! `signing-trail check` finds every mistake about receivers, and repeats no secret.

use std::collections::BTreeSet;
use std::process::Command;

use system_tests::audit_key::example_registry;
use system_tests::programs::{ours, repository};
use system_tests::{Pki, Scratch};

use super::KEY;

fn check(scratch: &Scratch, lines: &str) -> (i32, String) {
    let text = format!(
        "[journals]\nproxy = \"j\"\n[audit]\nkey_file = \"audit.key\"\n[registry]\nfile = \"signers.json\"\n\
         [postgres]\nurl = \"postgres://u@db.internal/d\"\n{lines}"
    );
    let file = scratch.write("signing-trail.toml", text);
    let output =
        Command::new(ours("signing-trail")).arg("check").arg("--config").arg(file).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn every_mistake_about_receivers_is_named_and_no_secret_is_repeated() {
    let scratch = Scratch::new();
    scratch.write("signers.json", example_registry(&scratch.path("audit.key")));
    scratch.write("good.key", KEY);
    scratch.write("short.key", "whsec_c2VjcmV0\n");
    scratch.write("bare.key", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n");
    scratch.write("ca.pem", Pki::new().ca_pem);
    scratch.write("slack.url", "https://hooks.slack.example/services/secret\n");
    scratch.write("clear.url", "http://hooks.slack.example/services/secret\n");
    scratch.write("two.lines", "secret\nsecret\n");
    std::fs::create_dir(scratch.path("state")).unwrap();
    let notify = "[notify]\nstate_dir = \"state\"\n";
    let webhook = |lines: &str| {
        format!("{notify}[[notify.webhooks]]\nname = \"ops\"\nca_file = \"ca.pem\"\n{lines}\n")
    };
    let signed = "hmac_key_file = \"good.key\"\n";
    let json = format!("{signed}url = \"https://host/path?x=secret\"\n");
    let policy = "[policy]\nca_file = \"ca.pem\"\n";
    for (lines, wanted) in [
        (webhook(&json), ""),
        (webhook("form = \"slack\"\nurl_file = \"slack.url\""), ""),
        (webhook(&format!("{json}[notify.webhooks.headers]\nx-team = \"ops\"")), ""),
        (format!("{policy}url = \"https://policy\"\n"), ""),
        (webhook("url = \"https://host/\""), "notify.webhooks[0].hmac_key_file: is missing"),
        (webhook(signed), "notify.webhooks[0].url: is missing"),
        (webhook(&format!("{json}url_file = \"slack.url\"")), "url_file: stands beside url"),
        (webhook("form = \"slack\"\nurl = \"https://host/secret\""), "url: of Slack is a secret"),
        (webhook(&format!("form = \"slack\"\n{json}")), "hmac_key_file: is for form json"),
        (webhook(&format!("form = \"xml\"\n{json}")), "form: is \"xml\", expected json or slack"),
        (webhook("form = \"slack\"\nurl_file = \"clear.url\""), "url_file: begins with http://"),
        (webhook("form = \"slack\"\nurl_file = \"no.url\""), "url_file: "),
        (webhook("form = \"slack\"\nurl_file = \"two.lines\""), "is not one line of"),
        (webhook(&format!("{signed}url = \"https://u:secret@host/\"")), "url: holds a user name"),
        (webhook(&json.replace("good", "short")), "hmac_key_file: "),
        (webhook(&json.replace("good", "bare")), "is no key: expected whsec_"),
        (webhook(&json.replace("good", "no")), "hmac_key_file: "),
        (
            webhook(&format!("{json}events = [\"frozen\", \"melted\"]")),
            "events: has \"melted\"; the events are gate_shut,",
        ),
        (
            webhook(&format!("{json}timeout_ms = 60001")),
            "timeout_ms: is 60001, expected 100 to 60000",
        ),
        (
            webhook(&format!("{json}certificate_file = \"c\"")),
            "key_file: is missing beside certificate_file",
        ),
        (
            webhook(&format!("{json}key_file = \"c\"")),
            "certificate_file: is missing beside key_file",
        ),
        (webhook(&format!("{json}bearer_token_file = \"two.lines\"")), "bearer_token_file: "),
        (
            webhook(&format!("{json}[notify.webhooks.headers]\nauthorization = \"secret\"")),
            "has \"authorization\", which the trail writes itself",
        ),
        (
            webhook(&format!("{json}[notify.webhooks.headers]\nwebhook-id = \"x\"")),
            "which the trail writes itself",
        ),
        (
            webhook(&format!("{json}[notify.webhooks.headers]\n\"x y\" = \"x\"")),
            "which is no header",
        ),
        (
            webhook(&json).replace("\"ops\"", "\"Ops 1\""),
            "name: is \"Ops 1\", expected at most 32 of a-z",
        ),
        (
            webhook(&json).replace("\"ops\"", "\"policy\""),
            "name: is \"policy\", which is the policy service",
        ),
        (webhook(&json) + &webhook(&json).replace(notify, ""), "webhooks: two are named \"ops\""),
        (webhook(&json).replace("\"state\"", "\"nowhere\""), "notify.state_dir: "),
        (format!("{policy}roles = [\"r\"]\n"), "policy.url: is missing"),
        (format!("{policy}url = \"http://policy.internal\"\n"), "policy.url: begins with http://"),
        (
            format!(
                "{policy}url = \"https://policy\"\nkey_file = \"good.key\"\ncertificate_file = \"ca.pem\"\n"
            ),
            "policy.key_file: ",
        ),
    ] {
        let (code, said) = check(&scratch, &lines);
        assert_eq!(code, i32::from(!wanted.is_empty()), "{lines}: {said}");
        assert!(said.contains(wanted), "{lines}: {wanted}? {said}");
        assert!(!said.contains("secret@") && !said.contains("services/secret"), "{said}");
        assert!(!said.contains("c2Vjc") && !said.contains("x=secret"), "{said}");
    }
}

#[test]
fn the_page_has_every_event_of_the_code_and_no_other() {
    let scratch = Scratch::new();
    scratch.write("signers.json", example_registry(&scratch.path("audit.key")));
    let lines = "[[notify.webhooks]]\nname = \"ops\"\nform = \"slack\"\nurl_file = \"u\"\nevents = [\"x\"]\n";
    let (_, said) = check(&scratch, lines);
    // The parser lists what it knows.
    let known = said.split_once("the events are ").unwrap().1.lines().next().unwrap();
    let known: BTreeSet<_> = known.split(", ").collect();
    let page =
        std::fs::read_to_string(repository().join("docs/reference/notifications.md")).unwrap();
    let table = page.split_once("## Events").unwrap().1.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let first = |row: &'_ str| row.split('|').nth(1).unwrap().to_owned();
    let cells: Vec<_> = rows.map(first).collect();
    let written = cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
    assert_eq!(written.collect::<BTreeSet<_>>(), known);
}
