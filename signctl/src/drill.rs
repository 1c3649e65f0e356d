//! `signctl drill`: asks for a drill, and says how it goes while its report is waited for.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use host::out;
use serde_json::{Value, json};
use text::counted;

use crate::client::{self, Reply};
use crate::show;
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
    pub(crate) socket: Socket,
}

/// Runs one. How it goes is on standard error, so that standard output has the report alone; a
/// program that asks for JSON is told nothing else.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<Reply> {
    let Flags { signer, seconds, i_understand, .. } = flags;
    let body = json!({"signer_kid": signer, "seconds": seconds, "i_understand": i_understand});
    let is_terminal = io::stderr().is_terminal();
    if as_json && !is_terminal {
        return client::post(socket, "/v1/drill", &body);
    }
    let began = Instant::now();
    let (report, reports) = sync_channel(1);
    let asked = socket.to_owned();
    thread::Builder::new().name("drill".into()).spawn(move || {
        // Nobody waits for it any more if this program ends.
        let _ = report.send(client::post(&asked, "/v1/drill", &body));
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
    let status = client::get(socket, "/v1/status").map(|reply| reply.body);
    line(elapsed.as_secs(), seconds, signer, &status.unwrap_or_default())
}

fn line(elapsed: u64, seconds: u64, signer: Option<&str>, status: &Value) -> String {
    let time = if elapsed < seconds {
        format!("{elapsed} of {}", counted(seconds, "second"))
    } else {
        "the fault has ended, the signer has to recover".to_owned()
    };
    let signers = status.get("signers").and_then(Value::as_array).into_iter().flatten();
    let is_meant = |found: &&Value| signer.is_none_or(|kid| show::text(found, "signer_kid") == kid);
    let gates = signers.filter(is_meant).map(|found| {
        let (kid, state) = (show::text(found, "signer_kid"), show::text(found, "state"));
        let reason = show::text(found, "reason");
        let why = if reason.is_empty() { reason } else { format!(" ({reason})") };
        format!("; the gate of {kid} is {state}{why}")
    });
    format!("drill: {time}{}", gates.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_the_gate_is() {
        let status = json!({"signers": [
            {"signer_kid": "a", "state": "shut", "reason": "upstream_unhealthy"},
            {"signer_kid": "b", "state": "open"},
        ]});
        assert_eq!(
            line(3, 10, Some("a"), &status),
            "drill: 3 of 10 seconds; the gate of a is shut (upstream_unhealthy)"
        );
        assert_eq!(
            line(1, 1, Some("b"), &status),
            "drill: the fault has ended, the signer has to recover; the gate of b is open"
        );
        assert_eq!(line(2, 10, None, &Value::Null), "drill: 2 of 10 seconds");
    }
}
