//! `signctl breakglass`: the ceremony, step by step. A request is written, shown to and approved by
//! others with `ssh-keygen`, the emergency key unlocked, the session activated, ended, the key destroyed.

mod approve;
mod destroy;
#[cfg(test)]
mod examples;
mod operator;
mod preflight;
mod register;
mod rehearsal;
mod request;
mod review;
mod unlock;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use signing_core::admin::breakglass::{AcceptSigner, Activate, End};
use signing_core::admin::path;
use signing_core::breakglass::wire::Attested;

use crate::client::{self, Reply};
use crate::show::{self, Said};
use crate::socket::Socket;

/// What to do.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    socket: Socket,
    #[command(subcommand)]
    verb: Verb,
}

impl Flags {
    /// Where its verb asks, if `before` was said before it.
    pub(crate) fn socket(&self, before: &Socket) -> Socket {
        let before = self.socket.or(before);
        let of_verb = match &self.verb {
            Verb::Show(_) | Verb::Approve(_) | Verb::Unlock(_) | Verb::AcceptProxy { .. } => None,
            Verb::Status { operator_socket, socket }
            | Verb::End { operator_socket, socket, .. } => {
                operator_socket.is_none().then_some(socket)
            }
            Verb::Preflight(flags) => Some(&flags.socket),
            Verb::Register(flags) => Some(&flags.socket),
            Verb::Request(flags) => Some(&flags.socket),
            Verb::Activate { socket, .. } | Verb::AcceptSigner { socket, .. } => Some(socket),
            Verb::Destroy(flags) => flags.operator_socket.is_none().then_some(&flags.socket),
        };
        match of_verb {
            Some(socket) => socket.or(&before),
            None => {
                before.unused();
                Socket::default()
            }
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Say whether a ceremony could succeed now, before anybody needs it: both processes answer, people can
    /// fill the roles, an emergency key is there and has an end, clocks agree, disks have room; with
    /// --copies also that verifiers have the same registry, with --passphrase that the key opens. Exit 0
    /// only if nothing that was looked at is in the way.
    #[command(
        after_help = "Example: signctl breakglass preflight --copies /srv/verifier/signers.json --copies https://signing-proxy:8443/v1/signers --client-cert auditor.pem --client-key auditor.key\n         signctl breakglass preflight --passphrase"
    )]
    Preflight(Box<preflight::Flags>),
    /// Register an emergency key: its entry, with an end, goes into the registry; the proxy takes the registry,
    /// and records its SHA-256; the signers.json that consumers take is written, with that SHA-256. After a
    /// failure the same command goes on.
    #[command(
        after_help = "Example: breakglass-signer keygen --kid breakglass-2026 --algorithm ed25519 --out key.pem | signctl breakglass register - --not-after 2027-01-31T00:00:00Z --out consumers/signers.json\n         signctl breakglass register --public-key public.pem --kid breakglass-2026 --algorithm ed25519 --not-after 2027-01-31T00:00:00Z --out consumers/signers.json"
    )]
    Register(Box<register::Flags>),
    /// Write the request that two people have to approve, from what the running proxy knows; print
    /// the line with which each of them approves it. While the outage is not long enough yet, it is
    /// valid from when it will be. What could never be activated is not written.
    #[command(
        after_help = "Example: signctl breakglass request --incident INC-7 --justification \"KMS is down in eu-west-1\" --out request.json\n         signctl breakglass request --incident INC-7 --justification \"KMS is down in eu-west-1\" --minutes 60 --max-signatures 10000 --out request.json"
    )]
    Request(Box<request::Flags>),
    /// Show a request as a page for whoever has to approve it: what to ask first, what would be approved,
    /// who else has to approve. It is held against your own copies of the registry, of the emergency
    /// signer's configuration and of the approvers file. Exit 1 if it must not be approved.
    #[command(
        after_help = "Example: signctl breakglass show request.json\n         signctl breakglass show request.json --signers my/signers.json --signer-config my/breakglass-signer.toml --approvers my/approvers"
    )]
    Show(review::Flags),
    /// Approve a request: show the page, ask for a yes, have `ssh-keygen` sign it, and judge the approval as
    /// the emergency signer does, before it is written.
    #[command(
        after_help = "Example: signctl breakglass approve request.json --key ~/.ssh/id_ed25519_sk\n         signctl breakglass approve request.json --key ~/.ssh/id_ed25519_sk.pub      # a key that ssh-agent holds"
    )]
    Approve(approve::Flags),
    /// Bring the emergency key's passphrase to the signer: asked for at the terminal, or read from a
    /// pipe. It waits for one activation, which tries it, five minutes at most. With --check the signer
    /// tries it now, says whether it opens the key, and arms nothing.
    #[command(
        after_help = "Example: signctl breakglass unlock\n         signctl breakglass unlock --check\n         signctl breakglass unlock --operator-socket /run/breakglass-signer/operator.sock"
    )]
    Unlock(unlock::Flags),
    /// Activate an approved request. A refusal says which condition does not hold, and uses up
    /// nothing.
    #[command(
        after_help = "Example: signctl breakglass activate --request request.json --approval request.json.security.sig --approval request.json.finance.sig"
    )]
    Activate {
        /// The request, as it was approved.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// A signature that `ssh-keygen -Y sign` wrote; once for each person.
        #[arg(long = "approval", value_name = "FILE", required = true)]
        approvals: Vec<PathBuf>,
        #[command(flatten)]
        socket: Socket,
    },
    /// Show the session in force, outages, emergency keys and what is due.
    #[command(
        after_help = "Example: signctl breakglass status --json | jq .session\n         signctl breakglass status --operator-socket /run/breakglass-signer/operator.sock"
    )]
    Status {
        /// Ask the emergency signer itself, past the proxy: what it holds.
        #[arg(long, value_name = "PATH", conflicts_with = "socket")]
        operator_socket: Option<PathBuf>,
        #[command(flatten)]
        socket: Socket,
    },
    /// End the session in force; the emergency key is wiped. If the proxy hangs, or is not to be
    /// believed, ask the emergency signer itself.
    #[command(
        after_help = "Example: signctl breakglass end --reason \"KMS is back, INC-7 closed\"\n         signctl breakglass end --operator-socket /run/breakglass-signer/operator.sock --reason \"the proxy hangs\""
    )]
    End {
        /// Why; recorded.
        #[arg(long)]
        reason: String,
        /// Have the emergency signer itself end it, past the proxy, which is told.
        #[arg(long, value_name = "PATH", conflicts_with = "socket")]
        operator_socket: Option<PathBuf>,
        #[command(flatten)]
        socket: Socket,
    },
    /// Accept the emergency signer that the proxy refuses since its log does not go on from the one that
    /// the proxy knows: it was created anew, or lost its newest state. Look first: it may also have been
    /// put back on purpose, so that a request that was used activates again.
    #[command(
        after_help = "Example: signctl breakglass status                # shows the signer that is refused, and both heads\n         signctl breakglass accept-signer --reason \"INC-9: its disk was replaced\""
    )]
    AcceptSigner {
        /// What was found, in one line; recorded with both heads.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Have the emergency signer accept the proxy that it refuses since the proxy's log does not go on from the one
    /// that the signer knows: its journal was created anew, or lost its newest records. Look first: it may also
    /// have been put back on purpose, so that signatures are in no journal.
    #[command(
        after_help = "Example: signctl breakglass status --operator-socket /run/breakglass-signer/operator.sock     # why it is refused\n         signctl breakglass accept-proxy --reason \"INC-9: its disk was replaced\""
    )]
    AcceptProxy {
        /// What was found, in one line; recorded with both heads.
        #[arg(long)]
        reason: String,
        /// The emergency signer's own socket.
        #[arg(
            long,
            value_name = "PATH",
            env = "SIGNCTL_OPERATOR_SOCKET",
            default_value = "/run/breakglass-signer/operator.sock"
        )]
        operator_socket: PathBuf,
    },
    /// Destroy an emergency key that a session used: its file is overwritten and removed. With
    /// --signers it is revoked in the registry first, for good: that is what verifiers look at. Refused
    /// before anything is changed if it is no emergency key, the signer does not hold it, a session
    /// uses it, or nobody answers. It stays due until somebody attests that each of its copies is destroyed
    /// (--attest), also later. A key that no session used is not due: with --operator-socket the
    /// signer itself destroys it.
    #[command(
        after_help = "Example: signctl breakglass destroy breakglass-2026 --reason \"after INC-7\" --signers /etc/signing-proxy/signers.json --attest \"laptop in the safe=alice, shredded 07:10\" && signctl reload\n         signctl breakglass destroy breakglass-2026 --reason \"the passphrase leaked\" --operator-socket /run/breakglass-signer/operator.sock"
    )]
    Destroy(destroy::Flags),
}

