//! Why the proxy does not start.

use std::io;
use std::net::SocketAddr;

use audit::{FillError, NotLetIn, OpenError};
use monitor::StoreError;

use crate::admin::SocketError;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key} {address}: {error}{}", host::listening::fix(.address.is_ipv6(), .error))]
    Listen {
        /// The config key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system answered.
        error: io::Error,
    },
    /// The admin socket cannot be bound.
    #[error(transparent)]
    Admin(#[from] SocketError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be opened.
    #[error("audit.dir {0}")]
    Journal(OpenError),
    /// Keys of the registry had another mode before, by the journal.
    #[error("{}", .0.join("; "))]
    KeyModes(Vec<String>),
    /// What shows the emergency signer that the journal goes on cannot be kept.
    #[error(transparent)]
    Tree(#[from] FillError),
    /// The journal's readers cannot be let in.
    #[error(transparent)]
    Readers(#[from] NotLetIn),
    /// The system gives no threads.
    #[error("the runtime does not start: {0}")]
    Runtime(#[from] io::Error),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Journal(error)
    }
}
