//! Break-glass under `signing-proxy dev`, as somebody tries to cheat it: each way is refused with
//! the sentence that says why.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use system_tests::breakglass::SignerBuilder;
use system_tests::{Kind, Process, Scratch, eventually, openssl, programs};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::dev::{dev_with, processes_in};

/// `dev` with a signer that is out for long enough, and the emergency key that stands in for it.
struct Out {
    scratch: Scratch,
    process: Process,
    ready: Value,
    signer: &'static str,
    emergency_kid: &'static str,
}

impl Out {
    async fn new(signer: &'static str, emergency_kid: &'static str) -> Self {
        let scratch = Scratch::new();
        let program = programs::ours("signing-proxy");
        let (process, ready) = dev_with(&scratch, &program, &["--min-outage", "1s"]).await;
        assert!(ready["breakglass"].is_object(), "{}", process.output());
        let key = scratch.path(&format!("dev/keys/{signer}.pem"));
        std::fs::rename(&key, key.with_extension("pem.away")).unwrap();
        let out = Self { scratch, process, ready, signer, emergency_kid };
        eventually("the outage is long enough", || {
            // Requests fail too, which shuts the gate sooner.
            let _ = out.sign();
            let (_, status) = out.signctl(&["breakglass", "status", "--json"]);
            std::future::ready(status.contains("\"qualifies\": true").then_some(()))
        })
        .await;
        out
    }

