//! One of each kind of secret that lies in a file, made by the tools that people use.

use std::path::Path;
use std::process::Command;

use system_tests::breakglass::succeeds;
use system_tests::leak::Secret;
use system_tests::programs::system;
use system_tests::{Chance, Scratch};

/// A secret's file, and what of it must not be seen.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) secret: Secret,
}

/// Private keys in every form.
pub(super) fn keys(scratch: &Scratch) -> Vec<Kind> {
    let ed25519 = openssl(scratch, "ed25519", &["genpkey", "-algorithm", "ed25519"]);
    let p256 = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let (p256, rsa) = (openssl(scratch, "p256", &p256), openssl(scratch, "rsa", &rsa));
    let file = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let converted = |name: &str, from: &str, how: &[&str]| {
        openssl(scratch, name, &[how, &["-in", &file(from)]].concat())
    };
    let sec1 = converted("sec1", "p256", &["ec"]);
    let pkcs1 = converted("pkcs1", "rsa", &["pkey", "-traditional"]);
    let sealed = ["pkcs8", "-topk8", "-v2", "aes256", "-scrypt", "-passout", "pass:open sesame 1"];
    let sealed = converted("sealed", "ed25519", &sealed);
    let old = ["rsa", "-aes128", "-traditional", "-passout", "pass:open sesame 1"];
    let old = converted("old", "rsa", &old);
    let mut keygen = system("ssh-keygen");
    succeeds(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &file("openssh")]));
    let openssh = std::fs::read_to_string(file("openssh")).unwrap();
    [
        ("an Ed25519 key", ed25519),
        ("a P-256 key", p256),
        ("an RSA key", rsa),
        ("a key in SEC1", sec1),
        ("a key in PKCS#1", pkcs1),
        ("an encrypted key", sealed),
        ("a key encrypted in the old way", old),
        ("an OpenSSH key", openssh),
    ]
    .map(|(name, text)| Kind { name, secret: Secret::of_pem(&text), text })
    .into()
}

/// A secret that is one line: a PIN, a passphrase, a token.
pub(super) fn line(name: &'static str, chance: &mut Chance) -> Kind {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789+/%!";
    let text: String = (0..24).map(|_| char::from(LETTERS[chance.below(LETTERS.len())])).collect();
    Kind { name, secret: Secret::new(&[text.as_bytes()]), text }
}

fn openssl(scratch: &Scratch, name: &str, arguments: &[&str]) -> String {
    let out = scratch.path(name);
    let mut command: Command = system("openssl");
    succeeds(command.args(arguments).arg("-out").arg::<&Path>(&out));
    std::fs::read_to_string(out).unwrap()
}
