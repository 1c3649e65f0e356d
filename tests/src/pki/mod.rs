//! Certificates of every kind, good and bad.

mod list;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

pub use list::{List, Point};

/// An authority.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    name: String,
    key_der: Vec<u8>,
    serial: Vec<u8>,
    /// Its certificate.
    pub ca_pem: String,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM.
    pub certificate_pem: String,
    /// PEM.
    pub key_pem: String,
    serial: Vec<u8>,
}

/// What a certificate says. Start from [`Profile::client`] and spoil it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// URIs among the subject alternative names.
    pub uris: Vec<String>,
    /// DNS names among them.
    pub dns_names: Vec<String>,
    /// Extended key usages.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Validity, in days from now.
    pub days: (i64, i64),
    /// Raw content of one more extension, for names that rcgen would not write.
    pub extension: Option<CustomExtension>,
}

impl Profile {
    /// A good client certificate of the caller `name`.
    #[must_use]
    pub fn client(name: &str) -> Self {
        let is_uri = name.contains("://");
        Self {
            uris: if is_uri { vec![name.to_owned()] } else { Vec::new() },
            dns_names: if is_uri { Vec::new() } else { vec![name.to_owned()] },
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            days: (-1, 30),
            extension: None,
        }
    }

    /// A good server certificate for loopback.
    #[must_use]
    pub fn server() -> Self {
        Self { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Self::client("localhost") }
    }
}

impl Certificate {
    /// The same, sent with the certificate of the authority below a root that issued it.
    #[must_use]
    pub fn with(mut self, intermediate: &Pki) -> Self {
        self.certificate_pem.push_str(&intermediate.ca_pem);
        self
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new authority.
    #[must_use]
    pub fn new() -> Self {
        Self::named("test authority")
    }

    /// A new authority of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::made(name, |_| ())
    }

    /// A new authority of that name, made otherwise by `change`.
    #[must_use]
    pub fn made(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap(), change)
    }

    /// This authority with a new certificate, of the same name and key.
    #[must_use]
    pub fn renewed(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_key(&self.name, KeyPair::try_from(self.key_der.as_slice()).unwrap(), change)
    }

    fn with_key(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority(name, change);
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self::new_issuer(name, params, key, ca_pem)
    }

    fn new_issuer(name: &str, params: CertificateParams, key: KeyPair, ca_pem: String) -> Self {
        let serial = params.serial_number.as_ref().unwrap().to_bytes();
        let (name, key_der) = (name.to_owned(), key.serialize_der());
        Self { issuer: Issuer::new(params, key), name, key_der, serial, ca_pem }
    }

    /// A new authority below this one, made otherwise by `change`.
    #[must_use]
    pub fn authority(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority(name, change);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self::new_issuer(name, params, key, ca_pem)
    }

    /// Issues a certificate.
    #[must_use]
    pub fn issue(&self, profile: &Profile) -> Certificate {
        self.issue_with(profile, |_| ())
    }

    /// Issues a certificate, made otherwise by `change`.
    #[must_use]
    pub fn issue_with(
        &self,
        profile: &Profile,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut params = named("test");
        let (from, until) = profile.days;
        params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
        params.extended_key_usages.clone_from(&profile.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let serial = serial();
        params.serial_number = Some(SerialNumber::from(serial.clone()));
        let text = |name: &String| Ia5String::try_from(name.as_str()).unwrap();
        let uris = profile.uris.iter().map(|uri| SanType::URI(text(uri)));
        let names = profile.dns_names.iter().map(|name| SanType::DnsName(text(name)));
        params.subject_alt_names = uris.chain(names).collect();
        if profile.dns_names.iter().any(|name| name == "localhost") {
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        }
        params.custom_extensions = profile.extension.clone().into_iter().collect();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), serial }
    }

    /// A revocation list of `revoked`, whose next one is due in `days`.
    #[must_use]
    pub fn revocation_list(&self, revoked: &[&Certificate], days: i64) -> String {
        self.revocation_list_until(revoked, OffsetDateTime::now_utc() + Duration::days(days))
    }

    /// A revocation list of `revoked`, whose next one is due then.
    #[must_use]
    pub fn revocation_list_until(&self, revoked: &[&Certificate], due: OffsetDateTime) -> String {
        let now = OffsetDateTime::now_utc();
        let entry = |certificate: &&Certificate| RevokedCertParams {
            serial_number: SerialNumber::from(certificate.serial.clone()),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(7),
            next_update: due,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki")
    }
}

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial()));
    change(&mut params);
    params
}

/// A serial number that no other certificate has.
fn serial() -> Vec<u8> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).unwrap();
    // Positive, and without a leading zero.
    serial[0] = serial[0] & 0x3f | 0x40;
    serial.to_vec()
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(60);
    params
}
