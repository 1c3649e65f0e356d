//! From a worker's start to the key that it found. Only the login itself is made in turn with the
//! other signers of a token: a worker that hangs anywhere else holds up nobody.

use std::io;
use std::os::unix::net::UnixStream;

use host::clock::now;
use host::limits;
use signing_core::evidence::Fault;
use signing_core::worker::{Login, Start, Started, fault_of_word, send, start_detail};
use signing_core::{Moment, json};

use super::super::super::UpstreamError;
use super::super::ledger::{LoginFailure, LoginTurn};
use super::{Ended, Filled, Reader, Supervisor, failed};

impl Supervisor {
    /// Says which key is wanted, and hears which one was found.
    pub(super) fn open(
        &self,
        mut socket: &UnixStream,
        reader: &mut Reader<'_>,
    ) -> Result<Vec<u8>, Ended> {
        let start = serde_json::to_vec(&self.wanted()).map_err(|error| died(error.into()))?;
        send(&mut socket, &start).map_err(died)?;
        let mut began = now();
        // Dropped with this call at the latest: then it is the next one's.
        let mut turn: Option<LoginTurn<'_>> = None;
        loop {
            match self.heard(reader, began)? {
                Started::LogsIn => {
                    let asked = now();
                    let leave = turn.insert(self.turn()?).leave();
                    // What others' logins took is not this worker's time.
                    began = began.after(now().since(asked));
                    let leave = serde_json::to_vec(&leave).map_err(|error| died(error.into()))?;
                    send(&mut socket, &leave).map_err(died)?;
                }
                Started::LoggedIn => {
                    if let Some(turn) = turn.take() {
                        turn.succeeded();
                    }
                }
                Started::Ready { spki_hex } => {
                    return hex::decode(&spki_hex).map_err(|_| {
                        failed(Fault::Unavailable, "the worker answers what is no key")
                    });
                }
                Started::Failed { fault, detail, login } => {
                    let error = UpstreamError::failed(fault_of_word(&fault), start_detail(&detail));
                    let why = match login {
                        Login::Other => None,
                        Login::Pin => Some(LoginFailure::Pin),
                        Login::Doubtful => Some(LoginFailure::Doubtful),
                    };
                    return Err(match turn.take().zip(why) {
                        Some((turn, why)) => turn.failed(why, &error, now()).into(),
                        None => Ended { error, held: None },
                    });
                }
            }
        }
    }

    fn wanted(&self) -> Start {
        let config = &self.config;
        Start {
            module: config.module.display().to_string(),
            token_label: config.token_label.clone(),
            key_label: config.key_label.clone(),
            key_id: config.key_id.clone(),
            pin_file: config.pin_file.display().to_string(),
            threads: config.threads,
            algorithm: self.algorithm.to_owned(),
            files_max: limits::files_before(),
        }
    }

    /// Waits until no other signer of the token logs in.
    fn turn(&self) -> Result<LoginTurn<'_>, Ended> {
        let unwanted = || self.calls.is_closed();
        match self.ledger.turn(self.token(), &self.config.pin_file, now, unwanted) {
            None => Err(failed(Fault::Unavailable, "nobody needs it any more")),
            Some(Err(not_now)) => Err(not_now.into()),
            Some(Ok(turn)) => Ok(turn),
        }
    }

    /// What the worker says next, within the time that its start may take.
    fn heard(&self, reader: &mut Reader<'_>, began: Moment) -> Result<Started, Ended> {
        loop {
            if let Some(frame) = reader.next_frame().map_err(died)? {
                return json::from_slice(frame).map_err(|error| died(io::Error::other(error)));
            }
            match reader.fill().map_err(died)? {
                Filled::Ended => return Err(died(io::ErrorKind::UnexpectedEof.into())),
                Filled::Some | Filled::Nothing => {}
            }
            if self.calls.is_closed() {
                return Err(failed(Fault::Unavailable, "nobody needs it any more"));
            }
            if now().since(began) >= self.config.start_timeout {
                self.life.hung();
                let waited_ms = self.config.start_timeout.as_millis();
                let detail = format!(
                    "the token did not open within start_timeout_ms, {waited_ms} ms; the worker is \
                     killed and started anew"
                );
                return Err(failed(Fault::Unavailable, detail));
            }
        }
    }
}

fn died(error: io::Error) -> Ended {
    failed(Fault::Unavailable, format!("the worker died while it started: {error}"))
}
