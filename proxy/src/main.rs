//! `signing-proxy`: arguments, configuration, app, drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use audit::{Known, NoKnownHead};
use clap::{CommandFactory as _, Parser, Subcommand};
use configuration::Environment;
use host::checked::Checked;
use host::hardening::harden;
use host::limits::Limits;
use host::out;
use host::service_manager::ServiceManager;
use host::signals::{End, Held};
use signing_core::replica::ReplicaName;
use signing_proxy::app::App;
use signing_proxy::app::signals::{Hangup, Signals};
use signing_proxy::check::{self, Found};
use signing_proxy::dev;
use signing_proxy::init;
use signing_proxy::log::Log;
use signing_proxy::materials::Materials;
use text::counted;

/// A call of the AWS SDK allocates a lot (docs/internals/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A signing proxy that refuses to sign whenever it cannot prove that all is well.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: signing-proxy dev\n         signing-proxy check --config /etc/signing-proxy/signing-proxy.toml"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve.
    #[command(
        after_help = "Example: signing-proxy serve --config /etc/signing-proxy/signing-proxy.toml"
    )]
    Serve {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How far the journal was on disk, as somebody else knows: the head of a receipt, of the other journal or of
        /// `signctl audit verify`, or the log and the record that a sink holds. A journal that is behind it is
        /// refused, and a tail that it covers is not cut. May be said several times.
        #[arg(long = "known-head", value_name = "LOG:SIZE[:ROOT]", value_parser = known_head)]
        known_heads: Vec<Known>,
    },
    /// List every mistake of a configuration and of the files it names; exit 1 if there is one.
    /// Without a mistake, list what deserves attention all the same; exit 0.
    #[command(
        after_help = "Example: signing-proxy check --config /etc/signing-proxy/signing-proxy.toml\n         signing-proxy check --config signing-proxy.toml --json | jq -r '.mistakes[]'"
    )]
    Check {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print {"ok", "mistakes", "notes", "journal"} for programs.
        #[arg(long)]
        json: bool,
    },
    /// Make the journal, once: every signature is recorded in it before it leaves. The new log's
    /// first record says who made it, and which journal was here before.
    #[command(
        after_help = "Example: signing-proxy init --config /etc/signing-proxy/signing-proxy.toml\n         signing-proxy init --config FILE --if-absent --replica pay/signing-proxy-0 --answer /var/lib/signing-proxy/replica.json"
    )]
    Init {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Make it only if this replica never had one, as an init container does: journal and state are
        /// absent, and `signing-trail register` wrote that no sink knows the replica. If journal and state
        /// are there, nothing is made, exit 0. In every other case nothing is made, exit 1.
        #[arg(long, requires_all = ["replica", "answer"])]
        if_absent: bool,
        /// The replica's name, which outlives its volume: the namespace and the name of a pod.
        #[arg(long, value_name = "NAME", requires = "if_absent", value_parser = ReplicaName::parse)]
        replica: Option<ReplicaName>,
        /// What `signing-trail register` wrote, in the volume of the journal. It is removed once it was used.
        #[arg(long, value_name = "FILE", requires = "if_absent")]
        answer: Option<PathBuf>,
    },
    /// Look after the file of the freeze and the seals.
    #[command(subcommand_required = true)]
    State {
        #[command(subcommand)]
        verb: StateVerb,
    },
    /// Serve on this machine with made-up certificates and development keys.
    #[command(
        after_help = "Example: signing-proxy dev\n         signing-proxy dev --min-outage 10s     # to try a break-glass\n         signing-proxy dev --trail postgres://postgres@%2Fvar%2Frun%2Fpostgresql/audit"
    )]
    Dev {
        /// Where everything is made and kept.
        #[arg(long, value_name = "DIR", default_value = ".signing-proxy")]
        dir: PathBuf,
        /// Where the data plane listens; port 0 picks one.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
        /// Where metrics and health are served; port 0 picks one.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
        metrics: SocketAddr,
        /// How long an outage has to last before break-glass: 10s, 2m, 1h.
        #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = dev::min_outage)]
        min_outage: Duration,
        /// Run the trail too, which carries both journals to this database: postgres://USER@HOST/DATABASE. Every user of
        /// this machine can read a command line: bring a password by the environment or by --trail-file.
        #[arg(
            long,
            value_name = "URL",
            env = "SIGNING_PROXY_DEV_TRAIL",
            hide_env_values = true,
            group = "database"
        )]
        trail: Option<String>,
        /// The same, with the URL in a file.
        #[arg(long, value_name = "FILE", group = "database")]
        trail_file: Option<PathBuf>,
        /// Where the trail shows its metrics and status; port 0 picks one.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465")]
        trail_metrics: SocketAddr,
        /// Be a member of the fleet of this name: of all `dev` and others whose trails write to the same database.
        #[arg(long, value_name = "NAME", requires = "database")]
        fleet: Option<String>,
        /// The allowed_signers file of those who may end a freeze of the fleet: that of another `dev`, so that one
        /// person's signature counts at each [default: approvers/allowed_signers in --dir]
        #[arg(long, value_name = "FILE", requires = "fleet")]
        fleet_approvers: Option<PathBuf>,
    },
    /// Write the man pages of this program, and its completions for shells, as a package has them.
    #[command(
        after_help = "Example: signing-proxy manual --out ./share && man ./share/man/man1/signing-proxy.1"
    )]
    Manual {
        /// The directory; it is laid out as /usr/share is.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum StateVerb {
    /// Make the file again of the journal, after it was lost or damaged. The proxy then starts
    /// frozen, since a freeze or a seal that only the file knew is lost.
    #[command(
        after_help = "Example: signing-proxy state rebuild --config /etc/signing-proxy/signing-proxy.toml --reason 'INC-42: disk replaced'"
    )]
    Rebuild {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Why, in one line; the freeze has it, and the journal's next record.
        #[arg(long, value_name = "WHY", value_parser = host::environment::reason)]
        reason: String,
    },
}

