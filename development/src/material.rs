//! Certificates and keys for `signing-proxy dev`: made once, reused after.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use signing_core::key::{Batching, Hash, KeyKind, PublicKey, Purpose};
use signing_core::registry::{Document, Entry};
use signing_core::{Algorithm, Kid, Signer, json};
use time::OffsetDateTime;

use crate::key::{DevelopmentKey, KeyError};

/// The development signers: kid and algorithm.
const SIGNERS: [(&str, Algorithm); 3] = [
    ("dev-ed25519", Algorithm::Ed25519Sha512),
    ("dev-p256", Algorithm::EcdsaSha256),
    ("dev-rsa", Algorithm::RsaPkcs1(Hash::Sha256)),
];

/// The keys that sign audit records, the proxy's and the emergency signer's: kid and algorithm.
const AUDIT: [(&str, Algorithm); 2] =
    [("dev-audit", Algorithm::Ed25519Sha512), ("dev-breakglass-audit", Algorithm::Ed25519Sha512)];

/// The key with which the trail signs rows, where there is a trail.
const TRAIL: (&str, Algorithm) = ("dev-trail-audit", Algorithm::Ed25519Sha512);

/// The callers that get a certificate: file name and SPIFFE URI.
const CALLERS: [(&str, &str); 2] =
    [("client", "spiffe://dev.localhost/client"), ("operator", "spiffe://dev.localhost/operator")];

/// The directories, which only their owner enters.
const PRIVATE: [&str; 9] = [
    "",
    "pki",
    "keys",
    "run",
    "state",
    "approvers",
    "breakglass",
    "breakglass/keys",
    "breakglass/state",
];

const CERTIFICATE_YEARS: i64 = 10;

/// The material under one directory.
#[derive(Clone, Debug)]
pub struct Material {
    /// The directory.
    pub dir: PathBuf,
}

/// Why there is no material.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file or directory cannot be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file of the material.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// A key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}; remove the directory to start afresh")]
    Certificate(#[from] rcgen::Error),
    /// A signing key is where an outage was tried.
    #[error("{0}")]
    Away(String),
    /// Made by something else.
    #[error("{}: {why}; remove the directory to start afresh", path.display())]
    Unusable {
        /// The file of the material.
        path: PathBuf,
        /// What is wrong, as a sentence for a person.
        why: String,
    },
}

