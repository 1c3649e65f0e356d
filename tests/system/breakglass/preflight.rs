//! `signctl breakglass preflight` and `unlock --check`: what would fail in an outage is found before it, and
//! neither arms anything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, PASSPHRASE, Signer};
use system_tests::programs::{libfaketime, ours, system};
use system_tests::{Profile, Proxy, eventually};

use super::{Site, connected, records, status};
use crate::ALICE;

/// What a preflight is told on a machine where all is well.
struct Ground<'s> {
    site: &'s Site,
    signer: Signer<'s>,
    proxy: Proxy<'s>,
    /// The registry, in which the emergency key has an end.
    registry: PathBuf,
}

impl<'s> Ground<'s> {
    async fn new(site: &'s Site) -> Self {
        let builder = site.signer();
        let mut entries = builder.registry_entries();
        entries[0]["notAfter"] = "2999-01-01T00:00:00Z".into();
        let signer = builder.start().await;
        let proxy = site.proxy(entries).start().await;
        connected(&proxy).await;
        let registry = site.world.scratch.path("proxy/signers.json");
        Self { site, signer, proxy, registry }
    }

    /// The words for a registry and more flags.
    fn words(&self, registry: &Path, more: &[&str]) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        let mut words: Vec<String> =
            ["--json", "breakglass", "preflight", "--operator-socket"].map(str::to_owned).into();
        words.push(path(self.signer.operator_socket()));
        words.extend([
            "--signer-config".to_owned(),
            path(self.signer.builder.path("breakglass-signer.toml")),
        ]);
        words.extend(["--signer-journal".to_owned(), path(self.signer.builder.journal())]);
        words.extend(["--signers".to_owned(), registry.display().to_string()]);
        words.extend(more.iter().map(ToString::to_string));
        words
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(ours("signctl"));
        command.arg("--socket").arg(&self.proxy.socket).args(self.words(&self.registry, more));
        command
    }

    /// What failed, and the whole answer.
    fn preflight(&self, more: &[&str]) -> (Vec<String>, Value) {
        judged(fed(self.command(more), PASSPHRASE))
    }
}

/// Runs it with that on standard input: the exit status, and what is printed.
fn fed(mut command: Command, line: &str) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ =
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{line}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn judged((code, said, errors): (i32, String, String)) -> (Vec<String>, Value) {
    let said: Value =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}"));
    let all = said["conditions"].as_array().unwrap();
    assert_eq!(all.len(), 12, "{said}");
    let failed = all.iter().filter(|condition| condition["met"] == false);
    let failed: Vec<_> =
        failed.map(|condition| condition["condition"].as_str().unwrap().to_owned()).collect();
    assert_eq!((code, &said["ok"]), (i32::from(!failed.is_empty()), &json!(failed.is_empty())));
    (failed, said)
}

#[tokio::test]
async fn a_machine_on_which_a_ceremony_would_succeed_is_ready_and_nothing_is_armed() {
    let site = Site::new();
    let ground = Ground::new(&site).await;
    let client = site.world.pki.issue(&Profile::client(ALICE));
    let file = |name: &str, text: &str| site.world.scratch.write(name, text).display().to_string();
    let copy = ground.registry.display().to_string();
    let url = format!("https://{}/v1/signers", ground.proxy.listen);
    let (ca, certificate, key) = (
        file("ca.pem", &site.world.pki.ca_pem),
        file("client.pem", &client.certificate_pem),
        file("client.key", &client.key_pem),
    );
    let more = [
        "--copies",
        &copy,
        "--copies",
        &url,
        "--ca",
        &ca,
        "--client-cert",
        &certificate,
        "--client-key",
        &key,
        "--passphrase",
    ];
    let (failed, said) = ground.preflight(&more);
    assert_eq!(failed, [""; 0], "{said}");
    assert!(said["conditions"].as_array().unwrap().iter().all(|one| one["met"] == true), "{said}");
    let known = status(&ground.proxy).await;
    assert_eq!((&known["signer"]["unlocked"], &known["session"]), (&json!(false), &Value::Null));
    // The server of a copy has a clock too.
    let clock =
        said["conditions"].as_array().unwrap().iter().find(|one| one["condition"] == "clock");
    assert!(clock.unwrap()["says"].as_str().unwrap().contains(&url), "{said}");
    // Without what is asked for by a flag it is as ready, and says what was not looked at.
    let (failed, said) = ground.preflight(&[]);
    let unasked = said["conditions"].as_array().unwrap().iter().filter(|one| one["met"].is_null());
    assert_eq!((failed.len(), unasked.count()), (0, 2), "{said}");
}

