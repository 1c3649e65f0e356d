//! A key is due until it is gone: what fails, is taken away or leads elsewhere is no destruction.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, Signer, SignerBuilder, Wire, succeeds};
use system_tests::programs::{ours, system};
use system_tests::{Process, Tail};

use super::Site;
use super::session::checked;

async fn ended(signer: &Signer<'_>, proxy: &mut Wire) {
    signer.activated(proxy, &signer.request()).await;
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
}

async fn destroy(proxy: &mut Wire) -> Value {
    let ask =
        json!({"destroy": {"emergency_kid": EMERGENCY_KID, "reason": "after", "by": "uid 0"}});
    proxy.ask(ask).await
}

async fn key(proxy: &mut Wire) -> Value {
    proxy.ask(json!({"status": {}})).await["status"]["state"]["keys"][0].clone()
}

#[tokio::test]
async fn i12_a_destruction_that_fails_leaves_the_key_due_and_refused() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    ended(&signer, &mut proxy).await;
    let file = signer.builder.path("emergency.pem");
    // Nothing removes a directory that is not empty, whoever asks.
    let aside = signer.builder.path("aside.pem");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let failed = destroy(&mut proxy).await;
    assert_eq!(failed["refused"]["reason"], "key_failed", "{failed}");
    assert!(failed["refused"]["detail"].as_str().unwrap().contains("stays due"), "{failed}");
    signer.process.says("an emergency key is not destroyed; it stays due").await;
    let state = key(&mut proxy).await;
    assert!(state["state"] == "revoked" && state["destruction_due"].is_string(), "{state}");
    signer.unlock().await;
    let again = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(again["refused"]["reason"], "key_destroyed", "{again}");
    // So after a restart too.
    let builder = signer.builder.clone();
    signer.stop().await;
    std::fs::remove_dir_all(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    let signer = builder.start().await;
    let mut proxy = signer.connect().await;
    let state = key(&mut proxy).await;
    assert!(state["state"] == "revoked" && state["destruction_due"].is_string(), "{state}");
    let destroyed = destroy(&mut proxy).await;
    assert_eq!(destroyed["destroyed"]["overwritten"], true, "{destroyed}");
    let state = key(&mut proxy).await;
    assert!(state["state"] == "destroyed" && state["destruction_due"].is_null(), "{state}");
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(found["types"]["key_destroyed"], 1, "{found}");
}

