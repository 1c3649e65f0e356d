//! `signctl`: the operator's hand. Comfort over the admin socket; what it does,
//! `curl --unix-socket` can do too. A gate for pipelines and a caller's sign and verify, over mutual
//! TLS. And a reader of the journal's files.

mod archive;
mod audit;
mod batch_signer;
mod breakglass;
mod caller;
mod client;
mod copies;
mod database;
mod doctor;
mod drill;
mod fleet;
mod gate;
mod https;
mod incident;
mod receipt;
mod recover;
mod report;
mod scope;
mod show;
mod signers;
mod socket;
mod status;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use host::out;
use host::signals::{End, Held};
use signing_core::admin::{Freeze, Nothing, Unfreeze, Unseal, path};

use client::Reply;
use show::Said;
use socket::Socket;

/// Looks after a signing proxy: status, health, freeze, unseal, its journal, and a gate for pipelines.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: signctl status\n         signctl freeze --reason \"INC-42: KMS outage\""
)]
struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show every signer, its gate and why it refuses, and before all else a break-glass session in
    /// force. Exit 0 only if callers of every signer are served: by its own key or, in a session, by
    /// the emergency key; what must not pass on an emergency key asks `signctl gate`.
    #[command(after_help = "Example: signctl status --json | jq .signers")]
    Status(status::Flags),
    /// Show gates, upstreams, refusals, quota, journal and newest events live, in a terminal. It only looks, but for one
    /// key: `f` freezes, after a reason is typed.
    #[command(
        after_help = "Example: signctl watch\n         ssh -t proxy-1 signctl watch --trail 127.0.0.1:9465"
    )]
    Watch(watch::Flags),
    /// Ask the health listener, as an orchestrator does; exit 0 only if healthy.
    #[command(after_help = "Example: signctl health --url http://127.0.0.1:9464/health")]
    Health {
        /// The health listener's address.
        #[arg(
            long,
            value_name = "URL",
            env = "SIGNCTL_HEALTH_URL",
            default_value = "http://127.0.0.1:9464/health",
            value_parser = client::health_url
        )]
        url: http::Uri,
    },
    /// Let a CI pipeline go on only if signing is healthy; each failure has an exit status of its own.
    #[command(after_help = gate::HELP)]
    Gate(gate::Flags),
    /// Stop all signing at once. Survives restarts; beats everything.
    #[command(after_help = "Example: signctl freeze --reason \"INC-42: KMS outage\"")]
    Freeze {
        /// Why; callers and records see it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// End a freeze. Gates that are open sign again at once. A freeze of the fleet ends by a statement
    /// that a person of the configured role signed.
    #[command(
        after_help = "Example: signctl unfreeze --reason \"INC-42: KMS is well again\"\n         ssh-keygen -Y sign -n fleet@signing-proxy -f KEY statement.json && signctl unfreeze --statement statement.json"
    )]
    Unfreeze {
        /// Why signing is safe again; recorded.
        #[arg(long, required_unless_present = "statement")]
        reason: Option<String>,
        /// A signed statement, which ends freezes of the fleet; its signature is in FILE.sig.
        #[arg(long, value_name = "FILE", conflicts_with = "reason")]
        statement: Option<PathBuf>,
        #[command(flatten)]
        socket: Socket,
    },
    /// All members of a fleet: status, freeze, unfreeze, forget.
    #[command(after_help = "Example: signctl fleet status --help")]
    Fleet(fleet::Flags),
    /// Read the configuration again: TLS material, registry, signers, callers, aliases, [gate].
    /// All or nothing: with a mistake nothing changes, and every mistake is listed.
    #[command(after_help = "Example: signctl reload && signctl status")]
    Reload(Socket),
    /// End the seal of one signer, which has to prove itself anew before it signs; or, after a
    /// restart, that of the journal; or that of the emergency signer itself.
    #[command(
        after_help = "Example: signctl unseal payments-2026 --reason \"registry corrected, CHG-7\"\n         signctl unseal --audit --reason \"disk replaced, INC-9\"\n         signctl unseal --operator-socket /run/breakglass-signer/operator.sock --reason \"the clock was ahead, INC-9\""
    )]
    Unseal {
        /// The signer's kid.
        #[arg(required_unless_present_any = ["audit", "operator_socket"])]
        kid: Option<String>,
        /// The journal's seal.
        #[arg(long, conflicts_with = "kid")]
        audit: bool,
        /// The emergency signer's seal, past the proxy.
        #[arg(long, value_name = "PATH", conflicts_with_all = ["kid", "audit", "socket"])]
        operator_socket: Option<PathBuf>,
        /// What was found and done; recorded.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Find out what is wrong with each upstream and what to do; exit 0 only if each signed.
    #[command(
        after_help = "Example: signctl doctor\n         signctl doctor --json | jq '.upstreams[] | select(.ok | not)'"
    )]
    Doctor(Socket),
    /// Make the upstreams of a signer fail for a while, inside the proxy, and report how fast it
    /// refused, whether anything slipped, and how it recovered. Exit 0 only if it held.
    #[command(
        after_help = "Example: signctl drill --signer dev-ed25519\n         signctl drill --breakglass\n\nCallers of that signer are refused while it lasts, so a signer that is not a development\none needs --i-understand."
    )]
    Drill(drill::Flags),
    /// Read the journal: tail, verify, export, key, used, reconcile.
    #[command(after_help = "Example: signctl audit tail --follow")]
    Audit(audit::Flags),
    /// Have a file, standard input or a digest signed, as a service does. Exit 0 only if the signature
    /// verified here, under the registry.
    #[command(after_help = caller::sign::help())]
    Sign(caller::sign::Sign),
    /// Verify a signature: the proxy says whose it is, and the registry here has to say so too.
    #[command(after_help = caller::verify::help())]
    Verify(caller::verify::Verify),
    /// Check an answer with a receipt, far from the journal.
    #[command(after_help = "Example: signctl receipt verify --help")]
    Receipt(receipt::Flags),
    /// Break-glass: preflight, register, request, show, approve, unlock, activate, status, end, accept-signer, accept-proxy, destroy.
    #[command(after_help = "Example: signctl breakglass request --help")]
    Breakglass(breakglass::Flags),
    /// An incident: begin, status, end.
    #[command(
        after_help = "Example: signctl incident begin --id INC-42 --reason \"signing fails\""
    )]
    Incident(incident::Flags),
    /// Recover from the incident that is open: section 5 of the runbook. It checks the provider, records who
    /// replaced the credentials that were used, verifies the journals, and then ends session, freeze and incident.
    /// It ends nothing before its turn. Exit 0 only if the incident has ended.
    #[command(
        after_help = "Example: signctl recover --reason \"KMS is well since 06:40\" --signers /etc/signing-proxy/signers.json \\\n           \
                      --with /var/lib/breakglass-signer/journal --all-rotated \"alice, CHG-7\""
    )]
    Recover(recover::Flags),
    /// Report an incident, a break-glass session or a stretch of time, from the journals alone, on any machine: one HTML
    /// file that needs nothing else, and the same in Markdown. Exit 0 only if the journals verify.
    #[command(
        after_help = "Example: signctl report --incident INC-42 --signers signers.json --with /var/lib/breakglass-signer/journal\n         \
                      signctl report --since 2026-11-26T05:15:00Z --journal copy/journal --out report\n         \
                      signctl report --incident INC-42 --signers signers.json --members copies"
    )]
    Report(report::Flags),
    /// The registry: list, add, revoke.
    #[command(after_help = "Example: signctl signers list")]
    Signers(signers::Flags),
    /// Print completions for a shell: its verbs and flags, with what they are for.
    #[command(
        after_help = "Example: signctl completions bash > /etc/bash_completion.d/signctl\n         signctl completions zsh > \"${fpath[1]}/_signctl\""
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages of this program, and its completions for shells, as a package has them.
    #[command(
        after_help = "Example: signctl manual --out ./share && man ./share/man/man1/signctl.1"
    )]
    Manual {
        /// The directory; it is laid out as /usr/share is.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let held = Held::back();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return out::usage(&error.to_string(), error.use_stderr()),
    };
    held.end_process(arguments.verb.end());
    out::end("signctl", run(&arguments))
}

