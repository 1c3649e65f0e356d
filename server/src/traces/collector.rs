//! Sends spans to the collector: in batches, without a second attempt, each batch bounded in time and
//! on a connection of its own. A collector that hangs, lies or dies costs spans and nothing else.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use signing_core::json;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::Receiver;

use super::encode;
use super::span::Span;
use configuration::TracesEndpoint;
use telemetry::metrics::TraceSpans;

/// Requests in one batch.
const BATCH_MAX: usize = 256;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(500);
/// After a batch that the collector did not take: the queue fills meanwhile, and what it does not
/// hold is lost.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// An answer has a few bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// The collector, as it is reached.
struct Collector {
    endpoint: TracesEndpoint,
    timeout: Duration,
    deployment: String,
    counts: TraceSpans,
}

/// Starts the thread that sends what `queued` gives, until nobody can queue more.
///
/// # Errors
/// If the system gives no thread or no runtime.
pub(super) fn start(
    (endpoint, timeout): (TracesEndpoint, Duration),
    deployment: &str,
    queued: Receiver<Span>,
    counts: TraceSpans,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let collector = Collector { endpoint, timeout, deployment: deployment.to_owned(), counts };
    std::thread::Builder::new().name("traces".into()).spawn(move || {
        runtime.block_on(collector.run(queued));
        // A name that is still being looked up holds nothing up.
        runtime.shutdown_background();
    })?;
    Ok(())
}

impl Collector {
    async fn run(&self, mut queued: Receiver<Span>) {
        let (mut batch, mut pause) = (Vec::with_capacity(BATCH_MAX), PAUSE_MIN);
        while gather(&mut queued, &mut batch).await {
            let (body, count) = encode::request(&self.deployment, &batch);
            batch.clear();
            let sent = tokio::time::timeout(self.timeout, self.post(body)).await;
            let why = match sent {
                Ok(Ok(rejected)) => {
                    let rejected = rejected.min(count);
                    self.counts.rejected.increment(rejected);
                    self.counts.sent.increment(count - rejected);
                    if pause > PAUSE_MIN {
                        tracing::info!(target: "traces", "the collector takes spans again");
                    }
                    pause = PAUSE_MIN;
                    continue;
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no answer within {} ms", self.timeout.as_millis()),
            };
            self.counts.failed.increment(count);
            if pause == PAUSE_MIN {
                let endpoint = self.endpoint.to_string();
                tracing::warn!(target: "traces", endpoint, why, "the collector takes no spans");
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
            tokio::time::sleep(pause).await;
        }
    }

    /// How many spans of the batch the collector did not take.
    async fn post(&self, body: String) -> Result<u64, String> {
        let TracesEndpoint { host, port, path } = &self.endpoint;
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port))
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, format!("{host}:{port}"))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let mut answer = pin!(async {
            let response = sender.send_request(request).await;
            rejected(response.map_err(|error| error.to_string())?).await
        });
        tokio::select! {
            biased;
            rejected = &mut answer => rejected,
            // What came before it ended is still read.
            _ = connection => answer.await,
        }
    }
}

/// Fills an empty batch. False: nobody can queue more.
async fn gather(queued: &mut Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    if queued.recv_many(batch, BATCH_MAX).await == 0 {
        return false;
    }
    let mut until = pin!(tokio::time::sleep(GATHER));
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        tokio::select! {
            count = queued.recv_many(batch, room) => if count == 0 { return true },
            () = &mut until => return true,
        }
    }
    true
}

/// What an answer says of spans that were not taken (`partialSuccess`); a number comes as text too.
async fn rejected(response: Response<Incoming>) -> Result<u64, String> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("it answered {status}"));
    }
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
    let said: Value = json::from_slice(&body).unwrap_or_default();
    let rejected = said.pointer("/partialSuccess/rejectedSpans");
    let number = rejected.and_then(|number| {
        number.as_u64().or_else(|| number.as_str().and_then(|text| text.parse().ok()))
    });
    Ok(number.unwrap_or_default())
}
