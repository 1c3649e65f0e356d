//! No error about a secret file holds a byte of it, whatever happened to the file and whichever
//! program reads it: hundreds of mutants of each kind in process, a sample in the real programs.

mod kinds;
mod mutants;
mod programs;

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use audit::AuditKey;
use breakglass_signer::keyfile;
use development::{DevelopmentKey, Material};
use host::environment::Environment;
use host::passphrase;
use signing_core::key::PublicKey;
use signing_core::{Algorithm, Registry};
use signing_proxy::materials::Materials;
use system_tests::leak::Secret;
use system_tests::{Chance, Kind, Scratch, World, is_campaign};

use crate::ALICE;

/// Random mutants of each kind, beside those with a name.
fn random() -> usize {
    if is_campaign() { 20_000 } else { 250 }
}

/// What was said about one mutant, by whom.
struct Said {
    by: &'static str,
    text: String,
}

fn error(by: &'static str, error: &(impl Display + Debug)) -> Said {
    Said { by, text: format!("{error}\n{error:#}\n{error:?}\n{error:#?}") }
}

#[track_caller]
fn assert_no_leak(kind: &kinds::Kind, mutant: &mutants::Mutant, said: &Said) {
    if let Some(form) = kind.secret.in_text(&said.text) {
        let mutant_text = String::from_utf8_lossy(&mutant.bytes);
        panic!(
            "{} says the secret of {} as {form}; what happened to the file: {}\n{}\nthe file:\n{}",
            said.by, kind.name, mutant.how, said.text, mutant_text
        );
    }
}

/// A configuration of each daemon, and the files of each that a mutant takes the place of.
struct Places {
    proxy: PathBuf,
    of_proxy: Vec<PathBuf>,
    signer: PathBuf,
    of_signer: Vec<PathBuf>,
}

fn places(world: &World) -> Places {
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = proxy.tls("client_crl_files = [\"crl.pem\"]\n").write();
    let list = world.pki.revocation_list(&[], 30);
    world.scratch.write("proxy/crl.pem", list);
    let signer = world.signer().write();
    let beside = |file: &Path, names: &[&str]| {
        names.iter().map(|name| file.with_file_name(name)).collect::<Vec<_>>()
    };
    let of_proxy = [
        "server.key",
        "server.pem",
        "ca.pem",
        "crl.pem",
        "audit.key",
        "signers.json",
        "signing-proxy.toml",
    ];
    let of_signer =
        ["audit.key", "emergency.pem", "signers.json", "approvers", "breakglass-signer.toml"];
    Places {
        of_proxy: beside(&proxy, &of_proxy),
        of_signer: beside(&signer, &of_signer),
        proxy,
        signer,
    }
}

/// What both daemons' `check` say with `bytes` in the place of each of their files in turn.
fn said_by_check(places: &Places, bytes: &[u8]) -> Vec<Said> {
    let environment = Environment::default();
    let mut all = Vec::new();
    for file in &places.of_proxy {
        let before = std::fs::read(file).unwrap();
        std::fs::write(file, bytes).unwrap();
        match Materials::load(&places.proxy, &environment) {
            Ok(materials) => {
                all.push(Said { by: "the proxy", text: materials.notes().join("\n") });
            }
            Err(found) => all.push(error("the proxy", &found)),
        }
        std::fs::write(file, before).unwrap();
    }
    for file in &places.of_signer {
        let before = std::fs::read(file).unwrap();
        std::fs::write(file, bytes).unwrap();
        match breakglass_signer::materials::Materials::load(&places.signer, &environment) {
            Ok((materials, _)) => {
                all.push(Said { by: "breakglass-signer", text: materials.notes().join("\n") });
            }
            Err(found) => all.push(error("breakglass-signer", &found)),
        }
        std::fs::write(file, before).unwrap();
    }
    all
}

