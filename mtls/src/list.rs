//! A revocation list: read strictly, and refused where RFC 5280 has cases that are not served.
//! A list that is not understood wholly could revoke someone in the part that is not.

use std::collections::HashSet;
use std::fmt;
use std::sync::OnceLock;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use time::{Duration, OffsetDateTime};
use webpki::RawPublicKeyEntity;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, Malformed, OBJECT_IDENTIFIER, OCTET_STRING,
    Reader, SEQUENCE, UTC_TIME, boolean, context_of,
};
use super::points::{Scope, Unserved};

/// How far the clock of a list's issuer may be ahead of ours: a list that was just made is not
/// refused, and with it everyone.
const CLOCKS_APART_MAX: Duration = Duration::minutes(5);

/// A revocation list that can be served.
#[derive(Debug)]
pub(super) struct RevocationList {
    /// The issuer's name, in DER.
    pub(super) issuer: Box<[u8]>,
    pub(super) this_update: OffsetDateTime,
    pub(super) next_update: OffsetDateTime,
    pub(super) scope: Scope,
    /// The serial numbers of the revoked certificates, without leading zeros.
    serials: HashSet<Box<[u8]>>,
    signed: Signed,
    /// The public key that it verifies under, once that is known.
    signer: OnceLock<Box<[u8]>>,
}

/// What is signed, and how.
#[derive(Debug)]
struct Signed {
    data: Box<[u8]>,
    /// The content of an `AlgorithmIdentifier`.
    algorithm: Box<[u8]>,
    signature: Box<[u8]>,
}

/// Why a list cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotServed {
    /// It is no list, or not one of RFC 5280.
    Malformed,
    /// It has version 1, so no extension that says what it covers.
    Version1,
    /// It does not say until when it holds.
    NoNextUpdate,
    /// It holds for no time.
    NeverValid,
    /// It says only what changed since another list.
    Delta,
    /// It covers a part of the revocations, or other than its issuer's certificates.
    Scope(Unserved),
    /// It has a critical extension that is not known here.
    CriticalExtension(String),
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => {
                "is not a certificate revocation list of RFC 5280, in PEM or DER; fetch it again"
            }
            Self::Version1 => {
                "is a list of version 1; have its authority issue version 2, with a CRL number \
                 (openssl: crl_extensions)"
            }
            Self::NoNextUpdate => {
                "has no nextUpdate, so nobody knows until when it holds; have its authority set one"
            }
            Self::NeverValid => {
                "has a nextUpdate that is not after its thisUpdate; have its authority correct it"
            }
            Self::Delta => "is a delta list, which is not supported; name the complete list",
            Self::Scope(Unserved::Indirect) => {
                "is an indirect list, of certificates that other authorities issued, which is not \
                 supported; name a list of each authority"
            }
            Self::Scope(Unserved::SomeReasons) => {
                "holds only revocations for some reasons (onlySomeReasons), which is not supported; \
                 name a list with all reasons"
            }
            Self::Scope(Unserved::AttributeCertificates) => {
                "covers attribute certificates only, and no client has one; leave it out"
            }
            Self::Scope(Unserved::RelativeName) => {
                "has a distribution point relative to its issuer's name, which matches no \
                 certificate here; have its authority write the full name"
            }
            Self::Scope(Unserved::NoName) => {
                "has a distribution point without a name, which matches no certificate; have its \
                 authority write the name, or leave the point out"
            }
            Self::Scope(Unserved::NoCertificates) => {
                "covers user certificates only and authorities' only, so none at all; leave it out"
            }
            Self::Scope(Unserved::Malformed) => {
                "has an issuingDistributionPoint that cannot be read; fetch it again"
            }
            Self::CriticalExtension(oid) => {
                return write!(
                    f,
                    "has the critical extension {oid}, which is not supported; have its authority \
                     leave it out"
                );
            }
        })
    }
}

