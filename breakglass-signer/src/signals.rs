//! What the process does at a signal: SIGTERM and SIGINT stop it, also those that come before it
//! serves. SIGHUP stops nothing, since a terminal that goes is no reason to end a session.

use std::io;

use host::signals::Held;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log::Log;

/// Listened for before anything else: what comes early is obeyed later.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Handles them from here on; returns the runtime of the whole process too. It starts no
    /// thread yet: one would not be confined.
    ///
    /// # Errors
    /// If the system gives no handlers.
    pub fn listen(held: Held) -> io::Result<(Self, Runtime)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
            }
        };
        held.let_through();
        Ok((signals, runtime))
    }

    /// Waits until one asks for a stop.
    pub(crate) async fn stop(&mut self, log: &Log) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => log.warn(
                    "SIGHUP: nothing is read anew; a changed configuration takes a restart, which ends a session",
                    json!({}),
                ),
            }
        }
    }
}
