//! One authority of `client_ca_file`. webpki takes a trust anchor's name, key and name
//! constraints, whatever else its certificate says; the rest is looked at here.

use std::fmt;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{TrustAnchor, UnixTime};
use signing_core::Hash;
use time::OffsetDateTime;
use webpki::VerifiedPath;
use x509_parser::extensions::{GeneralName, NameConstraints};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::der::{Reader, SEQUENCE};
use super::list::name;
use super::revocation::{Listed, Revocation};
use super::terms::unix;
use crate::dated::Dated;

/// Extensions that are looked at, or that say nothing about whom an authority may name.
const KNOWN: [&str; 9] = [
    "2.5.29.14", // subjectKeyIdentifier
    "2.5.29.15", // keyUsage
    "2.5.29.17", // subjectAltName: of the authority itself
    "2.5.29.18", // issuerAltName
    "2.5.29.19", // basicConstraints
    "2.5.29.30", // nameConstraints
    "2.5.29.31", // cRLDistributionPoints
    "2.5.29.35", // authorityKeyIdentifier
    "2.5.29.37", // extKeyUsage
];

/// What webpki verifies RSA signatures with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Hex digits of the key's name in the metrics: enough to tell keys apart.
const KEY_DIGITS: usize = 16;

/// An authority.
#[derive(Debug)]
pub(super) struct Authority {
    /// Its name, in DER.
    pub(super) subject: Box<[u8]>,
    /// Its `SubjectPublicKeyInfo`.
    pub(super) spki: Box<[u8]>,
    /// Whether its key usage allows it to sign revocation lists.
    pub(super) signs_lists: bool,
    /// Where it stands, and when it counts.
    pub(super) dated: Dated,
    /// What deserves attention whatever the time is.
    pub(super) remarks: Vec<&'static str>,
    /// Critical extensions that nobody looks at, as dotted numbers.
    pub(super) unknown: Vec<String>,
    /// How many authorities may stand between it and a client.
    path_len: Option<usize>,
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
}

/// Why a certificate is no authority of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAuthority {
    Malformed,
    NoBasicConstraints,
    NoCa,
    NoCertificateSigning,
    NoClients,
    NoName,
    NeverValid,
}

impl fmt::Display for NoAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIX: &str = "name the certificate of the authority that issues client certificates";
        match self {
            Self::Malformed => f.write_str("is not an X.509 certificate; fetch it again"),
            Self::NoBasicConstraints => {
                write!(f, "is no authority's: it has no basicConstraints; {FIX}")
            }
            Self::NoCa => write!(f, "is no authority's: basicConstraints say CA:FALSE; {FIX}"),
            Self::NoCertificateSigning => {
                write!(f, "may not issue certificates: its keyUsage lacks keyCertSign; {FIX}")
            }
            Self::NoClients => {
                write!(
                    f,
                    "may not issue client certificates: its extKeyUsage lacks clientAuth; {FIX}"
                )
            }
            Self::NoName => write!(f, "has no subject, so nobody can name it as issuer; {FIX}"),
            Self::NeverValid => {
                write!(f, "is never valid: its notAfter is before its notBefore; {FIX}")
            }
        }
    }
}

