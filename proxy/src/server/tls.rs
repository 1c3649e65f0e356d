//! TLS of the data plane: client certificates required, with the client EKU
//! present; no resumption, no tickets, no early data, so that every connection
//! verifies the certificate it acts under.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};
use signing_core::{Caller, Reason, Refusal};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::dates;
use crate::conditions::Dated;
use crate::config;
use host::files;

/// The server's TLS, ready to accept.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// rustls' side of it.
    pub config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    tls12: bool,
    certificate: Dated,
    authorities: Vec<Dated>,
    revocation_lists: Vec<Dated>,
}

impl ServerTls {
    /// Reads certificates, key, authorities and revocation lists.
    ///
    /// # Errors
    /// Every mistake at once, each a sentence with key, file and fix.
    pub fn load(tls: &config::Tls) -> Result<Self, Vec<String>> {
        let chain = certificates("server.tls.certificate_file", &tls.certificate_file);
        let key = read(&tls.private_key_file)
            .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem))
            .map_err(|error| {
                mistake(
                    "server.tls.private_key_file",
                    &tls.private_key_file,
                    pem(&error, "a PEM private key"),
                )
            });
        let roots = certificates("server.tls.client_ca_file", &tls.client_ca_file);
        let crls: Vec<_> = tls.client_crl_files.iter().map(|file| revocation_lists(file)).collect();

        let mut mistakes: Vec<String> = crls.iter().filter_map(|crl| crl.clone().err()).collect();
        mistakes.extend(
            [chain.as_ref().err(), key.as_ref().err(), roots.as_ref().err()]
                .into_iter()
                .flatten()
                .cloned(),
        );
        let (Ok(chain), Ok(key), Ok(roots), true) = (chain, key, roots, mistakes.is_empty()) else {
            return Err(mistakes);
        };
        let crls: Vec<_> = crls.into_iter().flatten().collect();
        let named = tls.client_crl_files.iter().zip(&crls);
        let dated_lists = named.flat_map(|(file, lists)| dates::of_lists(file, lists)).collect();
        let authorities = dates::of_authorities(&tls.client_ca_file, &roots);
        let crls = crls.into_iter().flatten().collect();
        let certificate = dates::of_chain(&tls.certificate_file, &chain).ok_or_else(|| {
            vec![mistake(
                "server.tls.certificate_file",
                &tls.certificate_file,
                "is not an X.509 certificate",
            )]
        })?;
        let verifier = verifier(roots, crls)
            .map_err(|why| vec![mistake("server.tls.client_ca_file", &tls.client_ca_file, why)])?;
        let versions: &[_] = if tls.tls12 {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .map(|builder| builder.with_client_cert_verifier(Arc::clone(&verifier)))
            .and_then(|builder| builder.with_single_cert(chain, key));
        let mut config = config.map_err(|why| {
            vec![mistake(
                "server.tls.private_key_file",
                &tls.private_key_file,
                format!("does not serve with certificate_file: {why}"),
            )]
        })?;
        // A resumed session would keep a certificate's caller without looking at the
        // certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            verifier,
            tls12: tls.tls12,
            certificate,
            authorities,
            revocation_lists: dated_lists,
        })
    }

    /// When the server's own certificate counts.
    pub(crate) fn certificate(&self) -> &Dated {
        &self.certificate
    }

    /// When each of the client authorities counts.
    pub(crate) fn authorities(&self) -> &[Dated] {
        &self.authorities
    }

    /// When each of the revocation lists counts.
    pub(crate) fn revocation_lists(&self) -> &[Dated] {
        &self.revocation_lists
    }

    /// When the server's own certificate ends, in seconds since 1970.
    #[must_use]
    pub fn certificate_ends(&self) -> i64 {
        self.certificate.ends.unix_timestamp()
    }

    /// Whether a client that came in as `shaken` would be let in at `now`: after a
    /// reload, those who are in already are asked again.
    pub(super) fn lets_in(&self, shaken: &Shaken, now: OffsetDateTime) -> bool {
        let since_1970 = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(since_1970));
        let version_fits = self.tls12 || shaken.version == Some(ProtocolVersion::TLSv1_3);
        version_fits
            && shaken.chain.split_first().is_some_and(|(leaf, intermediates)| {
                self.verifier.verify_client_cert(leaf, intermediates, now).is_ok()
            })
    }
}

