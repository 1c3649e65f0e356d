//! One request over verified TLS (or to loopback in clear): no redirects, no
//! proxies, every read bounded. Who calls it bounds its time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use host::secret::{self, Fault, SecretError, Wanted};
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use signctl::failure::Failure;
use signctl::target::Target;

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// PEM of the authorities to trust instead of the platform's.
    pub(crate) ca: Option<PathBuf>,
    /// PEM of the client's certificates, and of their key.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Whether only an address of this machine is talked to.
    pub(crate) loopback_only: bool,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is asked.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Beside those of every request.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Bytes,
}

impl Ask {
    /// A GET.
    pub(crate) fn get() -> Self {
        Self { method: Method::GET, headers: Vec::new(), body: Bytes::new() }
    }
}

/// Gets what is at `target`.
pub(crate) async fn get(
    target: &Target,
    trust: &Trust,
    body_max_bytes: usize,
) -> Result<Answer, Failure> {
    ask(target, trust, &Ask::get(), body_max_bytes).await
}

/// Asks `target`.
pub(crate) async fn ask(
    target: &Target,
    trust: &Trust,
    ask: &Ask,
    body_max_bytes: usize,
) -> Result<Answer, Failure> {
    if !target.encrypted {
        let stream = connect(target, trust).await?;
        return exchange(stream, target, ask, body_max_bytes).await;
    }
    let (name, of_files) = (server_name(target)?, trust.clone());
    // Reading files may hang; here it hangs a thread that nobody waits for.
    let config = tokio::task::spawn_blocking(move || client_config(&of_files))
        .await
        .map_err(|error| Failure::new("internal", error))??;
    let stream = connect(target, trust).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| Failure::new("tls", format!("no TLS with it: {error}{}", hint(&error))))?;
    exchange(stream, target, ask, body_max_bytes).await
}

async fn connect(target: &Target, trust: &Trust) -> Result<TcpStream, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::new("unreachable", format!("cannot be connected to: {error}; does it run there?"))
    };
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port));
    let addresses: Vec<_> = addresses
        .await
        .map_err(unreachable)?
        .filter(|address| !trust.loopback_only || address.ip().is_loopback())
        .collect();
    if addresses.is_empty() && trust.loopback_only {
        return Err(Failure::new(
            "not_encrypted",
            "is not encrypted, and http:// is taken only of this machine's loopback, since whoever \
             stands between could answer instead; use https:// and a client certificate",
        ));
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(unreachable)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    ask: &Ask,
    body_max_bytes: usize,
) -> Result<Answer, Failure> {
    let broken = |error: hyper::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| error.to_string());
        Failure::new("no_answer", format!("gave no HTTP answer: {cause}{}", hint(&cause)))
    };
    let headers = ask.headers.iter();
    let request = headers
        .fold(Request::builder(), |request, (name, value)| request.header(*name, *value))
        .method(&ask.method)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, concat!("signctl/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(ask.body.clone()))
        .map_err(|error| Failure::new("bad_url", error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the exchange; its error is the exchange's too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, body_max_bytes).collect().await.map_err(|error| {
        Failure::new(
            "bad_answer",
            format!("its answer breaks off or is beyond {body_max_bytes} bytes: {error}"),
        )
    })?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
}

/// What to look at, by the words of the TLS library.
fn hint(error: &impl ToString) -> &'static str {
    let error = error.to_string();
    if error.contains("UnknownIssuer") {
        "; name the PEM of its authority (--ca, for KMS --kms-ca)"
    } else if error.contains("certificate expired") {
        "; renew the server's certificate, and look at this machine's clock"
    } else if error.contains("not valid for name") {
        "; ask for a name that the server's certificate has"
    } else if error.contains("received fatal alert") {
        "; it needs a client certificate of its authority that is valid and not revoked: --client-cert \
         and --client-key"
    } else {
        ""
    }
}

fn server_name(target: &Target) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(target.host.clone())
        .map_err(|_| Failure::new("bad_url", "names a host that no certificate can be of"))
}

fn client_config(trust: &Trust) -> Result<ClientConfig, Failure> {
    let failed = |what: String| Failure::new("client_certificate", what);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new("internal", error))?
        .with_root_certificates(roots(trust.ca.as_deref())?);
    let mut config = match (&trust.certificate, &trust.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).map_err(failed)?;
            let of_key = |fault| failed(SecretError::new(key, Wanted::TlsKey, fault).to_string());
            let private = secret::private_key(key, Wanted::TlsKey)
                .map_err(|error| failed(error.to_string()))?;
            let private = PrivateKeyDer::try_from(private.der.to_vec())
                .map_err(|_| of_key(Fault::Damaged))?;
            // The library's own words could quote the key.
            builder.with_client_auth_cert(chain, private).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => of_key(Fault::OtherKey),
                _ => of_key(Fault::Damaged),
            })?
        }
        (Some(_), None) => {
            return Err(failed("no key goes with the client certificate; name both".into()));
        }
        (None, Some(_)) => {
            return Err(failed("no client certificate goes with the key; name both".into()));
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let failed = |what: String| Failure::new("ca", what);
    let mut store = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates(file).map_err(failed)? {
                store.add(certificate).map_err(|error| {
                    failed(format!(
                        "{} holds a certificate that is no authority: {error}",
                        file.display()
                    ))
                })?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(failed(
            "this machine has no authorities of its own; name a PEM (--ca, --kms-ca)".into(),
        ));
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = secret::certificates(file).map_err(|error| error.to_string())?;
    Ok(read.into_iter().map(CertificateDer::from).collect())
}
