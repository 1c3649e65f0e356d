//! `signctl breakglass show` and `approve`: what an approver sees first, and that only what the emergency
//! signer takes is ever called an approval.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use system_tests::Process;
use system_tests::breakglass::{Signer, activation, succeeds};
use system_tests::programs::{ours, system};

use super::Site;
use super::activation::word;
use super::approvals::{SK_DUMMY, line, make};

/// An approver's desk: a request, and copies of what it is held against.
struct Desk<'s> {
    signer: &'s Signer<'s>,
    request: PathBuf,
}

impl<'s> Desk<'s> {
    fn new(signer: &'s Signer<'s>, request: &Value) -> Self {
        let file = signer.builder.path("request.json");
        let mut bytes = serde_json::to_vec_pretty(request).unwrap();
        bytes.push(b'\n');
        std::fs::write(&file, bytes).unwrap();
        Self { signer, request: file }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(ours("signctl"));
        command.args(["breakglass", verb]).arg(&self.request);
        command.arg("--signers").arg(self.signer.builder.path("signers.json"));
        command.arg("--signer-config").arg(self.signer.builder.path("breakglass-signer.toml"));
        command.env("SSH_SK_PROVIDER", SK_DUMMY);
        command
    }

    /// Approves with that key, to that answer; the exit status, standard output and standard error.
    fn approve(&self, key: &str, answer: &str, more: &[&str]) -> (i32, String, String) {
        let mut command = self.command("approve");
        command.arg("--key").arg(self.signer.builder.path(key)).args(more);
        run(command, answer)
    }

    fn approval(&self, role: &str) -> PathBuf {
        self.signer.builder.path(&format!("request.json.{role}.sig"))
    }
}

fn run(mut command: Command, answer: &str) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What is refused before anybody is asked reads nothing.
    let _ = writeln!(child.stdin.take().unwrap(), "{answer}");
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn two_people_approve_with_one_command_each_and_the_signer_takes_it() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let request = signer.request();
    let desk = Desk::new(&signer, &request);
    let (code, page, errors) = run(desk.command("show"), "");
    assert_eq!((code, errors.as_str()), (0, ""), "{page}");
    for part in [
        "ASK BEFORE YOU APPROVE",
        "! key_without_end",
        "KMS is down",
        "NOT YET; who can: security@test",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (code, said, page) = desk.approve("security", "yes", &[]);
    assert_eq!(code, 0, "{page}");
    assert!(page.contains("Type yes to sign it") && page.contains("! key_without_end"), "{page}");
    assert!(said.contains("approved by security@test (Security)"), "{said}");
    assert!(said.contains("Finance still has to approve"), "{said}");
    // The other sees who has approved, and reads JSON.
    let (code, said, page) = desk.approve("finance", "yes", &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(page.contains("approved by security@test (ssh-ed25519, a key in a file)"), "{page}");
    assert_eq!(
        (code, &said["missing_roles"], &said["principal"]),
        (0, &json!([]), &json!("finance@test"))
    );
    // Both are what ssh-keygen writes, over these bytes.
    let bytes = std::fs::read(&desk.request).unwrap();
    let approvals = ["security", "finance"].map(|role| std::fs::read(desk.approval(role)).unwrap());
    let answer = signer.connect().await.ask(activation(&bytes, &approvals, &request)).await;
    assert_eq!(word(&answer), "locked", "all but the passphrase is there: {answer}");
    // A third time is not an approval more.
    let (code, _, errors) = desk.approve("security", "yes", &["--out", "again.sig"]);
    assert!(code == 1 && errors.contains("security@test approved already"), "{errors}");
    assert!(!Path::new("again.sig").exists());
}

#[tokio::test]
async fn without_a_whole_yes_or_with_what_must_stop_it_nothing_is_signed() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let desk = Desk::new(&signer, &signer.request());
    for answer in ["", "y", "no", "YES", "yes please", &"yes".repeat(100)] {
        let (code, said, errors) = desk.approve("security", answer, &[]);
        assert!(code == 1 && said.is_empty(), "{answer}: {said}");
        assert!(errors.contains("the answer was not yes"), "{answer}: {errors}");
    }
    // What must stop it is not asked about.
    let mut other = signer.request();
    other["audience"] = "another".into();
    let stopped = Desk::new(&signer, &other);
    let (code, _, errors) = stopped.approve("security", "yes", &[]);
    assert!(code == 1 && errors.contains("STOP: DO NOT APPROVE THIS"), "{errors}");
    assert!(errors.contains("! other_deployment") && !errors.contains("Type yes"), "{errors}");
    let (code, said, _) = {
        let mut show = stopped.command("show");
        show.arg("--json");
        run(show, "")
    };
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["ok"], &said["risks"][0]["level"]), (1, &json!(false), &json!("stop")));
    // Nor what could not be compared.
    let desk = Desk::new(&signer, &signer.request());
    for flag in ["--signers", "--signer-config", "--approvers"] {
        let mut command = Command::new(ours("signctl"));
        command.args(["breakglass", "approve"]).arg(&desk.request).env_clear();
        for (name, file) in [
            ("--signers", "signers.json"),
            ("--signer-config", "breakglass-signer.toml"),
            ("--approvers", "approvers"),
        ] {
            command.arg(name).arg(signer.builder.path(if name == flag { "nothing" } else { file }));
        }
        command.arg("--key").arg(signer.builder.path("security"));
        let (code, _, errors) = run(command, "yes");
        assert!(
            code == 1 && errors.contains("nothing could say whether your approval counts"),
            "{flag}: {errors}"
        );
        assert!(errors.contains("_not_compared"), "{flag}: {errors}");
    }
    assert!(!desk.approval("security").exists());
}

