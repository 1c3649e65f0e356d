//! A key on a PKCS#11 token, behind a worker process: nothing of a vendor's runs here.
//!
//! One worker serves callers and canaries, since tokens have few sessions and lock after a
//! few wrong PINs; canaries go first, so that load can not starve them.

mod calls;
mod ledger;
mod life;
mod line;
mod process;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use signing_core::gate::Fault;
use signing_core::{Algorithm, Moment};

use super::retry::RetryBudget;
use super::{FoundKey, UpstreamError};
use crate::config;
use crate::order::Order;
use calls::{Calls, Lane};

pub use ledger::Ledger;
pub use life::Life;

/// One key on a token, as one of the two runtimes holds it.
#[derive(Clone, Debug)]
pub struct Pkcs11Upstream {
    handle: Arc<Handle>,
    lane: Lane,
}

/// The same key for the data plane and for the monitor.
#[derive(Debug)]
pub struct Pkcs11Clients {
    /// For callers' requests.
    pub data: Pkcs11Upstream,
    /// For canaries, which are sent first.
    pub monitor: Pkcs11Upstream,
    /// How their worker fares.
    pub life: Arc<Life>,
}

/// Ends the worker when nobody uses it any more.
#[derive(Debug)]
struct Handle {
    calls: Arc<Calls>,
    region: String,
    call_timeout: Duration,
    retries: RetryBudget,
}

/// Second attempts per second, elsewhere: a token that refuses at once must not double
/// what another upstream has to bear.
const RETRIES_PER_SECOND_MAX: u32 = 10;

impl Pkcs11Clients {
    /// Starts the supervisor of a worker, on a thread of its own; `ledger` is one for all of them.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        config: &config::Pkcs11,
        algorithm: Algorithm,
        name: &str,
        ledger: &Arc<Ledger>,
    ) -> std::io::Result<Self> {
        let calls = Arc::new(Calls::new(config.threads));
        let life = Arc::new(Life::new(Arc::clone(&calls)));
        let (of_calls, of_life) = (Arc::clone(&calls), Arc::clone(&life));
        let ledger = Arc::clone(ledger);
        supervisor::start(config.clone(), algorithm, name, of_calls, of_life, ledger)?;
        let region = config.token_label.clone();
        let call_timeout = config.call_timeout;
        let retries = RetryBudget::new(RETRIES_PER_SECOND_MAX);
        let handle = Arc::new(Handle { calls, region, call_timeout, retries });
        let upstream = |lane| Pkcs11Upstream { handle: Arc::clone(&handle), lane };
        Ok(Self { data: upstream(Lane::Callers), monitor: upstream(Lane::Canaries), life })
    }
}

impl Pkcs11Upstream {
    pub(super) fn region(&self) -> &str {
        &self.handle.region
    }

    pub(super) async fn sign(&self, order: &impl Order) -> Result<Vec<u8>, UpstreamError> {
        let input = order.input();
        let Handle { calls, call_timeout, .. } = &*self.handle;
        let asked = calls.ask(self.lane, input.algorithm(), input.bytes())?;
        match tokio::time::timeout(*call_timeout, asked.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(UpstreamError::failed(
                Fault::Indeterminate,
                "the worker's supervisor ended before the answer",
            )),
            Err(_) => Err(calls.give_up(asked.id, *call_timeout)),
        }
    }

    pub(super) fn public_key(&self) -> Result<FoundKey, UpstreamError> {
        self.handle.calls.public_key().map(|spki_der| FoundKey { spki_der, arn: None })
    }

    pub(super) fn spends_retry(&self, now: Moment) -> bool {
        self.handle.retries.spend(now)
    }

    /// Whether nothing can be asked because the PIN was refused.
    #[must_use]
    pub fn pin_is_refused(&self) -> bool {
        self.handle.calls.pin_is_refused()
    }

    /// The key is the registered one: from now on no other one is asked.
    pub(super) fn pin(&self, spki_der: Vec<u8>) {
        self.handle.calls.pin(spki_der);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.calls.close();
    }
}
