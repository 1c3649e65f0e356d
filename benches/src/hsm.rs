//! The hop to a PKCS#11 token: signatures through the worker beside the bare loop of
//! `C_Sign` in the same worker with the same threads, on Debian's SoftHSM2.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use host::clock::now;
use release::{CanaryOrder, Operation, Probes, Purpose};
use serde::{Deserialize, Serialize};
use signing_core::worker::Start;
use signing_core::{AttemptsId, Canary, Registry};
use system_tests::{Kind, SoftHsm, softhsm};
use tokio::task::JoinSet;
use upstream::settings::Pkcs11;
use upstream::{FaultSwitch, Ledger, Patience, Pkcs11Clients, Provider, Upstream};

use crate::cpu::ProcessClock;
use crate::report::load_average;
use crate::stage::ourselves;
use crate::statistics::{Spread, float, percentile};

/// The hop's throughput, as a part of the bare loop's: at least.
const RATIO_MIN: f64 = 0.8;

/// Calls under way for each of the worker's threads.
const CALLS_PER_THREAD: usize = 8;
/// No call waits so long.
const CALL_MAX: Duration = Duration::from_secs(60);

/// What is measured.
const KINDS: [(&str, Kind); 3] =
    [("Ed25519", Kind::Ed25519), ("P-256", Kind::P256), ("RSA-2048", Kind::Rsa2048)];

/// Measures the hop to a token's worker.
#[derive(Clone, Debug, clap::Args)]
pub struct Hsm {
    /// Threads of the worker.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
}

/// Calls through the worker, in a process of its own.
#[derive(Clone, Debug, clap::Args)]
pub struct HsmLoop {
    /// What the worker is told, as JSON.
    #[arg(long)]
    pub start: PathBuf,
    /// The registry that has the key as `key`.
    #[arg(long)]
    pub registry: PathBuf,
    /// Calls at once.
    #[arg(long)]
    pub calls: usize,
    /// The time that counts, in seconds.
    #[arg(long)]
    pub seconds: f64,
}

/// What one loop did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Looped {
    /// How many signatures were made.
    pub signatures: u64,
    /// In how long.
    pub seconds: f64,
    /// CPU time of everything that took part.
    pub cpu_seconds: f64,
    /// Half of them took at most so long; 0 where it was not measured.
    #[serde(default)]
    pub p50_us: f64,
}

/// One kind of key, round by round.
#[derive(Clone, Debug, Serialize)]
struct Row {
    key: &'static str,
    bare_per_second: Spread,
    hop_per_second: Spread,
    ratio: Spread,
    /// CPU time that the hop adds to one signature, on both of its sides.
    cost_us: Spread,
    /// CPU time of a bare signature, as a part of one through the worker: what the ratio is
    /// on a machine that does nothing else.
    cpu_ratio: Spread,
    /// What the hop adds to one signature when nothing else is under way.
    alone_us: Spread,
    met: bool,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    threads: usize,
    rounds: usize,
    seconds: f64,
    load_before: f64,
    rows: Vec<Row>,
}

/// Measures everything, so many rounds of so many seconds.
///
/// # Errors
/// If anything does not sign.
pub fn measure(hsm: &Hsm, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    ensure!((1..=64).contains(&hsm.threads), "--threads {}: give 1 to 64", hsm.threads);
    let load_before = load_average();
    let token = SoftHsm::new("bench");
    let mut rows = Vec::new();
    for (name, kind) in KINDS {
        let key = token.key(name, kind);
        let entry = system_tests::proxy::entry("key", &key);
        let files = system_tests::Scratch::new();
        let registry =
            files.write("signers.json", serde_json::json!({"signers": [entry]}).to_string());
        let start = |threads: usize| -> anyhow::Result<PathBuf> {
            let start = Start {
                module: softhsm::module().display().to_string(),
                token_label: token.label.clone(),
                key_label: Some(name.to_owned()),
                key_id: None,
                pin_file: token.pin_file().display().to_string(),
                threads,
                algorithm: kind.registry_algorithm().to_owned(),
                files_max: None,
            };
            Ok(files.write(&format!("start-{threads}.json"), serde_json::to_vec(&start)?))
        };
        let (all, one) = (start(hsm.threads)?, start(1)?);
        let bare = |start: &PathBuf| -> anyhow::Result<Looped> {
            let mut worker = Command::new(worker()?);
            worker.arg("measure").arg(start).arg(seconds.to_string());
            looped(worker, &token)
        };
        let hop = |start: &PathBuf, calls: usize| -> anyhow::Result<Looped> {
            let mut command = ourselves("hsm-loop")?;
            command.arg("--start").arg(start).arg("--registry").arg(&registry);
            command.arg("--calls").arg(calls.to_string());
            command.arg("--seconds").arg(seconds.to_string());
            looped(command, &token)
        };
        let (mut bares, mut hops, mut ratios, mut alone) = (vec![], vec![], vec![], vec![]);
        let (mut costs, mut cpu_ratios) = (vec![], vec![]);
        for round in 1..=rounds {
            eprintln!("{name}, round {round} of {rounds}");
            let direct = bare(&all)?;
            let through = hop(&all, hsm.threads * CALLS_PER_THREAD)?;
            bares.push(direct.per_second());
            hops.push(through.per_second());
            ratios.push(through.per_second() / direct.per_second());
            costs.push(through.cpu_us() - direct.cpu_us());
            cpu_ratios.push(direct.cpu_us() / through.cpu_us());
            alone.push(hop(&one, 1)?.p50_us - 1e6 / bare(&one)?.per_second());
        }
        let spread = |values: Vec<f64>| Spread::of(values.into_iter());
        let ratio = spread(ratios);
        rows.push(Row {
            key: name,
            bare_per_second: spread(bares),
            hop_per_second: spread(hops),
            ratio,
            cost_us: spread(costs),
            cpu_ratio: spread(cpu_ratios),
            alone_us: spread(alone),
            met: ratio.median >= RATIO_MIN,
        });
    }
    Ok(Report { threads: hsm.threads, rounds, seconds, load_before, rows })
}