/// Carries out one verb.
pub(crate) fn run(
    flags: &Flags,
    socket: &std::path::Path,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let (reply, say): (Reply, fn(&Reply) -> anyhow::Result<Said>) = match &flags.verb {
        Verb::Preflight(flags) => return preflight::run(flags, socket, as_json),
        Verb::Register(flags) => return register::run(flags, socket, as_json),
        Verb::Request(flags) => return request::run(flags, socket, as_json),
        Verb::Show(flags) => return review::run(flags, as_json),
        Verb::Approve(flags) => return approve::run(flags, as_json),
        Verb::Unlock(flags) => return unlock::run(flags, as_json),
        Verb::Activate { request, approvals, .. } => {
            let read = |flag, file: &PathBuf| {
                let read = std::fs::read(file);
                let bytes = read.with_context(|| format!("{flag} {}", file.display()))?;
                Ok::<_, anyhow::Error>(STANDARD.encode(bytes))
            };
            let approvals = approvals.iter().map(|file| read("--approval", file));
            let approvals_b64 = approvals.collect::<Result<Vec<_>, _>>()?;
            let body = Activate { request_b64: read("--request", request)?, approvals_b64 };
            (client::post(socket, path::ACTIVATE, &body)?, |reply| {
                Ok(words::activated(&reply.read()?))
            })
        }
        Verb::Status { operator_socket, .. } => {
            let reply = match operator_socket {
                Some(signer) => operator::status(signer)?,
                None => client::get(socket, path::BREAKGLASS).map_err(past_the_proxy)?,
            };
            (reply, |reply| Ok(words::status(&reply.read()?)))
        }
        Verb::End { reason, operator_socket, .. } => {
            let body = End { reason: reason.clone() };
            let reply = match operator_socket {
                Some(signer) => operator::end(signer, body)?,
                None => client::post(socket, path::END, &body).map_err(past_the_proxy)?,
            };
            (reply, |reply| Ok(words::ended(&reply.read()?)))
        }
        Verb::AcceptSigner { reason, .. } => {
            let body = AcceptSigner { reason: reason.clone() };
            (client::post(socket, path::ACCEPT_SIGNER, &body)?, |reply| {
                Ok(words::accepted(&reply.read()?))
            })
        }
        Verb::AcceptProxy { reason, operator_socket } => {
            (operator::accept_proxy(operator_socket, reason)?, |reply| {
                Ok(words::proxy_accepted(&reply.read()?))
            })
        }
        Verb::Destroy(flags) => {
            (destroy::run(flags, socket)?, |reply| Ok(words::destroyed(&reply.read()?)))
        }
    };
    show::reply(&reply, as_json, matches!(flags.verb, Verb::Status { .. }), say)
}

/// That the emergency signer ended its seal.
pub(crate) fn unsealed(reply: &Reply) -> anyhow::Result<Said> {
    Ok(words::unsealed(&reply.read()?))
}

/// Has the emergency signer itself end its seal.
pub(crate) fn unseal(socket: &std::path::Path, reason: &str) -> anyhow::Result<Reply> {
    operator::unseal(socket, reason)
}

pub(crate) use destroy::attested;
pub(crate) use rehearsal::{Flags as Rehearsal, run as rehearse};

/// Has a key destroyed that is due, revoked in that registry first.
pub(crate) fn destroy(
    (kid, reason, attest): (&str, &str, &[Attested]),
    signers: &std::path::Path,
    socket: &std::path::Path,
) -> anyhow::Result<Reply> {
    destroy::destroy((kid, reason, attest), Some(signers), None, socket)
}

/// What helps if the proxy does not.
fn past_the_proxy(error: anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{error:#}; past the proxy, the emergency signer itself: --operator-socket \
         /run/breakglass-signer/operator.sock"
    )
}