/// What the parsers say by themselves.
fn said_by_parsers(scratch: &Scratch, bytes: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    if let Err(fault) = AuditKey::from_pem(bytes) {
        all.push(Said { by: "the audit key", text: format!("{fault:?}") });
    }
    if let Err(found) = keyfile::parse(Path::new("key.pem"), bytes) {
        all.push(error("the emergency key's file", &found));
    }
    if let Err(found) = passphrase::line(&mut &bytes[..]) {
        all.push(error("the passphrase", &found));
    }
    let file = scratch.write("mutant", bytes);
    if let Err(found) = DevelopmentKey::load(&file) {
        all.push(error("the development key", &found));
    }
    let text = String::from_utf8_lossy(bytes);
    if let Err(found) = PublicKey::from_pem(&text, Algorithm::Ed25519Sha512) {
        all.push(error("a public key", &found));
    }
    if let Err(found) = Registry::from_json(&text) {
        all.push(Said { by: "the registry", text: found.join("\n") });
    }
    all
}

#[test]
fn no_error_about_a_key_file_holds_a_byte_of_it() {
    let world = World::new();
    let places = places(&world);
    let mut chance = Chance::of("no_error_about_a_key_file_holds_a_byte_of_it");
    let scratch = Scratch::new();
    for kind in kinds::keys(&scratch) {
        let mutants = mutants::of(&kind.text, random(), &mut chance);
        assert!(mutants.len() > 300, "{}: {} mutants", kind.name, mutants.len());
        for mutant in &mutants {
            for said in said_by_parsers(&scratch, &mutant.bytes) {
                assert_no_leak(&kind, mutant, &said);
            }
            for said in said_by_check(&places, &mutant.bytes) {
                assert_no_leak(&kind, mutant, &said);
            }
        }
    }
}

#[test]
fn no_error_about_the_material_of_dev_holds_a_byte_of_a_key() {
    let mut chance = Chance::of("no_error_about_the_material_of_dev");
    let scratch = Scratch::new();
    let material = Material::prepare(&scratch.path("dev")).unwrap();
    for name in ["approvers/security", "keys/dev-p256.pem", "keys/dev-audit.pem"] {
        let file = material.path(name);
        let text = std::fs::read_to_string(&file).unwrap();
        let secret = Secret::of_pem(&text).without(b"security@dev.localhost");
        let kind = kinds::Kind { name: "dev", text: text.clone(), secret };
        for mutant in mutants::of(&text, 100, &mut chance) {
            std::fs::write(&file, &mutant.bytes).unwrap();
            if let Err(found) = Material::prepare(&material.dir) {
                assert_no_leak(&kind, &mutant, &error("dev", &found));
            }
        }
        std::fs::write(&file, text).unwrap();
    }
}

/// A key in the place of a file's name, as when a variable holds the key itself.
#[test]
fn a_key_in_the_place_of_a_value_is_a_mistake_that_does_not_repeat_it() {
    let world = World::new();
    let places = places(&world);
    let kind = &kinds::keys(&Scratch::new())[0];
    let joined = kind.text.replace('\n', " ");
    for (variable, value) in [
        ("SIGNING_PROXY__SERVER__TLS__PRIVATE_KEY_FILE", &kind.text),
        ("SIGNING_PROXY__SERVER__TLS__PRIVATE_KEY_FILE", &joined),
        ("SIGNING_PROXY__SERVER__TLS__CERTIFICATE_FILE", &kind.text),
        ("SIGNING_PROXY__SERVER__TLS__CLIENT_CRL_FILES", &format!("[{joined:?}]")),
        ("SIGNING_PROXY__AUDIT__KEY_FILE", &kind.text),
        ("SIGNING_PROXY__SERVER__LISTEN", &joined),
        ("SIGNING_PROXY__SERVER__CONNECTIONS_MAX", &joined),
        ("SIGNING_PROXY__DEPLOYMENT__ENVIRONMENT", &joined),
        ("SIGNING_PROXY__NOTHING", &joined),
        ("REQUIRE_KMS", &joined),
    ] {
        let environment = [(variable.to_owned(), value.clone())].into_iter().collect();
        let found = Materials::load(&places.proxy, &environment).unwrap_err();
        let said = error("the proxy", &found);
        assert_eq!(kind.secret.in_text(&said.text), None, "{variable}: {}", said.text);
        let named = variable.strip_prefix("SIGNING_PROXY__").unwrap_or(variable).replace("__", ".");
        let named = if variable == "REQUIRE_KMS" { named } else { named.to_lowercase() };
        assert!(said.text.contains(&named), "{variable}: {}", said.text);
    }
}
