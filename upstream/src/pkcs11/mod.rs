//! A key on a PKCS#11 token, behind a worker process: nothing of a vendor's runs here.
//!
//! One worker serves callers and canaries, since tokens have few sessions and lock after a
//! few wrong PINs; canaries go first, so that load cannot starve them.

mod calls;
mod ledger;
mod life;
mod line;
mod process;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use host::clock::now;
use release::{Order, Signs};
use signing_core::Moment;
use signing_core::evidence::Fault;
use signing_core::gate::Place;

use super::retry::RetryBudget;
use super::{FoundKey, Patience, UpstreamError};
use crate::settings;
use calls::{Answer, Calls};

pub use ledger::Ledger;
pub use life::Life;

/// One key on a token, as one of the two runtimes holds it.
#[derive(Clone, Debug)]
pub struct Pkcs11Upstream {
    handle: Arc<Handle>,
}

/// The same key for the data plane and for the monitor.
#[derive(Debug)]
pub struct Pkcs11Clients {
    /// For callers' requests.
    pub data: Pkcs11Upstream,
    /// For canaries.
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

/// By how much the supervisor may be late with an answer.
const SUPERVISOR_MAX: Duration = Duration::from_secs(2);

/// Second attempts per second, elsewhere: a token that refuses at once must not double
/// what another upstream has to bear.
const RETRIES_PER_SECOND_MAX: u32 = 10;

impl Pkcs11Clients {
    /// Starts the supervisor of a worker, on a thread of its own; `ledger` is one for all of them.
    /// `algorithm` is the registry's name for the key's algorithm and kind.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        config: &settings::Pkcs11,
        algorithm: &'static str,
        name: &str,
        ledger: &Arc<Ledger>,
    ) -> std::io::Result<Self> {
        let calls = Arc::new(Calls::new(config.threads, config.call_timeout));
        let life = Arc::new(Life::new(Arc::clone(&calls)));
        let (of_calls, of_life) = (Arc::clone(&calls), Arc::clone(&life));
        let ledger = Arc::clone(ledger);
        supervisor::start(config.clone(), algorithm, name, of_calls, of_life, ledger)?;
        let region = config.token_label.clone();
        let call_timeout = config.call_timeout;
        let retries = RetryBudget::new(RETRIES_PER_SECOND_MAX);
        let handle = Arc::new(Handle { calls, region, call_timeout, retries });
        let data = Pkcs11Upstream { handle };
        Ok(Self { monitor: data.clone(), data, life })
    }
}

impl Pkcs11Upstream {
    pub(super) fn region(&self) -> &str {
        &self.handle.region
    }

    /// The answer, and when the token began the call.
    pub(super) async fn sign(
        &self,
        order: &impl Order,
        place: &Arc<Place>,
        patience: Patience,
        asked: Moment,
    ) -> (Result<Vec<u8>, UpstreamError>, Moment) {
        let input = order.input();
        let Handle { calls, call_timeout, .. } = &*self.handle;
        let answer = match calls.ask(input.algorithm(), input.bytes(), patience, asked) {
            Ok(answer) => answer,
            Err(error) => return (Err(error), asked),
        };
        order.attempts().begin(Signs::Upstream(Arc::clone(place)));
        let waits_max = match patience {
            Patience::Caller { deadline } => deadline.since(asked),
            Patience::Canary { timeout } => timeout,
        };
        // The supervisor keeps all deadlines. Should it not, whoever asks does not wait for ever.
        let longest = waits_max.saturating_add(*call_timeout).saturating_add(SUPERVISOR_MAX);
        let silent = |words| Err(UpstreamError::failed(Fault::Indeterminate, words));
        match tokio::time::timeout(longest, answer).await {
            Ok(Ok(Answer { result, began })) => (result, began.unwrap_or_else(now)),
            Ok(Err(_)) => (silent("the worker's supervisor ended before the answer"), asked),
            Err(_) => (silent("the worker's supervisor does not answer"), asked),
        }
    }

    pub(super) fn has_room(&self, deadline: Moment, now: Moment) -> bool {
        self.handle.calls.has_room(deadline, now)
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
