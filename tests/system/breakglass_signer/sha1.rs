//! Approvals that `ssh-keygen -Y sign` does not make: RSA with the hash of one's choice, over the
//! bytes that an SSHSIG is about (OpenSSH's PROTOCOL.sshsig).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use system_tests::Scratch;
use system_tests::breakglass::{NAMESPACE, activation, succeeds};
use system_tests::programs::system;

use super::Site;
use super::activation::word;

/// A string of SSH: its length, and it.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An armored SSHSIG by the RSA key in that PEM file, under `named`, made with openssl's `hash`.
fn signed(key: &Path, named: &str, hash: &str, request: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, request);
    let about = [string(NAMESPACE.as_bytes()), string(b""), string(b"sha512")].concat();
    let scratch = Scratch::new();
    let file = [b"SSHSIG", &about[..], &string(digest.as_ref())].concat();
    let file = scratch.write("signed", file);
    let mut openssl = system("openssl");
    let signature = succeeds(openssl.args(["dgst", hash, "-sign"]).arg(key).arg(file));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let public = STANDARD.decode(public.split(' ').nth(1).unwrap()).unwrap();
    let signature = [string(named.as_bytes()), string(&signature)].concat();
    let version = 1_u32.to_be_bytes();
    let blob = [&b"SSHSIG"[..], &version, &string(&public), &about, &string(&signature)].concat();
    let text = STANDARD.encode(blob);
    let lines: Vec<_> = text.as_bytes().chunks(70).map(String::from_utf8_lossy).collect();
    let armored =
        ["-----BEGIN SSH SIGNATURE-----", &lines.join("\n"), "-----END SSH SIGNATURE-----", ""];
    armored.join("\n").into_bytes()
}

#[tokio::test]
async fn i5_an_approval_by_rsa_with_sha1_is_refused_and_says_why() {
    let site = Site::new();
    let builder = site.signer();
    std::fs::create_dir_all(builder.path("")).unwrap();
    let key = builder.path("security");
    let mut keygen = system("ssh-keygen");
    keygen.args(["-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", "", "-f"]);
    succeeds(keygen.arg(&key));
    let signer = builder.start().await;
    let request = signer.request();
    let bytes = serde_json::to_vec(&request).unwrap();
    let finance = signer.approve("finance", &bytes);
    let mut proxy = signer.connect().await;
    for (named, hash, expected) in [
        // So the form is right: what stops it is that no passphrase waits.
        ("rsa-sha2-256", "-sha256", "locked"),
        ("rsa-sha2-512", "-sha512", "locked"),
        ("ssh-rsa", "-sha1", "approval_invalid"),
        // SHA-1 under another name, and another one under its.
        ("rsa-sha2-256", "-sha1", "approval_invalid"),
        ("ssh-rsa", "-sha512", "approval_invalid"),
    ] {
        let approvals = [signed(&key, named, hash, &bytes), finance.clone()];
        let answer = proxy.ask(activation(&bytes, &approvals, &request)).await;
        assert_eq!(word(&answer), expected, "{named} {hash}: {answer}");
        let detail = answer["refused"]["detail"].as_str().unwrap();
        assert_eq!(detail.contains("RSA signature with SHA-1"), named == "ssh-rsa", "{detail}");
    }
}
