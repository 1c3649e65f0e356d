//! The registry: every public key a verifier may meet (`signers.json`).

mod foreign;
mod forms;
mod restrictions;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use foreign::{Foreign, foreign_keys};
pub use restrictions::speaks_against_a_key;

use crate::json;
use crate::key::{Algorithm, Batching, KeyKind, Kid, PublicKey, Purpose, Signer};

/// The registered signers: each kid once, each key once. Entries of algorithms
/// that are not supported here are listed, and cannot be used.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    signers: BTreeMap<Kid, Arc<Signer>>,
    entries: BTreeMap<Kid, Entry>,
    notes: Vec<String>,
}

/// One entry as the field writes it. Keys that others add are ignored ([`foreign_keys`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The kid; older writers say `signerId`.
    #[serde(alias = "signerId")]
    pub signer_kid: String,
    /// `ed25519`, `ecdsa-p256-sha256`, the AWS KMS name, or one that others use.
    pub algorithm: String,
    /// PEM block `PUBLIC KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_pem: Option<String>,
    /// The same, or base64: DER SubjectPublicKeyInfo, or Ed25519's 32 bytes.
    #[serde(default, rename = "publicKey", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// When it was put in service; for people.
    #[serde(default, rename = "deployedAt", skip_serializing_if = "Option::is_none")]
    pub deployed_at: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `signing` (when absent), `breakglass` or `audit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// `batch`: it signs batches and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// RFC 3339: it signs nothing from then on.
    #[serde(default, rename = "notAfter", skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// RFC 3339: it was revoked then.
    #[serde(default, rename = "revokedAt", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// The entries, in any order.
    pub signers: Vec<Entry>,
}

/// The mode of a batch signer.
const BATCH: &str = "batch";

/// DER of an Ed25519 SubjectPublicKeyInfo up to its 32 bytes (RFC 8410 4).
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Registry {
    /// Reads a registry from the text of `signers.json`: `{"signers": [entry, ...]}`, a bare array of
    /// entries, or a map of kids to entries.
    ///
    /// # Errors
    /// Every mistake at once, each a sentence that names the entry.
    pub fn from_json(text: &str) -> Result<Self, Vec<String>> {
        let none = |error| {
            format!(
                "is not a registry: {error}; expected {{\"signers\": [{{\"signer_kid\", \
                 \"algorithm\", \"public_key_pem\"}}, ...]}}"
            )
        };
        // A key that stands twice is found here, whosever it is.
        let _: serde_json::Value = json::from_str(text).map_err(|error| vec![none(error)])?;
        let text = &*forms::as_document(text);
        let foreign::Said { mut mistakes, notes } = foreign::said(text);
        let document: Document = json::from_str(text).map_err(|error| {
            let mut all = std::mem::take(&mut mistakes);
            all.push(none(error));
            all
        })?;
        let mut registry = Self { notes, ..Self::default() };
        for entry in document.signers {
            let kid = entry.signer_kid.clone();
            if let Err(mistake) = registry.insert(entry) {
                mistakes.push(format!("signer {kid:?}: {mistake}"));
            }
        }
        if mistakes.is_empty() { Ok(registry) } else { Err(mistakes) }
    }

    /// The same registry, as a deployment reads it: the notes of its batch signers name their keys after
    /// it. Without this, nothing is a batch signer's signature.
    ///
    /// # Errors
    /// One sentence for each batch signer that cannot have such a name.
    pub fn of_deployment(mut self, deployment: &str) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        for (kid, signer) in &mut self.signers {
            match signer.in_deployment(deployment) {
                Ok(named) => *signer = Arc::new(named),
                Err(error) => mistakes.push(format!("signer {:?}: {error}", kid.as_str())),
            }
        }
        if mistakes.is_empty() { Ok(self) } else { Err(mistakes) }
    }

    /// The signer of that kid.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&Arc<Signer>> {
        // A text that is no kid is in no registry.
        self.signers.get(&Kid::parse(kid).ok()?)
    }

    /// What deserves attention in it although it is no mistake, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All signers, by kid.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Signer>> {
        self.signers.values()
    }

    /// How long a signature that callers get is at most, in bytes.
    #[must_use]
    pub fn signature_max_bytes(&self) -> usize {
        let signers = self.iter().filter(|signer| signer.purpose != Purpose::Audit);
        signers.map(|signer| signer.public_key.kind().signature_max_bytes()).max().unwrap_or(0)
    }

    /// Every entry, in the form that verifiers read.
    #[must_use]
    pub fn to_document(&self) -> Document {
        Document { signers: self.entries.values().cloned().collect() }
    }

    /// The bytes that verifiers take: the same for the same entries, whatever the file looks like.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings under names that are strings: nothing here fails to be JSON.
        serde_json::to_vec(&self.to_document()).unwrap_or_default()
    }

    /// SHA-256 of [`Registry::to_json`], in hex: what records say of a registry.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.to_json()))
    }

    /// The name of `kid`'s algorithm, if it is one that is not supported here.
    #[must_use]
    pub fn unsupported(&self, kid: &Kid) -> Option<&str> {
        let entry = self.entries.get(kid).filter(|_| !self.signers.contains_key(kid))?;
        Some(&entry.algorithm)
    }

    fn insert(&mut self, entry: Entry) -> Result<(), String> {
        let kid = Kid::parse(&entry.signer_kid).map_err(|error| error.to_string())?;
        if self.entries.contains_key(&kid) {
            return Err("appears twice; a kid names one key".into());
        }
        let Some((algorithm, kind)) = Algorithm::parse_with_kind(&entry.algorithm) else {
            self.entries.insert(kid, entry);
            return Ok(());
        };
        let signer = signer(&entry, kid.clone(), algorithm)?;
        let found = signer.public_key.kind();
        if kind.is_some_and(|kind| kind != found) {
            return Err(format!(
                "has a key of kind {}, but its algorithm is {:?}; write {:?}, or register the other key",
                found.name(),
                entry.algorithm,
                signer.public_key.registry_name()
            ));
        }
        let twin =
            self.iter().find(|other| other.public_key.spki_der() == signer.public_key.spki_der());
        if let Some(twin) = twin {
            return Err(format!(
                "has the same key as signer {:?}; a key has one kid",
                twin.kid.as_str()
            ));
        }
        let public_key_pem = Some(signer.public_key.to_pem());
        self.entries.insert(kid.clone(), Entry { public_key_pem, public_key: None, ..entry });
        self.signers.insert(kid, Arc::new(signer));
        Ok(())
    }
}

impl Entry {
    /// The entry that publishes `signer`, in the form that verifiers read.
    #[must_use]
    pub fn publish(signer: &Signer) -> Self {
        let instant = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
        Self {
            signer_kid: signer.kid.to_string(),
            algorithm: signer.public_key.registry_name().to_owned(),
            public_key_pem: Some(signer.public_key.to_pem()),
            public_key: None,
            deployed_at: None,
            description: None,
            purpose: Some(signer.purpose.word().to_owned()),
            mode: signer.batch.is_batch().then(|| BATCH.to_owned()),
            not_after: instant(signer.not_after),
            revoked_at: instant(signer.revoked_at),
        }
    }
}

fn signer(entry: &Entry, kid: Kid, algorithm: Algorithm) -> Result<Signer, String> {
    let purpose = match entry.purpose.as_deref() {
        None | Some("signing") => Purpose::Signing,
        Some("breakglass") => Purpose::Breakglass,
        Some("audit") => Purpose::Audit,
        Some(other) => {
            return Err(format!("purpose {other:?} is not one of signing, breakglass, audit"));
        }
    };
    let public_key = public_key(entry, algorithm)?;
    Ok(Signer {
        kid,
        batch: batching(entry, purpose, public_key.kind())?,
        public_key,
        purpose,
        not_after: instant("notAfter", entry.not_after.as_deref())?,
        revoked_at: instant("revokedAt", entry.revoked_at.as_deref())?,
    })
}

/// Whether it is a batch signer, which only a key can be whose notes others read, and which callers
/// have signatures of.
fn batching(entry: &Entry, purpose: Purpose, kind: KeyKind) -> Result<Batching, String> {
    match entry.mode.as_deref() {
        None => return Ok(Batching::No),
        Some(BATCH) => {}
        Some(other) => {
            return Err(format!("mode {other:?} is unknown; write {BATCH:?}, or leave it out"));
        }
    }
    if purpose == Purpose::Audit {
        return Err(
            "has the mode \"batch\" and the purpose \"audit\"; an audit key signs checkpoints \
                    only: remove \"mode\""
                .into(),
        );
    }
    match kind {
        KeyKind::Ed25519 | KeyKind::P256 => Ok(Batching::Unnamed),
        // Signed notes have no form of their signatures that others verify.
        KeyKind::Secp256k1
        | KeyKind::P384
        | KeyKind::P521
        | KeyKind::Rsa
        | KeyKind::MlDsa44
        | KeyKind::MlDsa65
        | KeyKind::MlDsa87 => Err(format!(
            "has the mode \"batch\" and a key of kind {}; a batch signer has an ed25519 or an \
             ecdsa-p256-sha256 key",
            kind.name()
        )),
    }
}

fn public_key(entry: &Entry, algorithm: Algorithm) -> Result<PublicKey, String> {
    match (&entry.public_key_pem, &entry.public_key) {
        (Some(pem), None) => {
            PublicKey::from_pem(pem, algorithm).map_err(|error| format!("public_key_pem {error}"))
        }
        (None, Some(pem)) if pem.trim_start().starts_with("-----BEGIN") => {
            PublicKey::from_pem(pem, algorithm).map_err(|error| format!("publicKey {error}"))
        }
        (None, Some(raw)) => {
            let bytes = STANDARD
                .decode(raw)
                .map_err(|error| format!("publicKey is not base64: {error}"))?;
            let der = if algorithm == Algorithm::Ed25519Sha512 && bytes.len() == 32 {
                [&ED25519_SPKI_PREFIX[..], &bytes].concat()
            } else {
                bytes
            };
            PublicKey::from_spki_der(&der, algorithm).map_err(|error| format!("publicKey {error}"))
        }
        (Some(_), Some(_)) => Err("has both public_key_pem and publicKey; keep one".into()),
        (None, None) => Err("has no public key; add public_key_pem".into()),
    }
}

fn instant(key: &str, text: Option<&str>) -> Result<Option<OffsetDateTime>, String> {
    text.map(|text| {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            format!("{key} {text:?} is not an RFC 3339 time such as 2027-01-31T00:00:00Z")
        })
    })
    .transpose()
}
