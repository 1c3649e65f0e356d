//! The load over HTTP/2: connections with so many streams each, which send the same request again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::cpu::ProcessClock;
use crate::load::{self, Phase, Sample, Target, sample};

/// What the proxy may send ahead of our reading: as much as clients for many streams let it. With the 64 KiB of the
/// standard, answers come in pieces.
const WINDOW_BYTES: u32 = 16 << 20;

/// So many connections, and so many streams on each.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// Connections.
    pub connections: usize,
    /// Streams of each.
    pub of_each: usize,
}

/// Posts `body` to `/v1/sign` of `target` over all streams at once. If it `keeps` them, the bodies of all answers that
/// count come back too.
///
/// # Errors
/// If a connection breaks, or an answer has another status than 200.
pub async fn run(
    target: &Target,
    tls: &TlsConnector,
    body: &str,
    streams: Streams,
    (warm_up, counting): (Duration, Duration),
    keeps: bool,
) -> anyhow::Result<(Sample, Vec<Vec<u8>>)> {
    let (phase, body) = (Arc::new(Phase::default()), Bytes::from(body.to_owned()));
    let (mut drivers, mut asking) = (JoinSet::new(), JoinSet::new());
    for _ in 0..streams.connections {
        let stream = load::stream(target, tls).await?;
        let mut client = h2::client::Builder::new();
        client.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = client.handshake(stream).await?;
        drivers.spawn(connection);
        for _ in 0..streams.of_each {
            let (requests, body, phase) = (requests.clone(), body.clone(), Arc::clone(&phase));
            asking.spawn(async move { ask_until_over(requests, body, &phase, keeps).await });
        }
    }
    let timed = phase.run(warm_up, counting, ProcessClock::of(target.pid)?).await?;
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    while let Some(asked) = asking.join_next().await {
        let (took, kept) = asked??;
        latencies.extend(took);
        answers.extend(kept);
    }
    drivers.abort_all();
    ensure!(!latencies.is_empty(), "{} answered nothing in time", target.address);
    Ok((sample(latencies, timed), answers))
}

async fn ask_until_over(
    mut requests: SendRequest<Bytes>,
    body: Bytes,
    phase: &Phase,
    keeps: bool,
) -> anyhow::Result<(Vec<u64>, Vec<Vec<u8>>)> {
    let (mut latencies, mut kept) = (Vec::new(), Vec::new());
    while !phase.is_over() {
        let asked = Instant::now();
        requests = requests.ready().await?;
        let request = Request::post("https://localhost/v1/sign")
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .body(())?;
        let (answer, mut sending) = requests.send_request(request, false)?;
        sending.send_data(body.clone(), true)?;
        let answer = answer.await?;
        ensure!(answer.status() == 200, "expected 200, got {}", answer.status());
        let (mut answered, mut whole) = (answer.into_body(), Vec::new());
        while let Some(piece) = answered.data().await {
            let piece = piece?;
            answered.flow_control().release_capacity(piece.len())?;
            if keeps {
                whole.extend_from_slice(&piece);
            }
        }
        if phase.counts() {
            latencies.push(u64::try_from(asked.elapsed().as_nanos())?);
            if keeps {
                kept.push(whole);
            }
        }
    }
    Ok((latencies, kept))
}
