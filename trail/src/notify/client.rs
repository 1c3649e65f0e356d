//! One POST over verified TLS (or to loopback in clear): no redirect is followed, no proxy is used, all
//! of it within one deadline, and no more of the answer is read than asked for. Files are read again
//! for each connection, so that a new certificate or token needs no restart.

use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::clock::now;
use host::files;
use host::secret::{self, Wanted};
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use signing_core::Moment;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::target::Target;
use crate::config::{Endpoint, Url};

/// How long files are taken for what they were.
const FILES_FOR: Duration = Duration::from_secs(30);
const URL_MAX_BYTES: usize = 2048;
const TOKEN_MAX_BYTES: usize = 8192;
/// A receiver cannot keep us away for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(900);

/// Sends requests to one server.
pub(crate) struct Client {
    endpoint: Endpoint,
    /// Added to the path of the URL.
    path: &'static str,
    loaded: Option<(Moment, Arc<Loaded>)>,
}

/// What the files of an endpoint say.
pub(crate) struct Loaded {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    token: Option<HeaderValue>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    pub(crate) retry_after: Option<Duration>,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, path: &'static str) -> Self {
        Self { endpoint, path, loaded: None }
    }

    /// Sends `body`, and reads the answer's body if it has at most `answer_max_bytes`; 0: the status is enough.
    ///
    /// # Errors
    /// Why there is no answer, in words that hold no URL and no secret.
    pub(crate) async fn post(
        &mut self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
        answer_max_bytes: usize,
    ) -> Result<Answer, String> {
        let within = self.endpoint.timeout;
        let sent = timeout(within, self.send(headers, body, answer_max_bytes)).await;
        let sent = sent
            .unwrap_or_else(|_| Err(format!("gave no answer within {} ms", within.as_millis())));
        if sent.is_err() {
            // The next attempt begins with the files.
            self.loaded = None;
        }
        sent
    }

    async fn send(
        &mut self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
        answer_max_bytes: usize,
    ) -> Result<Answer, String> {
        let loaded = self.loaded().await?;
        let Target { host, port, authority, path, .. } = &loaded.target;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("signing-trail/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        for (name, value) in self.endpoint.headers.iter().cloned().chain(headers) {
            request = request.header(name, value);
        }
        if let Some(token) = &loaded.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request =
            request.body(Full::new(body)).map_err(|_| "its URL cannot be sent".to_owned())?;
        let unreachable = |error: std::io::Error| format!("cannot be connected to: {error}");
        let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(unreachable)?;
        // In clear only to this machine, whatever its name resolves to.
        let is_taken =
            |address: &std::net::SocketAddr| loaded.target.encrypted || address.ip().is_loopback();
        let addresses: Vec<_> = found.filter(is_taken).collect();
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(unreachable)?;
        match &loaded.tls {
            None => exchange(stream, request, answer_max_bytes).await,
            Some(config) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| "its URL names a host that no certificate can be of".to_owned())?;
                let connecting = TlsConnector::from(Arc::clone(config)).connect(name, stream);
                let stream =
                    connecting.await.map_err(|error| format!("no TLS with it: {error}"))?;
                exchange(stream, request, answer_max_bytes).await
            }
        }
    }

    async fn loaded(&mut self) -> Result<Arc<Loaded>, String> {
        if let Some((at, loaded)) = &self.loaded
            && now().since(*at) < FILES_FOR
        {
            return Ok(Arc::clone(loaded));
        }
        let (endpoint, path) = (self.endpoint.clone(), self.path);
        // Reading files may hang; here it hangs a thread that nobody waits for.
        let loading = tokio::task::spawn_blocking(move || Loaded::read(&endpoint, path));
        let loaded = loading.await.map_err(|_| "its files cannot be read".to_owned())?;
        let loaded = Arc::new(loaded.map_err(|(key, what)| format!("{key}: {what}"))?);
        self.loaded = Some((now(), Arc::clone(&loaded)));
        Ok(loaded)
    }
}

impl Loaded {
    /// Reads the files of an endpoint.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub(crate) fn read(endpoint: &Endpoint, path: &str) -> Result<Self, (&'static str, String)> {
        let (key, url) = match &endpoint.url {
            Url::Here(url) => ("url", url.clone()),
            Url::File(file) => {
                ("url_file", one_line(file, URL_MAX_BYTES).map_err(|why| ("url_file", why))?)
            }
        };
        let target = Target::parse(&url, path).map_err(|why| (key, why))?;
        let token = endpoint.token_file.as_deref().map(|file| {
            let token = one_line(file, TOKEN_MAX_BYTES)?;
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| format!("{}: holds no token", file.display()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let token = token.transpose().map_err(|why| ("bearer_token_file", why))?;
        let tls = if target.encrypted { Some(Arc::new(config(endpoint)?)) } else { None };
        Ok(Self { target, tls, token })
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded(..)")
    }
}

/// The one line in a file, such as a token: visible ASCII.
pub(crate) fn one_line(file: &Path, max_bytes: usize) -> Result<String, String> {
    let text = files::read_text(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    let is_one = (1..=max_bytes).contains(&line.len());
    if is_one && line.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(line.to_owned())
    } else {
        Err(format!(
            "{}: is not one line of 1 to {max_bytes} visible ASCII characters",
            file.display()
        ))
    }
}

fn config(endpoint: &Endpoint) -> Result<ClientConfig, (&'static str, String)> {
    let internal = |error: rustls::Error| ("url", error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .with_root_certificates(
            roots(endpoint.ca_file.as_deref()).map_err(|why| ("ca_file", why))?,
        );
    let mut config = match &endpoint.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = secret::certificates(certificate)
                .map_err(|error| ("certificate_file", error.to_string()))?;
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            let private = secret::private_key(key, Wanted::TlsKey)
                .map_err(|error| ("key_file", error.to_string()))?;
            let private = PrivateKeyDer::try_from(private.der.to_vec()).ok();
            let pair = private.and_then(|key| builder.with_client_auth_cert(chain, key).ok());
            // The library's own words could quote the key.
            let what = format!("{}: is no key of certificate_file", key.display());
            pair.ok_or(("key_file", what))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for der in secret::certificates(file).map_err(|error| error.to_string())? {
                roots.add(CertificateDer::from(der)).map_err(|error| {
                    format!("{}: a certificate is no authority: {error}", file.display())
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(
            "is missing, and this machine has no authorities of its own; name a PEM".to_owned()
        );
    }
    Ok(roots)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    answer_max_bytes: usize,
) -> Result<Answer, String> {
    let broken = |error: hyper::Error| {
        let cause = error.source().map(ToString::to_string);
        format!("gave no HTTP answer: {}", cause.unwrap_or_else(|| error.to_string()))
    };
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with this exchange, also where the exchange is given up.
    let connection = Ending(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let retry_after =
        head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let body = if answer_max_bytes == 0 {
        Bytes::new()
    } else {
        let read = Limited::new(body, answer_max_bytes).collect().await;
        read.map_err(|_| {
            format!("has an answer that breaks off or has more than {answer_max_bytes} bytes")
        })?
        .to_bytes()
    };
    drop(connection);
    Ok(Answer { status: head.status.as_u16(), body, retry_after })
}

/// A task that ends with its owner.
struct Ending(tokio::task::JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}
