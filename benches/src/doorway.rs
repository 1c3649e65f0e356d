//! What connections cost: signatures over HTTP/2 beside HTTP/1.1, handshakes with client certificates beside a
//! bare server's, and the memory of connections on which nothing happens.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde_json::{Value, json};
use system_tests::{Kind, Profile, Scratch, World};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::child::Child;
use crate::cpu::ProcessClock;
use crate::http2::{self, Streams};
use crate::load::{self, CALLER, Phase, Sample, Target, sample};
use crate::report::load_average;
use crate::stage::{DIGEST, ourselves};
use crate::statistics::{Spread, float};

/// Memory of a connection that idles, in KiB: below.
const IDLE_KIB_MAX: f64 = 40.0;
/// Memory of a proxy without connections, in MiB: below.
const RESIDENT_MIB_MAX: f64 = 30.0;
/// Handshakes at once.
const SHAKING: usize = 8;
const KID: &str = "ec";

/// Measures what connections cost.
#[derive(Clone, Debug, clap::Args)]
pub struct Doorway {
    /// Streams of one HTTP/2 connection, and connections of HTTP/1.1, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    pub streams: Vec<usize>,
    /// Connections that idle.
    #[arg(long, default_value_t = 1000)]
    pub idle: usize,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    rounds: usize,
    seconds: f64,
    load_before: f64,
    signatures: Vec<Signatures>,
    handshakes: Handshakes,
    memory: Memory,
}

/// Signatures over one HTTP/2 connection with so many streams, and over as many HTTP/1.1 connections.
#[derive(Clone, Debug, Serialize)]
struct Signatures {
    streams: usize,
    http2_per_second: Spread,
    http2_cpu_us: Spread,
    http2_p50_us: Spread,
    http2_p99_us: Spread,
    http1_per_second: Spread,
    http1_cpu_us: Spread,
    /// CPU of a signature over HTTP/2, as a part of one over HTTP/1.1.
    cpu_ratio: Spread,
}

/// Full handshakes with a client certificate, without a request.
#[derive(Clone, Debug, Serialize)]
struct Handshakes {
    per_second: Spread,
    cpu_us: Spread,
    bare_per_second: Spread,
    bare_cpu_us: Spread,
    /// CPU of the bare server's, as a part of the proxy's.
    cpu_ratio: Spread,
}

/// Of a proxy of its own.
#[derive(Clone, Debug, Serialize)]
struct Memory {
    connections: usize,
    /// After its start.
    resident_mib: f64,
    /// Of a connection that carried one request and idles.
    idle_kib: f64,
    met: [bool; 2],
}

