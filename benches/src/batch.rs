//! A batch signer under load: how many verifiable signatures a core of the proxy makes while KMS takes
//! 10 ms for a call and allows 1,000 calls in a second.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use signed_note::{Note, StandardVerifier, VerifierList};
use signing_core::batch::{Salt, verifier_key};
use signing_core::{Digest, Hash, Input, Registry, Signer, ToBeSigned};
use system_tests::proxy::batch_entry;
use system_tests::{Fault, Kind, Operation, World};

use crate::http2::{self, Streams};
use crate::load::{self, CALLER, Sample, Target};
use crate::report::load_average;
use crate::stage::DIGEST;
use crate::statistics::{Spread, float};

/// What KMS takes for a call.
const LATENCY: Duration = Duration::from_millis(10);
/// How many calls it allows in a second.
const CALLS_PER_SECOND: u64 = 1_000;
/// Signatures in a second for each core of the proxy's CPU: at least.
const PER_CORE_MIN: f64 = 25_000.0;
/// The p99, in microseconds: two round trips and 10 ms, at most.
const P99_MAX_US: f64 = 30_000.0;
/// So many proofs of each round are verified by code that is not ours, too.
const SAMPLE: usize = 100;
const KID: &str = "bulk";
/// The deployment of the harness.
const DEPLOYMENT: &str = "test";

/// Measures signatures of a batch signer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Batched {
    /// Requests in flight: over HTTP/1.1 each on a connection of its own.
    #[arg(long = "in-flight", default_value_t = 1024)]
    pub in_flight: usize,
    /// Requests of each connection of HTTP/2: as many streams as the proxy takes by default.
    #[arg(long, default_value_t = 128)]
    pub streams: usize,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    in_flight: usize,
    rounds: usize,
    seconds: f64,
    load_before: f64,
    over: Vec<OverProtocol>,
}

/// What was measured over one protocol.
#[derive(Clone, Debug, Serialize)]
struct OverProtocol {
    protocol: &'static str,
    connections: usize,
    signatures_per_second: Spread,
    per_core: Spread,
    leaves_per_call: Spread,
    calls_per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// Proofs that were verified, all of them after the time that counts.
    verified: usize,
    met: [bool; 2],
}

/// One round over one protocol.
#[derive(Debug)]
struct Round {
    sample: Sample,
    leaves_per_call: f64,
    calls_per_second: f64,
    verified: usize,
}

/// Measures, so many rounds of so many seconds.
///
/// # Errors
/// If anything does not sign, or an answer does not verify.
pub async fn measure(args: &Batched, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    let Batched { in_flight, streams } = *args;
    ensure!((1..=4096).contains(&in_flight), "--in-flight {in_flight}: give 1 to 4096");
    ensure!((1..=256).contains(&streams), "--streams {streams}: give 1 to 256");
    let (load_before, counting) = (load_average(), Duration::from_secs_f64(seconds));
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let room: String = [
        ("requests_in_flight_max", 8192),
        ("requests_in_flight_per_caller_max", 8192),
        ("connections_max", 8192),
        ("connections_per_caller_max", 8192),
        ("handshakes_max", 8192),
        ("handshakes_per_address_max", 8192),
        ("http2_streams_max", 256),
    ]
    .iter()
    .map(|(name, most)| format!("{name} = {most}\n"))
    .collect();
    let proxy = world
        .proxy()
        .rare_canaries()
        .server(&room)
        .kms(&format!("requests_per_second_max = {CALLS_PER_SECOND}"))
        .batch_signer(KID, &key)
        .caller(CALLER, &[KID])
        .start()
        .await;
    key.break_with(Fault::Latency(LATENCY));
    let registry = json!({"signers": [batch_entry(KID, &key)]}).to_string();
    let registry = Registry::from_json(&registry).and_then(|it| it.of_deployment(DEPLOYMENT));
    let registry = registry.map_err(|mistakes| anyhow::anyhow!(mistakes.join("; ")))?;
    let signer = registry.get(KID).context("no signer")?;
    let digest = STANDARD.encode(DIGEST);
    let body = json!({"signer_kid": KID, "digest": digest, "digest_algorithm": "sha256"});
    let body = body.to_string();
    let target = Target {
        address: proxy.listen.clone(),
        pid: proxy.process.pid(),
        request: load::post("/v1/sign", &body),
        status: 200,
        aside: None,
        pace: Duration::ZERO,
        plain: false,
    };
    let (over_1, over_2) = (load::tls(&world.pki)?, load::tls_of(&world.pki, "h2")?);
    let of_2 = Streams { connections: in_flight.div_ceil(streams), of_each: streams };
    let protocols = [("HTTP/1.1", in_flight), ("HTTP/2", of_2.connections)];
    let mut measured = [Vec::new(), Vec::new()];
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}");
        for ((protocol, _), all) in protocols.iter().zip(&mut measured) {
            let (times, before) = ((counting / 4, counting), key.calls(Operation::Sign));
            let (sample, bodies) = if *protocol == "HTTP/2" {
                http2::run(&target, &over_2, &body, of_2, times, true).await?
            } else {
                let (sample, answers) =
                    load::run_and_keep(&target, &over_1, in_flight, times).await?;
                (sample, answers.iter().map(|answer| body_of(answer)).collect::<Result<_, _>>()?)
            };
            let calls = float(key.calls(Operation::Sign) - before);
            let took = (counting + counting / 4).as_secs_f64();
            all.push(Round {
                // Warm-up included on both sides.
                leaves_per_call: sample.per_second * took / calls.max(1.0),
                calls_per_second: calls / took,
                verified: verify(&bodies, signer)?,
                sample,
            });
        }
    }
    let over = protocols.iter().zip(&measured);
    let over =
        over.map(|((protocol, connections), all)| OverProtocol::of(protocol, *connections, all));
    Ok(Report { in_flight, rounds, seconds, load_before, over: over.collect() })
}

