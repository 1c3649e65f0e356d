//! What the signer refuses to start with, who may connect, and where its keys come from.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use system_tests::Tail;
use system_tests::breakglass::{EMERGENCY_KID, PASSPHRASE, SignerBuilder, Wire, succeeds};
use system_tests::programs::{ours, repository, system};

use super::approvals::{line, make};
use super::session::checked_in;
use super::{KID, Site};

fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Makes a key with the real `keygen`; its registry entry.
fn keygen(
    builder: &SignerBuilder<'_>,
    kid: &str,
    algorithm: &str,
    passphrase: &str,
) -> Result<Value, String> {
    std::fs::create_dir_all(builder.path("")).unwrap();
    let mut command = Command::new(ours("breakglass-signer"));
    command.args(["keygen", "--kid", kid, "--algorithm", algorithm, "--out"]);
    command.arg(builder.path("emergency.pem")).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses may be gone before it reads.
    let passphrase = format!("{passphrase}\n");
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), passphrase.as_bytes());
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn a_key_that_keygen_made_serves_a_session_and_openssl_reads_it() {
    for algorithm in ["ed25519", "p256", "rsa-2048", "rsa-3072", "rsa-4096"] {
        let site = Site::new();
        let builder = match algorithm {
            "p256" => site.signer().p256(),
            "ed25519" => site.signer(),
            rsa => site.signer().rsa(rsa.trim_start_matches("rsa-").parse().unwrap()),
        };
        let entry = keygen(&builder, EMERGENCY_KID, algorithm, PASSPHRASE).unwrap();
        assert_eq!(
            (&entry["purpose"], &entry["signer_kid"]),
            (&json!("breakglass"), &json!(EMERGENCY_KID))
        );
        let pem = entry["public_key_pem"].as_str().unwrap();
        std::fs::write(builder.path("public.pem"), pem).unwrap();
        let mut openssl = system("openssl");
        openssl.args(["pkey", "-pubout", "-passin", &format!("pass:{PASSPHRASE}"), "-in"]);
        let public = succeeds(openssl.arg(builder.path("emergency.pem")));
        assert_eq!(String::from_utf8(public).unwrap(), pem);
        let mode = std::fs::metadata(builder.path("emergency.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = keygen(&builder, EMERGENCY_KID, algorithm, PASSPHRASE).unwrap_err();
        assert!(again.contains("is there already"), "{again}");
        let signer = builder.start().await;
        let mut proxy = signer.connect().await;
        signer.activated(&mut proxy, &signer.request()).await;
    }
    let site = Site::new();
    let short = keygen(&site.signer(), "k", "ed25519", "short").unwrap_err();
    assert!(short.contains("at least 12"), "{short}");
    let kid = keygen(&site.signer(), "no kid", "ed25519", PASSPHRASE).unwrap_err();
    assert!(kid.contains("--kid"), "{kid}");
    assert!(!site.signer().path("emergency.pem").exists());
}

#[test]
fn the_example_has_no_mistake() {
    let site = Site::new();
    let builder = site.signer();
    let config = builder.write();
    // Hardware keys, as the example asks for.
    let lines = ["alice", "bob"].map(|name| {
        make(&builder.path(name), &["-t", "ed25519-sk"]);
        line(name, &builder.path(name)).replace("@test ", "@example.org ")
    });
    std::fs::write(builder.path("approvers"), lines.concat()).unwrap();
    let registry = std::fs::read_to_string(builder.path("signers.json")).unwrap();
    std::fs::write(
        builder.path("signers.json"),
        registry.replace("\"emergency\"", "\"breakglass-2026\""),
    )
    .unwrap();
    std::fs::rename(builder.path("emergency.pem"), builder.path("breakglass-2026.pem")).unwrap();
    std::fs::copy(builder.path("audit.key"), builder.path("breakglass-audit-2025.key")).unwrap();
    std::fs::rename(builder.path("audit.key"), builder.path("breakglass-audit.key")).unwrap();
    let example =
        std::fs::read_to_string(repository().join("config/breakglass-signer.toml")).unwrap();
    std::fs::write(&config, &example).unwrap();
    let mut check = builder.verb("check", &config);
    let output = check.arg("--json").output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), &found["mistakes"]), (true, &json!([])), "{found}");
    // What is commented out is there, and shows what holds without it.
    let all: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.contains(" = ") && !key.contains("  ") => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&config, all).unwrap();
    let uncommented = said(builder.verb("check", &config));
    assert!(uncommented.contains("no mistakes"), "{uncommented}");
}

