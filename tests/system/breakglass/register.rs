//! `signctl breakglass register`: a new emergency key is in the registry, in force in the proxy, named by its
//! journal, and in the file that consumers take; after each failure the same command goes on.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest;
use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, succeeds};
use system_tests::programs::system;
use system_tests::{Proxy, World};

use super::{Site, records, status};
use crate::ALICE;

const KID: &str = "emergency-2027";
const END: &str = "2999-01-01T00:00:00Z";

/// The public key of a new Ed25519 key.
fn public_key(world: &World, name: &str) -> PathBuf {
    let key = world.scratch.path(&format!("{name}.key"));
    succeeds(system("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key));
    let public = key.with_extension("pub.pem");
    let mut openssl = system("openssl");
    succeeds(openssl.args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public));
    public
}

/// `signctl breakglass register` of that public key; the exit status and what is said.
fn register(
    proxy: &Proxy<'_>,
    public: &Path,
    registry: &Path,
    out: &Path,
    more: &[&str],
) -> (i32, String) {
    let path = |path: &Path| path.display().to_string();
    let words = [
        "--json".to_owned(),
        "breakglass".to_owned(),
        "register".to_owned(),
        "--public-key".to_owned(),
        path(public),
        "--algorithm".to_owned(),
        "ed25519".to_owned(),
        "--signers".to_owned(),
        path(registry),
        "--out".to_owned(),
        path(out),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let (code, said, errors) = proxy.signctl(&words);
    (code, said + &errors)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[tokio::test]
async fn a_registered_key_is_in_force_recorded_and_what_consumers_take() {
    let site = Site::new();
    let (_signer, proxy) = site.both().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let (public, out) = (public_key(&site.world, "new"), site.world.scratch.path("consumers.json"));
    let ours = ["--kid", KID, "--not-after", END];
    let (code, said) = register(&proxy, &public, &registry, &out, &ours);
    assert_eq!(code, 0, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["registered"], &said["new"], &said["not_after"]),
        (&json!(KID), &json!(true), &json!(END))
    );
    // The bytes that consumers take are those of the journal's digest, and of what the proxy serves.
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(said["registry_sha256"], sha256(&bytes));
    let reloads = records(&site.world.scratch.path("proxy/journal"), "reload");
    assert_eq!(reloads.last().unwrap()["registry_sha256"], sha256(&bytes), "{reloads:?}");
    let served = proxy.client(ALICE).await.get("/v1/signers").await;
    assert_eq!(served.text.as_bytes(), bytes);
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let entry = document["signers"].as_array().unwrap().iter().find(|one| one["signer_kid"] == KID);
    let entry = entry.unwrap();
    assert_eq!(
        (&entry["purpose"], &entry["notAfter"]),
        (&json!("breakglass"), &json!(END)),
        "{entry}"
    );
    let known = status(&proxy).await;
    assert!(known["emergency_keys_registered"][KID].is_string(), "{known}");
    // Again: it is there already; another end is taken.
    let later = "2999-02-01T00:00:00Z";
    let (code, said) =
        register(&proxy, &public, &registry, &out, &["--kid", KID, "--not-after", later]);
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((code, &said["new"], &said["not_after"]), (0, &json!(false), &json!(later)));
    assert_eq!(said["registry_sha256"], sha256(&std::fs::read(&out).unwrap()));
}

#[tokio::test]
async fn what_fails_on_the_way_is_said_and_the_same_command_goes_on() {
    let site = Site::new();
    let (_signer, proxy) = site.both().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let before = std::fs::read(&registry).unwrap();
    let (public, out) = (public_key(&site.world, "new"), site.world.scratch.path("consumers.json"));
    // What would never be right changes nothing.
    let other = public_key(&site.world, "other");
    for (public, more, why) in [
        (&public, ["--kid", KID, "--not-after", "2020-01-01T00:00:00Z"], "has passed"),
        (&other, ["--kid", EMERGENCY_KID, "--not-after", END], "a kid names one key for ever"),
        (&other, ["--kid", "payments", "--not-after", END], "a kid names one key for ever"),
    ] {
        let (code, said) = register(&proxy, public, &registry, &out, &more);
        assert!(code == 1 && said.contains(why), "{more:?}: {said}");
        assert_eq!(std::fs::read(&registry).unwrap(), before, "{more:?}");
    }
    let ours = ["--kid", KID, "--not-after", END];
    // Another file than the proxy's: nobody is given what is not in force.
    let stray = site.world.scratch.write("stray.json", &before);
    let (code, said) = register(&proxy, &public, &stray, &out, &ours);
    assert!(code == 1 && said.contains("a registry in force that is not"), "{said}");
    assert!(!out.exists());
    // A configuration that the proxy refuses.
    let config = site.world.scratch.path("proxy/signing-proxy.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[nonsense]\n")).unwrap();
    let (code, said) = register(&proxy, &public, &registry, &out, &ours);
    assert!(code == 1 && said.contains("is registered in") && said.contains("nonsense"), "{said}");
    assert!(said.contains("run the same command again") && !out.exists(), "{said}");
    std::fs::write(&config, text).unwrap();
    // A place that cannot be written.
    let (code, said) = register(&proxy, &public, &registry, Path::new("/nowhere/out.json"), &ours);
    assert!(code == 1 && said.contains("--out /nowhere/out.json"), "{said}");
    let (code, said) = register(&proxy, &public, &registry, &out, &ours);
    assert!(code == 0 && out.exists(), "{said}");
    // An entry of another purpose does not register an emergency key.
    let entry = json!({"signer_kid": "k", "algorithm": "ed25519", "purpose": "audit",
                       "public_key_pem": std::fs::read_to_string(&other).unwrap()});
    let entry = site.world.scratch.write("entry.json", entry.to_string());
    let mut signctl = Command::new(system_tests::programs::ours("signctl"));
    signctl.arg("--socket").arg(&proxy.socket).args(["breakglass", "register"]).arg(entry);
    signctl.args(["--not-after", END, "--signers"]).arg(&registry).arg("--out").arg(&out);
    let output = signctl.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("has the \"purpose\" \"audit\""),
        "{said}"
    );
}
