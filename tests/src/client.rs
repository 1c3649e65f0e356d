//! Clients: mutual TLS over HTTP/1.1 and HTTP/2, plain HTTP, the admin socket,
//! and raw TLS for requests that no HTTP library would send.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Certificate;

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A client on one connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The port of its end of the connection.
    pub port: u16,
    sender: Sender,
    authority: String,
}

#[derive(Clone, Debug)]
enum Sender {
    Http1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as JSON; null if it is none.
    pub body: Value,
    /// Its body as text.
    pub text: String,
}

impl Answer {
    /// The refusal reason, if it is a refusal.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The signature's bytes.
    #[must_use]
    pub fn signature(&self) -> Vec<u8> {
        let text = self.body["signature"].as_str();
        STANDARD.decode(text.unwrap_or_else(|| panic!("no signature in {self:?}"))).unwrap()
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    /// Connects with that certificate.
    ///
    /// # Errors
    /// What the TLS handshake said. With TLS 1.3 a refused certificate shows at
    /// the first request only.
    pub async fn connect(
        address: &str,
        ca_pem: &str,
        certificate: &Certificate,
        protocol: Protocol,
    ) -> Result<Self, String> {
        Self::connect_with_window(address, ca_pem, certificate, protocol, None).await
    }

    /// Connects; over HTTP/2 the server may send so many bytes of a body at first.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with_window(
        address: &str,
        ca_pem: &str,
        certificate: &Certificate,
        protocol: Protocol,
        window_bytes: Option<u32>,
    ) -> Result<Self, String> {
        let alpn: &[u8] = match protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        let stream = tls(address, ca_pem, Some(certificate), alpn).await?;
        let port = stream.get_ref().0.local_addr().map_err(|e| e.to_string())?.port();
        let io = TokioIo::new(stream);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    http1::handshake(io).await.map_err(|e| format!("{e:?}"))?;
                tokio::spawn(connection);
                Sender::Http1(Arc::new(tokio::sync::Mutex::new(sender)))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(window_bytes)
                    .handshake(io)
                    .await
                    .map_err(|e| format!("{e:?}"))?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { port, sender, authority: address.to_owned() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header("host", &self.authority);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).map_err(|e| e.to_string())?;
        let response = match &self.sender {
            Sender::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(|e| format!("{e:?}"))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.clone().send_request(request).await,
        };
        read(response.map_err(|e| format!("{e:?}"))?).await
    }

    /// Posts JSON; the connection has to hold.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, body.to_string()).await.unwrap()
    }

    /// Gets; the connection has to hold.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await.unwrap()
    }

    /// Asks `kid` to sign a message.
    pub async fn sign_message(&self, kid: &str, message: &[u8]) -> Answer {
        let body = json!({"signer_kid": kid, "message": STANDARD.encode(message)});
        self.post("/v1/sign", &body).await
    }

    /// Asks `kid` to sign a SHA-256 digest.
    pub async fn sign_digest(&self, kid: &str, digest: &[u8]) -> Answer {
        let digest = STANDARD.encode(digest);
        self.post(
            "/v1/sign",
            &json!({"signer_kid": kid, "digest": digest, "digest_algorithm": "sha256"}),
        )
        .await
    }
}

/// A TLS connection with or without a client certificate.
///
/// # Errors
/// What the handshake said.
pub async fn tls(
    address: &str,
    ca_pem: &str,
    certificate: Option<&Certificate>,
    alpn: &[u8],
) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    tls_over(stream, ca_pem, certificate, alpn).await
}

/// As [`tls`], over a connection that is there.
///
/// # Errors
/// What the handshake said.
pub async fn tls_over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ca_pem: &str,
    certificate: Option<&Certificate>,
    alpn: &[u8],
) -> Result<TlsStream<S>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let pem = certificate.certificate_pem.as_bytes();
            let chain = CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())
}

/// Sends raw bytes and reads until the other side closes or is silent after a
/// whole answer.
///
/// # Errors
/// What the connection said before a single byte came.
pub async fn raw(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> Result<String, String> {
    stream.write_all(bytes).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await;
        match read {
            Ok(Ok(0)) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Ok(Ok(count)) => answer.extend_from_slice(&buffer[..count]),
            Ok(Err(error)) if answer.is_empty() => return Err(error.to_string()),
            Ok(Err(_)) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Err(_) => return Err("neither closed nor answered to its end within 20 s".into()),
        }
    }
}

/// A GET over plain HTTP.
pub async fn plain(address: &str, path: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, "GET", path, &[], Bytes::new()).await
}

/// A POST over plain HTTP.
pub async fn post_plain(address: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, "POST", "/", headers, Bytes::from(body.to_string())).await
}

/// A request to a local door, `127.0.0.1:PORT` or `unix:PATH`. It asks for localhost unless
/// `headers` say another `host`.
pub async fn local(
    place: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let says_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = [("host", "localhost")];
    let host = if says_host { &[][..] } else { &host };
    let headers = [host, headers].concat();
    match place.strip_prefix("unix:") {
        Some(path_of_socket) => {
            let stream = UnixStream::connect(path_of_socket).await.unwrap();
            exchange_with(stream, method, path, &headers, body.into()).await
        }
        None => {
            let stream = TcpStream::connect(place).await.unwrap();
            exchange_with(stream, method, path, &headers, body.into()).await
        }
    }
}

/// A request over a unix socket.
pub async fn admin(socket: &Path, method: &str, path: &str, body: Value) -> Answer {
    let stream = UnixStream::connect(socket).await.unwrap();
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    exchange(stream, method, path, &[], body).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    exchange_with(stream, method, path, &[&[("host", "test")], headers].concat(), body).await
}

async fn exchange_with(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::new(body)).unwrap();
    read(sender.send_request(request).await.unwrap()).await.unwrap()
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}