#[test]
fn i3_every_mistake_is_said_at_once_and_nothing_loosens() {
    let site = Site::new();
    let builder = site
        .signer()
        .production()
        .min_outage_s(10)
        .approvers("required_roles = [\"Legal\"]\nhardware_required = 1\n")
        .caps("session_max_s = 1\nsignatures_max = 0\nunknown = 1")
        .more("[elsewhere]\nkey = 1")
        .environment("BREAKGLASS_SIGNER__OPERATOR__SOCKET", "signer.sock");
    let config = builder.write();
    let said = said(builder.verb("check", &config));
    for mistake in [
        "outage.min_s: is 10",
        "approvers.required_roles: leaves out",
        "approvers.hardware_required: is the number 1",
        "caps.session_max_s: is 1",
        "caps.signatures_max: is 0",
        "caps.unknown: no such key",
        "elsewhere: no such key",
        "operator.socket: is ",
    ] {
        assert!(said.contains(mistake), "{mistake} is not in {said}");
    }
    let builder = site.signer().environment("REQUIRE_KMS", "1");
    let config = builder.write();
    assert!(
        self::said(builder.verb("check", &config)).contains("REQUIRE_KMS asks for the real thing")
    );
}

#[test]
fn i4_the_proxys_user_is_no_operator() {
    let site = Site::new();
    let check = |builder: SignerBuilder<'_>, uids: &str| {
        let config = builder.write();
        let text = std::fs::read_to_string(&config).unwrap();
        let ours = format!("allowed_uids = [{}]", nix::unistd::geteuid());
        assert_eq!(text.matches(&ours).count(), 2, "{text}");
        std::fs::write(&config, text.replace(&ours, uids)).unwrap();
        said(builder.verb("check", &config))
    };
    let refused = check(site.signer().production().min_outage_s(300), "allowed_uids = [0, 990]");
    let expected = "operator.allowed_uids: names 990, which signer.allowed_uids names too";
    assert!(refused.contains(expected) && !refused.contains("names 0,"), "{refused}");
    // Of one developer there is one user.
    assert!(check(site.signer(), "allowed_uids = [990]").contains("no mistakes"));
}