#[tokio::test]
async fn i12_a_link_to_a_key_is_refused_and_never_destroyed_in_its_place() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    ended(&signer, &mut proxy).await;
    let (file, real) = (signer.builder.path("emergency.pem"), signer.builder.path("real.pem"));
    std::fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink("real.pem", &file).unwrap();
    let before = std::fs::read(&real).unwrap();
    let failed = destroy(&mut proxy).await;
    assert_eq!(failed["refused"]["reason"], "key_failed", "{failed}");
    assert!(failed["refused"]["detail"].as_str().unwrap().contains("symbolic link"), "{failed}");
    assert_eq!(std::fs::read(&real).unwrap(), before);
    let builder = signer.builder.clone();
    signer.stop().await;
    let config = builder.write();
    for target in ["real.pem", "nowhere.pem"] {
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(target, &file).unwrap();
        for verb in ["check", "serve"] {
            let output = builder.verb(verb, &config).output().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!output.status.success(), "{said}");
            assert!(
                said.contains("emergency_keys: emergency: ")
                    && said.contains("name the file itself"),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn i12_a_due_key_is_told_without_its_entry() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    ended(&signer, &mut proxy).await;
    let due = key(&mut proxy).await["destruction_due"].clone();
    let builder = signer.builder.clone();
    signer.stop().await;
    // Another key takes its place.
    let more = builder.clone().more("");
    let config = more.write();
    let text = std::fs::read_to_string(&config).unwrap();
    let other = text.replace(
        "kid = \"emergency\"\nfile = \"emergency.pem\"",
        "kid = \"other\"\nfile = \"other.pem\"",
    );
    assert_ne!(other, text);
    let mut openssl = system("openssl");
    openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(builder.path("plain.pem"));
    succeeds(&mut openssl);
    let mut openssl = system("openssl");
    openssl.args(["pkey", "-pubout", "-in"]).arg(builder.path("plain.pem"));
    let public = String::from_utf8(succeeds(&mut openssl)).unwrap();
    let registry = builder.path("signers.json");
    let mut signers: Value = serde_json::from_slice(&std::fs::read(&registry).unwrap()).unwrap();
    signers["signers"].as_array_mut().unwrap().push(json!({
        "signer_kid": "other", "algorithm": "ed25519", "purpose": "breakglass", "public_key_pem": public,
    }));
    std::fs::write(&registry, signers.to_string()).unwrap();
    std::fs::write(&config, other).unwrap();
    let output = builder.verb("check", &config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("put the entry back, destroy it"), "{said}");
    // An emergency cannot wait for that.
    let process = system_tests::process::Process::start(builder.verb("serve", &config));
    process.says("\"serving\"").await;
    process.says("put the entry back, destroy it").await;
    let mut proxy = Wire::connect(&builder.path("signer.sock")).await;
    let log = "0".repeat(32);
    proxy.ask(json!({"hello": {"version": 2, "deployment": "test", "log": log}})).await;
    let status = proxy.ask(json!({"status": {}})).await;
    let keys = status["status"]["state"]["keys"].as_array().unwrap();
    let orphan = keys.iter().find(|key| key["kid"] == EMERGENCY_KID).unwrap();
    assert_eq!(
        (&orphan["state"], &orphan["destruction_due"]),
        (&json!("missing"), &due),
        "{status}"
    );
    let no = destroy(&mut proxy).await;
    assert!(no["refused"]["detail"].as_str().unwrap().contains("put the entry back"), "{no}");
}

#[tokio::test]
async fn a_key_that_can_not_be_opened_is_not_said_to_be_sealed() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    assert_eq!(key(&mut proxy).await["state"], "sealed");
    let file = signer.builder.path("emergency.pem");
    std::fs::rename(&file, signer.builder.path("aside.pem")).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(key(&mut proxy).await["state"], "missing");
}

/// The variable that names copies of the key.
const KEYS: &str = "BREAKGLASS_SIGNER__EMERGENCY_KEYS";