#[tokio::test]
async fn what_is_in_the_way_is_found_on_a_real_machine() {
    let site = Site::new();
    let mut ground = Ground::new(&site).await;
    // Another passphrase.
    let (failed, said) = judged(fed(ground.command(&["--passphrase"]), "another"));
    assert_eq!(failed, ["passphrase"], "{said}");
    // A copy of before, one that is not there, and one that anybody on the way could send.
    let text = std::fs::read_to_string(&ground.registry).unwrap();
    let mut old: Value = serde_json::from_str(&text).unwrap();
    old["signers"].as_array_mut().unwrap().pop();
    let old = site.world.scratch.write("old.json", old.to_string()).display().to_string();
    for (copy, why) in [
        (old.as_str(), "has another entry, or none, for"),
        ("/nowhere/signers.json", "No such file"),
        ("http://192.0.2.1/signers.json", "http:// is taken only of this machine's loopback"),
    ] {
        let (failed, said) = ground.preflight(&["--copies", copy]);
        assert!(failed == ["copies"] && said.to_string().contains(why), "{copy}: {said}");
    }
    // A registry in which the key has no end.
    let mut endless: Value = serde_json::from_str(&text).unwrap();
    for entry in endless["signers"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("notAfter");
    }
    let right = ground.registry.clone();
    ground.registry = site.world.scratch.write("endless.json", endless.to_string());
    let (failed, said) = ground.preflight(&[]);
    assert_eq!(failed, ["key_end"], "{said}");
    ground.registry = right;
    // No room: a journal on a file system of a megabyte.
    let full = site.world.scratch.path("full");
    std::fs::create_dir(&full).unwrap();
    let mut unshare = system("unshare");
    unshare.args([
        "-m",
        "bash",
        "-c",
        "mount -t tmpfs -o size=1m none \"$1\" && shift && exec \"$@\"",
        "bash",
    ]);
    unshare.arg(&full).arg(ours("signctl")).arg("--socket").arg(&ground.proxy.socket);
    let words = ground.words(&ground.registry, &[]);
    let journal = ground.signer.builder.journal().display().to_string();
    let full = full.display().to_string();
    unshare.args(words.iter().map(|word| if *word == journal { &full } else { word }));
    let (failed, said) = judged(fed(unshare, ""));
    assert_eq!(failed, ["disk"], "{said}");
    // An approvers file that changed since the start, and in which nobody is left for a role.
    let approvers = ground.signer.builder.path("approvers");
    let before = std::fs::read_to_string(&approvers).unwrap();
    std::fs::write(&approvers, format!("# reviewed\n{before}")).unwrap();
    let (failed, said) = ground.preflight(&[]);
    assert_eq!(failed, ["approvers"], "{said}");
    let expired = before.replacen("namespaces=", "valid-before=\"20200101Z\",namespaces=", 1);
    std::fs::write(&approvers, expired).unwrap();
    let (failed, said) = ground.preflight(&[]);
    assert_eq!(failed, ["quorum", "approvers"], "{said}");
    std::fs::write(&approvers, before).unwrap();
    // A session in force.
    site.out(&ground.proxy).await;
    super::activated(&ground.signer, &ground.proxy, &ground.signer.request()).await;
    let (failed, said) = ground.preflight(&[]);
    assert_eq!(failed, ["free"], "{said}");
    let (code, _, errors) = {
        let mut check = Command::new(ours("signctl"));
        check.args(["breakglass", "unlock", "--check", "--emergency-kid", EMERGENCY_KID]);
        check.arg("--operator-socket").arg(ground.signer.operator_socket());
        fed(check, PASSPHRASE)
    };
    assert!(code == 1 && errors.contains("session_in_force"), "{errors}");
    // Nobody there.
    ground.signer.process.signal(Signal::SIGKILL);
    assert!(!ground.signer.process.ended().await.success());
    eventually("the proxy knows", || async {
        status(&ground.proxy).await["signer"].is_null().then_some(())
    })
    .await;
    let (failed, said) = ground.preflight(&["--passphrase"]);
    let expected =
        ["proxy", "signer", "armable", "approvers", "key", "key_end", "passphrase", "clock"];
    assert_eq!(failed, expected, "{said}");
    assert_eq!(ground.site.world.scratch.path("proxy/signers.json"), ground.registry);
}

