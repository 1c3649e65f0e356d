//! The authorities of `client_ca_file`: the trust anchors of every client's path.

use std::path::Path;

use rustls::pki_types::{TrustAnchor, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::certificates;
use super::revocation::Revocation;
use super::verifier::unix;
use crate::conditions::Dated;

const KEY: &str = "server.tls.client_ca_file";

/// The authorities, in the order of the file.
#[derive(Debug)]
pub(super) struct Anchors {
    authorities: Vec<Anchor>,
    /// What webpki takes of each, in the same order.
    trusted: Vec<TrustAnchor<'static>>,
}

/// An authority.
#[derive(Debug)]
pub(super) struct Anchor {
    /// Its name, in DER.
    pub(super) subject: Box<[u8]>,
    /// Its `SubjectPublicKeyInfo`.
    pub(super) spki: Box<[u8]>,
    /// Whether its key usage allows it to sign revocation lists.
    pub(super) signs_lists: bool,
    /// Where it stands, and when it counts.
    pub(super) dated: Dated,
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
}

impl Anchors {
    /// Reads each certificate of the file.
    ///
    /// # Errors
    /// Every mistake: the file, the position in it, the fix.
    pub(super) fn load(file: &Path) -> Result<Self, Vec<String>> {
        let all = certificates(KEY, file).map_err(|mistake| vec![mistake])?;
        let (mut authorities, mut trusted) = (Vec::new(), Vec::new());
        let mut mistakes = Vec::new();
        for (position, der) in (1..).zip(&all) {
            let what = format!("{KEY}: certificate {position} of {}", file.display());
            let anchor = webpki::anchor_from_trusted_cert(der).ok();
            match (Anchor::read(der, &what), anchor) {
                (Some(read), Some(anchor)) => {
                    authorities.push(read);
                    trusted.push(anchor.to_owned());
                }
                _ => mistakes.push(format!("{what} is not an X.509 certificate; fetch it again")),
            }
        }
        if mistakes.is_empty() { Ok(Self { authorities, trusted }) } else { Err(mistakes) }
    }

    /// When each of them counts.
    pub(super) fn dated(&self) -> Vec<Dated> {
        self.authorities.iter().map(|anchor| anchor.dated.clone()).collect()
    }

    pub(super) fn trusted(&self) -> &[TrustAnchor<'static>] {
        &self.trusted
    }

    /// Their names, without the outer tag and length.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.trusted.iter().map(|anchor| anchor.subject.as_ref())
    }

    /// The authority that webpki found: two may have the same name and key, and not the same
    /// dates, so that only their place tells them apart.
    pub(super) fn of(&self, found: &TrustAnchor<'_>) -> Option<&Anchor> {
        let is_it = |one: &TrustAnchor<'_>| std::ptr::addr_eq(one, found);
        self.authorities.get(self.trusted.iter().position(is_it)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.authorities.iter()
    }
}

impl Anchor {
    fn read(der: &[u8], what: &str) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let usage = certificate.key_usage().ok()?;
        rest.is_empty().then(|| Self {
            subject: certificate.subject().as_raw().into(),
            spki: certificate.public_key().raw.into(),
            signs_lists: usage.is_none_or(|usage| usage.value.crl_sign()),
            dated: Dated {
                what: what.to_owned(),
                begins: certificate.validity().not_before.to_datetime(),
                ends: certificate.validity().not_after.to_datetime(),
            },
            issuer: certificate.issuer().as_raw().into(),
            serial: certificate.raw_serial().into(),
        })
    }

    /// Until when it is an authority; webpki does not look at its dates.
    pub(super) fn until(
        &self,
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
        Ok(ends)
    }

    /// Whether another authority's list revokes it.
    pub(super) fn is_revoked_by(&self, lists: &Revocation, now: OffsetDateTime) -> bool {
        lists.revoking(&self.issuer, &self.serial, now).is_some()
    }
}
