//! A sample of the mutants in the real programs, and the secrets that only those read: PINs,
//! passphrases, the credentials of AWS.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use system_tests::leak::Secret;
use system_tests::programs::ours;
use system_tests::{Chance, Kind, Scratch, SoftHsm, World};

use super::{Said, assert_no_leak, kinds, mutants, places};
use crate::ALICE;

/// Every so many-th of the mutants goes through the programs, which take longer.
const EVERY: usize = 12;

fn said(by: &'static str, command: &mut Command, input: &[u8]) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Said { by, text: String::from_utf8_lossy(&text).into_owned() }
}

fn signctl(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(ours("signctl"));
    command.args(arguments).arg(file).env_clear().env("RUST_BACKTRACE", "1");
    command
}

/// Each program with `mutant` in the place of each file that it reads.
fn said_by_programs(scratch: &Scratch, mutant: &Path) -> Vec<Said> {
    let nowhere = scratch.path("nowhere").display().to_string();
    let mut all = Vec::new();
    for (by, verb) in [("signing-proxy", "check"), ("breakglass-signer", "check")] {
        let mut command = Command::new(ours(by));
        all.push(said(by, command.args([verb, "--config"]).arg(mutant).env_clear(), b""));
    }
    let url = ["gate", "--url", "https://127.0.0.1:1", "--client-cert"];
    let certificate = scratch.path("client.pem").display().to_string();
    let gate = [&url[..], &[&certificate, "--client-key"]].concat();
    for (by, arguments) in [
        ("signctl gate --client-key", gate.as_slice()),
        ("signctl gate --ca", &["gate", "--url", "https://127.0.0.1:1", "--ca"]),
        ("signctl signers list", &["signers", "list", "--signers"]),
        ("signctl signers add", &["signers", "--signers", &nowhere, "add"]),
        (
            "signctl signers add --public-key",
            &[
                "signers",
                "--signers",
                &certificate,
                "add",
                "--kid",
                "k",
                "--algorithm",
                "ed25519",
                "--purpose",
                "audit",
                "--public-key",
            ],
        ),
        ("signctl audit verify", &["audit", "--dir", &nowhere, "verify", "--signers"]),
        ("signctl breakglass activate", &["breakglass", "activate", "--request"]),
    ] {
        all.push(said(by, &mut signctl(arguments, mutant), b""));
    }
    all
}

