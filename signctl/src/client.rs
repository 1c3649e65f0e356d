//! One request over the admin socket or to the health listener.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A proxy that does not answer in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);
const BODY_MAX_BYTES: usize = 16 << 20;

/// What the proxy answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    /// Whether it is a refusal (RFC 9457).
    pub(crate) fn is_problem(&self) -> bool {
        self.body.get("type").is_some()
    }
}

pub(crate) fn get(socket: &Path, path: &str) -> anyhow::Result<Reply> {
    over_socket(socket, request(Method::GET, path, "admin", Bytes::new())?)
}

pub(crate) fn post(socket: &Path, path: &str, body: &Value) -> anyhow::Result<Reply> {
    over_socket(socket, request(Method::POST, path, "admin", Bytes::from(body.to_string()))?)
}

pub(crate) fn get_url(url: &str) -> anyhow::Result<Reply> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("{url:?}: the health listener speaks http://, such as http://127.0.0.1:9464/health");
    }
    let authority = uri.authority().ok_or_else(|| anyhow!("{url:?} names no host"))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = request(Method::GET, path, authority.as_str(), Bytes::new())?;
    run(async {
        let stream = TcpStream::connect(&address).await.with_context(|| {
            format!("{address} does not answer; is signing-proxy running there?")
        })?;
        exchange(stream, request).await
    })
}

fn over_socket(socket: &Path, request: Request<Full<Bytes>>) -> anyhow::Result<Reply> {
    run(async {
        let stream = UnixStream::connect(socket).await.with_context(|| {
            format!(
                "the admin socket {} does not answer; is signing-proxy running, is --socket right, \
                 may this user open it?",
                socket.display()
            )
        })?;
        exchange(stream, request).await
    })
}

fn request(
    method: Method,
    path: &str,
    host: &str,
    body: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json");
    Ok(builder.body(Full::new(body))?)
}

fn run(exchange: impl Future<Output = anyhow::Result<Reply>>) -> anyhow::Result<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| anyhow!("no answer within {} s", TIMEOUT.as_secs()))?
    })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Reply> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange; its error is the exchange's too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the connection broke")?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer broke off: {error}"))?
        .to_bytes();
    let body = serde_json::from_slice(&body)
        .context("the answer is not JSON; is this a signing-proxy?")?;
    Ok(Reply { status, body })
}
