//! The ceiling: a bare hyper server over mTLS that reads each request's body
//! and answers what the proxy once answered. What the proxy costs beyond it is
//! the proxy's own work.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The answer to every request.
#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Serves until it is killed: the answer in `dir/NAME`, with the certificates
/// of `dir`. Says where in one line of JSON.
///
/// # Errors
/// If a file cannot be used, or no port is free.
pub async fn serve(dir: &Path, name: &str) -> anyhow::Result<()> {
    let answer = Arc::new(Answer::read(&std::fs::read(dir.join(name))?)?);
    let acceptor = TlsAcceptor::from(Arc::new(tls(dir)?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"listen": listener.local_addr()?.to_string()}));
    loop {
        let (socket, _) = listener.accept().await?;
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            // A connection that breaks ends; the load says so.
            if let Ok(stream) = acceptor.accept(socket).await {
                let service = service_fn(move |request| respond(Arc::clone(&answer), request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn respond(
    answer: Arc<Answer>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.status_mut() = match request.into_body().collect().await {
        Ok(_) => answer.status,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    response.headers_mut().clone_from(&answer.headers);
    Ok(response)
}

impl Answer {
    /// Out of the bytes of a whole answer. Left out is what hyper adds itself.
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").context("a header without a value")?;
            if name != "date" && name != "content-length" {
                let name = HeaderName::from_bytes(name.as_bytes())?;
                headers.insert(name, HeaderValue::from_str(value)?);
            }
        }
        Ok(Self {
            status: status.context("an answer without a status")?.parse()?,
            headers,
            body: Bytes::from(body.to_owned()),
        })
    }
}

/// As the data plane's: client certificates required, no resumption.
fn tls(dir: &Path) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem"))?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(dir.join("server.pem"))?],
            PrivateKeyDer::from_pem_file(dir.join("server.key"))?,
        )?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