/// What `--known-head` says.
fn known_head(text: &str) -> Result<Known, NoKnownHead> {
    Known::parse(text, "--known-head")
}

fn main() -> ExitCode {
    host::pages::keep_small();
    let held = Held::back();
    match Arguments::try_parse() {
        Ok(Arguments { verb }) => out::end("signing-proxy", run(verb, held)),
        Err(error) => out::usage(&error.to_string(), error.use_stderr()),
    }
}

fn run(verb: Verb, held: Held) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    match verb {
        Verb::Check { config, json } => {
            held.end_process(End::BySignal);
            return check(&config, &environment, json);
        }
        Verb::Init { config, replica, answer, .. } => {
            held.end_process(End::BySignal);
            return make_journal(&config, &environment, replica.zip(answer));
        }
        Verb::State { verb: StateVerb::Rebuild { config, reason } } => {
            held.end_process(End::BySignal);
            return rebuild_state(&config, &environment, &reason);
        }
        Verb::Manual { out } => {
            held.end_process(End::BySignal);
            return write_manual(&out);
        }
        Verb::Serve { config, known_heads } => serve(held, &environment, Hangup::Reloads, |environment| {
            let mut materials = Materials::load(&config, environment)?;
            materials.known_heads = known_heads;
            for what in materials.file_system_notes() {
                tracing::warn!(target: "config", what, "the journal may not be kept");
            }
            for what in check::open(&config, &materials.config).open {
                tracing::warn!(target: "config", what, "open to others");
            }
            for what in materials.too_little(Limits::of_process()) {
                tracing::warn!(target: "config", what, "less than it may need");
            }
            for what in materials.registry_notes() {
                tracing::warn!(target: "config", what, "ignored in the registry");
            }
            Ok((config, materials, |app: &mut App| -> anyhow::Result<()> {
                let local = app.local.places.join(" ");
                tracing::info!(listen = %app.listen, metrics = %app.metrics_listen, local, "serving");
                Ok(())
            }))
        }),
        Verb::Dev {
            dir,
            listen,
            metrics,
            min_outage,
            trail,
            trail_file,
            trail_metrics,
            fleet,
            fleet_approvers,
        } => {
            let trail = match trail_file {
                None => trail,
                Some(file) => {
                    let url = host::files::read_text(&file);
                    let url = url.with_context(|| format!("--trail-file {}", file.display()))?;
                    Some(url.trim().to_owned())
                }
            };
            let fleet = fleet.map(|name| dev::Fleet { name, approvers: fleet_approvers });
            let places =
                dev::Places { dir, listen, metrics, min_outage, trail, trail_metrics, fleet };
            serve(held, &environment, Hangup::Stops, |environment| {
                let prepared = dev::prepare(&places)?;
                let materials = Materials::load(&prepared.config_file, environment)?;
                dev::journal(&materials)?;
                let trail = prepared.start_trail().map_err(anyhow::Error::msg)?;
                let signer = prepared.start_signer();
                let config = prepared.config_file.clone();
                Ok((config, materials, move |app: &mut App| {
                    dev::announce(&prepared, app, signer.as_ref().map_err(String::as_str))?;
                    Ok((signer, trail))
                }))
            })
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Says what is wrong with a configuration, or what deserves attention in it; and whether there is a
/// journal, either way.
fn check(file: &Path, environment: &Environment, as_json: bool) -> anyhow::Result<ExitCode> {
    let Found { mistakes, notes, journal, signers, callers } = check::inspect(file, environment);
    let checked = Checked {
        file: file.to_owned(),
        mistakes,
        notes,
        journal: journal.map(|it| (it.is_there, it.detail)),
        counted: format!("{}, {}", counted(signers, "signer"), counted(callers, "caller")),
    };
    Ok(checked.say(as_json)??)
}

/// Makes the journal that a configuration names.
fn make_journal(
    file: &Path,
    environment: &Environment,
    if_absent: Option<(ReplicaName, PathBuf)>,
) -> anyhow::Result<ExitCode> {
    let materials = Materials::load(file, environment)?;
    let made = match if_absent {
        Some((replica, answer)) => init::init_if_absent(&materials, &replica, &answer)?,
        None => Some(init::init(&materials)?),
    };
    let directory = materials.config.audit.dir.display();
    out::report(&match made {
        Some(made) => format!("{directory}: log {} begins", made.log),
        None => format!("{directory}: the journal and the state are there; nothing was made"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the file of the freeze and the seals again.
fn rebuild_state(file: &Path, env: &Environment, reason: &str) -> anyhow::Result<ExitCode> {
    let materials = Materials::load(file, env)?;
    out::report(&init::rebuild(&materials, reason)?.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what a package has for readers and for shells.
fn write_manual(share: &Path) -> anyhow::Result<ExitCode> {
    let share_dir = share.display();
    manual::write(Arguments::command(), share)
        .with_context(|| format!("--out {share_dir}: it cannot be written"))?;
    out::report(&format!("{share_dir}: man pages and completions are written"))?;
    Ok(ExitCode::SUCCESS)
}

/// Serves what `prepare` gives until it is stopped; `announce` says so, and what it returns is
/// kept until then.
fn serve<A, K>(
    held: Held,
    environment: &Environment,
    hangup: Hangup,
    prepare: impl FnOnce(&Environment) -> anyhow::Result<(PathBuf, Materials, A)>,
) -> anyhow::Result<()>
where
    A: FnOnce(&mut App) -> anyhow::Result<K>,
{
    let mut signals = Signals::listen(held).context("signals cannot be handled")?;
    let log = Log::start().context("the log does not start")?;
    harden().context("core dumps cannot be forbidden")?;
    log.take_events();
    let manager = ServiceManager::of(environment).unwrap_or_else(|trouble| {
        tracing::error!(trouble, "systemd does not hear of this process");
        ServiceManager::default()
    });
    let (config, materials, announce) = prepare(environment)?;
    if signals.is_stop_asked() {
        tracing::info!("stopped before it served");
        log.flush();
        return Ok(());
    }
    let mut app = App::start(config, materials, environment, log.clone(), signals)?;
    let kept = announce(&mut app)?;
    let stopped = app.run_until_stopped(hangup, &manager);
    drop(kept);
    log.flush();
    Ok(stopped?)
}
