//! Keeps a worker running: starts it, watches its deadlines, kills it when it hangs, and
//! starts it anew, later each time. A PIN that was refused is not tried again until its
//! file has changed, so that nothing here locks a token.

mod opening;
mod reader;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::clock::now;
use signing_core::Moment;
use signing_core::evidence::Fault;
use signing_core::worker::{Answered, FileIdentity};

use super::super::UpstreamError;
use super::calls::{AnswerOutcome, Calls};
use super::ledger::{Ledger, NotNow, identity};
use super::life::Life;
use super::line::Line;
use super::process::Process;
use crate::settings;
use reader::{Filled, Reader, TICK};

/// Before the first start after a failure; doubled each time.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A worker that served so long was a good one: the next start does not wait for long.
const STEADY: Duration = Duration::from_secs(10);

/// How often a refused PIN's file is looked at.
const PIN_LOOK: Duration = Duration::from_millis(500);

/// Why a worker ended.
#[derive(Debug)]
struct Ended {
    error: UpstreamError,
    /// No login before that.
    held: Option<Held>,
}

/// Until when, and with which file of the PIN, nobody logs in.
#[derive(Clone, Copy, Debug)]
struct Held {
    with: Option<FileIdentity>,
    /// None: until someone has acted.
    until: Option<Moment>,
}

impl From<NotNow> for Ended {
    fn from(NotNow { error, with, until }: NotNow) -> Self {
        Self { error, held: Some(Held { with, until }) }
    }
}

/// Supervises one worker until nobody needs it.
struct Supervisor {
    config: settings::Pkcs11,
    /// The registry's name for the key's algorithm and kind.
    algorithm: &'static str,
    name: String,
    calls: Arc<Calls>,
    life: Arc<Life>,
    ledger: Arc<Ledger>,
}

/// Starts the supervisor's thread. The worker is its child and dies with the proxy.
pub(super) fn start(
    config: settings::Pkcs11,
    algorithm: &'static str,
    name: &str,
    calls: Arc<Calls>,
    life: Arc<Life>,
    ledger: Arc<Ledger>,
) -> io::Result<()> {
    let name = name.to_owned();
    let supervisor = Supervisor { config, algorithm, name, calls, life, ledger };
    std::thread::Builder::new().name("pkcs11".into()).spawn(move || supervisor.run())?;
    Ok(())
}

impl Supervisor {
    fn run(self) {
        let mut back_off = BACK_OFF_MIN;
        while !self.calls.is_closed() {
            let began = now();
            let Ended { error, held } = self.serve();
            self.calls.leave(&error);
            let pin = held.is_some_and(|held| held.until.is_none());
            self.calls.set_pin_refused(pin);
            self.calls.settle("the worker ended before it answered; it may have signed");
            if self.calls.is_closed() {
                return;
            }
            tracing::warn!(target: "pkcs11", signer_kid = self.name, %error, pin, "the worker ended");
            if let Some(Held { with, until }) = held {
                let is_over = || until.is_some_and(|until| now() >= until);
                while identity(&self.config.pin_file) == with
                    && !is_over()
                    && !self.calls.is_closed()
                {
                    self.calls.pause(PIN_LOOK);
                }
                back_off = BACK_OFF_MIN;
                continue;
            }
            if now().since(began) >= STEADY {
                back_off = BACK_OFF_MIN;
            }
            self.calls.pause(back_off);
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// One worker's life.
    fn serve(&self) -> Ended {
        let worker = match self.config.worker() {
            Ok(worker) => worker,
            Err(error) => return failed(Fault::KeyUnavailable, error.to_string()),
        };
        // Known already: no worker is needed to find that out again.
        if let Some(not_now) = self.ledger.refused(self.token(), &self.config.pin_file, now()) {
            return not_now.into();
        }
        let (mut process, socket) = match Process::start(&worker, &self.name) {
            Ok(started) => started,
            Err(error) => {
                let worker = worker.display();
                return failed(
                    Fault::KeyUnavailable,
                    format!(
                        "worker {worker} cannot be started: {error}; install it there, or name it"
                    ),
                );
            }
        };
        self.life.started();
        self.life.leads(Some(process.group()));
        let ended = self.talk(&process, &socket);
        process.kill();
        // Told before the process is reaped, which something in the kernel can delay.
        self.calls.leave(&ended.error);
        self.calls.settle("the worker ended before it answered; it may have signed");
        self.life.leads(None);
        if let Ok(status) = process.reap() {
            tracing::info!(target: "pkcs11", signer_kid = self.name, %status, "the worker is gone");
        }
        ended
    }

    fn token(&self) -> (&Path, &str) {
        (&self.config.module, &self.config.token_label)
    }

    fn talk(&self, process: &Process, socket: &UnixStream) -> Ended {
        let mut reader = match Reader::new(socket) {
            Ok(reader) => reader,
            Err(error) => return failed(Fault::Unavailable, error.to_string()),
        };
        let spki_der = match self.open(socket, &mut reader) {
            Ok(spki_der) => spki_der,
            Err(ended) => return ended,
        };
        let line = match socket.try_clone() {
            Ok(socket) => Line::new(socket),
            Err(error) => return failed(Fault::Unavailable, error.to_string()),
        };
        self.calls.serve(spki_der, line);
        tracing::info!(target: "pkcs11", signer_kid = self.name, pid = process.id(), "the worker serves");
        self.read(socket, &mut reader)
    }

    /// Hands out answers until the worker ends or hangs.
    fn read(&self, socket: &UnixStream, reader: &mut Reader<'_>) -> Ended {
        let mut last: Option<(UpstreamError, Moment)> = None;
        let mut swept = now();
        loop {
            loop {
                let answered = match reader.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => Answered::read(frame),
                    Err(_) => None,
                };
                match answered.map(|answered| self.calls.take(answered, now())) {
                    Some(AnswerOutcome::Answer) => {}
                    Some(AnswerOutcome::Last(error)) => {
                        self.calls.leave(&error);
                        last.get_or_insert_with(|| (error, now()));
                    }
                    Some(AnswerOutcome::Confused) | None => {
                        let detail = "the worker said what is no answer, and was killed";
                        return failed(Fault::Indeterminate, detail);
                    }
                }
            }
            let filled = reader.fill();
            if let Ok(Filled::Ended) | Err(_) = filled {
                let died = || UpstreamError::failed(Fault::Unavailable, "the worker died");
                return Ended { error: last.map_or_else(died, |(error, _)| error), held: None };
            }
            if self.calls.is_closed() {
                let _ = socket.shutdown(Shutdown::Both);
                return failed(Fault::Unavailable, "nobody needs it any more");
            }
            if let Some((error, since)) = &last
                && now().since(*since) >= self.config.call_timeout
            {
                // It said that it would leave, and stays.
                self.life.hung();
                return Ended { error: error.clone(), held: None };
            }
            if now().since(swept) >= TICK {
                swept = now();
                self.calls.sweep(swept);
            }
            if self.calls.hangs(now()) {
                self.life.hung();
                let waited_ms = self.config.call_timeout.as_millis();
                let detail = format!(
                    "the token did not answer within {waited_ms} ms; the worker was killed"
                );
                return failed(Fault::Unavailable, detail);
            }
        }
    }
}

fn failed(fault: Fault, detail: impl Into<String>) -> Ended {
    Ended { error: UpstreamError::failed(fault, detail), held: None }
}