#[tokio::test]
async fn i4_keys_of_two_purposes_refuse_the_start() {
    let site = Site::new();
    let builder = site.signer();
    let config = builder.write();
    let registry = builder.path("signers.json");
    let good: Value = serde_json::from_slice(&std::fs::read(&registry).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        std::fs::write(&registry, changed.to_string()).unwrap();
        said(builder.verb("serve", &config))
    };
    let said_of_purpose = with(&|registry| registry["signers"][0]["purpose"] = json!("signing"));
    assert!(said_of_purpose.contains("registered for another purpose"), "{said_of_purpose}");
    let said_of_audit = with(&|registry| registry["signers"][1]["purpose"] = json!("signing"));
    assert!(said_of_audit.contains("audit.key_file"), "{said_of_audit}");
    let said_of_none =
        with(&|registry| drop(registry["signers"].as_array_mut().unwrap().remove(0)));
    assert!(said_of_none.contains("emergency_keys: emergency: is not in"), "{said_of_none}");
    // The approver's key as a signing key: /sign could forge an approval.
    let mut keygen = system("ssh-keygen");
    keygen.args(["-e", "-m", "PKCS8", "-f"]).arg(builder.path("ec"));
    drop(builder.approver_line("ec", "ecdsa"));
    let pem = String::from_utf8(succeeds(&mut keygen)).unwrap();
    let security = builder.approver_line("ec", "ecdsa").replace("ec@test", "security@test");
    let finance = builder.approver_line("finance", "ed25519");
    std::fs::write(builder.path("approvers"), [security, finance].concat()).unwrap();
    let said_of_approver = with(&|registry| {
        let entry =
            json!({"signer_kid": "x", "algorithm": "ecdsa-p256-sha256", "public_key_pem": pem});
        registry["signers"].as_array_mut().unwrap().push(entry);
    });
    assert!(said_of_approver.contains("could sign an approval"), "{said_of_approver}");
    // A key that is not sealed.
    std::fs::write(&registry, good.to_string()).unwrap();
    std::fs::copy(builder.path("audit.key"), builder.path("emergency.pem")).unwrap();
    let unsealed = said(builder.verb("serve", &config));
    assert!(unsealed.contains("without a passphrase; encrypt it: openssl pkcs8 "), "{unsealed}");
}

#[tokio::test]
async fn i4_a_proxy_of_the_signers_own_user_is_refused_but_under_development() {
    let site = Site::new();
    let signer = site.signer().production().min_outage_s(300).start().await;
    let mut wire = Wire::connect(&signer.socket()).await;
    wire.send(signer.hello()).await;
    assert!(wire.next().await.is_none());
    signer.process.says("another user than this signer").await;
}

#[tokio::test]
async fn who_is_not_named_may_use_neither_socket() {
    let site = Site::new();
    let signer = site.signer().start().await;
    for socket in [signer.socket(), signer.operator_socket()] {
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{}", socket.display());
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let mut setpriv = system("setpriv");
        setpriv
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c"])
            .arg(
                "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
             try:\n s.sendall(bytes([1, 0, 0, 0, 65])); print('answered', len(s.recv(9)))\n\
             except OSError: print('answered 0')",
            );
        let answered = succeeds(setpriv.arg(&socket));
        assert_eq!(String::from_utf8(answered).unwrap().trim(), "answered 0");
    }
    signer.process.says("allowed_uids says who may use this socket").await;
}

#[tokio::test]
async fn i7_a_journal_that_is_gone_or_old_refuses_the_start() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    let old = builder.path("old");
    succeeds(system("cp").arg("-a").arg(builder.journal()).arg(&old));
    let signer = builder.clone().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    proxy.sign(&session, KID, b"hello").await;
    drop(proxy);
    signer.stop().await;
    checked_in(&builder, &[], Tail::Whole);
    let config = builder.write();
    let here = builder.path("here");
    std::fs::rename(builder.journal(), &here).unwrap();
    let gone = said(builder.verb("serve", &config));
    assert!(
        gone.contains("there is no journal here") && gone.contains("breakglass-signer init"),
        "{gone}"
    );
    std::fs::rename(&old, builder.journal()).unwrap();
    let behind = said(builder.verb("serve", &config));
    assert!(behind.contains("an older copy"), "{behind}");
    // Another one that is begun anew says which was there before.
    std::fs::rename(builder.journal(), &old).unwrap();
    succeeds(&mut builder.verb("init", &config));
    let signer = builder.start().await;
    let mut tail = Command::new(ours("signctl"));
    tail.args(["audit", "tail", "--json", "--type", "init", "--journal"])
        .arg(signer.builder.journal());
    let first = String::from_utf8(succeeds(&mut tail)).unwrap();
    assert!(first.contains("\"replaces\""), "{first}");
}