/// What a finished handshake showed.
#[derive(Debug)]
pub(super) struct Shaken {
    /// The client's certificate first, then its intermediates.
    chain: Vec<CertificateDer<'static>>,
    version: Option<ProtocolVersion>,
}

impl Shaken {
    pub(super) fn of(session: &ServerConnection) -> Self {
        let chain = session.peer_certificates().unwrap_or_default();
        Self {
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            version: session.protocol_version(),
        }
    }
}

/// Who the verified client certificate names.
///
/// # Errors
/// `caller_not_authorized` if it names nobody for certain.
pub(super) fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Result<Caller, Refusal> {
    let refused = |why: String| {
        Refusal::new(
            Reason::CallerNotAuthorized,
            format!("the client certificate names no caller: {why}"),
        )
    };
    let leaf =
        certificates.and_then(<[_]>::first).ok_or_else(|| refused("there is none".into()))?;
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| refused(error.to_string()))?;
    let extension =
        certificate.subject_alternative_name().map_err(|error| refused(error.to_string()))?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(refused("one of its names can not be read".into()));
    }
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let dns_names: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    Caller::from_subject_alternative_names(&uris, &dns_names)
        .map_err(|error| refused(error.to_string()))
}

/// For how long the client certificate is still valid at `now`; zero if that
/// can not be told. A connection does not outlive it.
pub(super) fn seconds_left(
    certificates: Option<&[CertificateDer<'_>]>,
    now: OffsetDateTime,
) -> Duration {
    let ends = certificates.and_then(ends);
    let left = ends.map_or(0, |ends| ends.saturating_sub(now.unix_timestamp()));
    Duration::from_secs(u64::try_from(left).unwrap_or(0))
}

/// webpki's verifier, and the EKU that it only checks if it is there.
#[derive(Debug)]
struct ClientEkuRequired(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ClientEkuRequired {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let has_client_eku = X509Certificate::from_der(end_entity)
            .ok()
            .and_then(|(_, certificate)| {
                let eku = certificate.extended_key_usage().ok().flatten()?;
                Some(eku.value.client_auth)
            })
            .unwrap_or(false);
        if has_client_eku {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::InvalidPurpose))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn verifier(
    roots: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root)
            .map_err(|error| format!("holds a certificate that is no authority: {error}"))?;
    }
    let has_crls = !crls.is_empty();
    let mut builder = WebPkiClientVerifier::builder_with_provider(
        Arc::new(store),
        Arc::new(aws_lc_rs::default_provider()),
    );
    if has_crls {
        // An expired list says nothing about who was revoked since: it shuts callers out.
        builder = builder.with_crls(crls).enforce_revocation_expiration();
    }
    let inner = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(ClientEkuRequired(inner)))
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = read(file)
        .and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>())
        .map_err(|error| mistake(key, file, pem(&error, "PEM certificates")))?;
    if read.is_empty() {
        return Err(mistake(key, file, "holds no PEM block CERTIFICATE"));
    }
    Ok(read)
}

fn read(file: &Path) -> Result<Vec<u8>, rustls::pki_types::pem::Error> {
    files::read(file).map_err(rustls::pki_types::pem::Error::Io)
}

/// Every list of a PEM file, or the one of a DER file.
fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let key = "server.tls.client_crl_files";
    let bytes = files::read(file).map_err(|error| mistake(key, file, error))?;
    let blocks =
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let lists = match blocks {
        Ok(lists) if !lists.is_empty() => lists,
        _ => vec![CertificateRevocationListDer::from(bytes.clone())],
    };
    let is_list = |der: &CertificateRevocationListDer<'_>| matches!(x509_parser::parse_x509_crl(der), Ok((rest, _)) if rest.is_empty());
    if lists.iter().all(is_list) {
        Ok(lists)
    } else {
        Err(mistake(key, file, "is not a certificate revocation list in PEM or DER"))
    }
}

fn ends(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn pem(error: &rustls::pki_types::pem::Error, expected: &str) -> String {
    use rustls::pki_types::pem::Error as Pem;
    match error {
        Pem::Io(error) => format!("can not be read: {error}"),
        other => format!("does not hold {expected}: {other}"),
    }
}

fn mistake(key: &str, file: &Path, what: impl Display) -> String {
    format!("{key}: {} {what}", file.display())
}