/// Carries out one verb; success if the answer is good.
fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let socket = arguments.verb.socket(&arguments.socket).path();
    let socket = socket.as_path();
    let (reply, say): (Reply, fn(&Reply) -> anyhow::Result<Said>) = match &arguments.verb {
        Verb::Status(flags) => return status::run(flags, socket, arguments.json),
        Verb::Health { url } => (client::get_url(url)?, |reply| {
            // `/livez` and `/readyz` name no signers.
            reply.read().map(|health| show::health(&health)).or_else(|error| {
                reply.read().map(|readiness| show::readiness(&readiness)).map_err(|_| error)
            })
        }),
        Verb::Watch(flags) => return watch::run(flags, socket, arguments.json),
        Verb::Gate(flags) => return Ok(gate::run(flags, arguments.json)),
        Verb::Freeze { reason, .. } => {
            let freeze = Freeze { reason: reason.clone() };
            (client::post(socket, path::FREEZE, &freeze)?, frozen)
        }
        Verb::Unfreeze { statement: Some(file), .. } => {
            (client::post(socket, path::FLEET_STATEMENT, &fleet::statement(file)?)?, frozen)
        }
        Verb::Unfreeze { reason, .. } => {
            let unfreeze = Unfreeze { reason: reason.clone().unwrap_or_default() };
            (client::post(socket, path::UNFREEZE, &unfreeze)?, frozen)
        }
        Verb::Reload(_) => (client::post(socket, path::RELOAD, &Nothing {})?, |reply| {
            Ok(show::reloaded(&reply.read()?))
        }),
        Verb::Doctor(_) => (client::post(socket, path::DOCTOR, &Nothing {})?, |reply| {
            Ok(doctor::found(&reply.read()?))
        }),
        Verb::Drill(flags) if flags.rehearsal.is_asked() => {
            return breakglass::rehearse(&flags.rehearsal, socket, arguments.json);
        }
        Verb::Drill(flags) => {
            (drill::run(flags, socket, arguments.json)?, |reply| Ok(show::drilled(&reply.read()?)))
        }
        Verb::Audit(flags) => return audit::run(flags, arguments.json),
        Verb::Fleet(flags) => return fleet::run(flags, arguments.json),
        Verb::Receipt(flags) => return receipt::run(flags, arguments.json),
        Verb::Sign(flags) => return caller::sign::run(flags, arguments.json),
        Verb::Verify(flags) => return caller::verify::run(flags, arguments.json),
        Verb::Breakglass(flags) => return breakglass::run(flags, socket, arguments.json),
        Verb::Incident(flags) => return incident::run(flags, socket, arguments.json),
        Verb::Recover(flags) => return recover::run(flags, socket, arguments.json),
        Verb::Report(flags) => return report::run(flags, arguments.json),
        Verb::Signers(flags) => return signers::run(flags, arguments.json),
        Verb::Completions { shell } => return completions(*shell),
        Verb::Manual { out } => return write_manual(out),
        Verb::Unseal { operator_socket: Some(signer), reason, .. } => {
            (breakglass::unseal(signer, reason)?, breakglass::unsealed)
        }
        Verb::Unseal { kid, reason, .. } => {
            let (signer_kid, audit) = (kid.clone(), kid.is_none());
            let unseal = Unseal { signer_kid, audit, reason: reason.clone() };
            (client::post(socket, path::UNSEAL, &unseal)?, |reply| {
                Ok(show::unsealed(&reply.read()?))
            })
        }
    };
    // What the status says as well needs no reader; a look without a reader was for nothing.
    let is_look = matches!(arguments.verb, Verb::Health { .. });
    show::reply(&reply, arguments.json, is_look, say)
}

