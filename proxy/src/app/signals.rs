//! What the process does at a signal.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::service_manager::ServiceManager;
use host::signals::{Held, is_ignored};
use tokio::runtime::{Builder, Runtime};
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

/// Listened for before anything is started: what comes early is obeyed later.
#[derive(Debug)]
pub struct Signals {
    stops: Stops,
    hangups: Hangups,
    /// Only looks whether one came, before the runtimes are there that wait for them.
    looking: Runtime,
}

#[derive(Debug)]
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
    /// One came that nobody waited for.
    came: bool,
}

impl Signals {
    /// Handles them from here on. To be called before any thread is started, each of which takes
    /// over what is held back.
    ///
    /// # Errors
    /// If the system gives no handlers.
    pub fn listen(held: Held) -> io::Result<Self> {
        // A terminal that goes is to be ignored: nohup.
        let is_nohup = is_ignored(host::signals::Signal::SIGHUP);
        let looking = Builder::new_current_thread().enable_all().build()?;
        let (stops, hangups) = {
            let _entered = looking.enter();
            let stops = Stops {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                came: false,
            };
            (stops, Hangups { signal: signal(SignalKind::hangup())?, is_nohup })
        };
        held.let_through();
        Ok(Self { stops, hangups, looking })
    }

    /// For the one who waits, on whichever runtime that is. Not to be called on one.
    pub(crate) fn into_parts(self) -> (Stops, Hangups) {
        (self.stops, self.hangups)
    }

    /// Whether a stop was asked for by now. Not to be called on a runtime.
    pub fn is_stop_asked(&mut self) -> bool {
        let Self { stops, looking, .. } = self;
        let look = async { tokio::time::timeout(Duration::ZERO, stops.next()).await.is_ok() };
        let asked = looking.block_on(look);
        stops.came |= asked;
        asked
    }
}

impl Stops {
    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if std::mem::take(&mut self.came) {
            return;
        }
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub(crate) struct Hangups {
    signal: Signal,
    is_nohup: bool,
}

impl Hangups {
    /// Returns if a hangup stops the process; else it reloads at each, for ever. What
    /// came of it is in the log.
    pub(crate) async fn act(
        &mut self,
        hangup: Hangup,
        reloader: &Arc<Reloader>,
        manager: &ServiceManager,
    ) {
        while self.signal.recv().await.is_some() {
            match hangup {
                Hangup::Stops if self.is_nohup => {}
                Hangup::Stops => return,
                Hangup::Reloads => {
                    manager.reloading();
                    let reloaded = Arc::clone(reloader).reload("signal SIGHUP".to_owned()).await;
                    manager.reloaded(&match reloaded {
                        Ok(_) => "serving; the configuration was reloaded".to_owned(),
                        // The log has every mistake.
                        Err(_) => "serving; the newest reload was refused: see the log".to_owned(),
                    });
                }
            }
        }
        std::future::pending().await
    }
}
