//! Approvals against OpenSSH's own `ssh-keygen -Y verify`: whatever kind of key, namespace,
//! time or damage, ours takes no approval that OpenSSH does not; and what OpenSSH takes
//! and ours does not is named here.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use system_tests::breakglass::{
    NAMESPACE, Signer, SignerBuilder, activation, approve_with, succeeds,
};
use system_tests::programs::system;

use super::Site;
use super::activation::word;

/// FIDO keys without hardware (Debian's `openssh-tests`).
pub(super) const SK_DUMMY: &str = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so";

/// Whether OpenSSH takes it.
fn openssh(signer: &Signer<'_>, principal: &str, armored: &[u8], request: &[u8]) -> bool {
    let scratch = system_tests::Scratch::new();
    let (signature, bytes) = (scratch.write("sig", armored), scratch.write("request", request));
    let mut keygen = system("ssh-keygen");
    keygen.args(["-Y", "verify", "-n", NAMESPACE, "-I", principal, "-f"]);
    keygen.arg(signer.builder.path("approvers")).arg("-s").arg(signature);
    keygen.stdin(Stdio::from(std::fs::File::open(bytes).unwrap()));
    keygen.output().unwrap().status.success()
}

/// What the signer says of an approval by `security`, beside a good one.
async fn ours(signer: &Signer<'_>, armored: &[u8], request: &Value, bytes: &[u8]) -> String {
    let finance = signer.approve("finance", bytes);
    let mut proxy = signer.connect().await;
    let answer = proxy.ask(activation(bytes, &[armored.to_vec(), finance], request)).await;
    word(&answer).to_owned()
}

pub(super) fn make(key: &Path, arguments: &[&str]) {
    let mut keygen = system("ssh-keygen");
    keygen.args(["-q", "-N", "", "-f"]).arg(key).args(arguments).env("SSH_SK_PROVIDER", SK_DUMMY);
    succeeds(keygen.stdin(Stdio::null()));
}

pub(super) fn line(name: &str, key: &Path) -> String {
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    format!("{name}@test {public}")
}

#[tokio::test]
async fn i5_ours_and_openssh_agree_on_every_kind_of_key() {
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "3072"],
    ] {
        let site = Site::new();
        let builder = site.signer();
        let finance = builder.approver_line("finance", "ed25519");
        make(&builder.path("security"), kind);
        let security = line("security", &builder.path("security"));
        std::fs::write(builder.path("approvers"), [security, finance].concat()).unwrap();
        let signer = builder.start().await;
        let request = signer.request();
        let bytes = serde_json::to_vec(&request).unwrap();
        let good = signer.approve("security", &bytes);
        assert!(openssh(&signer, "security@test", &good, &bytes), "{kind:?}");
        assert_eq!(ours(&signer, &good, &request, &bytes).await, "locked", "{kind:?}");
        // Damage at any place of the signature's own bytes.
        let text = String::from_utf8(good.clone()).unwrap();
        let body: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
        let last = body[body.len() - 2];
        let flipped = if last.starts_with('A') { "B" } else { "A" };
        let damaged = text.replace(last, &format!("{flipped}{}", &last[1..]));
        assert!(!openssh(&signer, "security@test", damaged.as_bytes(), &bytes), "{kind:?}");
        assert_eq!(ours(&signer, damaged.as_bytes(), &request, &bytes).await, "approval_invalid");
        // Another namespace, another key, no signature.
        let elsewhere = approve_with(&signer.builder.path("security"), "file", &bytes);
        assert!(!openssh(&signer, "security@test", &elsewhere, &bytes));
        assert_eq!(ours(&signer, &elsewhere, &request, &bytes).await, "approval_invalid");
        assert_eq!(ours(&signer, b"no signature", &request, &bytes).await, "approval_invalid");
        make(&signer.builder.path("stranger"), kind);
        let stranger = signer.approve("stranger", &bytes);
        assert_eq!(ours(&signer, &stranger, &request, &bytes).await, "approval_invalid");
    }
}

#[tokio::test]
async fn i5_options_of_the_approvers_file_count_as_in_openssh() {
    for (options, counts) in [
        (format!("namespaces=\"{NAMESPACE}\""), true),
        (format!("namespaces=\"git,{NAMESPACE}\""), true),
        ("namespaces=\"breakglass@*\"".to_owned(), true),
        ("namespaces=\"git\"".to_owned(), false),
        (format!("namespaces=\"*,!{NAMESPACE}\""), false),
        ("valid-after=\"20200101Z\"".to_owned(), true),
        ("valid-after=\"29990101Z\"".to_owned(), false),
        ("valid-before=\"29990101000000Z\"".to_owned(), true),
        ("valid-before=\"20200101Z\"".to_owned(), false),
        ("valid-after=\"202001010000Z\",valid-before=\"20200102Z\"".to_owned(), false),
    ] {
        let site = Site::new();
        let builder = site.signer();
        let lines = ["security", "finance"].map(|name| builder.approver_line(name, "ed25519"));
        let own = format!("namespaces=\"{NAMESPACE}\"");
        std::fs::write(
            builder.path("approvers"),
            [lines[0].replacen(&own, &options, 1), lines[1].clone()].concat(),
        )
        .unwrap();
        let signer = builder.start().await;
        let request = signer.request();
        let bytes = serde_json::to_vec(&request).unwrap();
        let approval = signer.approve("security", &bytes);
        assert_eq!(openssh(&signer, "security@test", &approval, &bytes), counts, "{options}");
        let expected = if counts { "locked" } else { "approval_invalid" };
        assert_eq!(ours(&signer, &approval, &request, &bytes).await, expected, "{options}");
    }
}

