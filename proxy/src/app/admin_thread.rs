//! The thread that answers when the data plane is saturated, and whose death ends the process.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};

use arc_swap::ArcSwap;
use breakglass::Breakglass;
use breakglass::emergency::Notice;
use host::socket::Bound;
use monitor::{MonitorTasks, Stops};
use mtls::ServerTls;
use server::Connections;
use telemetry::conditions::Conditions;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use super::recorder::Recorder;
use crate::admin::{self, Admin};
use crate::conditions::{self, Sources};
use crate::observe::{self, Observed};
use crate::reload::Reloader;
use crate::tls_watch;

/// The admin thread: monitor, admin socket, metrics and health, on a runtime of
/// their own, so that they answer when the data plane is saturated.
pub(super) struct AdminThread {
    pub(super) monitor_tasks: MonitorTasks,
    pub(super) admin_listener: (std::os::unix::net::UnixListener, Arc<Mutex<Bound>>),
    pub(super) conditions: (Arc<Conditions>, Sources),
    pub(super) admin: Arc<Admin>,
    pub(super) metrics_listener: TcpListener,
    pub(super) observed: Arc<Observed>,
    pub(super) recorder: Recorder,
    /// What was released before a stop ends with it.
    pub(super) settling: (Connections, watch::Receiver<Stops>),
    /// The TLS material in force, and who reads its files again.
    pub(super) certificates: (Arc<ArcSwap<ServerTls>>, Arc<Reloader>),
    /// Where break-glass is configured.
    pub(super) keeping: Option<(Arc<Breakglass>, tokio::sync::mpsc::Receiver<Notice>)>,
}

impl AdminThread {
    /// Starts the thread; returns once its runtime runs. What comes back resolves
    /// if the thread ever ends, which it does not.
    pub(super) fn start(self) -> io::Result<oneshot::Receiver<()>> {
        let (started, has_started) = mpsc::sync_channel(1);
        let (alive, ended) = oneshot::channel();
        let body = move || {
            // Dropped when the thread ends, however it does.
            let _alive: oneshot::Sender<()> = alive;
            let run = async {
                let (admin_listener, bound) = self.admin_listener;
                let admin_listener = tokio::net::UnixListener::from_std(admin_listener)?;
                let metrics_listener = tokio::net::TcpListener::from_std(self.metrics_listener)?;
                let (bind_again, bound_again) = tokio::sync::mpsc::channel(1);
                let admin = tokio::spawn(admin::serve(admin_listener, bound_again, self.admin));
                let (conditions, sources) = self.conditions;
                let watching_socket =
                    conditions::watch_socket(bound, bind_again, Arc::clone(&conditions));
                let watching_socket = tokio::spawn(watching_socket);
                let watching = tokio::spawn(conditions::watch(conditions, sources));
                let observed = tokio::spawn(observe::serve(metrics_listener, self.observed));
                let recorder = self.recorder;
                let recording = tokio::spawn(async move { recorder.record_for_ever().await });
                let (connections, stops) = self.settling;
                let settling = tokio::spawn(server::settle_after_stops(connections, stops));
                let (tls, reloader) = self.certificates;
                let renewing = tokio::spawn(tls_watch::watch(tls, reloader));
                let keeping = tokio::spawn(async move {
                    if let Some((breakglass, notices)) = self.keeping {
                        breakglass::keep(breakglass, notices).await;
                    }
                    // It ends when the data runtime does, and not otherwise.
                    std::future::pending::<()>().await;
                });
                let _ = started.send(Ok(()));
                tokio::select! {
                    () = self.monitor_tasks.run() => {}
                    _ = admin => {}
                    _ = observed => {}
                    _ = watching_socket => {}
                    _ = watching => {}
                    _ = recording => {}
                    _ = settling => {}
                    _ = renewing => {}
                    _ = keeping => {}
                }
                tracing::error!("a task of the admin thread died");
                Ok(())
            };
            let ran: io::Result<()> = Builder::new_current_thread()
                .enable_all()
                .build()
                .and_then(|runtime| runtime.block_on(run));
            if let Err(error) = ran {
                let _ = started.send(Err(error));
            }
        };
        std::thread::Builder::new().name("admin".into()).spawn(body)?;
        match has_started.recv() {
            Ok(Ok(())) => Ok(ended),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the admin thread died at its start")),
        }
    }
}