impl Material {
    /// Makes what is missing under `dir`, and keeps what is there.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn prepare(dir: &Path) -> Result<Self, MaterialError> {
        let material = Self { dir: dir.to_owned() };
        for private in PRIVATE {
            let path = dir.join(private);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| MaterialError::Io { path, error })?;
        }
        material.certificates()?;
        material.registry()?;
        material.prepare_approvers()?;
        Ok(material)
    }

    /// A path under the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The development signers' kids, each with its private key's file.
    pub fn signers(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        SIGNERS.iter().map(|(kid, _)| (*kid, self.key_file(kid)))
    }

    fn key_file(&self, kid: &str) -> PathBuf {
        self.path("keys").join(format!("{kid}.pem"))
    }

    fn certificates(&self) -> Result<(), MaterialError> {
        let done = self.path("pki/complete");
        if done.exists() {
            return Ok(());
        }
        // Dying before `complete` is written makes all of them anew next time.
        let authority = authority()?;
        self.write("pki/ca.pem", authority.0.as_bytes())?;
        let mut server = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth)?;
        server.subject_alt_names = vec![
            SanType::DnsName(Ia5String::try_from("localhost")?),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
        ];
        self.issue("server", server, &authority.1)?;
        for (name, uri) in CALLERS {
            let mut caller = leaf(name, ExtendedKeyUsagePurpose::ClientAuth)?;
            caller.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri)?)];
            self.issue(name, caller, &authority.1)?;
        }
        self.write("pki/complete", b"")
    }

    fn issue(
        &self,
        name: &str,
        params: CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<(), MaterialError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(&format!("pki/{name}.pem"), certificate.pem().as_bytes())?;
        self.write(&format!("pki/{name}.key"), key.serialize_pem().as_bytes())
    }

    /// Makes missing signing and audit keys, and the registry out of them and of what else is
    /// in it: emergency keys, also those that are revoked.
    fn registry(&self) -> Result<(), MaterialError> {
        let mut entries = Vec::new();
        let signers = SIGNERS.map(|signer| (signer, Purpose::Signing));
        let audit = AUDIT.map(|signer| (signer, Purpose::Audit));
        for ((kid, algorithm), purpose) in signers.into_iter().chain(audit) {
            entries.push(self.entry(kid, algorithm, purpose)?);
        }
        let others = self.entries()?.into_iter();
        let is_other = |other: &Entry| {
            entries.iter().all(|entry: &Entry| entry.signer_kid != other.signer_kid)
        };
        let others: Vec<_> = others.filter(is_other).collect();
        entries.extend(others);
        self.write_entries(entries)
    }

    /// The trail's audit key, made if it is missing, and registered: its file.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn trail_key(&self) -> Result<PathBuf, MaterialError> {
        let (kid, algorithm) = TRAIL;
        let entry = self.entry(kid, algorithm, Purpose::Audit)?;
        let mut entries = self.entries()?;
        entries.retain(|other| other.signer_kid != entry.signer_kid);
        entries.push(entry);
        self.write_entries(entries)?;
        Ok(self.key_file(kid))
    }

    /// What the registry says of a key, which is made if it is missing.
    fn entry(
        &self,
        kid: &str,
        algorithm: Algorithm,
        purpose: Purpose,
    ) -> Result<Entry, MaterialError> {
        let file = self.key_file(kid);
        if !file.exists() {
            self.is_not_away(&file)?;
            // Each algorithm of this file has one kind of key, or is meant with the first.
            let kind = algorithm.key_kinds().next().unwrap_or(KeyKind::Ed25519);
            let key = DevelopmentKey::generate(kind)?;
            self.write(&format!("keys/{kid}.pem"), key.to_pem()?.as_bytes())?;
        }
        let key = DevelopmentKey::load(&file)?;
        let unusable = |why: String| MaterialError::Unusable { path: file.clone(), why };
        let signer = Signer {
            kid: Kid::parse(kid).map_err(|error| unusable(error.to_string()))?,
            public_key: PublicKey::from_spki_der(key.public_key_der(), algorithm)
                .map_err(|error| unusable(error.to_string()))?,
            purpose,
            batch: Batching::No,
            not_after: None,
            revoked_at: None,
        };
        self.write(&format!("keys/{kid}.pub.pem"), signer.public_key.to_pem().as_bytes())?;
        let description = Some("development only: its private key lies in a plain file".to_owned());
        Ok(Entry { description, ..Entry::publish(&signer) })
    }

    /// A key that was moved away to try an outage is not replaced by another one.
    fn is_not_away(&self, file: &Path) -> Result<(), MaterialError> {
        let away = file.with_extension("pem.away");
        if !away.exists() {
            return Ok(());
        }
        let (from, to) = (away.display(), file.display());
        Err(MaterialError::Away(format!(
            "the key {to} is moved away; move it back: mv {from} {to}"
        )))
    }

    /// The registry's entries; none if there is no registry yet.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, MaterialError> {
        let path = self.path("signers.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(MaterialError::Io { path, error }),
        };
        let document: Document = json::from_file(&text)
            .map_err(|error| MaterialError::Unusable { path, why: error.to_string() })?;
        Ok(document.signers)
    }

    /// Writes the registry; a crash leaves the old one or the new one.
    pub(crate) fn write_entries(&self, signers: Vec<Entry>) -> Result<(), MaterialError> {
        let path = self.path("signers.json");
        let unusable = |why: String| MaterialError::Unusable { path: path.clone(), why };
        let text = serde_json::to_string_pretty(&Document { signers })
            .map_err(|error| unusable(error.to_string()))?;
        self.write("signers.json.new", text.as_bytes())?;
        fs::rename(self.path("signers.json.new"), &path)
            .map_err(|error| MaterialError::Io { path: path.clone(), error })
    }

    /// Writes a file that only its owner reads.
    ///
    /// # Errors
    /// [`MaterialError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), MaterialError> {
        let path = self.path(name);
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| MaterialError::Io { path, error })
    }
}

/// The authority lives as long as this call: its key is never written.
fn authority() -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut params = named("signing-proxy development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<CertificateParams, rcgen::Error> {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(365 * CERTIFICATE_YEARS);
    params
}