impl From<Malformed> for NotServed {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl RevocationList {
    /// Reads a list from DER. Its signature is looked at later: see [`Self::is_signed_by`].
    pub(super) fn parse(der: &[u8]) -> Result<Self, NotServed> {
        let mut outer = Reader::only(der, SEQUENCE)?;
        let data = outer.next()?;
        let algorithm = outer.take(SEQUENCE)?;
        let bits = outer.take(BIT_STRING)?;
        outer.end()?;
        // The first byte says how many of the last one's bits are unused.
        let Some((0, signature)) = bits.split_first() else { return Err(NotServed::Malformed) };
        let signed = Signed {
            data: data.whole.into(),
            algorithm: algorithm.into(),
            signature: signature.into(),
        };

        let mut list = Reader::only(data.whole, SEQUENCE)?;
        match list.take_if(INTEGER)? {
            Some([1]) => {}
            None => return Err(NotServed::Version1),
            Some(_) => return Err(NotServed::Malformed),
        }
        if list.take(SEQUENCE)? != algorithm {
            return Err(NotServed::Malformed);
        }
        let issuer = list.next()?;
        X509Name::from_der(issuer.whole).map_err(|_| NotServed::Malformed)?;
        let this_update = time(&mut list)?.ok_or(NotServed::Malformed)?;
        let next_update = time(&mut list)?.ok_or(NotServed::NoNextUpdate)?;
        if next_update <= this_update {
            return Err(NotServed::NeverValid);
        }
        let serials = match list.take_if(SEQUENCE)? {
            Some(entries) => revoked(entries)?,
            None => HashSet::new(),
        };
        // RFC 5280 section 5.2 has every list number itself, so there are extensions.
        let extensions = list.take(context_of(0))?;
        list.end()?;
        let scope = scope(extensions)?;
        Ok(Self {
            issuer: issuer.whole.into(),
            this_update,
            next_update,
            scope,
            serials,
            signed,
            signer: OnceLock::new(),
        })
    }

    /// Whether it verifies under that key, a `SubjectPublicKeyInfo`.
    pub(super) fn is_signed_by(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> bool {
        if let Some(signer) = self.signer.get() {
            return **signer == *spki;
        }
        let spki_der = SubjectPublicKeyInfoDer::from(spki);
        let Ok(key) = RawPublicKeyEntity::try_from(&spki_der) else { return false };
        let Signed { data, algorithm, signature } = &self.signed;
        let verifies = known.all.iter().any(|known| {
            known.signature_alg_id().as_ref() == &**algorithm
                && key.verify_signature(*known, data, signature).is_ok()
        });
        // Whoever is first to know it: the key is the same.
        verifies && self.signer.get_or_init(|| spki.into()).as_ref() == spki
    }

    /// Whether a current list revokes the certificate with that serial number. One whose time
    /// has not come does so too: nothing takes a revocation back but a later list.
    pub(super) fn revokes(&self, serial: &[u8], now: OffsetDateTime) -> bool {
        !self.is_expired(now) && self.serials.contains(without_leading_zeros(serial))
    }

    /// Whether it may say of a certificate that it is not revoked.
    pub(super) fn is_current(&self, now: OffsetDateTime) -> bool {
        self.this_update <= now + CLOCKS_APART_MAX && !self.is_expired(now)
    }

    pub(super) fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.next_update <= now
    }

