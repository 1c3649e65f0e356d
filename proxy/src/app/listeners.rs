//! The sockets of the proxy, bound before any thread is started: what is taken is said at once.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use configuration::Config;
use host::socket::{self, Bound};

use super::StartError;

/// The bound sockets.
pub(super) struct Listeners {
    pub(super) admin: UnixListener,
    /// The admin socket's place in the file system.
    pub(super) admin_socket: Arc<Mutex<Bound>>,
    pub(super) data: TcpListener,
    pub(super) metrics: TcpListener,
}

impl Listeners {
    /// Binds them all.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let (admin, admin_socket) = socket::bind("admin.socket", &config.admin.socket)?;
        Ok(Self {
            admin,
            admin_socket: Arc::new(Mutex::new(admin_socket)),
            data: listen("server.listen", config.server.listen)?,
            metrics: listen("metrics.listen", config.metrics_listen)?,
        })
    }
}

/// Binds one.
pub(super) fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| StartError::Listen { key, address, error })
}
