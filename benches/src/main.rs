//! `side-by-side`: measures the proxy beside what it cannot do without.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use benches::batch::{self, Batched};
use benches::breakglass::{self, Breakglass};
use benches::doorway::{self, Doorway};
use benches::hop_loop::{self, HopLoop};
use benches::hsm::{self, Hsm, HsmLoop};
use benches::journal_loop::{self, JournalLoop};
use benches::kms_loop::{self, KmsLoop};
use benches::parts::Part;
use benches::peers::{self, Peers};
use benches::report::{Report, load_average};
use benches::rounds::{self, Plan};
use benches::stage::Stage;
use benches::trail::{self, Trailed};
use benches::{ceiling, kms_process};
use clap::{Parser, Subcommand};

/// Measures the proxy side by side with a bare server, a bare KMS client, and
/// the cryptography alone, over mTLS on loopback.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  benches/run.sh --seconds 2 --json /tmp/performance.json")]
struct Arguments {
    /// Time that each part is measured for in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Measures only parts whose name holds this, as for a profile of one; ratios
    /// of what was not measured are left out.
    #[arg(long, default_value = "")]
    only: String,
    /// Writes everything that was measured to this file too, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// One short round: shows that everything works, not how fast.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    server: Option<Server>,
}

/// The processes that it starts itself.
#[derive(Debug, Subcommand)]
enum Server {
    /// The bare server.
    #[command(hide = true)]
    Ceiling {
        /// Where its files are.
        dir: PathBuf,
        /// The file of its answer.
        answer: String,
    },
    /// The KMS for tests.
    #[command(hide = true)]
    Kms,
    /// The bare loop of KMS calls.
    #[command(hide = true)]
    KmsLoop(KmsLoop),
    /// The journal alone, or a bare fdatasync.
    #[command(hide = true)]
    JournalLoop(JournalLoop),
    /// Measures the hop to a PKCS#11 token instead, on SoftHSM2.
    #[command(after_help = "Example: benches/run.sh --seconds 2 hsm --threads 2")]
    Hsm(Hsm),
    /// Measures a break-glass session instead: both processes beside the sum of the parts.
    #[command(after_help = "Example: benches/run.sh --seconds 2 breakglass")]
    Breakglass(Breakglass),
    /// Measures a batch signer instead: verifiable signatures for each core, beyond KMS's quota.
    #[command(after_help = "Example: benches/run.sh --seconds 5 batch")]
    Batch(Batched),
    /// Measures the trail instead: its rows, what it costs the proxy, and a signature that waits for it.
    #[command(after_help = "Example: benches/run.sh --seconds 5 trail")]
    Trail(Trailed),
    /// Measures what connections cost instead: HTTP/2, handshakes, and the memory of those that idle.
    #[command(after_help = "Example: benches/run.sh --seconds 2 --rounds 3 doorway")]
    Doorway(Doorway),
    /// Measures the proxy beside what others would take in its place, or have in front of it.
    #[command(after_help = "Example: benches/run.sh --seconds 2 --rounds 3 peers")]
    Peers(Peers),
    /// The bare way to an emergency signer.
    #[command(hide = true)]
    HopLoop(HopLoop),
    /// Calls through the worker of a token.
    #[command(hide = true)]
    HsmLoop(HsmLoop),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.server {
        None => measure(&arguments),
        Some(Server::Kms) => {
            kms_process::serve();
            Ok(())
        }
        // On as many threads as the proxy.
        Some(Server::Ceiling { dir, answer }) => {
            tokio::runtime::Runtime::new()?.block_on(ceiling::serve(dir, answer))
        }
        Some(Server::KmsLoop(args)) => {
            let sample = tokio::runtime::Runtime::new()?.block_on(kms_loop::run(args))?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        Some(Server::JournalLoop(args)) => {
            println!("{}", serde_json::to_string(&journal_loop::run(args)?)?);
            Ok(())
        }
        Some(Server::Hsm(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let report = hsm::measure(args, seconds, rounds)?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::Breakglass(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(breakglass::measure(args, seconds, rounds))?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::Batch(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(batch::measure(args, seconds, rounds))?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::Trail(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(trail::measure(args, seconds, rounds))?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::Doorway(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(doorway::measure(args, seconds, rounds))?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::Peers(args)) => {
            let (seconds, rounds) = arguments.time()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let report = runtime.block_on(peers::measure(args, seconds, rounds))?;
            print!("{report}");
            write_json(&report, &arguments)
        }
        Some(Server::HopLoop(args)) => {
            println!("{}", serde_json::to_string(&hop_loop::run(args)?)?);
            Ok(())
        }
        Some(Server::HsmLoop(args)) => {
            let looped = tokio::runtime::Runtime::new()?.block_on(hsm::run(args))?;
            println!("{}", serde_json::to_string(&looped)?);
            Ok(())
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (seconds, rounds) = arguments.time()?;
    let fits = |count: &usize| (1..=256).contains(count);
    ensure!(arguments.connections.iter().all(fits), "--connections: give 1 to 256");
    let counting = Duration::from_secs_f64(seconds);
    let connections = arguments.connections.clone();
    let parts =
        Part::ALL.into_iter().filter(|part| part.name().contains(&arguments.only)).collect();
    let plan = Plan { counting, warm_up: counting / 4, rounds, connections, parts };

    let load_before = load_average();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        let (stage, tls) = Stage::build().await?;
        rounds::run(&stage, &tls, &plan).await
    })?;
    let report = Report::of(&measured, &plan, load_before);
    print!("{report}");
    write_json(&report, arguments)
}

impl Arguments {
    /// How long each part is measured for in each round, and how many there are.
    fn time(&self) -> anyhow::Result<(f64, usize)> {
        let (seconds, rounds) = match self.quick {
            true => (0.3, 1),
            false => (self.seconds, self.rounds),
        };
        ensure!((0.01..=600.0).contains(&seconds), "--seconds {seconds}: give 0.01 to 600");
        ensure!(rounds > 0, "--rounds 0: give at least 1");
        Ok((seconds, rounds))
    }
}

fn write_json(report: &impl serde::Serialize, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(file) = &arguments.json {
        let json = serde_json::to_string_pretty(report)?;
        std::fs::write(file, json + "\n").with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}
