//! The load: connections that each send the same request again and again, over
//! mTLS and HTTP/1.1. It writes prepared bytes and looks for the end of the
//! answer, no more: an HTTP library would take CPU from the server it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use system_tests::{Certificate, Pki, Profile};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::cpu::{ProcessClock, of_this_thread};
use crate::statistics::{float, percentile};

/// The caller that all load comes from.
pub const CALLER: &str = "spiffe://bench/caller";

/// What is sent, where to, and what has to come back.
#[derive(Clone, Debug)]
pub struct Target {
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// The server's process.
    pub pid: u32,
    /// The whole request.
    pub request: Vec<u8>,
    /// The status of every answer that counts.
    pub status: u16,
    /// Another status that answers may have; these are left out.
    pub aside: Option<u16>,
    /// The least time from one request of a connection to the next; none: at once.
    pub pace: Duration,
    /// Without TLS: a local door.
    pub plain: bool,
}

/// What one part did in one round.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Sample {
    /// Requests or calls in a second.
    pub per_second: f64,
    /// CPU time of each in the process that is measured, in microseconds.
    pub cpu_us: f64,
    /// CPU time of each in the thread that makes the load.
    pub load_cpu_us: f64,
    /// Half of them took at most so long, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took at most so long, in microseconds.
    pub p99_us: f64,
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where all connections are: before, in, or after the time that counts.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

/// What the time that counts cost.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// By the wall clock.
    pub took: Duration,
    /// CPU time of the process that is measured.
    pub cpu: Duration,
    /// CPU time of the thread that waited: of the load, if it has no other.
    pub thread_cpu: Duration,
}

impl Phase {
    const COUNTING: u8 = 1;
    const OVER: u8 = 2;

    /// Whether what ends now counts.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::COUNTING
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::OVER
    }

    /// Warms up, counts, and ends it.
    ///
    /// # Errors
    /// If the process that `clock` belongs to has ended.
    pub async fn run(
        &self,
        warm_up: Duration,
        counting: Duration,
        clock: ProcessClock,
    ) -> anyhow::Result<Timed> {
        tokio::time::sleep(warm_up).await;
        let (started, cpu, thread_cpu) = (Instant::now(), clock.read()?, of_this_thread()?);
        self.0.store(Self::COUNTING, Ordering::Relaxed);
        tokio::time::sleep(counting).await;
        self.0.store(Self::OVER, Ordering::Relaxed);
        Ok(Timed {
            took: started.elapsed(),
            cpu: clock.read()?.saturating_sub(cpu),
            thread_cpu: of_this_thread()?.saturating_sub(thread_cpu),
        })
    }
}

/// A sample out of everything that was counted.
#[must_use]
pub fn sample(mut latencies_ns: Vec<u64>, timed: Timed) -> Sample {
    latencies_ns.sort_unstable();
    let count = float(latencies_ns.len() as u64).max(1.0);
    let micros = |nanos: u64| float(nanos) / 1e3;
    Sample {
        per_second: count / timed.took.as_secs_f64(),
        cpu_us: timed.cpu.as_secs_f64() * 1e6 / count,
        load_cpu_us: timed.thread_cpu.as_secs_f64() * 1e6 / count,
        p50_us: micros(percentile(&latencies_ns, 50)),
        p99_us: micros(percentile(&latencies_ns, 99)),
    }
}

/// Loads `target` over `connections`. To be run on a runtime of one thread,
/// whose CPU time is the load's.
///
/// # Errors
/// If a connection breaks, or an answer has another status than expected.
pub async fn run(
    target: &Target,
    tls: &TlsConnector,
    connections: usize,
    (warm_up, counting): (Duration, Duration),
) -> anyhow::Result<Sample> {
    let (sample, _) = measured(target, tls, connections, (warm_up, counting), false).await?;
    Ok(sample)
}

/// The same, and every answer that counts, to be looked at after.
///
/// # Errors
/// As [`run`].
pub async fn run_and_keep(
    target: &Target,
    tls: &TlsConnector,
    connections: usize,
    times: (Duration, Duration),
) -> anyhow::Result<(Sample, Vec<Vec<u8>>)> {
    measured(target, tls, connections, times, true).await
}

async fn measured(
    target: &Target,
    tls: &TlsConnector,
    connections: usize,
    (warm_up, counting): (Duration, Duration),
    keeps: bool,
) -> anyhow::Result<(Sample, Vec<Vec<u8>>)> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(target, tls).await?);
    }
    let (phase, shared) = (Arc::new(Phase::default()), Arc::new(target.clone()));
    let mut asking = JoinSet::new();
    for stream in streams {
        asking.spawn(ask_until_over(stream, Arc::clone(&shared), Arc::clone(&phase), keeps));
    }
    let timed = phase.run(warm_up, counting, ProcessClock::of(target.pid)?).await?;
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    while let Some(asked) = asking.join_next().await {
        let (took, kept) = asked??;
        latencies.extend(took);
        answers.extend(kept);
    }
    ensure!(!latencies.is_empty(), "{} answered nothing in time", target.address);
    Ok((sample(latencies, timed), answers))
}

