//! A receiver of webhooks: keeps what it is sent, and answers as it is told, well or badly. It has a
//! thread and a runtime of its own.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pki::{Pki, Profile};

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With that status and body.
    Answer(u16, String),
    /// By leading elsewhere.
    Redirect(String),
    /// Never.
    Hang,
    /// With a body that never ends.
    Endless,
    /// By closing the connection.
    Close,
}

/// A request that it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether it was answered with 200 to 299.
    pub accepted: bool,
}

/// A running receiver. It ends with the process.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Whether it speaks TLS.
    encrypted: bool,
    manner: Arc<Mutex<Manner>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Sent {
    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Its body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Receiver {
    /// Starts one that answers 200.
    #[must_use]
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// The same over TLS, with a certificate of `pki`; clients have to have one of `clients`.
    #[must_use]
    pub fn start_tls(pki: &Pki, clients: Option<&Pki>) -> Self {
        let server = pki.issue(&Profile::server());
        let chain = CertificateDer::pem_slice_iter(server.certificate_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from_pem_slice(clients.ca_pem.as_bytes()).unwrap();
                roots.add(root).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Self::serve(Some(TlsAcceptor::from(Arc::new(
            builder.with_single_cert(chain, key).unwrap(),
        ))))
    }

    fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let manner = Arc::new(Mutex::new(Manner::Answer(200, "ok".to_owned())));
        let encrypted = tls.is_some();
        let receiver = Self { address, encrypted, manner, sent: Arc::default() };
        let serving = receiver.clone();
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let (serving, tls) = (serving.clone(), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => serving.connection(stream).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    serving.connection(stream).await;
                                }
                            }
                        }
                    });
                }
            });
        };
        std::thread::Builder::new().name("receiver".into()).spawn(body).unwrap();
        receiver
    }

    /// Its URL with that path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// How it answers from now on.
    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// It answers well from now on.
    pub fn mend(&self) {
        self.set(Manner::Answer(200, "ok".to_owned()));
    }

    /// Every request so far.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Those that it accepted.
    #[must_use]
    pub fn accepted(&self) -> Vec<Sent> {
        self.sent().into_iter().filter(|sent| sent.accepted).collect()
    }

    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        if *self.manner.lock().unwrap() == Manner::Close {
            return;
        }
        let service = service_fn(|request| {
            let receiver = self.clone();
            async move { Ok::<_, Infallible>(receiver.answer(request).await) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        let manner = self.manner.lock().unwrap().clone();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        self.sent.lock().unwrap().push(Sent {
            path: head.uri.to_string(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body,
            accepted: match manner {
                Manner::Answer(status, _) => (200..300).contains(&status),
                Manner::Endless => true,
                Manner::Redirect(_) | Manner::Hang | Manner::Close => false,
            },
        });
        let response = Response::builder();
        match manner {
            Manner::Answer(status, body) => {
                response.status(status).body(Full::new(Bytes::from(body)).boxed()).unwrap()
            }
            Manner::Redirect(to) => {
                let body = Full::new(Bytes::new()).boxed();
                response.status(302).header("location", to).body(body).unwrap()
            }
            Manner::Endless => response.body(Zeros.boxed()).unwrap(),
            Manner::Hang | Manner::Close => pending().await,
        }
    }
}

/// A body that never ends.
struct Zeros;

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'0'; 1024])))))
    }
}
