//! A misspelt key in security data is a mistake that names the right spelling, and never nothing:
//! a key that is revoked with `revoked_at` would sign.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use system_tests::programs::ours;
use system_tests::{Kind, World};

use crate::config_files::said;

/// How people and tools write `revokedAt` and the like; what has to be said of it.
const OF_ENTRY: &[(&str, &str)] = &[
    ("revoked_at", "revokedAt"),
    ("RevokedAt", "revokedAt"),
    ("revokedat", "revokedAt"),
    ("REVOKED_AT", "revokedAt"),
    ("revoked-at", "revokedAt"),
    ("revokedAts", "revokedAt"),
    ("revoked", "revokedAt"),
    ("revokdAt", "revokedAt"),
    ("revokedOn", "revokedAt"),
    ("revokeAt", "revokedAt"),
    ("revocation", "revokedAt"),
    ("revocationDate", "revokedAt"),
    ("revokedBy", "revokedAt"),
    ("is_revoked", "revokedAt"),
    ("revokedAt ", "revokedAt"),
    ("revoked\u{200b}At", "revokedAt"),
    ("revoked\u{410}t", "revokedAt"),
    ("not_after", "notAfter"),
    ("NotAfter", "notAfter"),
    ("notafter", "notAfter"),
    ("notAftr", "notAfter"),
    ("Purpose", "purpose"),
    ("purposes", "purpose"),
    ("porpose", "purpose"),
    ("deployed_at", "deployedAt"),
    ("public_keys_pem", "public_key_pem"),
    ("descripton", "description"),
];

/// What third-party tools keep in a registry.
const FOREIGN: &[&str] = &[
    "owner",
    "rotation",
    "kms_arn",
    "comment",
    "x-tool",
    "version",
    "deployedBy",
    "labels",
    "env",
];

fn check(program: &str, config: &Path) -> Output {
    let mut check = Command::new(ours(program));
    check.args(["check", "--config"]).arg(config).env_clear().output().unwrap()
}

/// The registry's text with its first entry changed.
fn edited(file: &Path, edit: impl Fn(&mut Value)) -> String {
    let mut registry: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    edit(&mut registry);
    registry.to_string()
}

#[test]
fn a_misspelt_key_of_the_registry_is_a_mistake_in_both_daemons() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).write();
    let signer = world.signer().replaces("ec", &key).write();
    let time = json!("2026-01-01T00:00:00Z");
    for (program, config) in [("signing-proxy", &proxy), ("breakglass-signer", &signer)] {
        let file = config.with_file_name("signers.json");
        let good = fs::read_to_string(&file).unwrap();
        assert!(check(program, config).status.success(), "{program}");
        for (misspelt, meant) in OF_ENTRY {
            fs::write(&file, edited(&file, |all| all["signers"][0][misspelt] = time.clone()))
                .unwrap();
            let output = check(program, config);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{program}: {misspelt:?}: {said}");
            assert!(said.contains(&format!("is unknown; write \"{meant}\"")), "{misspelt}: {said}");
            assert!(said.contains("registry.file: ") && said.contains("signer \""), "{said}");
            fs::write(&file, &good).unwrap();
        }
        for misspelt in ["signer", "Signers", "SIGNERS", "singers", "sig_ners"] {
            fs::write(&file, edited(&file, |all| all[misspelt] = json!([]))).unwrap();
            let output = check(program, config);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{program}: {misspelt}: {said}");
            let expected = format!("the key \"{misspelt}\" is unknown; write \"signers\"");
            assert!(said.contains(&expected), "{said}");
            // Alone it says the same.
            fs::write(&file, good.replacen("\"signers\"", &format!("\"{misspelt}\""), 1)).unwrap();
            assert!(self::said(&check(program, config)).contains(&expected), "{misspelt}");
            fs::write(&file, &good).unwrap();
        }
        for foreign in FOREIGN {
            fs::write(&file, edited(&file, |all| all["signers"][0][foreign] = json!("x"))).unwrap();
            assert!(check(program, config).status.success(), "{program}: {foreign}");
            fs::write(&file, &good).unwrap();
        }
    }
}