#[tokio::test]
async fn an_emergency_signer_whose_clock_is_elsewhere_is_found() {
    let site = Site::new();
    let builder = site
        .signer()
        .environment("LD_PRELOAD", &libfaketime().display().to_string())
        .environment("FAKETIME", "+2h")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .environment("DONT_FAKE_MONOTONIC", "1");
    let signer = builder.start().await;
    let output = Command::new(ours("signctl"))
        .args(["--json", "--socket", "/nowhere", "breakglass", "preflight", "--operator-socket"])
        .arg(signer.operator_socket())
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let clock =
        said["conditions"].as_array().unwrap().iter().find(|one| one["condition"] == "clock");
    let clock = clock.unwrap();
    assert_eq!(clock["met"], false, "{clock}");
    assert!(
        clock["says"].as_str().unwrap().contains("the clock of the emergency signer"),
        "{clock}"
    );
}

#[tokio::test]
async fn i5_a_passphrase_that_is_tried_opens_the_key_once_and_arms_nothing() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let check = |passphrase: &str, more: &[&str]| {
        let mut check = Command::new(ours("signctl"));
        check.args(["breakglass", "unlock", "--check", "--operator-socket"]);
        fed(
            {
                check.arg(signer.operator_socket()).args(more);
                check
            },
            passphrase,
        )
    };
    let (code, said, errors) = check(PASSPHRASE, &[]);
    assert!(
        code == 0 && said.starts_with("opened: the passphrase opens emergency"),
        "{said}{errors}"
    );
    let (code, said, errors) = check("another", &[]);
    assert!(code == 1 && said.is_empty(), "{said}");
    assert!(errors.contains("NOT OPENED: emergency: passphrase_wrong"), "{errors}");
    assert!(!errors.contains("another"), "{errors}");
    let (code, said, _) = check("another", &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["opened"], &said["armed"]), (1, &json!(false), &json!(false)));
    let (code, _, errors) = check(PASSPHRASE, &["--emergency-kid", "nobody"]);
    assert!(code == 1 && errors.contains("key_unknown"), "{errors}");
    let known = status(&proxy).await;
    assert_eq!((&known["signer"]["unlocked"], &known["session"]), (&json!(false), &Value::Null));
    // A passphrase that waits goes on waiting, and is still used.
    site.out(&proxy).await;
    signer.unlock().await;
    let (code, _, errors) = check("another", &[]);
    assert_eq!(code, 1, "{errors}");
    let answer = super::activate(&proxy, &signer.papers(&signer.request())).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let outcomes: Vec<_> = records(&signer.builder.journal(), "unlock")
        .iter()
        .map(|unlock| unlock["outcome"].as_str().unwrap().to_owned())
        .collect();
    let expected = ["opened", "not_opened", "not_opened", "brought", "not_opened", "used"];
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn i8_guessing_by_trying_is_slow() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut said = Vec::new();
    for _ in 0..6 {
        let mut check = Command::new(ours("signctl"));
        check.args(["--json", "breakglass", "unlock", "--check", "--operator-socket"]);
        let (_, answer, _) = fed(
            {
                check.arg(signer.operator_socket());
                check
            },
            "guess",
        );
        let answer: Value = serde_json::from_str(&answer).unwrap();
        said.push(answer["reason"].as_str().unwrap().to_owned());
    }
    assert_eq!(said[..5], ["passphrase_wrong"; 5]);
    assert!(said[5] == "overloaded" || said[5] == "passphrase_wrong", "{said:?}");
    // However slow this machine is, more than one every 12 seconds is too many in the end.
    let refused = std::iter::repeat_with(|| {
        let mut check = Command::new(ours("signctl"));
        check.args(["--json", "breakglass", "unlock", "--check", "--operator-socket"]);
        let (_, answer, _) = fed(
            {
                check.arg(signer.operator_socket());
                check
            },
            "guess",
        );
        answer.contains("\"overloaded\"")
    });
    assert!(refused.take(20).any(|is_refused| is_refused));
}