/// Made from the description by which the arguments are read, so that both are the same.
fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let script = manual::completions(Arguments::command(), shell);
    out::show(&String::from_utf8(script)?)?;
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

fn frozen(reply: &Reply) -> anyhow::Result<Said> {
    Ok(show::frozen(&reply.read()?))
}

impl Verb {
    /// How SIGTERM and SIGINT end it.
    fn end(&self) -> End {
        match self {
            Self::Audit(flags) if flags.goes_on() => End::InOrder,
            _ => End::BySignal,
        }
    }

    /// Where it asks, if `before` was said before it.
    fn socket(&self, before: &Socket) -> Socket {
        match self {
            Self::Unseal { operator_socket: Some(_), .. } => {
                before.unused();
                Socket::default()
            }
            Self::Status(status::Flags { socket, .. })
            | Self::Freeze { socket, .. }
            | Self::Unfreeze { socket, .. }
            | Self::Reload(socket)
            | Self::Unseal { socket, .. }
            | Self::Doctor(socket)
            | Self::Drill(drill::Flags { socket, .. })
            | Self::Watch(watch::Flags { socket, .. }) => socket.or(before),
            Self::Breakglass(flags) => flags.socket(before),
            Self::Incident(flags) => flags.socket(before),
            Self::Recover(flags) => flags.socket.or(before),
            Self::Health { .. }
            | Self::Gate(_)
            | Self::Fleet(_)
            | Self::Audit(_)
            | Self::Report(_)
            | Self::Receipt(_)
            | Self::Sign(_)
            | Self::Verify(_)
            | Self::Signers(_)
            | Self::Completions { .. }
            | Self::Manual { .. } => {
                before.unused();
                Socket::default()
            }
        }
    }
}