#[tokio::test]
async fn what_the_emergency_signer_would_refuse_is_no_approval_and_is_not_written() {
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let site = Site::new();
        let builder = site.signer().approvers("hardware_required = true\ntouch_required = true\n");
        std::fs::create_dir_all(builder.path("")).unwrap();
        make(&builder.path("security"), &["-t", kind]);
        make(&builder.path("untouched"), &["-t", kind, "-O", "no-touch-required"]);
        make(&builder.path("finance"), &["-t", kind]);
        for key in ["plain", "stranger", "nobody"] {
            make(&builder.path(key), &["-t", "ed25519"]);
        }
        let lines = [
            ("security", "security"),
            ("security", "untouched"),
            ("finance", "finance"),
            ("finance", "plain"),
            ("nobody", "nobody"),
        ]
        .map(|(name, key)| line(name, &builder.path(key)));
        std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
        let signer = builder.start().await;
        let desk = Desk::new(&signer, &signer.request());
        for (key, why) in [
            ("untouched", "was made without touching the hardware key"),
            ("plain", "hardware keys are required here"),
            ("stranger", "which is not in the approvers file"),
            ("nobody", "hardware keys are required here"),
            ("none", "nothing was signed: ssh-keygen ended with"),
        ] {
            let (code, said, errors) = desk.approve(key, "yes", &[]);
            assert!(code == 1 && said.is_empty() && errors.contains(why), "{kind} {key}: {errors}");
            let written = std::fs::read_dir(signer.builder.path("")).unwrap();
            let approvals = written.filter(|file| {
                file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".sig")
            });
            assert_eq!(approvals.count(), 0, "{kind} {key}");
        }
        let (code, said, errors) = desk.approve("security", "yes", &["--json"]);
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{errors}"));
        assert_eq!((code, &said["hardware"], &said["touched"]), (0, &json!(true), &json!(true)));
        // What is there is not replaced.
        let before = std::fs::read(desk.approval("security")).unwrap();
        let taken = desk.approval("security");
        let (code, _, errors) = desk.approve("finance", "yes", &["--out", taken.to_str().unwrap()]);
        assert!(code == 1 && errors.contains("name a new file with --out"), "{errors}");
        assert_eq!(std::fs::read(taken).unwrap(), before);
    }
}

#[tokio::test]
async fn somebody_without_a_role_that_has_to_approve_is_told_so() {
    let site = Site::new();
    let builder = site.signer();
    let lines = ["security", "finance", "carol"].map(|name| builder.approver_line(name, "ed25519"));
    std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
    let signer = builder.start().await;
    let desk = Desk::new(&signer, &signer.request());
    let (code, _, errors) = desk.approve("carol", "yes", &[]);
    assert!(code == 1 && errors.contains("has none of the roles that have to approve"), "{errors}");
}

#[tokio::test]
async fn a_key_that_only_the_agent_holds_approves() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let desk = Desk::new(&signer, &signer.request());
    let socket = signer.builder.path("agent.sock");
    let mut agent = system("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket);
    let _agent = Process::start(agent);
    system_tests::eventually("the agent listens", || {
        std::future::ready(socket.exists().then_some(()))
    })
    .await;
    let key = signer.builder.path("security");
    succeeds(system("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));
    std::fs::remove_file(&key).unwrap();
    let mut command = desk.command("approve");
    command.arg("--key").arg(key.with_extension("pub")).env("SSH_AUTH_SOCK", &socket);
    let (code, said, errors) = run(command, "yes");
    assert!(code == 0 && said.contains("approved by security@test"), "{said}{errors}");
}

#[test]
fn what_is_no_request_is_refused_before_anything_is_asked() {
    let site = Site::new();
    let builder = site.signer();
    let _config = builder.write();
    let pipe = builder.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(builder.path("long"), vec![b' '; 7000]).unwrap();
    for (file, why) in [
        ("approvers", "do not approve it: it is not a break-glass request"),
        ("long", "has more than 6144 bytes"),
        ("pipe", "is no regular file"),
        ("nothing", "No such file"),
    ] {
        for verb in ["show", "approve"] {
            let mut command = Command::new(ours("signctl"));
            command.args(["breakglass", verb]).arg(builder.path(file));
            if verb == "approve" {
                command.args(["--key", "none"]);
            }
            let (code, said, errors) = run(command, "yes");
            assert!(
                code == 1 && said.is_empty() && errors.contains(why),
                "{verb} {file}: {errors}"
            );
        }
    }
}
