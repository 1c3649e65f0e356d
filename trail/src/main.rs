//! `signing-trail`: arguments, configuration, then one of its verbs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use host::checked::Checked;
use host::environment::Environment;
use host::hardening;
use host::mistakes::ConfigError;
use host::out;
use host::service_manager::ServiceManager;
use host::signals::{End, Held};
use signing_core::replica::Known;
use text::counted;
use tokio::runtime::Builder;
use trail::check::{self, Found, Parts};
use trail::config::Config;
use trail::event::Owner;
use trail::replica::register;
use trail::{serve, status};

/// Carries what the journals of signing-proxy and breakglass-signer hold to the database that auditors
/// read. It holds no key that signs for callers, and no signature waits for it.
#[derive(Parser)]
#[command(
    name = "signing-trail",
    version,
    after_help = "Example: signing-trail check --config /etc/signing-trail/signing-trail.toml\n         signing-trail serve --config /etc/signing-trail/signing-trail.toml"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve: ship until stopped.
    #[command(
        after_help = "Example: signing-trail serve --config /etc/signing-trail/signing-trail.toml"
    )]
    Serve {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Stop when standard input, a pipe, is closed: so it never outlives what started it, as
        /// `signing-proxy dev` does.
        #[arg(long)]
        while_stdin_open: bool,
    },
    /// List every mistake of a configuration and of the files it names; exit 1 if there is one.
    #[command(
        after_help = "Example: signing-trail check --config /etc/signing-trail/signing-trail.toml\n         signing-trail check --config signing-trail.toml --json | jq -r '.mistakes[]'"
    )]
    Check {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print {"ok", "mistakes", "notes", "journal"} for programs.
        #[arg(long)]
        json: bool,
    },
    /// Ask the sinks whether they know this replica, and write the answer for `init --if-absent` of the
    /// journal's owner. Exit 0: an answer was written, also "unknown", with which no journal begins.
    #[command(
        after_help = "Example: signing-trail register --config /etc/signing-trail/signing-trail.toml --journal proxy --answer /var/lib/signing-proxy/replica.json"
    )]
    Register {
        /// The config file. Its replica.name says who asks.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Whose journal it is about.
        #[arg(long, value_enum)]
        journal: Journal,
        /// Where the answer goes: into the volume of the journal, since the answer is about that volume.
        #[arg(long, value_name = "FILE")]
        answer: PathBuf,
    },
    /// Say how far the trail that runs here is, by sink and journal; exit 0 only if nothing keeps it
    /// back and no record was lost.
    #[command(
        after_help = "Example: signing-trail status\n         signing-trail status --json | jq '.journals[].lag_records'"
    )]
    Status {
        /// Where it serves its metrics: metrics.listen in its configuration.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465")]
        metrics: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the man pages of this program, and its completions for shells, as a package has them.
    #[command(
        after_help = "Example: signing-trail manual --out ./share && man ./share/man/man1/signing-trail.1"
    )]
    Manual {
        /// The directory; it is laid out as /usr/share is.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// The owner of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Journal {
    /// signing-proxy.
    Proxy,
    /// breakglass-signer.
    Signer,
}

fn main() -> ExitCode {
    host::pages::keep_small();
    let held = Held::back();
    match Arguments::try_parse() {
        Ok(Arguments { verb }) => out::end("signing-trail", run(verb, held)),
        Err(error) => out::usage(&error.to_string(), error.use_stderr()),
    }
}

fn run(verb: Verb, held: Held) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let runtime = || Builder::new_current_thread().enable_all().build();
    match verb {
        Verb::Serve { config, while_stdin_open } => {
            // Before a secret is read.
            hardening::harden()?;
            let parts = Parts::load(&config, &environment)?;
            // The handlers that replace these are the first thing that it does.
            held.let_through();
            let runtime = runtime()?;
            let manager = ServiceManager::of(&environment);
            let served = runtime.block_on(serve::serve(parts, manager, while_stdin_open));
            // A look-up of a name or a file that hangs holds nobody up.
            runtime.shutdown_background();
            served?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Check { config, json } => {
            held.end_process(End::BySignal);
            check(&config, &environment, json)
        }
        Verb::Manual { out } => {
            held.end_process(End::BySignal);
            write_manual(&out)
        }
        Verb::Register { config: file, journal, answer } => {
            held.end_process(End::BySignal);
            let (config, mistakes) = Config::draft(&file, &environment)?;
            if !mistakes.is_empty() {
                return Err(ConfigError { file, mistakes }.into());
            }
            let owner = match journal {
                Journal::Proxy => Owner::Proxy,
                Journal::Signer => Owner::Signer,
            };
            let given = runtime()?.block_on(register(&config, owner, &answer))?;
            let word = match given.known {
                Known::New => "new",
                Known::Known => "known",
                Known::Present => "present",
                Known::Unknown => "unknown",
            };
            out::report(&format!("{}: {word}: {}", answer.display(), given.detail))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Status { metrics, json } => {
            held.end_process(End::BySignal);
            let found = runtime()?
                .block_on(status::ask(&metrics))
                .map_err(|why| anyhow!("--metrics {metrics}: {why}; is signing-trail running?"))?;
            if json {
                out::report_json(&found)?;
            } else {
                out::report(&status::lines(&found))?;
            }
            let is_well = found.get("ok").and_then(serde_json::Value::as_bool) == Some(true);
            Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Writes what a package has for readers and for shells.
fn write_manual(share: &Path) -> anyhow::Result<ExitCode> {
    let share_dir = share.display();
    manual::write(Arguments::command(), share)
        .with_context(|| format!("--out {share_dir}: it cannot be written"))?;
    out::report(&format!("{share_dir}: man pages and completions are written"))?;
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path, environment: &Environment, as_json: bool) -> anyhow::Result<ExitCode> {
    let Found { mistakes, notes, journals } = check::inspect(file, environment);
    let counted = counted(journals, "journal");
    let checked = Checked { file: file.to_owned(), mistakes, notes, journal: None, counted };
    Ok(checked.say(as_json)??)
}
