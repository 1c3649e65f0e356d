//! `breakglass-signer`: arguments, configuration, then one of its verbs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use audit::{Known, NoKnownHead};
use breakglass_signer::check::{self, Found};
use breakglass_signer::init::{IfAbsent, Made};
use breakglass_signer::key::Kind;
use breakglass_signer::lifeline::Lifeline;
use breakglass_signer::materials::Materials;
use breakglass_signer::signals::Signals;
use breakglass_signer::{init, keygen, rebuild, sandbox, serve};
use clap::{CommandFactory as _, Parser, Subcommand};
use host::checked::Checked;
use host::environment::Environment;
use host::out;
use host::service_manager::ServiceManager;
use host::signals::{End, Held};
use signing_core::Kid;
use signing_core::replica::ReplicaName;
use text::counted;

/// Holds the emergency key, and signs with it only what two people approved, within a session
/// that ends by itself, once the record of it is on disk.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: breakglass-signer check --config /etc/breakglass-signer/breakglass-signer.toml\n         breakglass-signer serve --config /etc/breakglass-signer/breakglass-signer.toml"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve.
    #[command(
        after_help = "Example: breakglass-signer serve --config /etc/breakglass-signer/breakglass-signer.toml"
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
        /// Stop when standard input, a pipe, is closed: so it never outlives what started it, as
        /// `signing-proxy dev` does.
        #[arg(long)]
        while_stdin_open: bool,
    },
    /// List every mistake of a configuration and of the files it names; exit 1 if there is one.
    /// Without a mistake, list what deserves attention all the same; exit 0.
    #[command(
        after_help = "Example: breakglass-signer check --config /etc/breakglass-signer/breakglass-signer.toml\n         breakglass-signer check --config breakglass-signer.toml --json | jq -r '.mistakes[]'"
    )]
    Check {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print {"ok", "mistakes", "notes", "journal"} for programs.
        #[arg(long)]
        json: bool,
    },
    /// Make the journal, once, and the audit key where there is none yet. The new log's first record says
    /// who made it, and which journal was here before.
    #[command(
        after_help = "Example: breakglass-signer init --config /etc/breakglass-signer/breakglass-signer.toml\n         breakglass-signer init --config FILE --if-absent --replica pay/signing-proxy-0 --answer /var/lib/breakglass-signer/replica.json"
    )]
    Init {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print {"log", "size", "root"} for programs, or null if nothing was made.
        #[arg(long)]
        json: bool,
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
    /// Look after the file of what has to be known for ever.
    #[command(subcommand_required = true)]
    State {
        #[command(subcommand)]
        verb: StateVerb,
    },
    /// Make an emergency key in a file sealed with a passphrase, which is asked for twice, or read
    /// from standard input if that is no terminal. Prints the entry for signers.json.
    #[command(
        after_help = "Example: breakglass-signer keygen --kid breakglass-2026 --algorithm ed25519 --out breakglass-2026.pem\n\nA key that openssl makes works as well:\n         openssl genpkey -algorithm ed25519 -aes256 -out breakglass-2026.pem"
    )]
    Keygen {
        /// The key's name in the registry.
        #[arg(long, value_parser = Kid::parse)]
        kid: Kid,
        /// Which kind of key. An RSA key signs with PKCS#1 v1.5 and PSS, SHA-256, 384 and 512.
        #[arg(long, value_enum)]
        algorithm: Kind,
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the man pages of this program, and its completions for shells, as a package has them.
    #[command(
        after_help = "Example: breakglass-signer manual --out ./share && man ./share/man/man1/breakglass-signer.1"
    )]
    Manual {
        /// The directory; it is laid out as /usr/share is.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum StateVerb {
    /// Make the file again of the journal, after it was lost or damaged. The signer then starts
    /// sealed, since what only the file knew is lost.
    #[command(
        after_help = "Example: breakglass-signer state rebuild --config /etc/breakglass-signer/breakglass-signer.toml --reason 'INC-42: disk replaced'"
    )]
    Rebuild {
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Why, in one line; the seal has it.
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
        Ok(Arguments { verb }) => out::end("breakglass-signer", run(verb, held)),
        Err(error) => out::usage(&error.to_string(), error.use_stderr()),
    }
}

fn run(verb: Verb, held: Held) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let verb = match verb {
        Verb::Serve { config, known_heads, while_stdin_open } => {
            let signals = Signals::listen(held)?;
            // Before a secret is read.
            sandbox::harden()?;
            let lifeline = while_stdin_open.then(Lifeline::of_stdin).transpose()?;
            let mut materials = Materials::load(&config, &environment)?;
            materials.0.known_heads = known_heads;
            // Before it is confined.
            let open = check::open(&config, &materials.0.config).open;
            let manager = ServiceManager::of(&environment);
            serve::serve(materials, &open, (lifeline, manager), signals)?;
            return Ok(ExitCode::SUCCESS);
        }
        verb => verb,
    };
    held.end_process(End::BySignal);
    match verb {
        Verb::Serve { .. } => {}
        Verb::Check { config, json } => return check(&config, &environment, json),
        Verb::Manual { out } => return write_manual(&out),
        Verb::Init { config, json, replica, answer, .. } => {
            let if_absent = replica.zip(answer);
            let if_absent = if_absent.map(|(replica, answer)| IfAbsent { replica, answer });
            let Made { directory, head } = init::init(&config, &environment, if_absent.as_ref())?;
            let dir = directory.display();
            match (json, head) {
                (true, head) => out::report_json(&serde_json::to_value(&head)?)?,
                (false, Some(made)) => out::report(&format!("{dir}: log {} begins", made.log))?,
                (false, None) => out::report(&format!(
                    "{dir}: the journal and the state are there; nothing was made"
                ))?,
            }
        }
        Verb::State { verb: StateVerb::Rebuild { config, reason } } => {
            let (materials, _) = Materials::load(&config, &environment)?;
            out::report(&rebuild::rebuild(&materials, &reason)?.to_string())?;
        }
        Verb::Keygen { kid, algorithm, out } => {
            let entry = keygen::keygen(kid, algorithm, &out)?;
            // The file is made, and holds no public key that could be read without its passphrase.
            out::deliver_json(&serde_json::to_value(&entry)?)?;
        }
    }
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

/// Says what is wrong with a configuration, or what deserves attention in it; and whether there is a
/// journal, either way.
fn check(file: &Path, environment: &Environment, as_json: bool) -> anyhow::Result<ExitCode> {
    let Found { mistakes, mut notes, journal, keys, approvers } = check::inspect(file, environment);
    notes.extend(sandbox::note());
    let checked = Checked {
        file: file.to_owned(),
        mistakes,
        notes,
        journal: journal.map(|it| (it.is_there, it.detail)),
        counted: format!("{}, {}", counted(keys, "emergency key"), counted(approvers, "approver")),
    };
    Ok(checked.say(as_json)??)
}
