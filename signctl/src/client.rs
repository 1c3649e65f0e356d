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
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use signing_core::admin::{Problem, path};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A proxy that does not answer in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A reload may wait for another one, then reads every file anew, and each of these has a
/// limit of its own: the sum may be more than the above.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The doctor waits for upstreams that do not answer.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(50);
/// A drill takes its time, and ends by itself before this.
const DRILL_TIMEOUT: Duration = Duration::from_secs(65);
/// What was asked does not fit what is.
pub(crate) const CONFLICT: u16 = 409;
const BODY_MAX_BYTES: usize = 16 << 20;

/// What the proxy answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    /// An answer that this program makes itself, of what another one than the proxy said.
    pub(crate) fn of(status: u16, body: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self { status, body: serde_json::to_value(body)? })
    }

    /// Reads what the words for a person are made of. What is not known here is left to `--json`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        signing_core::json::from_slice(&serde_json::to_vec(&self.body)?).context(
            "the answer is not what this signctl expects; run the same release of both, or take --json",
        )
    }

    /// The refusal that it is: of RFC 9457, or of a break-glass command that was not carried out.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        let problem: Problem = self.read().ok()?;
        (problem.kind.is_some() || self.status == CONFLICT).then_some(problem)
    }

    /// What is said of a refusal: its reason and its sentence.
    pub(crate) fn refused(&self) -> String {
        match self.refusal() {
            Some(Problem { reason, detail, .. }) => format!("{reason}: {detail}"),
            None => format!("HTTP {} without a reason; is this a signing proxy?", self.status),
        }
    }
}

pub(crate) fn get(socket: &Path, path: &str) -> anyhow::Result<Reply> {
    get_within(socket, path, TIMEOUT)
}

/// The same, for whoever waits for another time.
pub(crate) fn get_within(socket: &Path, path: &str, within: Duration) -> anyhow::Result<Reply> {
    over_socket(socket, request(Method::GET, path, "admin", Bytes::new())?, within)
}

pub(crate) fn post(socket: &Path, path: &str, body: &impl Serialize) -> anyhow::Result<Reply> {
    let body = Bytes::from(serde_json::to_vec(body)?);
    let request = request(Method::POST, path, "admin", body)?;
    over_socket(socket, request, patience(path))
}

/// How long the answer to a verb may take.
fn patience(path: &str) -> Duration {
    match path {
        path::RELOAD => RELOAD_TIMEOUT,
        path::DOCTOR => DOCTOR_TIMEOUT,
        path::DRILL => DRILL_TIMEOUT,
        _ => TIMEOUT,
    }
}

/// Reads the address of a health listener.
pub(crate) fn health_url(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    uri.ok_or_else(|| {
        "the health listener speaks http://, such as http://127.0.0.1:9464/health".to_owned()
    })
}

pub(crate) fn get_url(uri: &Uri) -> anyhow::Result<Reply> {
    let (address, request) = plain(uri)?;
    run(TIMEOUT, "", async { exchange(connected(&address).await?, request).await })
}

/// The text at an address of the metrics listener.
pub(crate) fn get_text(uri: &Uri) -> anyhow::Result<Vec<u8>> {
    let (address, request) = plain(uri)?;
    run(TIMEOUT, "", async {
        let (status, body) = sent(connected(&address).await?, request).await?;
        if status != 200 {
            bail!("{uri} answers {status}");
        }
        Ok(body.to_vec())
    })
}

/// The address of `uri`, and a request for what is there.
fn plain(uri: &Uri) -> anyhow::Result<(String, Request<Full<Bytes>>)> {
    let authority = uri.authority().ok_or_else(|| anyhow!("{uri} names no host"))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((address, request(Method::GET, path, authority.as_str(), Bytes::new())?))
}

async fn connected(address: &str) -> anyhow::Result<TcpStream> {
    let connecting = TcpStream::connect(address).await;
    connecting
        .with_context(|| format!("{address} does not answer; is signing-proxy running there?"))
}

fn over_socket(
    socket: &Path,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> anyhow::Result<Reply> {
    // What was asked is not taken back when nobody waits for the answer any more.
    let afterwards = if request.method() == Method::GET {
        ""
    } else {
        "; it may still take effect; look at `signctl status` and the log"
    };
    run(timeout, afterwards, async {
        let stream = UnixStream::connect(socket).await.with_context(|| {
            format!(
                "the admin socket {} does not answer; is signing-proxy running, is --socket (or \
                 SIGNCTL_SOCKET) right, may this user open it?",
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

/// Waits for an exchange no longer than `timeout`; `afterwards` ends the sentence that
/// says that it took longer.
fn run<T>(
    timeout: Duration,
    afterwards: &str,
    exchange: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| anyhow!("no answer within {} s{afterwards}", timeout.as_secs_f64()))?
    })
}

/// The status and the body that a request is answered with.
async fn sent(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(u16, Bytes)> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange; its error is the exchange's too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the connection broke")?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_MAX_BYTES).collect().await;
    let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Reply> {
    let (status, body) = sent(stream, request).await?;
    let body: Value = signing_core::json::from_slice(&body)
        .context("the answer is not a JSON object; is this a signing-proxy?")?;
    if !body.is_object() {
        bail!("the answer is not a JSON object; is this a signing-proxy?");
    }
    Ok(Reply { status, body })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_reload_may_take_longer_than_another_verb() {
        assert_eq!(patience(path::RELOAD), Duration::from_secs(30));
        assert_eq!(patience(path::FREEZE), Duration::from_secs(10));
    }

    #[test]
    fn a_change_that_is_not_answered_in_time_may_still_take_effect_and_a_look_may_not() {
        let socket = std::env::temp_dir().join(format!("signctl-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        // It listens, and never answers.
        let listener = UnixListener::bind(&socket).unwrap();
        let ask = |method| {
            let request = request(method, path::RELOAD, "admin", Bytes::new()).unwrap();
            let failed = over_socket(&socket, request, Duration::from_millis(50)).err().unwrap();
            failed.to_string()
        };
        let (changed, looked) = (ask(Method::POST), ask(Method::GET));
        drop(listener);
        let _ = std::fs::remove_file(&socket);
        assert!(looked.ends_with("no answer within 0.05 s"), "{looked}");
        let words = "it may still take effect; look at `signctl status` and the log";
        assert!(changed.ends_with(words), "{changed}");
    }
}
