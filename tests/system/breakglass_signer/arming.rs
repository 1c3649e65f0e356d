//! A break-glass that could never be armed is found before the outage: by `check`, in the log of a signer
//! that serves, and in `signctl breakglass status`.

use std::process::Command;

use serde_json::{Value, json};
use system_tests::Process;
use system_tests::breakglass::{EMERGENCY_KID, SignerBuilder};
use system_tests::programs::ours;

use super::approvals::{line, make};
use super::{KID, Site};

/// Whom the harness gives the roles.
const PEOPLE: [&str; 2] = ["security", "finance"];

/// The mistakes and notes of `breakglass-signer check`.
fn checked(builder: &SignerBuilder<'_>) -> (bool, Vec<String>, Vec<String>) {
    let mut check = builder.verb("check", &builder.path("breakglass-signer.toml"));
    let output = check.arg("--json").output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let texts = |key: &str| serde_json::from_value(found[key].clone()).unwrap();
    assert_eq!(found["ok"], output.status.success(), "{found:#}");
    (output.status.success(), texts("mistakes"), texts("notes"))
}

/// Writes the approvers file with these options for `finance`, before its key.
fn finance_with(builder: &SignerBuilder<'_>, options: &str) {
    let [security, finance] = PEOPLE.map(|name| builder.approver_line(name, "ed25519"));
    let (_, key) = finance.split_once("\" ").unwrap();
    let lines = format!("{security}finance@test {options} {key}");
    std::fs::write(builder.path("approvers"), lines).unwrap();
}

fn edit(builder: &SignerBuilder<'_>, file: &str, from: &str, to: &str) {
    let path = builder.path(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

/// What is in the way, and the words with which it has to be said.
type Row = (&'static str, fn(&SignerBuilder<'_>), &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "hardware is required, as it is by default, and people have keys in files",
        |builder| edit(builder, "breakglass-signer.toml", "hardware_required = false\n", ""),
        &["security@test is of the kind ssh-ed25519", "hardware_required = true", "ed25519-sk"],
    ),
    (
        "a PIN is required, and people have keys in files",
        |builder| {
            edit(
                builder,
                "breakglass-signer.toml",
                "hardware_required = false\n",
                "hardware_required = false\npin_required = true\n",
            );
        },
        &["finance@test is of the kind ssh-ed25519", "pin_required = true"],
    ),
    (
        "an approver's key counted until yesterday",
        |builder| finance_with(builder, "valid-before=\"20260101Z\""),
        &["finance@test counted until 2026-01-01", "valid-before"],
    ),
    (
        "an approver's key never counts",
        |builder| finance_with(builder, "valid-after=\"20990101Z\",valid-before=\"20980101Z\""),
        &["finance@test counts from 2099-01-01", "so never"],
    ),
    (
        "an approver's key is for something else",
        |builder| finance_with(builder, "namespaces=\"git\""),
        &["finance@test is for namespaces=\"git\"", "breakglass@signing-proxy"],
    ),
    (
        "an approver's key is too short to be verified",
        |builder| {
            make(&builder.path("short"), &["-t", "rsa", "-b", "1024"]);
            let lines = [
                builder.approver_line("security", "ed25519"),
                line("finance", &builder.path("short")),
            ];
            std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
        },
        &["finance@test has 1024 bits of RSA"],
    ),
    (
        "one person has both roles",
        |builder| {
            edit(builder, "breakglass-signer.toml", "[\"finance@test\"]", "[\"security@test\"]")
        },
        &["cannot be filled by a person each", "Finance: security@test; Security: security@test"],
    ),
    (
        "three roles, two people",
        |builder| {
            let roles = "required_roles = [\"Security\", \"Finance\", \"Legal\"]\n[[approvers.roles]]\nrole = \"Legal\"\n\
                         principals = [\"security@test\", \"finance@test\"]\n";
            let from = "hardware_required = false\n";
            edit(builder, "breakglass-signer.toml", from, &format!("{from}{roles}"));
        },
        &["cannot be filled by a person each", "Legal: finance@test, security@test"],
    ),
    (
        "more roles than approvals",
        |builder| {
            let more = ["A", "B", "C"].map(|role| {
                format!(
                    "[[approvers.roles]]\nrole = \"{role}\"\nprincipals = [\"security@test\"]\n"
                )
            });
            let roles = format!(
                "required_roles = [\"Security\", \"Finance\", \"A\", \"B\", \"C\"]\n{}",
                more.concat()
            );
            let from = "hardware_required = false\n";
            edit(builder, "breakglass-signer.toml", from, &format!("{from}{roles}"));
        },
        &["approvers.required_roles: names 5 roles", "4 approvals"],
    ),
    (
        "the only emergency key is revoked",
        |builder| {
            edit(
                builder,
                "signers.json",
                "\"purpose\":\"breakglass\"",
                "\"purpose\":\"breakglass\",\"revokedAt\":\"2026-01-01T00:00:00Z\"",
            )
        },
        &["emergency_keys: none can be opened", "emergency cannot be used", "revoked"],
    ),
    (
        "the only emergency key has ended",
        |builder| {
            edit(
                builder,
                "signers.json",
                "\"purpose\":\"breakglass\"",
                "\"purpose\":\"breakglass\",\"notAfter\":\"2026-01-01T00:00:00Z\"",
            )
        },
        &["emergency_keys: none can be opened", "notAfter"],
    ),
    (
        "the file of the only emergency key is not there",
        |builder| std::fs::remove_file(builder.path("emergency.pem")).unwrap(),
        &["emergency_keys: none can be opened", "emergency.pem", "No such file"],
    ),
    (
        "there is no signer to stand in for",
        |builder| {
            edit(
                builder,
                "signers.json",
                "\"signer_kid\":\"payments\"",
                "\"purpose\":\"audit\",\"signer_kid\":\"payments\"",
            )
        },
        &["registry.file:", "no signing key"],
    ),
    (
        "there is no proxy whose log could be believed",
        |builder| {
            let file = builder.path("signers.json");
            let text = std::fs::read_to_string(&file).unwrap();
            let mut registry: Value = serde_json::from_str(&text).unwrap();
            let is_a_proxys = |entry: &Value| {
                entry["purpose"] == "audit" && entry["signer_kid"] != "signer-audit"
            };
            registry["signers"].as_array_mut().unwrap().retain(|entry| !is_a_proxys(entry));
            std::fs::write(file, registry.to_string()).unwrap();
        },
        &["registry.file:", "no audit key of a proxy", "copy the entry"],
    ),
];

