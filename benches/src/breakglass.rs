//! A break-glass session under load: the CPU of both processes beside the sum of what one
//! emergency signature cannot do without, each measured in the same rounds.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use development::DevelopmentKey;
use serde::Serialize;
use serde_json::{Value, json};
use signing_core::Algorithm;
use signing_core::key::KeyKind;
use system_tests::breakglass::SOCKET;
use system_tests::client::admin;
use system_tests::{Fault, Kind, World, eventually};

use crate::alone::Alone;
use crate::child::Child;
use crate::cpu::ProcessClock;
use crate::load::{self, CALLER, Sample, Target};
use crate::report::load_average;
use crate::rounds::measured_by;
use crate::stage::{DIGEST, ourselves};
use crate::statistics::{Spread, float};

/// CPU of both processes, over the sum of the parts: at most.
const RATIO_MAX: f64 = 1.25;
const KID: &str = "payments";

/// Measures signatures of a break-glass session.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Breakglass {
    /// Connections.
    #[arg(long = "clients", default_value_t = 64)]
    pub clients: usize,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    clients: usize,
    rounds: usize,
    seconds: f64,
    load_before: f64,
    signatures_per_second: Spread,
    ceiling_per_second: Spread,
    of_the_ceiling: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// CPU of one signature, in microseconds.
    proxy_us: Spread,
    signer_us: Spread,
    parts_us: Vec<(&'static str, Spread)>,
    ratio: Spread,
    met: bool,
}

/// One round.
#[derive(Debug, Default)]
struct Round {
    session: Option<(Sample, f64)>,
    ceiling: Option<Sample>,
    parts: Vec<(&'static str, f64)>,
}

/// Measures, so many rounds of so many seconds.
///
/// # Errors
/// If anything does not sign.
pub async fn measure(args: &Breakglass, seconds: f64, rounds: usize) -> anyhow::Result<Report> {
    ensure!((1..=256).contains(&args.clients), "--clients {}: give 1 to 256", args.clients);
    let (load_before, counting) = (load_average(), Duration::from_secs_f64(seconds));
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let caps = "signatures_per_second_max = 100000\nsignatures_max = 100000000\n";
    let builder = world.signer().replaces(KID, &key).min_outage_s(1).caps(caps);
    let signer = builder.start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let proxy = world.proxy().signer(KID, &key).caller(CALLER, &[KID]).breakglass(&lines);
    let entries = signer.builder.registry_entries().into_iter();
    let proxy = entries.fold(proxy, system_tests::ProxyBuilder::registered).start().await;
    key.break_with(Fault::Bare503);
    let status = async || admin(&proxy.socket, "GET", "/v1/breakglass", Value::Null).await.body;
    eventually("an outage that is long enough", || async {
        let status = status().await;
        let qualifies = status.pointer("/outages/0/qualifies") == Some(&json!(true));
        (qualifies && status.get("signer").is_some()).then_some(())
    })
    .await;
    let mut request = signer.request();
    if let Some(fields) = request.as_object_mut() {
        fields.insert("callers".to_owned(), json!([CALLER]));
        fields.insert("max_signatures".to_owned(), json!(100_000_000));
    }
    signer.unlock().await;
    let papers = signer.papers(&request);
    let begun = admin(&proxy.socket, "POST", "/v1/breakglass/activate", papers).await;
    ensure!(begun.status == 200, "no session: {}", begun.text);

    let tls = load::tls(&world.pki)?;
    let body = json!({"signer_kid": KID, "message": STANDARD.encode(DIGEST)});
    let target = Target {
        address: proxy.listen.clone(),
        pid: proxy.process.pid(),
        request: load::post("/v1/sign", &body.to_string()),
        status: 200,
        aside: None,
        pace: Duration::ZERO,
        plain: false,
    };
    let answer = load::once(&target, &tls).await?;
    world.scratch.write("proxy/answer", answer);
    let mut command = ourselves("ceiling")?;
    command.arg(world.scratch.path("proxy")).arg("answer");
    let (child, address) =
        Child::start(command, |line: &Value| Some(line.get("listen")?.as_str()?.to_owned()))?;
    let ceiling = Target { address, pid: child.pid(), ..target.clone() };
    let alone = alone()?;
    let clock = ProcessClock::of(signer.process.pid())?;
    let remaining = async || {
        let status = status().await;
        status.pointer("/signer/session/remaining").and_then(Value::as_u64).context("no session")
    };
    let mut all = Vec::new();
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}");
        let times = (counting / 4, counting);
        let mut round = Round::default();
        let (left, cpu) = (remaining().await?, clock.read()?);
        let sample = load::run(&target, &tls, args.clients, times).await?;
        let (spent, cpu) = (left - remaining().await?, clock.read()?.saturating_sub(cpu));
        round.session = Some((sample, cpu.as_secs_f64() * 1e6 / float(spent.max(1))));
        round.ceiling = Some(load::run(&ceiling, &tls, args.clients, times).await?);
        let looped = |verb: &str, more: &[&str]| -> anyhow::Result<f64> {
            let mut command: Command = ourselves(verb)?;
            command.args(["--waiters", &args.clients.to_string()]).args(more);
            if verb == "journal-loop" {
                let dir = world.scratch.path("beside");
                let _ = std::fs::remove_dir_all(&dir);
                std::fs::create_dir(&dir)?;
                command.arg("--dir").arg(dir);
                command.arg("--key-file").arg(world.scratch.path("proxy/audit.key"));
            }
            Ok(measured_by(command, times)?.cpu_us)
        };
        let ceiling = round.ceiling.map(|sample| sample.cpu_us).unwrap_or_default();
        round.parts = vec![
            ("ceiling", ceiling),
            ("signing", alone.sign(counting / 4)?),
            ("verification", alone.verify(counting / 4)?),
            ("socket hop", looped("hop-loop", &[])?),
            ("the proxy's two records", looped("journal-loop", &[])?),
            ("the signer's record", looped("journal-loop", &["--emergency"])?),
        ];
        all.push(round);
    }
    Ok(Report::of(args.clients, seconds, load_before, &all))
}