#[test]
fn the_registry_is_edited_whole_and_never_to_one_that_is_refused() {
    let site = Site::new();
    let builder = site.signer();
    drop(builder.write());
    let file = builder.path("signers.json");
    let signctl = |arguments: &[&str]| {
        let mut command = Command::new(ours("signctl"));
        command.arg("signers").args(arguments).arg("--signers").arg(&file);
        command.output().unwrap()
    };
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let before = std::fs::read(&file).unwrap();
    let entry = builder.path("entry.json");
    let registry: Value = serde_json::from_slice(&before).unwrap();
    // A kid once, a key once.
    for twin in [registry["signers"][0].clone(), {
        let mut twin = registry["signers"][0].clone();
        twin["signer_kid"] = json!("another");
        twin
    }] {
        std::fs::write(&entry, twin.to_string()).unwrap();
        let output = signctl(&["add", entry.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("nothing changed"), "{said}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    let other = site.world.kms.key(system_tests::Kind::P256);
    let new = json!({"signer_kid": "new", "algorithm": "ecdsa-p256-sha256", "public_key_pem": other.public_key_pem, "note": "kept"});
    std::fs::write(&entry, new.to_string()).unwrap();
    assert!(signctl(&["add", entry.to_str().unwrap()]).status.success());
    assert!(signctl(&["revoke", "new"]).status.success());
    let listed = String::from_utf8(signctl(&["list"]).stdout).unwrap();
    assert!(
        listed.lines().any(|line| line.starts_with("new ") && line.contains("revoked 2")),
        "{listed}"
    );
    let after: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let added = after["signers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["signer_kid"] == "new")
        .unwrap();
    assert_eq!(added["note"], "kept");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!signctl(&["revoke", "nobody"]).status.success());
}

#[test]
fn a_name_with_something_around_it_is_a_mistake_in_the_file_and_left_out_of_a_variable() {
    let site = Site::new();
    let builder = site.signer();
    let config = builder.write();
    let whole = std::fs::read_to_string(&config).unwrap();
    for (name, value) in
        [("name", "test"), ("kid", EMERGENCY_KID), ("role", "Security"), ("socket", "signer.sock")]
    {
        let line = format!("{name} = \"{value}\"");
        assert!(whole.contains(&line), "no {line} in {whole}");
        std::fs::write(&config, whole.replace(&line, &format!("{name} = \"{value}\\n\""))).unwrap();
        let said = said(builder.verb("check", &config));
        let mistake = format!("{name}: is \"{value}\\n\", which ends with a line end; remove it");
        assert!(said.contains(&mistake), "{mistake}: {said}");
    }
    std::fs::write(&config, &whole).unwrap();
    let builder = builder.environment("BREAKGLASS_SIGNER__OUTAGE__MIN_S", " 600\n");
    let said = said(builder.verb("check", &config));
    assert!(said.contains("no mistakes"), "{said}");
    let note = r#"note: BREAKGLASS_SIGNER__OUTAGE__MIN_S: is " 600\n", and is taken as "600""#;
    assert!(said.contains(note), "{said}");
}

#[test]
fn a_key_whose_opening_has_no_room_in_a_limit_of_memory_is_noted_without_its_passphrase() {
    let site = Site::new();
    let builder = site.signer();
    let config = builder.write();
    std::fs::remove_file(builder.path("emergency.pem")).unwrap();
    keygen(&builder, EMERGENCY_KID, "ed25519", PASSPHRASE).unwrap();
    let check = builder.verb("check", &config);
    let mut limited = system("prlimit");
    limited.arg(format!("--as={}", 610 << 20)).arg(check.get_program()).args(check.get_args());
    limited.env_clear().envs(check.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let (limited, unlimited) = (said(limited), said(check));
    for part in ["emergency.pem takes 17 MiB", "LimitAS=) is limited to 610 MiB", "to 617 MiB"] {
        assert!(limited.contains(part), "{part}: {limited}");
    }
    assert!(limited.contains("no mistakes") && !unlimited.contains("LimitAS="), "{unlimited}");
}