impl Authority {
    /// Reads the certificate that stands at `what`.
    pub(super) fn read(
        der: &[u8],
        what: &str,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(Self, TrustAnchor<'static>), NoAuthority> {
        let malformed = |_| NoAuthority::Malformed;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| NoAuthority::Malformed)?;
        let der_of = rustls::pki_types::CertificateDer::from(der);
        let anchor =
            webpki::anchor_from_trusted_cert(&der_of).map_err(|_| NoAuthority::Malformed)?;
        if !rest.is_empty() {
            return Err(NoAuthority::Malformed);
        }
        // Of version 1, it has no extensions at all.
        let constraints = certificate.basic_constraints().map_err(malformed)?;
        let constraints = constraints.map(|extension| extension.value);
        let constraints = constraints.ok_or(NoAuthority::NoBasicConstraints)?;
        if !constraints.ca {
            return Err(NoAuthority::NoCa);
        }
        let usage = certificate.key_usage().map_err(malformed)?.map(|usage| usage.value);
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(NoAuthority::NoCertificateSigning);
        }
        let purposes = certificate.extended_key_usage().map_err(malformed)?;
        if purposes.is_some_and(|purposes| !(purposes.value.client_auth || purposes.value.any)) {
            return Err(NoAuthority::NoClients);
        }
        if certificate.subject().iter().next().is_none() {
            return Err(NoAuthority::NoName);
        }
        let validity = certificate.validity();
        let (begins, ends) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        if ends < begins {
            return Err(NoAuthority::NeverValid);
        }
        let names = certificate.name_constraints().map_err(malformed)?;
        let mut remarks = names.map(|names| remarks(names.value)).unwrap_or_default();
        if !is_supported(&certificate, known) {
            remarks.push(
                "has a key of a kind or size that is not supported, so its clients are refused; have \
                 it issued for an RSA key of 2048 bits or more, an ECDSA key or an Ed25519 key",
            );
        }
        let unknown = certificate.iter_extensions().filter(|extension| extension.critical);
        let unknown = unknown.map(|extension| extension.oid.to_id_string());
        let authority = Self {
            subject: certificate.subject().as_raw().into(),
            spki: certificate.public_key().raw.into(),
            signs_lists: usage.is_none_or(|usage| usage.crl_sign()),
            dated: Dated { what: what.to_owned(), begins, ends },
            remarks,
            unknown: unknown.filter(|id| !KNOWN.contains(&id.as_str())).collect(),
            path_len: constraints
                .path_len_constraint
                .map(|len| usize::try_from(len).unwrap_or(usize::MAX)),
            issuer: certificate.issuer().as_raw().into(),
            serial: certificate.raw_serial().into(),
        };
        Ok((authority, anchor.to_owned()))
    }

    /// Until when it vouches for that path; webpki looks neither at its dates nor at how long
    /// a path it allows.
    pub(super) fn until(
        &self,
        path: &VerifiedPath<'_>,
        now: OffsetDateTime,
        time: UnixTime,
    ) -> Result<OffsetDateTime, webpki::Error> {
        let Dated { begins, ends, .. } = self.dated;
        if now < begins {
            return Err(webpki::Error::CertNotValidYet { time, not_before: unix(begins) });
        }
        if ends < now {
            return Err(webpki::Error::CertExpired { time, not_after: unix(ends) });
        }
        // RFC 5280 section 6.1.4 (l): one that renews itself does not count.
        let between = path.intermediate_certificates();
        let between = between.filter(|one| one.issuer() != one.subject()).count();
        if self.path_len.is_some_and(|len| between > len) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        Ok(ends)
    }

    /// The list of another authority that revokes it.
    pub(super) fn revoked_by<'l>(
        &self,
        lists: &'l Revocation,
        now: OffsetDateTime,
    ) -> Option<&'l Listed> {
        lists.revoking(&self.issuer, &self.serial, now)
    }

    pub(super) fn counts(&self, now: OffsetDateTime) -> bool {
        self.dated.begins <= now && now <= self.dated.ends
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        name(&self.subject)
    }

    /// Its key's name in the metrics: the beginning of the SHA-256 of its
    /// `SubjectPublicKeyInfo`, in lower-case hex.
    pub(super) fn key_name(&self) -> String {
        let mut digits = hex::encode(Hash::Sha256.of(&self.spki).bytes());
        digits.truncate(KEY_DIGITS);
        digits
    }
}

/// What name constraints lead to: webpki understands those of DNS names and IP addresses, and
/// refuses what it does not understand.
fn remarks(names: &NameConstraints<'_>) -> Vec<&'static str> {
    let subtrees = [&names.permitted_subtrees, &names.excluded_subtrees];
    let bases = || subtrees.into_iter().flatten().flatten().map(|subtree| &subtree.base);
    let mut remarks = Vec::new();
    if bases().any(|base| matches!(base, GeneralName::URI(_))) {
        remarks.push(
            "constrains URIs, which is not supported: none of its clients with a URI, so no SPIFFE \
             caller, is let in; have it issued without that constraint",
        );
    }
    if bases().any(|base| matches!(base, GeneralName::DirectoryName(_))) {
        remarks.push(
            "constrains directory names, which is not supported: none of its clients is let in; \
             have it issued without that constraint",
        );
    }
    remarks
}

fn is_supported(certificate: &X509Certificate<'_>, known: &WebPkiSupportedAlgorithms) -> bool {
    let spki = certificate.public_key();
    if let Ok(PublicKey::RSA(key)) = spki.parsed() {
        return RSA_BITS.contains(&key.key_size());
    }
    let algorithm = Reader::only(spki.raw, SEQUENCE).and_then(|mut spki| spki.take(SEQUENCE));
    algorithm.is_ok_and(|algorithm| {
        known.all.iter().any(|known| known.public_key_alg_id().as_ref() == algorithm)
    })
}
