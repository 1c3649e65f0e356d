//! The stop: drains with a deadline, then ends the session and the journal.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::service_manager::ServiceManager;
use monitor::{Monitor, SessionEnd};
use signing_core::breakglass::End;
use tokio::sync::oneshot;

use super::App;
use super::signals::{Hangup, Signals};
use crate::handles::Handles;

/// How long a stop waits until it is stored how far the journal has come.
const WITNESS_MAX: Duration = Duration::from_secs(2);

impl App {
    /// Waits for SIGTERM or SIGINT, then stops: no new connections, what is in
    /// flight is finished, at most for `drain_timeout_ms`. A second signal cuts
    /// that short. Meanwhile SIGHUP does what `hangup` says, and `manager` hears of it all.
    ///
    /// # Errors
    /// If the admin thread died.
    pub fn run_until_stopped(mut self, hangup: Hangup, manager: &ServiceManager) -> io::Result<()> {
        self.data.spawn(stay_alive(manager.clone(), self.handles.monitor.clone()));
        manager.serving();
        let (signals, admin_ended) = (self.signals.take(), self.admin_ended.take());
        let signals = signals.map(Signals::into_parts);
        let stopped = self.data.block_on(async {
            let Some((mut stops, mut hangups)) = signals else { return Ok(()) };
            tokio::select! {
                () = stops.next() => {}
                () = hangups.act(hangup, &self.reloader, manager) => {}
                () = ended(admin_ended) => {
                    // Without monitor every lease ends and no operator is heard: better to
                    // be started anew than to refuse for ever.
                    return Err(io::Error::other("the monitor died; every gate is shut"));
                }
            }
            manager.stopping();
            tracing::info!(in_flight = self.room.finisher().under_way(), "draining");
            tokio::select! {
                () = self.drain() => {}
                () = stops.next() => tracing::warn!("a second signal: not waiting any longer"),
            }
            Ok(())
        });
        self.end_the_session();
        self.end_the_journal(if stopped.is_ok() { "told to" } else { "the monitor died" });
        self.workers.all().iter().for_each(|worker| worker.life.end());
        // The lock is held for a copy only.
        let admin = self.admin_socket.try_lock().ok().map(|socket| socket.clone());
        host::socket::remove_in_time(admin.into_iter().chain(self.local.sockets()).collect());
        self.data.shutdown_timeout(Duration::from_secs(1));
        tracing::info!("stopped");
        stopped
    }

    /// After the last release: a session does not outlast this process, and its journal says so.
    fn end_the_session(&self) {
        let Some(armed) = self.handles.monitor.gates().session_in_force().map(Arc::clone) else {
            return;
        };
        let over = self.handles.monitor.disarm(
            armed.session.clone(),
            SessionEnd::by_this_proxy(End::ProxyGone, "this proxy stops"),
        );
        self.data.block_on(async {
            // The signer ends it when the connection goes.
            let _ = tokio::time::timeout(WITNESS_MAX, over).await;
        });
    }

    /// After the last release: records the stop, and stores how far the journal has come.
    fn end_the_journal(&self, reason: &str) {
        let Handles { journal, monitor, emergency, .. } = &self.handles;
        // What nobody asks any more is recorded whole: KMS's own log names each of these calls.
        self.room.retire();
        self.data.block_on(async {
            let _ = tokio::time::timeout(WITNESS_MAX, monitor.quiet()).await;
        });
        self.recorder.record();
        if let Err(trouble) = journal.stop(reason) {
            tracing::error!(target: "audit", %trouble, "the stop is not recorded");
        }
        let stored = async {
            // Nothing is lost if it is not: the journal is only watched less closely, and a
            // restart reads what the disk holds, sealed or not.
            let _ = tokio::time::timeout(WITNESS_MAX, monitor.store_witness()).await;
            // What is not written of this is made of the journal again.
            if let Some(heads) = emergency.heads().cloned() {
                let kept = tokio::task::spawn_blocking(move || heads.keep());
                let _ = tokio::time::timeout(WITNESS_MAX, kept).await;
            }
        };
        self.data.block_on(stored);
    }

    async fn drain(&self) {
        let deadline = tokio::time::Instant::now() + self.drain_timeout;
        self.drain.send_replace(true);
        let cut = self.handles.connections.close(deadline).await;
        let idle = tokio::time::timeout_at(deadline, self.room.finisher().idle()).await;
        if cut > 0 || idle.is_err() {
            let unfinished = self.room.finisher().under_way();
            tracing::warn!(connections_cut = cut, unfinished, "the drain deadline passed");
        }
    }
}

/// Tells the watchdog that both runtimes move: this task is on one, and the monitor that has to answer is
/// on the other. A disk or an upstream that hangs is no reason to be restarted.
async fn stay_alive(manager: ServiceManager, monitor: Monitor) {
    let Some(every) = manager.alive_every() else { return };
    let mut beat = tokio::time::interval(every);
    while monitor.answers().await.is_ok() {
        manager.alive();
        beat.tick().await;
    }
}

async fn ended(admin: Option<oneshot::Receiver<()>>) {
    if let Some(admin) = admin {
        // It sends nothing: it is dropped.
        let _ = admin.await;
    }
}