/// In objects of others, where only `signing-core/tests/registry.rs` looks at every word.
#[test]
fn a_restriction_in_an_object_of_others_is_a_mistake_or_a_note_of_both_daemons() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).write();
    let signer = world.signer().replaces("ec", &key).write();
    let time = "2026-01-01T00:00:00Z";
    for (program, config) in [("signing-proxy", &proxy), ("breakglass-signer", &signer)] {
        let file = config.with_file_name("signers.json");
        for (foreign, code, expected) in [
            (json!({"expiresAt": time}), 0, "the key \"x-tool.expiresAt\" is ignored"),
            (
                json!({"revokedAt": time}),
                1,
                "the key \"x-tool.revokedAt\" says that the key is revoked",
            ),
        ] {
            let text = edited(&file, |all| all["signers"][0]["x-tool"] = foreign.clone());
            fs::write(&file, text).unwrap();
            let output = check(program, config);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(code), "{program}: {said}");
            assert!(said.contains("registry.file: ") && said.contains(expected), "{said}");
        }
    }
}

#[tokio::test]
async fn a_reload_with_a_misspelt_revocation_changes_nothing_and_says_so() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let file = world.scratch.path("proxy/signers.json");
    let time = json!("2026-01-01T00:00:00Z");
    fs::write(&file, edited(&file, |all| all["signers"][0]["revoked_at"] = time.clone())).unwrap();
    let (code, _, said) = proxy.signctl(&["reload"]);
    assert!(code == 1 && said.contains("write \"revokedAt\""), "{said}");
}

#[test]
fn keys_of_third_party_tools_are_listed_as_ignored() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).write();
    let file = proxy.with_file_name("signers.json");
    let text = edited(&file, |all| {
        all["$schema"] = json!("https://example.com/registry");
        let entry = &mut all["signers"][0];
        entry["owner"] = json!("payments");
        entry["revokedAt"] = json!("2026-01-01T00:00:00Z");
        // Beside a revocation that is one.
        entry["revokedBy"] = json!("alice");
        entry["revocationReason"] = json!("left");
    });
    fs::write(&file, text).unwrap();
    let list = |more: &[&str]| {
        let mut list = Command::new(ours("signctl"));
        let output = list.args(["signers", "list", "--signers"]).arg(&file).args(more).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let words = list(&[]);
    for (key, of) in [("$schema", "the file"), ("owner", "ec"), ("revokedBy", "ec")] {
        let line = format!("ignored: the key \"{key}\" of {of}");
        assert!(words.contains(&line), "{line} in\n{words}");
    }
    let listed: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let ignored = listed["ignored"].as_array().unwrap();
    assert_eq!(ignored.len(), 4, "{listed}");
    assert!(ignored.contains(&json!({"signer_kid": "ec", "key": "owner"})), "{listed}");
    assert!(ignored.contains(&json!({"signer_kid": null, "key": "$schema"})), "{listed}");
    assert!(listed["signers"].is_array());
    // What is misspelt is not listed as ignored, but refused.
    fs::write(&file, edited(&file, |all| all["signers"][0]["not_after"] = json!("x"))).unwrap();
    for more in [&[][..], &["--json"]] {
        let mut list = Command::new(ours("signctl"));
        let output = list.args(["signers", "list", "--signers"]).arg(&file).args(more).output();
        let output = output.unwrap();
        assert!(!output.status.success() && said(&output).contains("write \"notAfter\""));
    }
}

