//! `signctl drill`: asks for a drill, and says how it goes while its report is waited for.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use host::out;
use signing_core::admin::{Drill, Health, SignerHealth, path};
use text::counted;

use crate::breakglass::Rehearsal;
use crate::client::{self, Reply};
use crate::socket::Socket;

/// How often a person at a terminal sees how it goes, and how often a file or a pipe does.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_IN_A_FILE: Duration = Duration::from_secs(3);

/// What is drilled, and for how long.
#[derive(Args)]
pub(crate) struct Flags {
    /// Which signer; needed if there are several.
    #[arg(long, value_name = "KID")]
    signer: Option<String>,
    /// How long the fault lasts, 1 to 40; at least as long as the configuration needs to shut a
    /// gate without traffic, or it is refused with the number.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=40))]
    seconds: u64,
    /// Callers of a real key are refused meanwhile, and that is meant.
    #[arg(long)]
    i_understand: bool,
    #[command(flatten)]
    pub(crate) rehearsal: Rehearsal,
    #[command(flatten)]
    pub(crate) socket: Socket,
}

/// Runs one. How it goes is on standard error, so that standard output has the report alone; a
/// program that asks for JSON is told nothing else.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<Reply> {
    let Flags { signer, seconds, i_understand, .. } = flags;
    let body = Drill {
        signer_kid: signer.clone(),
        seconds: Some(*seconds),
        i_understand: *i_understand,
        rehearsal: None,
    };
    let is_terminal = io::stderr().is_terminal();
    if as_json && !is_terminal {
        return client::post(socket, path::DRILL, &body);
    }
    let began = Instant::now();
    let (report, reports) = sync_channel(1);
    let asked = socket.to_owned();
    thread::Builder::new().name("drill".into()).spawn(move || {
        // Nobody waits for it any more if this program ends.
        let _ = report.send(client::post(&asked, path::DRILL, &body));
    })?;
    let every = if is_terminal { EVERY } else { EVERY_IN_A_FILE };
    loop {
        match reports.recv_timeout(every) {
            Ok(reply) => {
                if is_terminal {
                    out::say_for_now("");
                }
                return reply;
            }
            Err(RecvTimeoutError::Timeout) => {
                let line = progress(began.elapsed(), *seconds, signer.as_deref(), socket);
                if is_terminal { out::say_for_now(&line) } else { out::say(&line) }
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the drill's thread ended"),
        }
    }
}

/// `drill: 4 of 10 seconds; payments-2026 is shut (upstream_unhealthy)`.
fn progress(elapsed: Duration, seconds: u64, signer: Option<&str>, socket: &Path) -> String {
    let health = client::get(socket, path::STATUS).and_then(|reply| reply.read::<Health>());
    let signers = health.map(|health| health.signers).unwrap_or_default();
    line(elapsed.as_secs(), seconds, signer, &signers)
}

fn line(elapsed: u64, seconds: u64, signer: Option<&str>, signers: &[SignerHealth]) -> String {
    let time = if elapsed < seconds {
        format!("{elapsed} of {}", counted(seconds, "second"))
    } else {
        "the fault has ended, the signer has to recover".to_owned()
    };
    let is_meant = |found: &&SignerHealth| signer.is_none_or(|kid| found.signer_kid == kid);
    let gates = signers.iter().filter(is_meant).map(|found| {
        let why = found.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("; the gate of {} is {}{why}", found.signer_kid, found.state)
    });
    format!("drill: {time}{}", gates.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::examples;

    #[test]
    fn a_line_says_how_far_it_is_and_how_the_gate_is() {
        let shut = SignerHealth {
            reason: Some("upstream_unhealthy".to_owned()),
            ..examples::signer("a", "shut")
        };
        let signers = [shut, examples::signer("b", "open")];
        assert_eq!(
            line(3, 10, Some("a"), &signers),
            "drill: 3 of 10 seconds; the gate of a is shut (upstream_unhealthy)"
        );
        assert_eq!(
            line(1, 1, Some("b"), &signers),
            "drill: the fault has ended, the signer has to recover; the gate of b is open"
        );
        assert_eq!(line(2, 10, None, &[]), "drill: 2 of 10 seconds");
    }
}
