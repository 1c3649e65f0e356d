//! What a configuration says of an upstream, parsed: where its key is, and how long it may take.

mod proxies;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use proxies::{ForwardProxy, Proxies};

/// The program that loads the vendor's library.
const WORKER: &str = "pkcs11-worker";

/// Which of several open upstreams is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The one that the configuration names first.
    Configured,
    /// The one that answers fastest.
    Fastest,
}

/// Which client asks KMS for signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Our own, for `Sign` alone, on the SDK's connections.
    Lean,
    /// The SDK's, as for every other call.
    Sdk,
}

/// A key in AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKms {
    /// Key id, ARN or alias.
    pub key_id: String,
    /// AWS region.
    pub region: String,
    /// The endpoint: the region's own, or another that the configuration names.
    pub endpoint: String,
    /// Which client asks for signatures.
    pub client: Client,
    /// Connecting to the endpoint.
    pub connect_timeout: Duration,
    /// One Sign call.
    pub call_timeout: Duration,
    /// Second attempts per second, at most, over all requests.
    pub retries_per_second_max: u32,
    /// The way there, and to where credentials are from.
    pub proxies: Proxies,
}

/// A key on a PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11 {
    /// The vendor's library.
    pub module: PathBuf,
    /// The label of the token.
    pub token_label: String,
    /// `CKA_LABEL` of the private key.
    pub key_label: Option<String>,
    /// `CKA_ID` of the private key, in hex.
    pub key_id: Option<String>,
    /// The file that holds the PIN, which only the worker reads.
    pub pin_file: PathBuf,
    /// Threads of the worker, each with a session.
    pub threads: usize,
    /// One call to the token; then the worker is killed.
    pub call_timeout: Duration,
    /// From a worker's start until it has found its key; then it is killed.
    pub start_timeout: Duration,
    /// The worker, if it is not beside the proxy: see [`Self::worker`].
    pub worker_file: Option<PathBuf>,
}

impl Pkcs11 {
    /// The worker's program: the named one, else the one beside the proxy's own.
    ///
    /// # Errors
    /// If the system does not say where the proxy's own is.
    pub fn worker(&self) -> io::Result<PathBuf> {
        match &self.worker_file {
            Some(worker) => Ok(worker.clone()),
            None => Ok(std::env::current_exe()?.with_file_name(WORKER)),
        }
    }

    /// What names the key in both, if it is the same one.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> Option<String> {
        let same = !self.token_label.is_empty()
            && self.module == other.module
            && self.token_label == other.token_label
            && self.key_label == other.key_label
            && self.key_id == other.key_id;
        same.then(|| format!("key {:?}", self.key_label.as_ref().or(self.key_id.as_ref())))
    }
}