#[test]
fn a_misspelt_option_of_an_approver_is_a_mistake_that_names_the_right_one() {
    let world = World::new();
    let builder = world.signer().replaces("payments", &world.kms.key(Kind::P256));
    let config = builder.write();
    let file = config.with_file_name("approvers");
    let good = fs::read_to_string(&file).unwrap();
    let (first, second) = good.split_once('\n').unwrap();
    let (who, key) = (first.split(' ').next().unwrap(), first.split("\" ").nth(1).unwrap());
    let key_alone = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    for (options, expected) in [
        ("valid-befor=\"20200101Z\"", "write valid-before=\"...\""),
        ("valid_before=\"20200101Z\"", "write valid-before=\"...\""),
        ("validbefore=\"20200101Z\"", "write valid-before=\"...\""),
        ("valid-befores=\"20200101Z\"", "write valid-before=\"...\""),
        ("valid-afer=\"20990101Z\"", "write valid-after=\"...\""),
        ("namespace=\"other\"", "write namespaces=\"...\""),
        ("name-spaces=\"other\"", "write namespaces=\"...\""),
        ("NAMESPACE=\"other\"", "write namespaces=\"...\""),
        ("valid-before=20200101Z", "without a value in quotes"),
        ("valid-before", "without a value in quotes"),
        ("namespaces", "without a value in quotes"),
        ("namespaces=\"a\", valid-before=\"20200101Z\"", "a blank between its options"),
        ("expires=\"20200101Z\"", "known are namespaces"),
        ("cert_authority", "write cert-authority"),
        ("cert-authority", "is a cert-authority"),
    ] {
        fs::write(&file, format!("{who} {options} {key}\n{second}")).unwrap();
        let output = check("breakglass-signer", &config);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{options}: {said}");
        assert!(said.contains("line 1: ") && said.contains(expected), "{options}: {said}");
    }
    for late in ["valid-before=\"20200101Z\"", "VALID_BEFORE=x", "me namespaces=\"other\""] {
        fs::write(&file, format!("{who} {key_alone} {late}\n{second}")).unwrap();
        let said = said(&check("breakglass-signer", &config));
        assert!(said.contains("after the key, where it is a comment"), "{late}: {said}");
    }
    // Upper case is OpenSSH's own, and a comment may say what it likes.
    fs::write(&file, format!("{who} Valid-Before=\"20990101Z\" {key_alone} a=b me@host\n{second}"))
        .unwrap();
    assert!(check("breakglass-signer", &config).status.success());
}

/// Every object of the state, with each of its keys misspelt: the start is refused.
#[tokio::test]
async fn a_misspelt_or_unknown_key_of_a_state_file_refuses_the_start() {
    let (world, key) = World::one_signer();
    let builder = || world.proxy_of(&key);
    let proxy = builder().start().await;
    assert_eq!(proxy.signctl(&["freeze", "--reason", "INC-7"]).0, 0);
    proxy.stop().await;
    let state = world.scratch.path("proxy/state/freeze-and-seals.json");
    refuses_misspelt(&state, &["freeze"], &mut || {
        let mut serve = builder().command();
        serve.output().unwrap()
    });
    let signer = world.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    let state = builder.path("state").join("breakglass-signer.json");
    refuses_misspelt(&state, &["witness", "past"], &mut || builder.command().output().unwrap());
}

fn refuses_misspelt(file: &Path, inside: &[&str], start: &mut dyn FnMut() -> Output) {
    let good = fs::read_to_string(file).unwrap();
    let state: Value = serde_json::from_str(&good).unwrap();
    let mut places = vec![&state];
    places.extend(inside.iter().map(|key| &state[key]));
    let keys = places.iter().flat_map(|place| place.as_object().unwrap().keys());
    for key in keys {
        let misspelt = format!("{}x", key.to_uppercase());
        fs::write(file, good.replacen(&format!("\"{key}\""), &format!("\"{misspelt}\""), 1))
            .unwrap();
        let output = start();
        let said = said(&output);
        assert!(!output.status.success(), "{misspelt} in {}: {said}", file.display());
        assert!(said.contains(&format!("unknown field \"{misspelt}\"")), "{said}");
        let names_it = said.contains(&format!("write \"{key}\"")) || said.contains("expected");
        assert!(names_it && said.contains(key.as_str()), "{said}");
    }
    let more = good.replacen('{', "{\"more\": 1,", 1);
    fs::write(file, more).unwrap();
    let output = start();
    assert!(!output.status.success() && said(&output).contains("unknown field \"more\""));
    fs::write(file, good).unwrap();
}