    /// The key that it verifies under, as far as that is known.
    pub(super) fn signer(&self) -> Option<&[u8]> {
        self.signer.get().map(|spki| &**spki)
    }
}

/// A name for people, from DER.
pub(super) fn name(der: &[u8]) -> String {
    X509Name::from_der(der)
        .map_or_else(|_| "an unreadable name".into(), |(_, name)| name.to_string())
}

/// Whether a list that is served revokes all that another parser finds on it.
pub fn revokes_all_that_it_lists(der: &[u8]) -> Option<bool> {
    let list = RevocationList::parse(der).ok()?;
    let during = list.this_update;
    let Ok((_, other)) = x509_parser::parse_x509_crl(der) else { return Some(true) };
    let mut revoked = other.iter_revoked_certificates();
    Some(revoked.all(|certificate| list.revokes(certificate.raw_serial(), during)))
}

/// The serial numbers of revoked certificates.
fn revoked(entries: &[u8]) -> Result<HashSet<Box<[u8]>>, NotServed> {
    let mut serials = HashSet::new();
    let mut entries = Reader::new(entries);
    while !entries.is_at_end() {
        let mut entry = Reader::new(entries.take(SEQUENCE)?);
        let serial = entry.take(INTEGER)?;
        time(&mut entry)?.ok_or(NotServed::Malformed)?;
        if let Some(extensions) = entry.take_if(SEQUENCE)? {
            each_extension(extensions, |extension| match (extension.id, extension.critical) {
                // certificateIssuer: the entry, and those after it, are another authority's.
                ([0x55, 0x1d, 29], _) => Err(NotServed::Scope(Unserved::Indirect)),
                // reasonCode, invalidityDate: revoked is revoked.
                ([0x55, 0x1d, 21 | 24], _) | (_, false) => Ok(()),
                (id, true) => Err(NotServed::CriticalExtension(dotted(id))),
            })?;
        }
        entry.end()?;
        serials.insert(without_leading_zeros(serial).into());
    }
    Ok(serials)
}

/// What its extensions say that a list covers.
fn scope(extensions: &[u8]) -> Result<Scope, NotServed> {
    let mut scope = Scope::default();
    let mut seen = HashSet::new();
    let mut extensions = Reader::new(extensions);
    let each = extensions.take(SEQUENCE)?;
    extensions.end()?;
    each_extension(each, |extension| {
        if !seen.insert(extension.id.to_vec()) {
            return Err(NotServed::Malformed);
        }
        match (extension.id, extension.critical) {
            // issuingDistributionPoint
            ([0x55, 0x1d, 28], _) => {
                scope = Scope::parse(extension.value).map_err(NotServed::Scope)?;
                Ok(())
            }
            // deltaCRLIndicator
            ([0x55, 0x1d, 27], _) => Err(NotServed::Delta),
            // cRLNumber, authorityKeyIdentifier: the signature says more.
            ([0x55, 0x1d, 20 | 35], _) | (_, false) => Ok(()),
            (id, true) => Err(NotServed::CriticalExtension(dotted(id))),
        }
    })?;
    Ok(scope)
}

struct Extension<'a> {
    /// The content of its OBJECT IDENTIFIER.
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

fn each_extension<'a>(
    extensions: &'a [u8],
    mut each: impl FnMut(Extension<'a>) -> Result<(), NotServed>,
) -> Result<(), NotServed> {
    let mut extensions = Reader::new(extensions);
    while !extensions.is_at_end() {
        let mut extension = Reader::new(extensions.take(SEQUENCE)?);
        let id = extension.take(OBJECT_IDENTIFIER)?;
        let critical = extension.take_if(BOOLEAN)?.map_or(Ok(false), boolean)?;
        let value = extension.take(OCTET_STRING)?;
        extension.end()?;
        each(Extension { id, critical, value })?;
    }
    Ok(())
}

/// The next value, if it is a time.
fn time(reader: &mut Reader<'_>) -> Result<Option<OffsetDateTime>, Malformed> {
    if !matches!(reader.rest().first(), Some(&(UTC_TIME | GENERALIZED_TIME))) {
        return Ok(None);
    }
    let (_, time) = ASN1Time::from_der(reader.next()?.whole).map_err(|_| Malformed)?;
    Ok(Some(time.to_datetime()))
}

/// An authority that writes a number in two ways means the same certificate.
fn without_leading_zeros(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

fn dotted(id: &[u8]) -> String {
    x509_parser::der_parser::oid::Oid::new(id.into()).to_id_string()
}
