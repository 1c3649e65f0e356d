//! Keeps a worker running: starts it, watches its deadlines, kills it when it hangs, and
//! starts it anew, later each time. A PIN that was refused is not tried again until its
//! file has changed, so that nothing here locks a token.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use signing_core::gate::Fault;
use signing_core::worker::{
    Answered, Frames, Login, Start, Started, fault_of_word, printable, send,
};
use signing_core::{Algorithm, Moment};

use super::super::UpstreamError;
use super::calls::{Calls, Took};
use super::ledger::{Fails, Identity, Ledger, NotNow, Turn, identity};
use super::life::Life;
use super::line::Line;
use super::process::Process;
use crate::config;
use crate::time::now;

/// From the worker's start until it has found the key.
const START_MAX: Duration = Duration::from_secs(30);

/// How often deadlines are looked at: a call is cut so much later at most.
const TICK: Duration = Duration::from_millis(50);

/// Before the first start after a failure; doubled each time.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A worker that served so long was a good one: the next start does not wait for long.
const STEADY: Duration = Duration::from_secs(10);

/// How often a refused PIN's file is looked at.
const PIN_LOOK: Duration = Duration::from_millis(500);

/// Bytes read from the worker at once.
const PIECE_BYTES: usize = 64 << 10;

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
    with: Option<Identity>,
    /// None: until someone has acted.
    until: Option<Moment>,
}

/// Supervises one worker until nobody needs it.
struct Supervisor {
    config: config::Pkcs11,
    algorithm: Algorithm,
    name: String,
    calls: Arc<Calls>,
    life: Arc<Life>,
    ledger: Arc<Ledger>,
}

/// Starts the supervisor's thread. The worker is its child and dies with the proxy.
pub(super) fn start(
    config: config::Pkcs11,
    algorithm: Algorithm,
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
        let config = &self.config;
        let token = (config.module.as_path(), config.token_label.as_str());
        let turn = self.ledger.turn(token, &config.pin_file, now, || self.calls.is_closed());
        let turn = match turn {
            None => return failed(Fault::Unavailable, "nobody needs it any more"),
            Some(Err(NotNow { error, with, until })) => {
                return Ended { error, held: Some(Held { with, until }) };
            }
            Some(Ok(turn)) => turn,
        };
        let (mut process, socket) = match Process::start(&worker, &self.name) {
            Ok(started) => started,
            Err(error) => {
                let worker = worker.display();
                return failed(
                    Fault::KeyUnavailable,
                    format!(
                        "worker {worker} can not be started: {error}; install it there, or name it"
                    ),
                );
            }
        };
        self.life.started();
        self.life.leads(Some(process.group()));
        let ended = self.talk(&process, &socket, turn);
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

    fn talk(&self, process: &Process, socket: &UnixStream, turn: Turn<'_>) -> Ended {
        let mut reader = match Reader::new(socket) {
            Ok(reader) => reader,
            Err(error) => return failed(Fault::Unavailable, error.to_string()),
        };
        let spki_der = match self.greet(socket, &mut reader, turn) {
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

    /// Says which key is wanted, and hears which one was found.
    fn greet(
        &self,
        mut socket: &UnixStream,
        reader: &mut Reader<'_>,
        turn: Turn<'_>,
    ) -> Result<Vec<u8>, Ended> {
        let config = &self.config;
        let start = Start {
            module: config.module.display().to_string(),
            token_label: config.token_label.clone(),
            key_label: config.key_label.clone(),
            key_id: config.key_id.clone(),
            pin_file: config.pin_file.display().to_string(),
            threads: config.threads,
            algorithm: self.algorithm.name().to_owned(),
        };
        let died = |error: io::Error| {
            failed(Fault::Unavailable, format!("the worker died while it started: {error}"))
        };
        let start = serde_json::to_vec(&start).map_err(|error| died(error.into()))?;
        send(&mut socket, &start).map_err(died)?;
        let began = now();
        let started: Started = loop {
            if let Some(frame) = reader.next_frame().map_err(died)? {
                break serde_json::from_slice(frame).map_err(|error| died(error.into()))?;
            }
            match reader.fill().map_err(died)? {
                Filled::Ended => return Err(died(io::ErrorKind::UnexpectedEof.into())),
                Filled::Some | Filled::Nothing => {}
            }
            if now().since(began) >= START_MAX || self.calls.is_closed() {
                if !self.calls.is_closed() {
                    self.life.hung();
                }
                let waited = START_MAX.as_secs();
                let detail =
                    format!("the token did not open within {waited} s; the worker is killed");
                return Err(failed(Fault::Unavailable, detail));
            }
        };
        match started {
            Started::Ready { spki_hex } => {
                turn.succeeded();
                hex::decode(&spki_hex)
                    .map_err(|_| failed(Fault::Unavailable, "the worker answers what is no key"))
            }
            Started::Failed { fault, detail, login } => {
                let error = UpstreamError::failed(fault_of_word(&fault), printable(&detail));
                let why = match login {
                    Login::Other => return Err(Ended { error, held: None }),
                    Login::Pin => Fails::Pin,
                    Login::Doubtful => Fails::Doubtful,
                };
                let NotNow { error, with, until } = turn.failed(why, &error, now());
                Err(Ended { error, held: Some(Held { with, until }) })
            }
        }
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
                    Some(Took::Answer) => {}
                    Some(Took::Last(error)) => {
                        self.calls.leave(&error);
                        last.get_or_insert_with(|| (error, now()));
                    }
                    Some(Took::Confused) | None => {
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

/// Frames from the worker, never waiting for longer than a tick.
struct Reader<'s> {
    socket: &'s UnixStream,
    frames: Frames,
    piece: Vec<u8>,
}

/// What a look at the socket gave.
enum Filled {
    Some,
    Nothing,
    Ended,
}

impl<'s> Reader<'s> {
    fn new(socket: &'s UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(TICK))?;
        Ok(Self { socket, frames: Frames::default(), piece: vec![0; PIECE_BYTES] })
    }

    fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        self.frames.next_frame().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn fill(&mut self) -> io::Result<Filled> {
        match self.socket.read(&mut self.piece) {
            Ok(0) => Ok(Filled::Ended),
            Ok(length) => {
                self.frames.extend(self.piece.get(..length).unwrap_or_default());
                Ok(Filled::Some)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(Filled::Nothing),
                _ => Err(error),
            },
        }
    }
}
