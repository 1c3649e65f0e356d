//! `signctl incident`: from the page to the end. `begin` freezes, has the proxy open the incident and
//! captures the state; `status` is the runbook as a checklist; `end` asks what is left.

mod begin;
mod bundle;
mod redact;
pub(crate) mod words;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use signing_core::admin::incident::End;
use signing_core::admin::path;

pub(crate) use bundle::names_a_signer;

use crate::client;
use crate::show;
use crate::socket::Socket;

/// What to do.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    socket: Socket,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Freeze, open the incident, and capture the state into a new directory: status, doctor, metrics,
    /// configuration, and the newest records of both journals, verified. Exit 0 only if all of it was captured.
    /// Again with the same --id it captures anew.
    #[command(
        after_help = "Example: signctl incident begin --id INC-42 --reason \"signing fails since 05:15\""
    )]
    Begin(Box<begin::Flags>),
    /// Show the runbook over what the proxy knows now; exit 0 only if nothing is left that it can see.
    #[command(after_help = "Example: signctl incident status")]
    Status(Socket),
    /// End the incident. While something is left that the proxy can see, it says what, and does not end.
    #[command(
        after_help = "Example: signctl incident end --reason \"KMS is well since 06:40\"\n         signctl incident end --reason \"the key is destroyed tomorrow\" --unfinished"
    )]
    End {
        /// What was done; recorded.
        #[arg(long)]
        reason: String,
        /// End it though something is left; what is left is recorded.
        #[arg(long)]
        unfinished: bool,
        #[command(flatten)]
        socket: Socket,
    },
}

impl Flags {
    /// Where its verb asks, if `before` was said before it.
    pub(crate) fn socket(&self, before: &Socket) -> Socket {
        let before = self.socket.or(before);
        match &self.verb {
            Verb::Begin(flags) => flags.socket.or(&before),
            Verb::Status(socket) | Verb::End { socket, .. } => socket.or(&before),
        }
    }
}

/// Carries out one verb.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let reply = match &flags.verb {
        Verb::Begin(flags) => return begin::run(flags, socket, as_json),
        Verb::Status(_) => client::get(socket, path::INCIDENT)?,
        Verb::End { reason, unfinished, .. } => {
            let end = End { reason: reason.clone(), unfinished: *unfinished };
            client::post(socket, path::INCIDENT_END, &end)?
        }
    };
    let is_look = matches!(flags.verb, Verb::Status(_));
    show::reply(&reply, as_json, is_look, |reply| {
        let incident = reply.read()?;
        Ok(if is_look { words::status(&incident) } else { words::ended(&incident) })
    })
}