#[tokio::test]
async fn i5_a_hardware_key_that_nobody_touched_does_not_approve_whatever_openssh_says() {
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let site = Site::new();
        let builder = site.signer().approvers("hardware_required = true\ntouch_required = true\n");
        make(&builder_dir(&builder).join("security"), &["-t", kind]);
        make(&builder.path("untouched"), &["-t", kind, "-O", "no-touch-required"]);
        make(&builder.path("finance"), &["-t", kind]);
        make(&builder.path("plain"), &["-t", "ed25519"]);
        let lines = [
            ("security", "security"),
            ("security", "untouched"),
            ("finance", "finance"),
            ("finance", "plain"),
        ]
        .map(|(name, key)| line(name, &builder.path(key)));
        std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
        let signer = builder.start().await;
        let request = signer.request();
        let bytes = serde_json::to_vec(&request).unwrap();
        let by = |key: &str| approve_with_sk(&signer.builder.path(key), &bytes);
        let mut proxy = signer.connect().await;
        let untouched = by("untouched");
        assert!(openssh(&signer, "security@test", &untouched, &bytes), "OpenSSH takes it: {kind}");
        for (approvals, expected) in [
            ([by("security"), by("finance")], "locked"),
            ([untouched, by("finance")], "no_touch"),
            ([by("security"), by("plain")], "software_key"),
        ] {
            let answer = proxy.ask(activation(&bytes, &approvals, &request)).await;
            assert_eq!(word(&answer), expected, "{kind}: {answer}");
        }
    }
}

#[tokio::test]
async fn i5_a_pin_is_asked_for_where_it_is_required() {
    let site = Site::new();
    let builder = site.signer().approvers("pin_required = true\n");
    make(&builder_dir(&builder).join("security"), &["-t", "ed25519-sk"]);
    make(&builder.path("finance"), &["-t", "ed25519-sk"]);
    let lines = ["security", "finance"].map(|name| line(name, &builder.path(name)));
    std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
    let signer = builder.start().await;
    let request = signer.request();
    let bytes = serde_json::to_vec(&request).unwrap();
    let approvals =
        ["security", "finance"].map(|key| approve_with_sk(&signer.builder.path(key), &bytes));
    let answer = signer.connect().await.ask(activation(&bytes, &approvals, &request)).await;
    assert_eq!(word(&answer), "no_pin", "{answer}");
}

fn builder_dir(builder: &SignerBuilder<'_>) -> std::path::PathBuf {
    let dir = builder.path("");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Has a hardware key that is none sign these bytes.
fn approve_with_sk(key: &Path, bytes: &[u8]) -> Vec<u8> {
    let scratch = system_tests::Scratch::new();
    let file = scratch.write("request.json", bytes);
    let mut keygen = system("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).arg(&file);
    succeeds(keygen.stdin(Stdio::null()).env("SSH_SK_PROVIDER", SK_DUMMY));
    std::fs::read(scratch.path("request.json.sig")).unwrap()
}

/// What the start says that is refused.
fn refused(builder: &SignerBuilder<'_>) -> String {
    let config = builder.write();
    let output = builder.verb("serve", &config).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn i5_lines_that_would_make_approvers_of_others_refuse_the_start() {
    let site = Site::new();
    let builder = site.signer();
    let lines = ["security", "finance"].map(|name| builder.approver_line(name, "ed25519"));
    let key = lines[0].split("\" ").nth(1).unwrap().to_owned();
    for (bad, expected) in [
        (format!("ca@test cert-authority {key}"), "cert-authority"),
        (format!("ca@test namespaces=\"x\",cert-authority {key}"), "cert-authority"),
        (format!("*@test {key}"), "without wildcards"),
        (format!("a@test,b@test {key}"), "without wildcards"),
        (format!("other@test {key}"), "each person has a key of their own"),
        ("other@test ssh-ed25519 AAAA".to_owned(), "no OpenSSH public key"),
        (format!("other@test valid-after=\"20200101\" {key}"), "in UTC"),
        (format!("other@test verify-required {key}"), ""),
    ] {
        std::fs::write(builder.path("approvers"), format!("{}{bad}\n", lines.concat())).unwrap();
        let said = refused(&builder);
        assert!(said.contains("approvers.file") && said.contains(expected), "{bad}: {said}");
    }
    std::fs::write(builder.path("approvers"), &lines[0]).unwrap();
    let said = refused(&builder);
    assert!(said.contains("Finance names \"finance@test\", who is not in"), "{said}");
}

#[test]
fn i5_principals_that_look_alike_refuse_the_start() {
    let site = Site::new();
    let builder = site.signer();
    let config = builder.write();
    let approvers = builder.path("approvers");
    let good = std::fs::read_to_string(&approvers).unwrap();
    // A Cyrillic letter, and one that nobody sees.
    for principal in ["s\u{435}curity@test", "security\u{200b}@test"] {
        std::fs::write(&approvers, good.replace("security@test", principal)).unwrap();
        let output = builder.verb("check", &config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("visible ASCII"), "{said}");
    }
}