#[test]
fn no_program_says_a_byte_of_a_key_that_was_named_in_the_wrong_place_or_is_damaged() {
    let (world, scratch) = (World::new(), Scratch::new());
    let places = places(&world);
    let mut chance = Chance::of("no_program_says_a_byte_of_a_key");
    let client = world.pki.issue(&system_tests::Profile::client(ALICE));
    scratch.write("client.pem", &client.certificate_pem);
    for kind in kinds::keys(&scratch) {
        let first = chance.below(EVERY);
        let mutants = mutants::of(&kind.text, 60, &mut chance);
        for mutant in mutants.iter().skip(first).step_by(EVERY) {
            let file = scratch.write("mutant", &mutant.bytes);
            for said in said_by_programs(&scratch, &file) {
                assert_no_leak(&kind, mutant, &said);
            }
            let in_place = [
                ("signing-proxy", &places.proxy, &places.of_proxy[..5]),
                ("breakglass-signer", &places.signer, &places.of_signer[..2]),
            ];
            for (by, config, files) in in_place {
                let file = &files[chance.below(files.len())];
                let before = std::fs::read(file).unwrap();
                std::fs::write(file, &mutant.bytes).unwrap();
                let mut check = Command::new(ours(by));
                let check = check.args(["check", "--json", "--config"]).arg(config).env_clear();
                assert_no_leak(&kind, mutant, &said(by, check, b""));
                std::fs::write(file, before).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn no_reload_says_a_byte_of_a_damaged_key_in_its_answer_or_in_the_log() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.environment("RUST_LOG", "trace").start().await;
    let mut chance = Chance::of("no_reload_says_a_byte_of_a_damaged_key");
    let file = world.scratch.path("proxy/server.key");
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = Secret::of_pem(&text);
    let kind = kinds::Kind { name: "the server's key", text: text.clone(), secret };
    for mutant in mutants::of(&text, 20, &mut chance).iter().step_by(5) {
        std::fs::write(&file, &mutant.bytes).unwrap();
        let (_, out, err) = proxy.signctl(&["reload"]);
        assert_no_leak(&kind, mutant, &Said { by: "signctl reload", text: out + &err });
    }
    std::fs::write(&file, &text).unwrap();
    assert_eq!(proxy.signctl(&["reload"]).0, 0);
    let whole = mutants::Mutant { how: "all of them".to_owned(), bytes: text.into_bytes() };
    let text = proxy.process.output();
    assert_no_leak(&kind, &whole, &Said { by: "the proxy's log", text });
}

/// Tells a worker to open a token with the PIN in a file, and takes what it says of that.
fn said_by_worker(hsm: &SoftHsm, scratch: &Scratch) -> Said {
    let start = json!({
        "module": hsm.module, "token_label": hsm.label, "key_label": "ec", "key_id": null,
        "pin_file": hsm.pin_file(), "threads": 1, "algorithm": "ecdsa-p256-sha256",
    });
    let start = scratch.write("start.json", start.to_string());
    let mut worker = Command::new(ours("pkcs11-worker"));
    worker.args(["measure"]).arg(start).arg("0.01").env_clear().envs(hsm.environment());
    said("pkcs11-worker", &mut worker, b"")
}

#[test]
fn no_error_about_a_pin_holds_a_byte_of_it_and_what_is_no_pin_is_not_tried() {
    let (hsm, scratch) = (SoftHsm::new("payments"), Scratch::new());
    let _ = hsm.key("ec", Kind::P256);
    let mut chance = Chance::of("no_error_about_a_pin_holds_a_byte_of_it");
    let kind = kinds::line("a PIN", &mut chance);
    for mutant in mutants::of(&format!("{}\n", kind.text), 60, &mut chance) {
        std::fs::write(hsm.pin_file(), &mutant.bytes).unwrap();
        assert_no_leak(&kind, &mutant, &said_by_worker(&hsm, &scratch));
    }
    let (tried, text) = (hsm.said("C_Login"), kind.text.as_str());
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, expected) in [
        (format!("\u{feff}{text}\n").into_bytes(), "holds a byte order mark"),
        (format!("{text}\n{text}\n").into_bytes(), "several lines"),
        (format!("{text}\0").into_bytes(), "other control characters"),
        (utf16, "other control characters"),
        (vec![0xff; 16], "is not UTF-8"),
        (vec![b'1'; 1025], "is longer than 1024 bytes"),
        (b"\r\n".to_vec(), "is empty"),
    ] {
        std::fs::write(hsm.pin_file(), bytes).unwrap();
        let said = said_by_worker(&hsm, &scratch).text;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(hsm.said("C_Login"), tried, "a wrong PIN is counted by the token");
}

#[tokio::test]
async fn no_error_about_a_passphrase_holds_a_byte_of_it() {
    let scratch = Scratch::new();
    let signer = system_tests::breakglass::SignerBuilder::new(&scratch).start().await;
    let mut chance = Chance::of("no_error_about_a_passphrase_holds_a_byte_of_it");
    let kind = kinds::line("a passphrase", &mut chance);
    let out = scratch.path("new.pem");
    let mut mutants = mutants::of(&format!("{}\n", kind.text), 20, &mut chance);
    let long = kind.text.repeat(100).into_bytes();
    mutants.push(mutants::Mutant { how: "too long".to_owned(), bytes: long });
    for mutant in mutants.iter().step_by(3) {
        let mut unlock =
            signctl(&["breakglass", "unlock", "--operator-socket"], &signer.operator_socket());
        let unlocked = said("signctl breakglass unlock", &mut unlock, &mutant.bytes);
        assert_no_leak(&kind, mutant, &unlocked);
        let mut keygen = Command::new(ours("breakglass-signer"));
        keygen.args(["keygen", "--kid", "k", "--algorithm", "ed25519", "--out"]).arg(&out);
        let made = said("breakglass-signer keygen", &mut keygen, &mutant.bytes);
        assert_no_leak(&kind, mutant, &made);
        let _ = std::fs::remove_file(&out);
    }
    let all = mutants::Mutant { how: "all of them".to_owned(), bytes: Vec::new() };
    let text = signer.process.output();
    assert_no_leak(&kind, &all, &Said { by: "breakglass-signer", text });
}

/// Files and programs from which the AWS SDK takes credentials, each spoilt, and the variables that
/// name them.
fn spoilt_credentials(
    scratch: &Scratch,
    kind: &kinds::Kind,
) -> Vec<(String, Vec<(&'static str, String)>)> {
    let path = |path: PathBuf| path.display().to_string();
    let secret = &kind.text;
    let profile = format!(
        "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {secret}\n\
         aws_session_token = {secret}{secret}\n"
    );
    let mut cases: Vec<_> = [
        ("line breaks lost", profile.replace('\n', " ")),
        ("line breaks are escapes", profile.replace('\n', "\\n")),
        ("the profile's name lost", profile.replacen("[default]\n", "", 1)),
        ("a bracket lost", profile.replacen(']', "", 1)),
        ("no equals sign", profile.replace("key = ", "key ")),
        ("no name", profile.replace("aws_secret_access_key = ", "= ")),
        (
            "the secret in place of a source",
            profile.replace(
                "aws_secret_access_key",
                "role_arn = arn:aws:iam::1:role/x\ncredential_source",
            ),
        ),
        (
            "the secret in place of a profile",
            profile.replace(
                "aws_secret_access_key",
                "role_arn = arn:aws:iam::1:role/x\nsource_profile",
            ),
        ),
        ("the secret as a line alone", format!("[default]\n{secret}\n")),
        ("the secret indented", format!("[default]\nregion =\n  {secret}\n")),
        ("JSON", json!({"AccessKeyId": "AKIA", "SecretAccessKey": secret}).to_string()),
        ("a control character", profile.replace("token = ", "token = \u{7}")),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (how, text))| {
        let file = scratch.write(&format!("credentials-{number}"), text);
        (how.to_owned(), vec![("AWS_SHARED_CREDENTIALS_FILE", path(file))])
    })
    .collect();
    for (number, prints) in [
        format!("echo '{secret}'"),
        format!("echo '{secret}' >&2; exit 3"),
        format!("echo '{{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"{secret}\\q\"}}'"),
        format!("echo '{{\"Version\": \"{secret}\", \"SecretAccessKey\": 1}}'"),
        format!("echo '{{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"{secret}\", \"Expiration\": \"{secret}\"}}'"),
    ]
    .into_iter()
    .enumerate()
    {
        let program = scratch.write(&format!("process-{number}"), format!("#!/bin/sh\n{prints}\n"));
        let config = format!("[default]\ncredential_process = sh {} {secret}\n", path(program));
        let config = path(scratch.write(&format!("config-{number}"), config));
        cases.push((format!("credential_process: {prints}"), vec![("AWS_CONFIG_FILE", config)]));
    }
    let token = path(scratch.write("token", format!("{secret}\u{7}\n")));
    cases.push((
        "a token with a control character".to_owned(),
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/x".to_owned()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token),
        ],
    ));
    cases.push((
        "a secret with a control character".to_owned(),
        vec![
            ("AWS_ACCESS_KEY_ID", "AKIA\u{7}".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.clone()),
            ("AWS_SESSION_TOKEN", format!("{secret}\u{7}")),
        ],
    ));
    cases
}

#[tokio::test]
async fn no_error_about_credentials_of_aws_holds_a_byte_of_them() {
    let (world, scratch) = (World::new(), Scratch::new());
    let key = world.kms.key(Kind::P256);
    let kind = kinds::line("credentials of AWS", &mut Chance::of("credentials of AWS"));
    for (number, (how, variables)) in spoilt_credentials(&scratch, &kind).into_iter().enumerate() {
        let directory = format!("proxy-{number}");
        let builder = world.proxy().directory(&directory).signer("ec", &key).caller(ALICE, &["ec"]);
        let builder = builder.without_credentials().environment("RUST_LOG", "trace");
        let none = path_of_nothing(&scratch);
        let builder = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]
            .into_iter()
            .fold(builder, |builder, name| builder.environment(name, &none));
        let builder = variables
            .iter()
            .fold(builder, |builder, (name, value)| builder.environment(name, value));
        let proxy = builder.start_shut().await;
        let (_, out, err) = proxy.signctl(&["doctor"]);
        let (_, status, _) = proxy.signctl(&["status", "--json"]);
        let mutant = mutants::Mutant { how, bytes: Vec::new() };
        let (health, log) = (proxy.health().await.text, proxy.process.output());
        println!("{}: {out}", mutant.how);
        for text in [out, err, status, health, log] {
            assert_no_leak(&kind, &mutant, &Said { by: "the proxy", text });
        }
    }
}

fn path_of_nothing(scratch: &Scratch) -> String {
    scratch.write("nothing", "").display().to_string()
}
