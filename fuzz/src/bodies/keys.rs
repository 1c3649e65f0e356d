//! Private keys in files, and public keys as tokens hold them.

use std::path::Path;
use std::str::from_utf8;

use audit::AuditKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use breakglass_signer::key::Unproven;
use breakglass_signer::keyfile;
use host::secret::{SecretError, Wanted, private_key_of};
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use signing_core::Algorithm;
use signing_core::key::{KeyKind, PublicKey, spki_of_point, spki_of_rsa};

use super::choose;

/// Work that is nothing, beside the fuzzing itself.
const CHEAP: u64 = 1 << 10;

/// An emergency key's file, as text or as the DER in it, or the DER of a private key.
pub(super) fn key_file(bytes: &[u8]) {
    match choose(&[0, 1, 2, 3], bytes) {
        Some((0, file)) => {
            sealed(file);
            others(file);
        }
        Some((1, der)) => sealed(pem("ENCRYPTED", der).as_bytes()),
        Some((2, der)) => private(der),
        Some((_, orders)) => {
            // A key that is none of anybody's, changed here and there.
            let head = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
            let mut der = [&head[..], &[7; 32]].concat();
            for [at, with] in orders.as_chunks::<2>().0 {
                let at = usize::from(*at) % der.len();
                der.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
            }
            private(&der);
        }
        None => {}
    }
}

/// What is taken can be opened in seconds, and a passphrase that is not its own opens nothing
/// and breaks nothing.
fn sealed(file: &[u8]) {
    let Ok(sealed) = keyfile::parse(Path::new("key.pem"), file) else { return };
    let work = private_key_of(file, Wanted::SealedKey).ok().and_then(|key| {
        let info = EncryptedPrivateKeyInfoRef::try_from(key.der.as_slice()).ok()?;
        match &info.encryption_algorithm.pbes2()?.kdf {
            Kdf::Pbkdf2(params) => Some(u64::from(params.iteration_count)),
            Kdf::Scrypt(params) => {
                let (r, p) = (u64::from(params.block_size), u64::from(params.parallelization));
                assert!(params.cost_parameter * r * 128 <= 1 << 30, "more than 1 GiB");
                Some(params.cost_parameter * r * p)
            }
            _ => None,
        }
    });
    let work = work.unwrap_or_else(|| panic!("taken, and nobody knows what opening it costs"));
    assert!((1..=20_000_000).contains(&work), "{work} rounds or blocks");
    if work <= CHEAP
        && let Ok(der) = sealed.open(b"not its passphrase")
    {
        private(der.as_bytes());
    }
}

/// What is no key for one purpose is told in few words, none of them the file's.
fn others(file: &[u8]) {
    for wanted in [Wanted::TlsKey, Wanted::AuditKey, Wanted::DevelopmentKey] {
        if let Err(fault) = private_key_of(file, wanted) {
            let said = SecretError::new(Path::new("key.pem"), wanted, fault).to_string();
            assert!(said.starts_with("key.pem ") && said.len() < 300, "{said}");
        }
    }
}

/// A private key reads back, and has one public key.
fn private(der: &[u8]) {
    if let Ok(document) = SecretDocument::try_from(der)
        && let Ok(key) = Unproven::from_der(&document)
    {
        let written = key.to_der().unwrap_or_else(|error| panic!("{error}"));
        let again = Unproven::from_der(&written).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.public(), key.public());
        assert!(key.public().is_ok());
    }
    if let Ok(key) = AuditKey::from_pem(pem("", der).as_bytes()) {
        assert_eq!(key.public().algorithm(), Algorithm::Ed25519Sha512);
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let label = [kind, "PRIVATE", "KEY"].join(" ");
    let label = label.trim();
    let base64 = STANDARD.encode(der);
    let lines = base64.as_bytes().chunks(64).map(|line| from_utf8(line).unwrap_or_default());
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A public key in the parts that a token holds: what comes of them is one encoding, or no key.
pub(super) fn token_key(bytes: &[u8]) {
    let Some((kind, held)) = choose(&KeyKind::ALL, bytes) else { return };
    let spki = match kind {
        KeyKind::Rsa => {
            let Some((length, numbers)) = held.split_first_chunk::<2>() else { return };
            let at = usize::from(u16::from_be_bytes(*length)).min(numbers.len());
            let (modulus, exponent) = numbers.split_at(at);
            spki_of_rsa(modulus, exponent)
        }
        of_a_point => spki_of_point(*of_a_point, held),
    };
    let Some(spki) = spki else { return };
    let Some(algorithm) = kind.algorithms().next() else { return };
    if let Ok(key) = PublicKey::from_spki_der(&spki, algorithm) {
        assert_eq!(key.spki_der(), spki, "another encoding was taken");
        assert_eq!(key.kind(), *kind);
    }
}
