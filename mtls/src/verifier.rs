//! Who is let in: webpki builds and verifies paths, and each path has to pass what webpki does
//! not look at: the time of its authority, key usages, the EKU, and every revocation list.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use time::OffsetDateTime;
use webpki::{Cert, EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::anchors::Anchors;
use super::points::{Points, Role};
use super::revocation::{Issuer, NotGood, Revocation, Subject};
use super::terms::{known_algorithms, unix};

tokio::task_local! {
    /// Until when the client of the handshake under way is let in: rustls asks the verifier in
    /// the middle of it, and takes only yes or no.
    static LET_IN_UNTIL: Cell<Option<OffsetDateTime>>;
}

/// Runs a handshake. With it comes until when its client is let in; None if rustls asked
/// elsewhere, which has to be taken for a no.
pub async fn handshake<T>(handshake: impl Future<Output = T>) -> (T, Option<OffsetDateTime>) {
    LET_IN_UNTIL
        .scope(Cell::new(None), async {
            let done = handshake.await;
            (done, LET_IN_UNTIL.with(Cell::get))
        })
        .await
}

/// Judges clients' certificates.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    anchors: Anchors,
    hints: Vec<DistinguishedName>,
    /// None: revocation is not looked at.
    revocation: Option<Revocation>,
    known: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(anchors: Anchors, revocation: Option<Revocation>) -> Self {
        let hints = anchors.subjects().map(DistinguishedName::in_sequence).collect();
        Self { anchors, hints, revocation, known: known_algorithms() }
    }

    pub(super) fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    pub(super) fn revocation(&self) -> Option<&Revocation> {
        self.revocation.as_ref()
    }

    /// Until when the client with that chain is let in: as long as the path that was found
    /// holds, with its authority and the lists that cover it.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<OffsetDateTime, Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| refused(&error))?;
        let at = i64::try_from(now.as_secs()).ok();
        let at = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let at = at.ok_or(Error::FailedToGetCurrentTime)?;
        let until = Cell::new(None);
        let look = |path: &VerifiedPath<'_>| {
            until.set(Some(self.path_until(path, at, now)?));
            Ok(())
        };
        certificate
            .verify_for_usage(
                self.known.all,
                self.anchors.trusted(),
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                Some(&look),
            )
            .map_err(|error| refused(&error))?;
        if !has_client_eku(leaf) {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        // The last path that was looked at is the one that was taken.
        until.get().ok_or_else(|| Error::General("no path was looked at".into()))
    }

    /// Until when a path holds that webpki has verified, or why it does not.
    fn path_until(
        &self,
        path: &VerifiedPath<'_>,
        now: OffsetDateTime,
        time: UnixTime,
    ) -> Result<OffsetDateTime, webpki::Error> {
        let anchor = self.anchors.of(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?;
        let mut until = anchor.until(path, now, time)?;
        let lists = self.revocation.as_ref();
        if lists.is_some_and(|lists| anchor.revoked_by(lists, now).is_some()) {
            return Err(webpki::Error::CertRevoked);
        }
        let mut issuer_spki = anchor.spki.to_vec();
        let mut issuer = Issuer { spki: &issuer_spki, signs_lists: anchor.signs_lists };
        // From the authority down to the client.
        let leaf: &Cert<'_> = path.end_entity();
        let authorities = path.intermediate_certificates().rev();
        let roles = authorities.map(|one| (one, Role::Authority)).chain([(leaf, Role::User)]);
        for (one, role) in roles {
            let der = one.der();
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| webpki::Error::BadDer)?;
            until = until.min(parsed.validity().not_after.to_datetime());
            if let Some(lists) = &self.revocation {
                until = until.min(status(lists, &parsed, role, issuer, now, time)?);
            }
            let usage = parsed.key_usage().map_err(|_| webpki::Error::BadDer)?;
            let usage = usage.map(|usage| usage.value);
            // webpki passes this over.
            if role == Role::Authority && usage.is_some_and(|usage| !usage.key_cert_sign()) {
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
            issuer_spki = parsed.public_key().raw.to_vec();
            let signs_lists = usage.is_none_or(|usage| usage.crl_sign());
            issuer = Issuer { spki: &issuer_spki, signs_lists };
        }
        Ok(until)
    }
}

fn status(
    lists: &Revocation,
    certificate: &X509Certificate<'_>,
    role: Role,
    issuer: Issuer<'_>,
    now: OffsetDateTime,
    time: UnixTime,
) -> Result<OffsetDateTime, webpki::Error> {
    let issuer_name = certificate.issuer().as_raw();
    let points = certificate
        .get_extension_unique(&OID_X509_EXT_CRL_DISTRIBUTION_POINTS)
        .map_err(|_| webpki::Error::BadDer)?
        .map(|extension| extension.value);
    let subject = Subject {
        issuer: issuer_name,
        serial: certificate.raw_serial(),
        role,
        points: Points::parse(issuer_name, points),
    };
    lists.status(&subject, issuer, now).map_err(|why| match why {
        NotGood::Revoked => webpki::Error::CertRevoked,
        NotGood::Expired(at) => webpki::Error::CrlExpired { time, next_update: unix(at) },
        NotGood::Unknown => webpki::Error::UnknownRevocationStatus,
    })
}

fn has_client_eku(leaf: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(leaf).ok();
    let eku = parsed.and_then(|(_, certificate)| {
        let eku = certificate.extended_key_usage().ok().flatten()?;
        Some(eku.value.client_auth)
    });
    eku.unwrap_or(false)
}

/// As rustls' own verifier says it, so that clients get the alerts that they know.
fn refused(error: &webpki::Error) -> Error {
    use webpki::Error as Webpki;
    #[expect(clippy::wildcard_enum_match_arm, reason = "webpki adds errors; all of them refuse")]
    let why = match error.clone() {
        Webpki::BadDer | Webpki::BadDerTime | Webpki::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        Webpki::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Webpki::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        Webpki::InvalidCertValidity => CertificateError::Expired,
        Webpki::UnknownIssuer => CertificateError::UnknownIssuer,
        Webpki::CertRevoked => CertificateError::Revoked,
        Webpki::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Webpki::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        Webpki::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Webpki::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(why)
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let until = self.verify(end_entity, intermediates, now)?;
        // Outside a handshake nobody asks until when.
        let _ = LET_IN_UNTIL.try_with(|cell| cell.set(Some(until)));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}