/// What stands behind the head of an answer.
fn body_of(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")? + 4;
    Ok(answer.get(at..).unwrap_or_default().to_vec())
}

/// Verifies every answer, and a sample of them by code that shares nothing with ours; no two are one.
fn verify(answers: &[Vec<u8>], signer: &Signer) -> anyhow::Result<usize> {
    let input = Input::Digest(Digest::new(Hash::Sha256, &DIGEST)?);
    let input = signer.prepare(&input, signer.algorithm())?;
    let mut seen = BTreeSet::new();
    let every = answers.len().div_ceil(SAMPLE).max(1);
    for (number, answer) in answers.iter().enumerate() {
        let body: Value = serde_json::from_slice(answer)?;
        let proof = body.get("signature").and_then(Value::as_str).context("no signature")?;
        signer.verify(&input, proof.as_bytes().to_vec()).context("a proof does not verify")?;
        ensure!(seen.insert(proof.to_owned()), "a proof was given out twice");
        if number % every == 0 {
            verify_by_others(proof, &input, signer)?;
        }
    }
    Ok(answers.len())
}

fn verify_by_others(proof: &str, input: &ToBeSigned, signer: &Signer) -> anyhow::Result<()> {
    let (head, note) = proof.split_once("\n\n").context("no note")?;
    let name = signer.batch.key_name().context("no name")?;
    let line = verifier_key(name, &signer.public_key).context("no Ed25519 key")?;
    let note = Note::from_bytes(note.as_bytes()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let known = StandardVerifier::new(&line).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let known = VerifierList::new(vec![Box::new(known)]);
    note.verify(&known).map_err(|error| anyhow::anyhow!("signed_note: {error:?}"))?;
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text())
        .map_err(|error| anyhow::anyhow!("tlog_tiles: {error:?}"))?;
    let hash = |text: &str| {
        let bytes = STANDARD.decode(text)?;
        <[u8; 32]>::try_from(bytes).map_err(|_| anyhow::anyhow!("a hash of another length"))
    };
    let mut lines = head.split('\n').skip(1);
    let salt = lines.next().and_then(|line| line.strip_prefix("extra ")).context("no extra")?;
    let index = lines.next().and_then(|line| line.strip_prefix("index ")).context("no index")?;
    let path = lines.map(|line| hash(line).map(tlog_tiles::Hash));
    let path = path.collect::<anyhow::Result<_>>()?;
    let leaf = signer.leaf(input, &Salt::new(hash(salt)?)).context("no leaf")?;
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let leaf = tlog_tiles::Hash(*leaf.as_bytes());
    tlog_tiles::check_record(&path, size, root, index.parse()?, leaf)
        .map_err(|error| anyhow::anyhow!("tlog_tiles: {error:?}"))
}

impl OverProtocol {
    fn of(protocol: &'static str, connections: usize, rounds: &[Round]) -> Self {
        let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
        let per_core = spread(|round| 1e6 / round.sample.cpu_us);
        let p99_us = spread(|round| round.sample.p99_us);
        Self {
            protocol,
            connections,
            signatures_per_second: spread(|round| round.sample.per_second),
            per_core,
            leaves_per_call: spread(|round| round.leaves_per_call),
            calls_per_second: spread(|round| round.calls_per_second),
            p50_us: spread(|round| round.sample.p50_us),
            p99_us,
            verified: rounds.iter().map(|round| round.verified).sum(),
            met: [per_core.median >= PER_CORE_MIN, p99_us.median <= P99_MAX_US],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread =
            |Spread { median, min, max }: &Spread| format!("{median:.0} [{min:.0}..{max:.0}]");
        writeln!(
            f,
            "batch signer, Ed25519, {} in flight, mTLS; KMS takes {} ms and {CALLS_PER_SECOND} calls/s; \
             journal on disk; median of {} rounds of {} s; load average before: {}",
            self.in_flight,
            LATENCY.as_millis(),
            self.rounds,
            self.seconds,
            self.load_before
        )?;
        for over in &self.over {
            writeln!(f, "\n{}, {} connections", over.protocol, over.connections)?;
            let mut line = |name: &str, value: String| writeln!(f, "{name:<36} {value:>26}");
            line("signatures/s", spread(&over.signatures_per_second))?;
            line("leaves of a call", spread(&over.leaves_per_call))?;
            line("calls/s", spread(&over.calls_per_second))?;
            line("p50 us", spread(&over.p50_us))?;
            line("proofs verified", over.verified.to_string())?;
            let [per_core, p99] = over.met.map(|met| if met { "met" } else { "MISSED" });
            let of_core = spread(&over.per_core);
            writeln!(
                f,
                "signatures/s per core of proxy CPU: {of_core}  >= {PER_CORE_MIN:.0}  {per_core}"
            )?;
            writeln!(f, "p99 us: {}  <= {P99_MAX_US:.0}  {p99}", spread(&over.p99_us))?;
        }
        Ok(())
    }
}
