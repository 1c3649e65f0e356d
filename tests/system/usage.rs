//! The command line: what cannot be read has one status in all programs, flags are taken only
//! where they count, and numbers read as sentences.

use std::process::{Command, Output};

use serde_json::{Value, json};
use system_tests::programs::{ours, system};
use system_tests::{Kind, Scratch, World};

use crate::ALICE;
use crate::output::{PROGRAMS, verbs};

fn run(verb: &str, arguments: &[&str]) -> Output {
    let mut words = verb.split(' ');
    let mut command = Command::new(ours(words.next().unwrap()));
    command.args(words).args(arguments).env_clear().output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

#[test]
fn what_cannot_be_read_of_a_command_line_is_64_in_every_verb_of_every_program() {
    for verb in PROGRAMS.into_iter().flat_map(verbs).chain(PROGRAMS.map(str::to_owned)) {
        let output = run(&verb, &["--nonsense"]);
        assert_eq!(output.status.code(), Some(64), "{verb}: {}", said(&output));
        assert!(output.stdout.is_empty() && said(&output).contains("--nonsense"), "{verb}");
    }
    for (verb, arguments) in [
        ("signctl", &[][..]),
        ("signing-proxy", &[]),
        ("breakglass-signer", &[]),
        ("pkcs11-worker", &["nonsense"]),
        ("pkcs11-worker measure", &["start.json", "soon"]),
        ("signctl drill", &["--seconds", "41"]),
        ("signctl health", &["--url", "https://127.0.0.1:1"]),
        ("signctl gate", &["--timeout", "soon", "--url", "https://127.0.0.1:1"]),
        ("signctl audit tail", &["--type", "sined"]),
        ("signctl audit verify", &["--head", "17"]),
        (
            "signctl breakglass request",
            &["--incident", "I", "--justification", "j", "--out", "x", "--not-before", "noon"],
        ),
        (
            "signctl signers add",
            &["--public-key", "x", "--kid", "k", "--purpose", "audit", "--algorithm", "rot13"],
        ),
        ("signing-proxy dev", &["--min-outage", "10"]),
        (
            "breakglass-signer keygen",
            &["--kid", "no kid", "--algorithm", "ed25519", "--out", "/nowhere/x"],
        ),
    ] {
        let output = run(verb, arguments);
        assert_eq!(output.status.code(), Some(64), "{verb} {arguments:?}: {}", said(&output));
    }
}

#[test]
fn only_a_verb_that_asks_the_admin_socket_takes_it() {
    const ASK: [&str; 20] = [
        "signctl status",
        "signctl watch",
        "signctl freeze",
        "signctl unfreeze",
        "signctl reload",
        "signctl unseal",
        "signctl doctor",
        "signctl drill",
        "signctl breakglass preflight",
        "signctl breakglass register",
        "signctl breakglass request",
        "signctl breakglass activate",
        "signctl breakglass status",
        "signctl breakglass end",
        "signctl breakglass accept-signer",
        "signctl breakglass destroy",
        "signctl incident begin",
        "signctl incident status",
        "signctl incident end",
        "signctl recover",
    ];
    for verb in verbs("signctl") {
        let help = said(&run(&verb, &["--help"]));
        assert_eq!(help.contains("--socket"), ASK.contains(&verb.as_str()), "{verb}: {help}");
    }
    let operator = ["--operator-socket", "/nowhere/o", "--socket", "/nowhere/s"];
    let output = run("signctl breakglass status", &operator);
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    // Before the verb it is an option of the program; who does not use it says so.
    let unused = "--socket is not used";
    let output = run("signctl --socket /nowhere/s status", &[]);
    assert!(said(&output).contains("/nowhere/s") && !said(&output).contains(unused));
    for verb in ["gate", "audit verify", "breakglass status --operator-socket /nowhere/o"] {
        let output = run(&format!("signctl --socket /nowhere/s {verb}"), &[]);
        assert!(said(&output).contains(unused), "{verb}: {}", said(&output));
    }
}

#[test]
fn one_is_not_many() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key);
    let output = proxy.verb("check", &proxy.write()).output().unwrap();
    assert!(said(&output).contains(": no mistakes; 1 signer, 1 caller\n"), "{}", said(&output));
}

#[tokio::test]
async fn a_drill_says_how_it_goes_while_it_lasts() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let gate = "recovery_min_ms = 0\nflap_window_ms = 0\nlease_ms = 3000\nprobe_interval_ms = 500\n\
                probe_timeout_ms = 500\nrecovery_probe_interval_ms = 50";
    let builder = world.proxy().gate(gate).signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.start().await;
    let drill = ["drill", "--seconds", "5", "--i-understand"];
    let (code, report, progress) = proxy.signctl(&drill);
    assert_eq!(code, 0, "{report}{progress}");
    assert!(report.contains("held") && !report.contains("drill: "), "{report}");
    assert!(progress.contains("drill: 3 of 5 seconds; the gate of ec is shut"), "{progress}");
    // A program reads the report, and nothing beside it.
    proxy.healthy().await;
    let (code, report, progress) = proxy.signctl(&[&drill[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["ok"], progress.as_str()), (0, &json!(true), ""));
}

#[test]
fn completions_for_bash_are_a_script_that_bash_takes() {
    let scratch = Scratch::new();
    let output = Command::new(ours("signctl")).args(["completions", "bash"]).output().unwrap();
    assert!(output.status.success());
    let script = scratch.write("signctl.bash", output.stdout);
    // What may follow `signctl fr` by it.
    let asks = "source \"$1\" && COMP_WORDS=(signctl fr) COMP_CWORD=1 && _signctl signctl fr signctl \
                && echo \"${COMPREPLY[@]}\"";
    let output = system("bash").args(["-c", asks, "bash"]).arg(script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "freeze", "{}", String::from_utf8_lossy(&output.stderr));
}