    fn run(&self, command: &mut Command) -> (bool, String) {
        let output = command.current_dir(self.scratch.dir()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn signctl(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(programs::ours("signctl"));
        self.run(command.args(["--socket", "dev/run/admin.sock"]).args(words))
    }

    /// What a caller is answered.
    fn sign(&self) -> Value {
        self.ask(&json!({"message": "aGVsbG8=", "signer_kid": self.signer}))
    }

    fn ask(&self, body: &Value) -> Value {
        let url = format!("{}/v1/sign", self.ready["url"].as_str().unwrap());
        let mut curl = programs::system("curl");
        curl.args(["-s", "--cacert", "dev/pki/ca.pem", "--cert", "dev/pki/client.pem"]);
        curl.args(["--key", "dev/pki/client.key", "-H", "content-type: application/json"]);
        let (_, said) = self.run(curl.args(["-d", &body.to_string(), &url]));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Writes a request, with more flags.
    fn request(&self, name: &str, more: &[&str]) {
        let words = [
            "breakglass",
            "request",
            "--incident",
            "INC-1",
            "--justification",
            "a test",
            "--emergency-kid",
            self.emergency_kid,
            "--out",
            name,
        ];
        let (written, said) = self.signctl(&[&words[..], more].concat());
        assert!(written, "{said}");
    }

    /// Has `approver` sign the request; the name of the approval's file.
    fn approved(&self, name: &str, approver: &str) -> String {
        let mut keygen = programs::system("ssh-keygen");
        keygen.args(["-Y", "sign", "-n", "breakglass@signing-proxy", "-f"]);
        keygen.arg(format!("dev/approvers/{approver}")).arg(name);
        let (signed, said) = self.run(&mut keygen);
        assert!(signed, "{said}");
        let approval = format!("{name}.{approver}.sig");
        std::fs::rename(self.scratch.path(&format!("{name}.sig")), self.scratch.path(&approval))
            .unwrap();
        approval
    }

    /// A command as the pages print it, in a shell with the variables that `dev` wrote.
    fn as_printed(&self, command: &str) -> (bool, String) {
        let bin = programs::ours("signctl").parent().unwrap().display().to_string();
        let script = format!("PATH={bin}:$PATH; . dev/env; {command}");
        self.run(programs::system("bash").args(["-c", &script]))
    }

    fn unlock(&self) {
        let unlock = format!(
            "echo development-passphrase | {} breakglass unlock --operator-socket dev/run/operator.sock",
            programs::ours("signctl").display()
        );
        let (unlocked, said) = self.run(programs::system("bash").args(["-c", &unlock]));
        assert!(unlocked, "{said}");
    }

    /// Tries to activate. Whoever cheats is refused before the key is opened, with or without passphrase.
    fn activate(&self, name: &str, approvals: &[&String]) -> Value {
        let mut words = vec!["--json", "breakglass", "activate", "--request", name];
        for approval in approvals {
            words.extend(["--approval", approval]);
        }
        let (_, said) = self.signctl(&words);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Asserts that a request that both approved is refused for that reason, in those words.
    fn refuses(&self, name: &str, reason: &str, words: &str) {
        let approvals = ["security", "finance"].map(|who| self.approved(name, who));
        let answer = self.activate(name, &approvals.each_ref());
        refused(&answer, reason, words);
        assert_eq!(self.sign()["reason"], "upstream_unhealthy");
    }
}

fn refused(answer: &Value, reason: &str, words: &str) {
    assert_eq!(
        (&answer["activated"], answer["reason"].as_str()),
        (&false.into(), Some(reason)),
        "{answer}"
    );
    assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
}

#[tokio::test]
async fn a_lifeline_that_could_never_close_starts_no_signer() {
    let scratch = Scratch::new();
    let mut command = SignerBuilder::new(&scratch).command();
    command.arg("--while-stdin-open");
    // Its standard input is /dev/null.
    let mut process = Process::start(command);
    assert!(!process.ended().await.success());
    process.says("--while-stdin-open: standard input is no pipe").await;
}

#[tokio::test]
async fn every_way_to_cheat_is_refused_with_its_sentence() {
    let mut out = Out::new("dev-ed25519", "emergency-dev").await;

    out.request("twice.json", &[]);
    let one = out.approved("twice.json", "security");
    let another = out.approved("twice.json", "security");
    refused(
        &out.activate("twice.json", &[&one, &another]),
        "same_key",
        "each person has a key of their own",
    );

    out.request("edited.json", &["--max-signatures", "100"]);
    let approvals = ["security", "finance"].map(|who| out.approved("edited.json", who));
    let file = out.scratch.path("edited.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let (asked, more) = ("\"max_signatures\": 100,", "\"max_signatures\": 900,");
    assert!(text.contains(asked), "{text}");
    std::fs::write(&file, text.replace(asked, more)).unwrap();
    let edited = out.activate("edited.json", &approvals.each_ref());
    refused(&edited, "approval_invalid", "bytes");

    // `request` writes none of yesterday, but whoever edits it before it is approved does.
    let hours =
        |hours: i64| (OffsetDateTime::now_utc() - Duration::hours(hours)).format(&Rfc3339).unwrap();
    let words = [
        "breakglass",
        "request",
        "--incident",
        "INC-1",
        "--justification",
        "a test",
        "--emergency-kid",
        out.emergency_kid,
        "--out",
        "old.json",
    ];
    let times = ["--not-before", &hours(24), "--outage-since", &hours(25)];
    let (written, said) = out.signctl(&[&words[..], &times].concat());
    assert!(!written && said.contains("could never be activated"), "{said}");
    out.request("old.json", &[]);
    let file = out.scratch.path("old.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for (key, ago) in [("outage_since", 25), ("not_before", 24), ("expires_at", 23)] {
        old[key] = hours(ago).into();
    }
    std::fs::write(&file, old.to_string()).unwrap();
    out.refuses("old.json", "expired", "expired");

    out.request("elsewhere.json", &["--instance", &"ab".repeat(32)]);
    out.refuses("elsewhere.json", "other_instance", "instance");

    out.request("good.json", &[]);
    let approvals = ["security", "finance"].map(|who| out.approved("good.json", who));
    let (frozen, said) = out.signctl(&["freeze", "--reason", "a test"]);
    assert!(frozen, "{said}");
    let answer = out.activate("good.json", &approvals.each_ref());
    refused(&answer, "frozen", "signctl unfreeze");
    let (unfrozen, said) = out.signctl(&["unfreeze", "--reason", "over"]);
    assert!(unfrozen, "{said}");

    // None of that used up the request.
    out.unlock();
    let answer = out.activate("good.json", &approvals.each_ref());
    assert_eq!(answer["activated"], true, "{answer}");
    assert_eq!(out.sign()["mode"], "breakglass");

    // A restart of the signer in the middle: the session is over, and the request used up.
    let signer: Vec<_> =
        processes_in(&out.scratch).into_iter().filter(|pid| *pid != out.process.pid()).collect();
    assert_eq!(signer.len(), 1);
    kill(Pid::from_raw(i32::try_from(signer[0]).unwrap()), Signal::SIGKILL).unwrap();
    out.process.says("THE EMERGENCY SIGNER ENDED").await;
    // What the page tells a person to run is what it says.
    out.process.says("serve --config dev/breakglass-signer.toml").await;
    eventually("the session is over", || {
        std::future::ready((out.sign()["reason"] == "upstream_unhealthy").then_some(()))
    })
    .await;
    let mut signer = Command::new(programs::ours("breakglass-signer"));
    signer.args(["serve", "--config", "dev/breakglass-signer.toml"]).current_dir(out.scratch.dir());
    let signer = Process::start(signer);
    eventually("the proxy is connected again", || {
        let (_, status) = out.signctl(&["breakglass", "status", "--json"]);
        std::future::ready(status.contains("\"instance\"").then_some(()))
    })
    .await;
    assert_eq!(out.sign()["reason"], "upstream_unhealthy", "nothing is armed after a restart");
    let answer = out.activate("good.json", &approvals.each_ref());
    refused(&answer, "nonce_used", "once");

    for journal in ["dev/journal", "dev/breakglass/journal"] {
        let words = ["audit", "verify", "--journal", journal, "--signers", "dev/signers.json"];
        let (verified, said) = out.signctl(&words);
        assert!(verified && said.contains("no defect"), "{journal}: {said}");
    }
    out.process.signal(Signal::SIGTERM);
    assert!(out.process.ended().await.success(), "{}", out.process.output());
    drop(signer);
    assert_eq!(processes_in(&out.scratch), [0_u32; 0]);
}

/// As most clients of KMS do.
#[tokio::test]
async fn a_client_that_asks_for_rsa_by_name_signs_in_a_session() {
    let out = Out::new("dev-rsa", "emergency-dev-rsa").await;
    // The commands of the pages need no flags here.
    for (command, expected) in [
        ("signctl breakglass preflight", "READY: no check found anything"),
        (
            "signctl breakglass request --incident INC-1 --justification test --emergency-kid \
             emergency-dev-rsa --out rsa.json",
            "rsa.json",
        ),
        ("signctl breakglass show rsa.json", "the same key as in"),
        ("echo yes | signctl breakglass approve rsa.json --key dev/approvers/security", "Finance"),
        ("echo yes | signctl breakglass approve rsa.json --key dev/approvers/finance", "rsa.json"),
        ("signctl incident begin --id INC-1 --reason test --no-freeze", "INC-1"),
    ] {
        let (worked, said) = out.as_printed(command);
        assert!(worked && said.contains(expected), "{command}: {said}");
        // An emergency key without an end is one that approvers ask about.
        for unwanted in ["key_without_end", "not_compared", "NOT CAPTURED"] {
            assert!(!said.contains(unwanted), "{command}: {said}");
        }
    }
    let approvals = ["security", "finance"].map(|role| format!("rsa.json.{role}.sig"));
    out.unlock();
    let answer = out.activate("rsa.json", &approvals.each_ref());
    assert_eq!(answer["activated"], true, "{answer}");
    let registry = std::fs::read_to_string(out.scratch.path("dev/signers.json")).unwrap();
    let registry: Value = serde_json::from_str(&registry).unwrap();
    let mut entries = registry["signers"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["signer_kid"] == "emergency-dev-rsa").unwrap();
    let pem = entry["public_key_pem"].as_str().unwrap();
    for algorithm in Kind::Rsa2048.algorithms() {
        let body = json!({"message": "aGVsbG8=", "signer_kid": "dev-rsa", "algorithm": algorithm});
        let signed = out.ask(&body);
        assert_eq!(signed["mode"], "breakglass", "{signed}");
        assert_eq!(
            (&signed["signer_kid"], &signed["algorithm"]),
            (&json!("emergency-dev-rsa"), &json!(algorithm))
        );
        let signature = STANDARD.decode(signed["signature"].as_str().unwrap()).unwrap();
        assert!(openssl::verifies_under(pem, algorithm, b"hello", &signature), "{signed}");
    }
    let body =
        json!({"message": "aGVsbG8=", "signer_kid": "dev-rsa", "algorithm": "ECDSA_SHA_256"});
    assert_eq!(out.ask(&body)["reason"], "breakglass_out_of_scope");
}