#[tokio::test]
async fn i5_what_keeps_every_session_from_beginning_is_said_by_check_serve_and_status() {
    for (what, spoil, words) in ROWS {
        let site = Site::new();
        let builder = site.signer();
        let config = builder.write();
        assert!(builder.verb("init", &config).output().unwrap().status.success());
        let (ok, mistakes, _) = checked(&builder);
        assert!(ok, "{what}, before: {mistakes:#?}");
        spoil(&builder);
        let (ok, mistakes, _) = checked(&builder);
        let is_it = |said: &String| words.iter().all(|word| said.contains(word));
        assert!(!ok && mistakes.iter().any(is_it), "{what}: {mistakes:#?}");
        // It serves: what is due has to be destroyed all the same. It says so loudly.
        let process = Process::start(builder.verb("serve", &config));
        process.says("\"serving\"").await;
        process.says("no break-glass session can begin here until this is fixed").await;
        let mut signctl = Command::new(ours("signctl"));
        signctl
            .args(["breakglass", "status", "--operator-socket"])
            .arg(builder.path("operator.sock"));
        let output = tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let is_said = |line: &str| line.contains("CANNOT BE ARMED") && is_it(&line.to_owned());
        assert!(said.lines().any(is_said), "{what}: {said}");
        let mut signctl = Command::new(ours("signctl"));
        signctl.args(["breakglass", "destroy", EMERGENCY_KID, "--reason", "a test"]);
        signctl.arg("--operator-socket").arg(builder.path("operator.sock"));
        let output = tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{what}: {output:?}");
    }
}

#[tokio::test]
async fn people_with_hardware_keys_and_people_who_changed_keys_are_no_mistake() {
    let site = Site::new();
    let builder = site.signer().approvers("");
    std::fs::create_dir_all(builder.path("")).unwrap();
    for name in PEOPLE {
        make(&builder.path(name), &["-t", "ed25519-sk"]);
    }
    make(&builder.path("old"), &["-t", "ed25519"]);
    let [security, finance] = PEOPLE.map(|name| line(name, &builder.path(name)));
    let (_, old) = line("finance", &builder.path("old"))
        .split_once(' ')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let rotated = format!("{security}{finance}finance@test valid-before=\"20260101Z\" {old}");
    std::fs::write(builder.path("approvers"), rotated).unwrap();
    drop(builder.write());
    let (ok, mistakes, notes) = checked(&builder);
    assert!(ok, "{mistakes:#?}");
    assert!(
        notes.iter().any(|note| note.contains("a key of finance@test is of the kind")),
        "{notes:#?}"
    );
    // Somebody else of Finance, whose key has expired: two people are left.
    let more = format!("{security}{finance}legal@test valid-before=\"20260101Z\" {old}");
    std::fs::write(builder.path("approvers"), more).unwrap();
    edit(
        &builder,
        "breakglass-signer.toml",
        "[\"finance@test\"]",
        "[\"finance@test\", \"legal@test\"]",
    );
    let (ok, mistakes, notes) = checked(&builder);
    assert!(ok, "{mistakes:#?}");
    assert!(notes.iter().any(|note| note.contains("a key of legal@test")), "{notes:#?}");
    drop(builder.write());
    // A key that counts from the year 2099 on: nobody approves until then.
    let later =
        format!("{security}{}", finance.replace("@test ", "@test valid-after=\"20990101Z\" "));
    std::fs::write(builder.path("approvers"), later).unwrap();
    let (ok, mistakes, notes) = checked(&builder);
    assert!(ok, "{mistakes:#?}");
    assert!(notes.iter().any(|note| note.contains("until 2099-01-01")), "{notes:#?}");
}

#[tokio::test]
async fn the_proxys_status_says_that_nothing_can_be_armed() {
    let site = Site::new();
    let signer = site.signer().approvers("hardware_required = true\n").start().await;
    let lines = format!("signer_socket = \"{}\"\n", system_tests::breakglass::SOCKET);
    let builder = site.world.proxy().signer(KID, &site.key).caller(crate::ALICE, &[KID]);
    let builder =
        signer.builder.registry_entries().into_iter().fold(builder, |b, e| b.registered(e));
    let proxy = builder.breakglass(&lines).start().await;
    system_tests::eventually("it is connected and said", || async {
        let status = proxy.admin("GET", "/v1/status", json!(null)).await.body;
        let cannot = status["emergency_cannot_arm"].as_array()?.clone();
        cannot.iter().any(|why| why.as_str().unwrap().contains("hardware_required")).then_some(())
    })
    .await;
    let (_, said, _) = proxy.signctl(&["status"]);
    assert!(said.contains("break-glass CANNOT BE ARMED: approvers."), "{said}");
    let (_, said, _) = proxy.signctl(&["breakglass", "status"]);
    assert!(said.contains("it CANNOT BE ARMED: approvers."), "{said}");
}