/// What it says.
fn keys(copies: &str) -> String {
    format!(r#"[{{kid = "emergency", file = "emergency.pem", copies = {copies}}}]"#)
}

/// A signer whose configuration names copies of its key; it is connected to.
async fn with_copies(builder: &SignerBuilder<'_>) -> (Process, Wire) {
    let config = builder.write();
    let mut command = builder.verb("serve", &config);
    command.env(KEYS, keys(r#"["laptop", "safe"]"#));
    let process = Process::start(command);
    process.says("\"serving\"").await;
    let mut proxy = Wire::connect(&builder.path("signer.sock")).await;
    proxy.ask(json!({"hello": {"version": 2, "deployment": "test", "log": "0".repeat(32)}})).await;
    (process, proxy)
}

/// Asks for the destruction, and attests that those copies are destroyed.
async fn attest(proxy: &mut Wire, copies: &[&str]) -> Value {
    let attested = copies.iter().map(|copy| json!({"copy": copy, "by": "alice"}));
    let attested: Vec<_> = attested.collect();
    let ask = json!({"emergency_kid": EMERGENCY_KID, "reason": "after", "by": "uid 0", "attested": attested});
    proxy.ask(json!({"destroy": ask})).await
}

#[tokio::test]
async fn i12_a_key_is_due_until_each_of_its_copies_is_attested_by_name() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    ended(&signer, &mut proxy).await;
    let builder = signer.builder.clone();
    signer.stop().await;
    let (mut process, mut proxy) = with_copies(&builder).await;
    let state = key(&mut proxy).await;
    assert_eq!(state["copies_left"], json!(["laptop", "safe"]), "{state}");
    let file = builder.path("emergency.pem");
    for (copies, words) in
        [(&["desk"][..], "left are: laptop, safe"), (&["safe", "safe"], "attested twice")]
    {
        let no = attest(&mut proxy, copies).await;
        assert!(no["refused"]["detail"].as_str().unwrap().contains(words), "{no}");
        assert!(file.exists(), "nothing is destroyed by a command that is refused");
    }
    let done = attest(&mut proxy, &["laptop"]).await;
    let left = (&done["destroyed"]["overwritten"], &done["destroyed"]["copies_left"]);
    assert_eq!(left, (&json!(true), &json!(["safe"])), "{done}");
    let no = attest(&mut proxy, &[]).await;
    assert!(no["refused"]["detail"].as_str().unwrap().contains("for each of: safe"), "{no}");
    process.signal(Signal::SIGTERM);
    process.ended().await;
    // The journal knows of the copy, whatever becomes of the configuration's entry and the state.
    for is_state_kept in [true, false] {
        if !is_state_kept {
            std::fs::remove_file(builder.path("state/breakglass-signer.json")).unwrap();
            let config = builder.write();
            let mut rebuild = Command::new(ours("breakglass-signer"));
            rebuild.args(["state", "rebuild", "--config"]).arg(&config).args(["--reason", "lost"]);
            succeeds(&mut rebuild);
        }
        let signer = builder.clone().start().await;
        let mut proxy = signer.connect().await;
        let state = key(&mut proxy).await;
        assert_eq!(
            (&state["state"], &state["copies_left"]),
            (&json!("destroyed"), &json!(["safe"])),
            "{state}"
        );
        assert!(state["destruction_due"].is_string(), "{state}");
        if is_state_kept {
            signer.stop().await;
            continue;
        }
        let done = attest(&mut proxy, &["safe"]).await;
        assert_eq!(done["destroyed"]["copies_left"], Value::Null, "{done}");
        let state = key(&mut proxy).await;
        assert!(state["destruction_due"].is_null(), "{state}");
        let found = checked(&signer, &[], Tail::Whole);
        assert_eq!(found["types"]["copy_destroyed"], 2, "{found}");
        assert_eq!(found["types"]["key_destroyed"], 1, "{found}");
    }
}

#[tokio::test]
async fn i12_a_copy_that_the_configuration_names_no_more_is_asked_for_all_the_same() {
    let site = Site::new();
    let plain = site.signer();
    let signer = plain.clone().environment(KEYS, &keys(r#"["laptop", "safe"]"#)).start().await;
    let mut proxy = signer.connect().await;
    ended(&signer, &mut proxy).await;
    signer.stop().await;
    // Also where the state is lost: the journal says it.
    std::fs::remove_file(plain.path("state/breakglass-signer.json")).unwrap();
    let config = plain.write();
    let mut rebuild = Command::new(ours("breakglass-signer"));
    rebuild.args(["state", "rebuild", "--config"]).arg(&config).args(["--reason", "lost"]);
    succeeds(&mut rebuild);
    let signer = plain.clone().environment(KEYS, &keys(r#"["desk"]"#)).start().await;
    let mut proxy = signer.connect().await;
    let state = key(&mut proxy).await;
    assert_eq!(state["copies_left"], json!(["desk", "laptop", "safe"]), "{state}");
    let done = attest(&mut proxy, &["desk", "safe"]).await;
    assert_eq!(done["destroyed"]["copies_left"], json!(["laptop"]), "{done}");
    let destroyed = crate::breakglass::records(&plain.journal(), "key_destroyed");
    assert_eq!(destroyed[0]["copies"], json!(["desk", "laptop", "safe"]), "{destroyed:?}");
    let done = attest(&mut proxy, &["laptop"]).await;
    assert_eq!(done["destroyed"]["copies_left"], Value::Null, "{done}");
    assert!(key(&mut proxy).await["destruction_due"].is_null());
    checked(&signer, &[], Tail::Whole);
}
