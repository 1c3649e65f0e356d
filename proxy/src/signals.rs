//! What the process does at a signal.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload::Reloader;

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Reads the configuration again: a service.
    Reloads,
    /// Stops: the terminal it runs in is gone.
    Stops,
}

/// Listened for before anything is started: what comes early is not lost.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) stops: Stops,
    pub(crate) hangups: Hangups,
}

#[derive(Debug)]
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// To be called on the runtime that waits for them.
    pub(crate) fn new() -> io::Result<Self> {
        let stops = Stops {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Self { stops, hangups: Hangups(signal(SignalKind::hangup())?) })
    }
}

impl Stops {
    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Returns if a hangup stops the process; else it reloads at each, for ever. What
    /// came of it is in the log.
    pub(crate) async fn act(&mut self, hangup: Hangup, reloader: &Arc<Reloader>) {
        while self.0.recv().await.is_some() {
            match hangup {
                Hangup::Stops => return,
                Hangup::Reloads => {
                    let _ = Arc::clone(reloader).reload("signal SIGHUP".to_owned()).await;
                }
            }
        }
        std::future::pending().await
    }
}
