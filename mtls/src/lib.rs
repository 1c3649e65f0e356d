//! TLS of the data plane: client certificates required, with the client EKU
//! present; no resumption, no tickets, no early data, so that every connection
//! verifies the certificate it acts under.

mod anchors;
mod authority;
mod dated;
mod der;
mod files;
mod list;
mod lists;
mod names;
mod notes;
mod points;
mod revocation;
mod stamp;
mod terms;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use host::clock::rfc3339;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::{CertificateError, Error, ProtocolVersion, ServerConfig, ServerConnection};
use time::OffsetDateTime;

use anchors::Anchors;
use files::{certificates, mistake, private_key, unusable};
use revocation::Revocation;
use terms::unix;
use verifier::ClientVerifier;

pub use dated::Dated;
pub use list::revokes_all_that_it_lists;
pub use names::caller;
pub use stamp::Stamp;
pub use verifier::handshake;

/// What the data plane's TLS is made of: the configuration's `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM chain of the server.
    pub certificate_file: PathBuf,
    /// PEM private key of the server.
    pub private_key_file: PathBuf,
    /// PEM of the authorities that issue client certificates.
    pub client_ca_file: PathBuf,
    /// PEM or DER revocation lists; empty: no revocation check.
    pub client_crl_files: Vec<PathBuf>,
    /// Whether TLS 1.2 (AEAD suites) is taken besides 1.3.
    pub tls12: bool,
    /// Whether files that are swapped are read without an order.
    pub watch: bool,
}

/// The server's TLS, ready to accept.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// rustls' side of it.
    pub config: Arc<ServerConfig>,
    verifier: Arc<ClientVerifier>,
    tls12: bool,
    is_watched: bool,
    stamp: Stamp,
    certificate: Dated,
    authorities: Vec<Dated>,
    revocation_lists: Vec<Dated>,
}

