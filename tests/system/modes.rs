//! What others may read or change is found by `check` of both daemons: a mistake in production, and a note
//! elsewhere. And each says whether there is a journal.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::{Kind, Process, World};

use crate::ALICE;

/// What `check --json` found.
struct Checked {
    ok: bool,
    mistakes: Vec<String>,
    notes: Vec<String>,
    journal: Value,
}

fn checked(mut check: Command) -> Checked {
    let output = check.arg("--json").output().unwrap();
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let texts = |key: &str| serde_json::from_value(found[key].clone()).unwrap();
    assert_eq!(found["ok"], output.status.success(), "{found:#}");
    Checked {
        ok: output.status.success(),
        mistakes: texts("mistakes"),
        notes: texts("notes"),
        journal: found["journal"].clone(),
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Opens each place to others in turn, and wants exactly that to be found.
fn finds(check: impl Fn() -> Command, places: &[(&str, PathBuf, u32, &str)], in_production: bool) {
    let before = checked(check());
    let is_open = |said: &&String| said.contains("every user may");
    let open: Vec<_> = before.mistakes.iter().chain(&before.notes).filter(is_open).collect();
    assert_eq!(open.len(), 0, "before: {open:#?}");
    for (key, path, opened, words) in places {
        let was = mode(path);
        chmod(path, *opened);
        let found = checked(check());
        chmod(path, was);
        let said = if in_production { &found.mistakes } else { &found.notes };
        let other = if in_production { &found.notes } else { &found.mistakes };
        let open: Vec<_> = said.iter().filter(is_open).collect();
        assert_eq!(open.len(), 1, "{key} {opened:o}: {said:#?}");
        let expected = format!("{key}: every user may {words}");
        assert!(open[0].starts_with(&expected), "{expected}: {open:?}");
        let (shown, mode) = (path.display().to_string(), format!("mode {opened:04o}"));
        assert!(open[0].contains(&shown) && open[0].contains(&mode), "{open:?}");
        assert!(!other.iter().any(|one| is_open(&one)), "{key}: {other:#?}");
        assert!(!in_production || !found.ok, "{key}: it is a mistake");
        // A group is given on purpose.
        chmod(path, *opened & 0o7770);
        let group = checked(check());
        chmod(path, was);
        let all = group.mistakes.iter().chain(&group.notes);
        assert_eq!(all.filter(is_open).count(), 0, "{key}");
    }
}

#[test]
fn what_of_the_proxys_files_is_open_to_others_is_found_by_check() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let builder = builder.tls("client_crl_files = [\"list.crl\"]");
    world.scratch.write("proxy/list.crl", world.pki.revocation_list(&[], 7));
    let config = builder.write();
    assert!(builder.verb("init", &config).output().unwrap().status.success());
    let path = |name: &str| world.scratch.path(&format!("proxy/{name}"));
    let places = [
        ("server.tls.private_key_file", path("server.key"), 0o644, "read "),
        ("server.tls.private_key_file", path("server.key"), 0o606, "read and change "),
        ("audit.key_file", path("audit.key"), 0o604, "read "),
        ("server.tls.certificate_file", path("server.pem"), 0o666, "change "),
        ("server.tls.client_ca_file", path("ca.pem"), 0o646, "change "),
        ("server.tls.client_crl_files", path("list.crl"), 0o602, "change "),
        ("registry.file", path("signers.json"), 0o666, "change "),
        ("--config", config.clone(), 0o666, "change "),
        ("state.dir", path("state"), 0o777, "write into "),
        ("audit.dir", path("journal"), 0o1777, "write into "),
    ];
    finds(|| builder.verb("check", &config), &places, false);
    // Whoever may write above puts another configuration in its place; not where a sticky bit forbids it.
    let above = [("--config", path("../proxy"), 0o777, "put something else in the place of ")];
    let canonical =
        above.map(|(key, path, mode, words)| (key, path.canonicalize().unwrap(), mode, words));
    let check = || builder.verb("check", &config);
    let was = mode(&canonical[0].1);
    chmod(&canonical[0].1, 0o777);
    let found = checked(check());
    assert!(
        found.notes.iter().any(|one| one.contains("put something else in the place of")),
        "{:#?}",
        found.notes
    );
    // The socket is in that directory.
    assert!(
        found.notes.iter().any(|one| one.starts_with("admin.socket: every user may write into"))
    );
    chmod(&canonical[0].1, was);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"test\"\nenvironment = \"test\"", "\"test\"")).unwrap();
    finds(check, &places, true);
}

#[test]
fn what_of_the_emergency_signers_files_is_open_to_others_is_found_by_check() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    for in_production in [false, true] {
        let mut builder = world.signer().replaces("payments", &key).min_outage_s(300);
        if in_production {
            builder = builder.production();
        }
        let config = builder.write();
        let _ = builder.verb("init", &config).output().unwrap();
        let places = [
            ("audit.key_file", builder.path("audit.key"), 0o644, "read "),
            ("emergency_keys: emergency", builder.path("emergency.pem"), 0o644, "read "),
            ("approvers.file", builder.path("approvers"), 0o666, "change "),
            ("registry.file", builder.path("signers.json"), 0o666, "change "),
            ("--config", config.clone(), 0o666, "change "),
            ("state.dir", builder.path("state"), 0o777, "write into "),
            ("audit.dir", builder.path("journal"), 0o777, "write into "),
        ];
        finds(|| builder.verb("check", &config), &places, in_production);
    }
}

#[tokio::test]
async fn what_is_open_to_others_is_in_the_log_of_both_daemons_and_does_not_stop_them() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let signer = world.signer().replaces("payments", &key).min_outage_s(300).production();
    let command = signer.command();
    chmod(&signer.path("audit.key"), 0o644);
    let process = Process::start(command);
    process.says("audit.key_file: every user may read").await;
    process.says("\"serving\"").await;
    let builder = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
    let command = builder.command();
    chmod(&world.scratch.path("proxy/server.key"), 0o644);
    let proxy = builder.started(command).await;
    proxy.process.says("server.tls.private_key_file: every user may read").await;
}

#[test]
fn each_check_says_whether_there_is_a_journal() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
    let signer = world.signer().replaces("payments", &key);
    let (of_proxy, of_signer) = (proxy.write(), signer.write());
    for (verb, program, directory) in [
        (
            &(|verb: &str| proxy.verb(verb, &of_proxy)) as &dyn Fn(&str) -> Command,
            "signing-proxy",
            "proxy/journal",
        ),
        (&|verb: &str| signer.verb(verb, &of_signer), "breakglass-signer", "signer/journal"),
    ] {
        let directory = world.scratch.path(directory).display().to_string();
        let none = checked(verb("check"));
        assert!(none.ok && none.journal["is_there"] == false, "{}", none.journal);
        let detail = none.journal["detail"].as_str().unwrap();
        let init = format!("make it: {program} init --config ");
        assert!(detail.contains(&directory) && detail.contains(&init), "{detail}");
        assert!(verb("init").output().unwrap().status.success());
        let one = checked(verb("check"));
        assert!(one.ok && one.journal["is_there"] == true, "{}", one.journal);
        let output = verb("check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(&format!("journal: {directory} has one")), "{said}");
    }
    // Also of a configuration with a mistake.
    std::fs::write(world.scratch.path("proxy/server.key"), "none").unwrap();
    let found = checked(proxy.verb("check", &of_proxy));
    assert!(!found.ok && found.journal["is_there"] == true, "{}", found.journal);
}