fn alone() -> anyhow::Result<Alone> {
    let algorithm = Algorithm::Ed25519Sha512;
    let key = DevelopmentKey::generate(KeyKind::Ed25519)?;
    let pem = system_tests::kms::pem("PUBLIC KEY", key.public_key_der());
    let entry = json!({"signer_kid": "alone", "algorithm": "ed25519", "public_key_pem": pem});
    Alone::new(key, algorithm, &json!({"signers": [entry]}).to_string(), "alone")
}

impl Report {
    fn of(clients: usize, seconds: f64, load_before: f64, rounds: &[Round]) -> Self {
        let session = |of: fn(&(Sample, f64)) -> f64| {
            Spread::of(rounds.iter().filter_map(|round| round.session.as_ref()).map(of))
        };
        let names: Vec<_> = rounds.first().into_iter().flat_map(|round| &round.parts).collect();
        let parts_us = names.iter().enumerate().map(|(at, (name, _))| {
            let of = |round: &Round| round.parts.get(at).map(|(_, value)| *value);
            (*name, Spread::of(rounds.iter().filter_map(of)))
        });
        let ratio = Spread::of(rounds.iter().filter_map(|round| {
            let (sample, signer_us) = round.session?;
            let parts: f64 = round.parts.iter().map(|(_, value)| value).sum();
            Some((sample.cpu_us + signer_us) / parts)
        }));
        let ceiling = |round: &Round| round.ceiling.map(|sample| sample.per_second);
        Self {
            clients,
            rounds: rounds.len(),
            seconds,
            load_before,
            signatures_per_second: session(|(sample, _)| sample.per_second),
            ceiling_per_second: Spread::of(rounds.iter().filter_map(ceiling)),
            of_the_ceiling: Spread::of(
                rounds
                    .iter()
                    .filter_map(|round| Some(round.session?.0.per_second / ceiling(round)?)),
            ),
            p50_us: session(|(sample, _)| sample.p50_us),
            p99_us: session(|(sample, _)| sample.p99_us),
            proxy_us: session(|(sample, _)| sample.cpu_us),
            signer_us: session(|(_, signer_us)| *signer_us),
            parts_us: parts_us.collect(),
            ratio,
            met: ratio.median <= RATIO_MAX,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread =
            |Spread { median, min, max }: &Spread| format!("{median:.1} [{min:.1}..{max:.1}]");
        writeln!(
            f,
            "break-glass, Ed25519, {} connections, HTTP/1.1, mTLS; both journals on disk; median of {} rounds of {} s; \
             load average before: {}\n",
            self.clients, self.rounds, self.seconds, self.load_before
        )?;
        let mut line = |name: &str, value: String| writeln!(f, "{name:<36} {value:>26}");
        line("emergency signatures/s", spread(&self.signatures_per_second))?;
        line("p50 us", spread(&self.p50_us))?;
        line("p99 us", spread(&self.p99_us))?;
        line("ceiling, requests/s", spread(&self.ceiling_per_second))?;
        let Spread { median, min, max } = self.of_the_ceiling;
        line("signatures/s / ceiling", format!("{median:.3} [{min:.3}..{max:.3}]"))?;
        line("CPU us, proxy", spread(&self.proxy_us))?;
        line("CPU us, signer", spread(&self.signer_us))?;
        for (name, value) in &self.parts_us {
            line(&format!("  part: {name}"), spread(value))?;
        }
        let Spread { median, min, max } = self.ratio;
        let met = if self.met { "met" } else { "MISSED" };
        writeln!(
            f,
            "CPU of both / sum of the parts: {median:.2} [{min:.2}..{max:.2}]  <= {RATIO_MAX}  {met}"
        )
    }
}