/// Measures, so many rounds of so many seconds.
///
/// # Errors
/// If anything does not answer as it should.
pub async fn measure(args: &Doorway, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    let (load_before, counting) = (load_average(), Duration::from_secs_f64(seconds));
    let fits = |count: &usize| (1..=256).contains(count);
    ensure!(args.streams.iter().all(fits), "--streams: give 1 to 256");
    ensure!((1..=4096).contains(&args.idle), "--idle {}: give 1 to 4096", args.idle);
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let room: String = [
        "requests_in_flight_max",
        "requests_in_flight_per_caller_max",
        "connections_max",
        "connections_per_caller_max",
        "handshakes_max",
        "handshakes_per_address_max",
        "http2_streams_max",
    ]
    .iter()
    .map(|name| {
        // As many streams as are measured; else as many as it takes.
        let most = if *name == "http2_streams_max" { 256 } else { 8192 };
        format!("{name} = {most}\n")
    })
    .collect();
    let proxy = world.proxy().rare_canaries().server(&room).signer(KID, &key);
    let proxy = proxy.caller(CALLER, &[KID]).start().await;
    let (http1, over_2) = (load::tls(&world.pki)?, load::tls_of(&world.pki, "h2")?);
    let body = json!({
        "signer_kid": KID, "digest": STANDARD.encode(DIGEST), "digest_algorithm": "sha256",
    });
    let target = Target {
        address: proxy.listen.clone(),
        pid: proxy.process.pid(),
        request: load::post("/v1/sign", &body.to_string()),
        status: 200,
        aside: None,
        pace: Duration::ZERO,
        plain: false,
    };
    // Before anything else has used memory.
    let memory = memory(args.idle, &target, &http1).await?;
    let (files, ceiling) = bare(&world)?;
    let bare_target = Target { address: ceiling.1.clone(), pid: ceiling.0.pid(), ..target.clone() };

    let times = (counting / 4, counting);
    let mut signatures: Vec<_> = args.streams.iter().map(|_| (Vec::new(), Vec::new())).collect();
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (streams, (over2, over1)) in args.streams.iter().zip(&mut signatures) {
            let streams_of = Streams { connections: 1, of_each: *streams };
            let body = body.to_string();
            let (sample, _) = http2::run(&target, &over_2, &body, streams_of, times, false).await?;
            over2.push(sample);
            over1.push(load::run(&target, &http1, *streams, times).await?);
        }
        ours.push(handshakes(&target, &http1, times).await?);
        bares.push(handshakes(&bare_target, &http1, times).await?);
    }
    drop(files);
    let signatures = args.streams.iter().zip(&signatures);
    Ok(Report {
        rounds,
        seconds,
        load_before,
        signatures: signatures.map(|(streams, of)| Signatures::of(*streams, of)).collect(),
        handshakes: Handshakes::of(&ours, &bares),
        memory,
    })
}

/// A bare server with the certificates of the proxy's clients.
fn bare(world: &World) -> anyhow::Result<(Scratch, (Child, String))> {
    let (files, server) = (Scratch::new(), world.pki.issue(&Profile::server()));
    files.write("server.pem", &server.certificate_pem);
    files.write("server.key", &server.key_pem);
    files.write("ca.pem", &world.pki.ca_pem);
    files.write("answer", "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}");
    let mut command = ourselves("ceiling")?;
    command.arg(files.dir()).arg("answer");
    let started =
        Child::start(command, |line: &Value| Some(line.get("listen")?.as_str()?.to_owned()))?;
    Ok((files, started))
}

