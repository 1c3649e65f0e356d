//! The proxy beside what a team would take in its place, or has already: the SDK of KMS in the service itself,
//! a token called directly, a mock in Node, and a server over the same mTLS that answers from memory.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child as Running, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use signing_core::worker::Start;
use system_tests::{Kind, Scratch, SoftHsm, softhsm};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::child::Child;
use crate::hsm;
use crate::load::{self, Sample, Target};
use crate::parts::{Curve, Part};
use crate::report::load_average;
use crate::rounds::{self, Plan};
use crate::stage::Stage;
use crate::statistics::Spread;

/// What the proxy adds to the p50 of the direct call, over one round trip of mTLS and one sync: at most.
const ADDED_MAX: f64 = 1.0;
/// How long nginx may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads of SoftHSM's loop where several call at once.
const TOKEN_THREADS: usize = 2;

/// The key in it.
const TOKEN_KEY: &str = "P-256";

/// Measures the proxy beside its peers.
#[derive(Clone, Debug, clap::Args)]
pub struct Peers {
    /// Connections, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    pub connections: Vec<usize>,
}

/// What stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Peer {
    Proxy,
    Sdk,
    Token,
    Node,
    Nginx,
    Ceiling,
    Sync,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
struct Row {
    peer: Peer,
    connections: usize,
    per_second: Spread,
    cpu_us: Spread,
    p50_us: Spread,
    p99_us: Spread,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    rounds: usize,
    seconds: f64,
    load_before: f64,
    rows: Vec<Row>,
    /// What the proxy adds to the p50 of the direct call at one connection, in microseconds.
    added_us: Spread,
    /// The same, over one round trip of mTLS and one sync.
    added: Spread,
    met: bool,
}

/// The servers that are measured beside the stage's.
struct Others {
    node: Target,
    nginx: Target,
    token: SoftHsm,
    _node: Child,
    _nginx: Server,
}

/// A server that says nothing of itself. It ends with this.
struct Server(Running);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    const ALL: [Self; 7] =
        [Self::Proxy, Self::Sdk, Self::Token, Self::Node, Self::Nginx, Self::Ceiling, Self::Sync];

    const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "signing-proxy, KMS P-256, mTLS",
            Self::Sdk => "the service calls aws-sdk-kms itself",
            Self::Token => "SoftHSM called directly (C_Sign)",
            Self::Node => "Node mock over HTTP, key in memory",
            Self::Nginx => "nginx, the same mTLS, a static answer",
            Self::Ceiling => "hyper, the same mTLS, a static answer",
            Self::Sync => "write + fdatasync, one by one",
        }
    }

    /// Where it is ahead of the proxy, and what it does not do for that.
    const fn why(self) -> &'static str {
        match self {
            Self::Proxy => "policy, gate, verification, two records on disk before the answer",
            Self::Sdk => {
                "no hop, no verification, no record; each service holds credentials for the key"
            }
            Self::Token => "no network at all; one machine, no record",
            Self::Node => "no TLS, no caller, no record; the key is in the process",
            Self::Nginx | Self::Ceiling => "signs nothing: what mTLS and HTTP alone cost",
            Self::Sync => "what a record on disk costs",
        }
    }
}

/// Measures, so many rounds of so many seconds.
///
/// # Errors
/// If a peer is not installed, or anything does not answer as it should.
pub async fn measure(args: &Peers, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    let (load_before, counting) = (load_average(), Duration::from_secs_f64(seconds));
    let fits = |count: &usize| (1..=256).contains(count);
    ensure!(args.connections.iter().all(fits), "--connections: give 1 to 256");
    let (stage, tls) = Stage::build().await?;
    let others = Others::start(&stage, &tls).await?;
    let plan = Plan {
        counting,
        warm_up: counting / 4,
        rounds,
        connections: args.connections.clone(),
        parts: Vec::new(),
    };
    let cells = args.connections.iter().flat_map(|count| Peer::ALL.map(|peer| (peer, *count)));
    let mut cells: Vec<_> =
        cells.map(|(peer, count)| (peer, count, Vec::<Sample>::new())).collect();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (peer, count, samples) in &mut cells {
            let sample = one(*peer, &stage, &others, &tls, &plan, *count).await;
            samples.push(sample.with_context(|| peer.name())?);
        }
    }
    Ok(Report::of(&cells, (rounds, seconds, load_before)))
}

async fn one(
    peer: Peer,
    stage: &Stage,
    others: &Others,
    tls: &TlsConnector,
    plan: &Plan,
    connections: usize,
) -> anyhow::Result<Sample> {
    let part = match peer {
        Peer::Proxy => Part::Kms(Curve::P256),
        Peer::Sdk => Part::KmsLoop(Curve::P256),
        Peer::Ceiling => Part::CeilingOfSignatures,
        Peer::Sync => Part::BareSync,
        Peer::Token => return others.call_token(plan, connections),
        Peer::Node | Peer::Nginx => {
            let target = if peer == Peer::Node { &others.node } else { &others.nginx };
            return load::run(target, tls, connections, (plan.warm_up, plan.counting)).await;
        }
    };
    rounds::on_stage(stage, tls, plan, part, connections).await
}