/// Signs through the worker until the time is over.
///
/// # Errors
/// If the worker does not serve, or a call fails.
pub async fn run(args: &HsmLoop) -> anyhow::Result<Looped> {
    let start: Start = serde_json::from_slice(&std::fs::read(&args.start)?)?;
    let registry = Registry::from_json(&std::fs::read_to_string(&args.registry)?)
        .map_err(|mistakes| anyhow::anyhow!(mistakes.join("; ")))?;
    let signer = Arc::clone(registry.get("key").context("the registry has no key")?);
    let name = signer.public_key.registry_name();
    let config = Pkcs11 {
        module: start.module.into(),
        token_label: start.token_label,
        key_label: start.key_label,
        key_id: start.key_id,
        pin_file: start.pin_file.into(),
        threads: start.threads,
        call_timeout: Duration::from_secs(10),
        start_timeout: Duration::from_secs(30),
        worker_file: Some(worker()?),
    };
    let provider = Provider::Pkcs11(
        Pkcs11Clients::new(&config, name, "key", &Arc::new(Ledger::default()))?.data,
    );
    let upstream = Arc::new(Upstream::new(provider, FaultSwitch::default()));
    let probes = Probes::new(now());
    let (asked, id) = ((Purpose::Canary, Operation::GetPublicKey), AttemptsId::new([7; 16]));
    let calls = probes.calls(&signer.kid, asked, id);
    let patience = Instant::now();
    loop {
        match upstream.public_key(&calls).await {
            Ok(found) => {
                ensure!(found.spki_der == signer.public_key.spki_der(), "another key");
                upstream.pin(found);
                break;
            }
            Err(error) => {
                ensure!(patience.elapsed() < Duration::from_secs(10), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let workers = softhsm::workers_of(std::process::id());
    let worker = ProcessClock::of(*workers.first().context("no worker")?)?;
    let ourselves = ProcessClock::of(std::process::id())?;
    let cpu = || anyhow::Ok(worker.read()? + ourselves.read()?);
    let before = cpu()?;
    let canary = Canary::new(&signer.kid, [7; signing_core::canary::NONCE_BYTES]);
    let (began, counting) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let mut calling = JoinSet::new();
    for _ in 0..args.calls {
        let (signer, canary) = (Arc::clone(&signer), canary.clone());
        let (upstream, probes) = (Arc::clone(&upstream), Probes::new(now()));
        calling.spawn(async move {
            let mut took_ns = Vec::new();
            while began.elapsed() < counting {
                let (attempts, counted) = (AttemptsId::new([7; 16]), (Purpose::Canary, &probes));
                let order = CanaryOrder::new(Arc::clone(&signer), &canary, attempts, counted);
                let called = Instant::now();
                let patience = Patience::Caller { deadline: now().after(CALL_MAX) };
                upstream.sign(&order, patience).await.result?;
                took_ns.push(u64::try_from(called.elapsed().as_nanos())?);
            }
            anyhow::Ok(took_ns)
        });
    }
    let mut took_ns = Vec::new();
    while let Some(called) = calling.join_next().await {
        took_ns.extend(called??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = cpu()?.saturating_sub(before).as_secs_f64();
    took_ns.sort_unstable();
    let p50_us = float(percentile(&took_ns, 50)) / 1e3;
    Ok(Looped { signatures: u64::try_from(took_ns.len())?, seconds, cpu_seconds, p50_us })
}

/// The worker of the same build.
///
/// # Errors
/// If this program does not find itself.
pub fn worker() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("pkcs11-worker"))
}

impl Looped {
    /// Signatures in a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        float(self.signatures) / self.seconds
    }

    /// CPU time of a signature, in microseconds.
    #[must_use]
    pub fn cpu_us(self) -> f64 {
        self.cpu_seconds * 1e6 / float(self.signatures.max(1))
    }
}

/// What a process measures of its own loop.
///
/// # Errors
/// What it ended with.
pub fn looped(mut command: Command, token: &SoftHsm) -> anyhow::Result<Looped> {
    let output = command.envs(token.environment()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{:?} ended with {}", command.get_program(), output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Report {
    /// Whether every aim is met.
    #[must_use]
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "SoftHSM2, {} threads of the worker; load average before: {}. Median [least..most] of {} \
             rounds of {} s.",
            self.threads, self.load_before, self.rounds, self.seconds
        )?;
        writeln!(
            f,
            "{:<10} {:>9} {:>10} {:>18} {:>18} {:>18} {:>20}",
            "key", "C_Sign/s", "through/s", "ratio", "ratio of CPU", "hop, CPU us", "hop alone, us"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<10} {:>9.0} {:>10.0} {:>18} {:>18} {:>18} {:>20}   aim >= {RATIO_MIN}: {}",
                row.key,
                row.bare_per_second.median,
                row.hop_per_second.median,
                spread(&row.ratio, 2),
                spread(&row.cpu_ratio, 2),
                spread(&row.cost_us, 1),
                spread(&row.alone_us, 0),
                if row.met { "met" } else { "missed" },
            )?;
        }
        Ok(())
    }
}

fn spread(of: &Spread, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$}..{:.digits$}]", of.median, of.min, of.max)
}