/// Sends the request once and returns the whole answer.
///
/// # Errors
/// If the connection breaks.
pub async fn once(target: &Target, tls: &TlsConnector) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(target, tls).await?;
    stream.write_all(&target.request).await?;
    let mut answer = Vec::new();
    read_answer(stream.as_mut(), &mut answer).await?;
    Ok(answer)
}

/// A connection on which the request was answered once, and nothing happens any more.
///
/// # Errors
/// If it breaks, or the answer has another status than expected.
pub async fn kept(target: &Target, tls: &TlsConnector) -> anyhow::Result<impl Sized> {
    let mut stream = connect(target, tls).await?;
    stream.write_all(&target.request).await?;
    let mut answer = Vec::new();
    read_answer(stream.as_mut(), &mut answer).await?;
    let expected = format!("HTTP/1.1 {} ", target.status);
    ensure!(answer.starts_with(expected.as_bytes()), "expected {}", target.status);
    Ok(stream)
}

/// A connection.
///
/// # Errors
/// If there is none.
pub async fn stream(
    target: &Target,
    tls: &TlsConnector,
) -> anyhow::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    connect(target, tls).await
}

/// A POST of JSON.
#[must_use]
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// TLS as the caller.
///
/// # Errors
/// If the material does not fit together.
pub fn tls(pki: &Pki) -> anyhow::Result<TlsConnector> {
    tls_of(pki, "http/1.1")
}

/// The same, for that protocol (ALPN).
///
/// # Errors
/// As [`tls`].
pub fn tls_of(pki: &Pki, protocol: &str) -> anyhow::Result<TlsConnector> {
    let Certificate { certificate_pem, key_pem, .. } = pki.issue(&Profile::client(CALLER));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?,
        )?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(target: &Target, tls: &TlsConnector) -> anyhow::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    if target.plain {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(tls.connect(ServerName::try_from("localhost")?, stream).await?))
}

async fn ask_until_over(
    mut stream: Box<dyn Stream>,
    target: Arc<Target>,
    phase: Arc<Phase>,
    keeps: bool,
) -> anyhow::Result<(Vec<u64>, Vec<Vec<u8>>)> {
    let expected = format!("HTTP/1.1 {} ", target.status).into_bytes();
    let aside = target.aside.map(|status| format!("HTTP/1.1 {status} ").into_bytes());
    let (mut latencies, mut kept) = (Vec::new(), Vec::new());
    let mut answer = Vec::with_capacity(4096);
    while !phase.is_over() {
        let asked = Instant::now();
        stream.write_all(&target.request).await?;
        read_answer(stream.as_mut(), &mut answer).await?;
        let took = asked.elapsed();
        if !target.pace.is_zero() {
            tokio::time::sleep_until((asked + target.pace).into()).await;
        }
        if aside.as_ref().is_some_and(|aside| answer.starts_with(aside)) {
            continue;
        }
        if !answer.starts_with(&expected) {
            bail!("expected {}, got {}", target.status, String::from_utf8_lossy(&answer));
        }
        if phase.counts() {
            latencies.push(u64::try_from(took.as_nanos())?);
            if keeps {
                kept.push(answer.clone());
            }
        }
    }
    Ok((latencies, kept))
}

/// Reads one answer, which says its length.
async fn read_answer(stream: &mut dyn Stream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        let read = stream.read_buf(answer).await?;
        ensure!(read > 0, "the server closed the connection");
        if let Some(length) = whole_length(answer)?
            && answer.len() >= length
        {
            return Ok(());
        }
    }
}

/// How long the whole answer is, once its head is there.
fn whole_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = answer.get(..end).unwrap_or_default();
    let name = b"\r\ncontent-length: ";
    let at = head
        .windows(name.len())
        .position(|window| window.eq_ignore_ascii_case(name))
        .context("an answer without a content-length")?;
    let digits = head.get(at + name.len()..).unwrap_or_default();
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(Some(end + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\ndate: x\r\n\r\n";
        assert_eq!(whole_length(answer).unwrap(), Some(answer.len() + 12));
        // As nginx writes it.
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(whole_length(answer).unwrap(), Some(answer.len() + 12));
        assert_eq!(whole_length(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        assert!(whole_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