impl Others {
    async fn start(stage: &Stage, tls: &TlsConnector) -> anyhow::Result<Self> {
        let asked = stage.target(Part::Kms(Curve::P256)).context("no target")?;
        let answer = String::from_utf8(load::once(&asked, tls).await?)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without an end")?;
        let mut node = Command::new("node");
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/mock.mjs"));
        let (child, address) =
            Child::start(node, |line: &Value| Some(line.get("listen")?.as_str()?.to_owned()))?;
        let node = Target { address, pid: child.pid(), plain: true, ..asked.clone() };
        let (server, address) = nginx(stage.files(), body)?;
        let nginx = Target { address, pid: server.0.id(), ..asked };
        let began = Instant::now();
        while TcpStream::connect(&nginx.address).await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "nginx does not listen; see above");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let token = SoftHsm::new("bench");
        let _ = token.key(TOKEN_KEY, Kind::P256);
        Ok(Self { node, nginx, token, _node: child, _nginx: server })
    }

    /// The bare loop of the worker, without the worker's protocol.
    fn call_token(&self, plan: &Plan, connections: usize) -> anyhow::Result<Sample> {
        let threads = if connections > 1 { TOKEN_THREADS } else { 1 };
        let start = Start {
            module: softhsm::module().display().to_string(),
            token_label: self.token.label.clone(),
            key_label: Some(TOKEN_KEY.to_owned()),
            key_id: None,
            pin_file: self.token.pin_file().display().to_string(),
            threads,
            algorithm: Kind::P256.registry_algorithm().to_owned(),
            files_max: None,
        };
        let files = Scratch::new();
        let start = files.write("start.json", serde_json::to_vec(&start)?);
        let mut worker = Command::new(hsm::worker()?);
        worker.arg("measure").arg(start).arg(plan.counting.as_secs_f64().to_string());
        let looped = hsm::looped(worker, &self.token)?;
        // Each thread calls again as soon as it has its signature.
        let took_us = 1e6 * crate::statistics::float(threads as u64) / looped.per_second();
        Ok(Sample {
            per_second: looped.per_second(),
            cpu_us: looped.cpu_us(),
            load_cpu_us: 0.0,
            p50_us: took_us,
            p99_us: 0.0,
        })
    }
}

/// nginx in one process, as a server with the proxy's certificates that answers `body`.
fn nginx(files: &Scratch, body: &str) -> anyhow::Result<(Server, String)> {
    ensure!(!body.contains(['\'', '$', '\\']), "the answer cannot stand in nginx's configuration");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let dir = files.dir().join("nginx");
    std::fs::create_dir_all(&dir)?;
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {name};\n"))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr;\npid nginx.pid;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n  access_log off;\n{places}  keepalive_timeout 600s;\n  keepalive_requests 1000000000;\n\
         server {{\n  listen 127.0.0.1:{port} ssl;\n  ssl_certificate ../server.pem;\n\
         ssl_certificate_key ../server.key;\n  ssl_client_certificate ../ca.pem;\n  ssl_verify_client on;\n\
         ssl_session_tickets off;\n  ssl_session_cache off;\n  default_type application/json;\n\
         location / {{ return 200 '{body}'; }}\n}}\n}}\n"
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new(nginx_program());
    command.arg("-p").arg(&dir).arg("-c").arg(&config).arg("-e").arg("stderr").stdin(Stdio::null());
    let running =
        command.spawn().context("nginx does not start; benches/run.sh peers installs it")?;
    Ok((Server(running), format!("127.0.0.1:{port}")))
}

/// nginx as `benches/run.sh` unpacked it, or as it is installed.
fn nginx_program() -> PathBuf {
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nginx/usr/sbin/nginx");
    if unpacked.exists() { unpacked } else { "nginx".into() }
}

impl Report {
    fn of(
        cells: &[(Peer, usize, Vec<Sample>)],
        (rounds, seconds, load_before): (usize, f64, f64),
    ) -> Self {
        let spread =
            |samples: &[Sample], of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of));
        let rows = cells.iter().map(|(peer, connections, samples)| Row {
            peer: *peer,
            connections: *connections,
            per_second: spread(samples, |sample| sample.per_second),
            cpu_us: spread(samples, |sample| sample.cpu_us),
            p50_us: spread(samples, |sample| sample.p50_us),
            p99_us: spread(samples, |sample| sample.p99_us),
        });
        let of = |wanted: Peer| {
            let cell = cells.iter().find(|(peer, count, _)| *peer == wanted && *count == 1);
            cell.map(|(_, _, samples)| samples.as_slice()).unwrap_or_default()
        };
        let all = of(Peer::Proxy).iter().zip(of(Peer::Sdk));
        let all = all.zip(of(Peer::Ceiling).iter().zip(of(Peer::Sync)));
        let added: Vec<_> = all
            .map(|((proxy, sdk), (trip, sync))| {
                (proxy.p50_us - sdk.p50_us, trip.p50_us + sync.p50_us)
            })
            .collect();
        let ratio = Spread::of(added.iter().map(|(added, most)| added / most));
        Self {
            rounds,
            seconds,
            load_before,
            rows: rows.collect(),
            added_us: Spread::of(added.iter().map(|(added, _)| *added)),
            added: ratio,
            met: !added.is_empty() && ratio.median <= ADDED_MAX,
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
            "loopback; median of {} rounds of {} s [least..most]; load average before: {}\n",
            self.rounds, self.seconds, self.load_before
        )?;
        writeln!(
            f,
            "{:<38} {:>5} {:>22} {:>20} {:>8} {:>8}  what it does or does not do",
            "peer", "conns", "per s", "CPU us", "p50 us", "p99 us"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<38} {:>5} {:>22} {:>20} {:>8.0} {:>8.0}  {}",
                row.peer.name(),
                row.connections,
                show(&row.per_second, 0),
                show(&row.cpu_us, 1),
                row.p50_us.median,
                row.p99_us.median,
                row.peer.why(),
            )?;
        }
        let verdict = if self.met { "met" } else { "MISSED" };
        writeln!(
            f,
            "\nthe proxy adds to the p50 of the direct call: {} us\n  over one round trip of mTLS and one sync: \
             {}  <= {ADDED_MAX:.0}  {verdict}",
            show(&self.added_us, 0),
            show(&self.added, 2),
        )
    }
}