/// Opens so many connections, each of which carries one request, and looks what they take.
async fn memory(count: usize, target: &Target, tls: &TlsConnector) -> anyhow::Result<Memory> {
    // What a first request makes once and for all is no connection's.
    load::once(target, tls).await?;
    let before = resident_kib(target.pid)?;
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(load::kept(target, tls).await?);
    }
    let idle_kib = float(resident_kib(target.pid)?.saturating_sub(before)) / float(count as u64);
    let resident_mib = float(before) / 1024.0;
    drop(open);
    let met = [idle_kib < IDLE_KIB_MAX, resident_mib < RESIDENT_MIB_MAX];
    Ok(Memory { connections: count, resident_mib, idle_kib, met })
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Shakes hands again and again, and closes.
async fn handshakes(
    target: &Target,
    tls: &TlsConnector,
    (warm_up, counting): (Duration, Duration),
) -> anyhow::Result<Sample> {
    let (phase, target) = (Arc::new(Phase::default()), Arc::new(target.clone()));
    let mut handshakes = JoinSet::new();
    for _ in 0..SHAKING {
        let (phase, target, tls) = (Arc::clone(&phase), Arc::clone(&target), tls.clone());
        handshakes.spawn(async move {
            let mut latencies = Vec::new();
            while !phase.is_over() {
                let began = Instant::now();
                let stream = TcpStream::connect(&target.address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost")?;
                let stream = tls.connect(name, stream).await?;
                if phase.counts() {
                    latencies.push(u64::try_from(began.elapsed().as_nanos())?);
                }
                drop(stream);
            }
            anyhow::Ok(latencies)
        });
    }
    let timed = phase.run(warm_up, counting, ProcessClock::of(target.pid)?).await?;
    let mut latencies = Vec::new();
    while let Some(handshake) = handshakes.join_next().await {
        latencies.extend(handshake??);
    }
    ensure!(!latencies.is_empty(), "{} shook no hands in time", target.address);
    Ok(sample(latencies, timed))
}

fn spread(samples: &[Sample], of: fn(&Sample) -> f64) -> Spread {
    Spread::of(samples.iter().map(of))
}

fn cpu_ratio(of: &[Sample], over: &[Sample]) -> Spread {
    Spread::of(of.iter().zip(over).map(|(of, over)| of.cpu_us / over.cpu_us))
}

impl Signatures {
    fn of(streams: usize, (over2, over1): &(Vec<Sample>, Vec<Sample>)) -> Self {
        Self {
            streams,
            http2_per_second: spread(over2, |sample| sample.per_second),
            http2_cpu_us: spread(over2, |sample| sample.cpu_us),
            http2_p50_us: spread(over2, |sample| sample.p50_us),
            http2_p99_us: spread(over2, |sample| sample.p99_us),
            http1_per_second: spread(over1, |sample| sample.per_second),
            http1_cpu_us: spread(over1, |sample| sample.cpu_us),
            cpu_ratio: cpu_ratio(over2, over1),
        }
    }
}

impl Handshakes {
    fn of(ours: &[Sample], bares: &[Sample]) -> Self {
        Self {
            per_second: spread(ours, |sample| sample.per_second),
            cpu_us: spread(ours, |sample| sample.cpu_us),
            bare_per_second: spread(bares, |sample| sample.per_second),
            bare_cpu_us: spread(bares, |sample| sample.cpu_us),
            cpu_ratio: cpu_ratio(bares, ours),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |of: &Spread, digits: usize| {
            let Spread { median, min, max } = of;
            format!("{median:.digits$} [{min:.digits$}..{max:.digits$}]")
        };
        writeln!(
            f,
            "KMS P-256, mTLS; median of {} rounds of {} s; load average before: {}\n",
            self.rounds, self.seconds, self.load_before
        )?;
        writeln!(
            f,
            "{:<28} {:>22} {:>22} {:>10} {:>10} {:>22} {:>22}",
            "signatures over HTTP/2",
            "HTTP/2 per s",
            "CPU us",
            "p50 us",
            "p99 us",
            "HTTP/1.1 per s",
            "CPU us"
        )?;
        for of in &self.signatures {
            writeln!(
                f,
                "{:<28} {:>22} {:>22} {:>10.0} {:>10.0} {:>22} {:>22}",
                format!("{} streams / connections", of.streams),
                show(&of.http2_per_second, 0),
                show(&of.http2_cpu_us, 1),
                of.http2_p50_us.median,
                of.http2_p99_us.median,
                show(&of.http1_per_second, 0),
                show(&of.http1_cpu_us, 1),
            )?;
            writeln!(f, "  CPU, HTTP/2 / HTTP/1.1: {}", show(&of.cpu_ratio, 2))?;
        }
        let Handshakes { per_second, cpu_us, bare_per_second, bare_cpu_us, cpu_ratio } =
            &self.handshakes;
        writeln!(f, "\nhandshakes with client certificates, {SHAKING} at once")?;
        for (name, rate, cpu) in
            [("proxy", per_second, cpu_us), ("bare server", bare_per_second, bare_cpu_us)]
        {
            writeln!(f, "{name:<28} {:>22} per s {:>22} CPU us", show(rate, 0), show(cpu, 1))?;
        }
        writeln!(f, "  CPU, bare / proxy: {}", show(cpu_ratio, 2))?;
        let Memory { connections, resident_mib, idle_kib, met } = &self.memory;
        let [idle, resident] = met.map(|met| if met { "met" } else { "MISSED" });
        writeln!(
            f,
            "\nKiB of each of {connections} idle connections: {idle_kib:.1}  < {IDLE_KIB_MAX:.0}  {idle}"
        )?;
        writeln!(
            f,
            "MiB resident without connections: {resident_mib:.1}  < {RESIDENT_MIB_MAX:.0}  {resident}"
        )
    }
}