impl ServerTls {
    /// Reads certificates, key, authorities and revocation lists.
    ///
    /// # Errors
    /// Every mistake at once, each a sentence with key, file and fix.
    pub fn load(files: &Files, now: OffsetDateTime) -> Result<Self, Vec<String>> {
        // Before all reading: what is swapped meanwhile looks otherwise afterwards, and is read again.
        let stamp = Stamp::of(files);
        let mut mistakes = Vec::new();
        let mut mistaken = |found: String| mistakes.push(found);
        let chain = certificates("server.tls.certificate_file", &files.certificate_file);
        let chain = chain.map_err(&mut mistaken).ok();
        let key = private_key(&files.private_key_file).map_err(&mut mistaken).ok();
        let anchors =
            Anchors::load(&files.client_ca_file, now).map_err(|found| mistakes.extend(found)).ok();
        let lists = lists::load(&files.client_crl_files, anchors.as_ref());
        let lists = lists.map_err(|found| mistakes.extend(found)).ok();
        let certificate = chain.as_ref().and_then(|chain| {
            let dated = dated::of_chain(&files.certificate_file, chain);
            let mistake = match &dated {
                None => "holds what is not an X.509 certificate; fetch it again".to_owned(),
                Some(_) => {
                    let own = dated::of_chain(&files.certificate_file, chain.get(..1)?)?;
                    if own.ends > now {
                        return dated;
                    }
                    let ended = rfc3339(own.ends);
                    format!("ended at {ended}, so every client refuses it; renew it")
                }
            };
            mistakes.push(self::mistake(
                "server.tls.certificate_file",
                &files.certificate_file,
                mistake,
            ));
            None
        });
        let (Some(chain), Some(key), Some(anchors), Some(lists), Some(certificate)) =
            (chain, key, anchors, lists, certificate)
        else {
            return Err(mistakes);
        };

        let verifier = Arc::new(ClientVerifier::new(anchors, lists));
        let versions: &[_] = if files.tls12 {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .map(|builder| builder.with_client_cert_verifier(Arc::clone(&verifier) as _))
            .and_then(|builder| builder.with_single_cert(chain, key));
        let mut config = config.map_err(|why| vec![unusable(&files.private_key_file, &why)])?;
        // A resumed session would keep a certificate's caller without looking at the
        // certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            tls12: files.tls12,
            is_watched: files.watch,
            stamp,
            certificate,
            authorities: verifier.anchors().dated(),
            revocation_lists: lists::dated(verifier.revocation()),
            verifier,
        })
    }

    /// How the files looked before they were read.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether files that are swapped are read without an order.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// When the server's own certificate counts.
    pub fn certificate(&self) -> &Dated {
        &self.certificate
    }

    /// When each of the client authorities counts.
    pub fn authorities(&self) -> &[Dated] {
        &self.authorities
    }

    /// When each of the revocation lists counts.
    pub fn revocation_lists(&self) -> &[Dated] {
        &self.revocation_lists
    }

    /// For metrics: the position of each authority in the file, the beginning of its key's
    /// SHA-256, and when it expires.
    pub fn authority_ends(&self) -> impl Iterator<Item = (usize, String, OffsetDateTime)> {
        let authorities = self.verifier.anchors().iter();
        (1..).zip(authorities).map(|(position, one)| (position, one.key_name(), one.dated.ends))
    }

    /// For metrics: the file of each list, its position there, and when it expires.
    pub fn list_ends(&self) -> impl Iterator<Item = (usize, usize, OffsetDateTime)> {
        let lists = self.verifier.revocation().map(Revocation::all).unwrap_or_default();
        lists.into_iter().map(|one| (one.place.0, one.place.1, one.dated.ends))
    }

    /// What deserves attention although it is no mistake; what ends within `soon` does.
    pub fn notes(&self, now: OffsetDateTime, soon: time::Duration) -> Vec<String> {
        let (anchors, lists) = (self.verifier.anchors(), self.verifier.revocation());
        let mut notes = notes::certificate(&self.certificate, now, soon);
        notes.extend(notes::authorities(anchors, lists, now, soon));
        if let Some(lists) = lists {
            notes.extend(notes::revocation_lists(lists, anchors, now));
        }
        notes
    }

    /// Until when a client that came in as `handshake` would be let in at `now`; None: not at
    /// all. After a reload, those who are in already are asked again.
    pub fn lets_in(
        &self,
        handshake: &FinishedHandshake,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let version_fits = self.tls12 || handshake.version == Some(ProtocolVersion::TLSv1_3);
        let (leaf, intermediates) = handshake.chain.split_first().filter(|_| version_fits)?;
        self.verifier.verify(leaf, intermediates, unix(now)).ok()
    }

    /// Why a handshake failed, for the log: rustls does not say whose time it is not.
    pub fn why(&self, error: &std::io::Error) -> String {
        use CertificateError::{ExpiredContext, ExpiredRevocationListContext, NotValidYetContext};
        let source = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        let Some(Error::InvalidCertificate(why)) = source else { return error.to_string() };
        #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors; these have a time")]
        let told = match why {
            ExpiredContext { not_after, .. } => {
                let it = self.authorities.iter().find(|one| unix(one.ends) == *not_after);
                it.map(|one| format!("{} expired at {}", one.what, rfc3339(one.ends)))
            }
            NotValidYetContext { not_before, .. } => {
                let it = self.authorities.iter().find(|one| unix(one.begins) == *not_before);
                it.map(|one| format!("{} is valid only from {}", one.what, rfc3339(one.begins)))
            }
            ExpiredRevocationListContext { next_update, .. } => {
                let it = self.revocation_lists.iter().find(|one| unix(one.ends) == *next_update);
                it.map(|one| format!("{} expired at {}", one.what, rfc3339(one.ends)))
            }
            _ => None,
        };
        told.map_or_else(|| error.to_string(), |told| format!("{error}: {told}"))
    }
}

/// What a finished handshake showed.
#[derive(Debug)]
pub struct FinishedHandshake {
    /// The client's certificate first, then its intermediates.
    chain: Vec<CertificateDer<'static>>,
    version: Option<ProtocolVersion>,
}

impl FinishedHandshake {
    /// Of a connection whose handshake is over.
    #[must_use]
    pub fn of(session: &ServerConnection) -> Self {
        let chain = session.peer_certificates().unwrap_or_default();
        Self {
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            version: session.protocol_version(),
        }
    }
}
