//! Ways to reach a key. An upstream sees an [`Order`] and answers a signature
//! that nobody believes yet, or says what it knows about the failure (I10).

mod development;
mod fault;
mod kms;
mod pkcs11;
mod quota;
pub mod random;
mod retry;
mod served;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use host::clock::now;
use release::{Order, ProbeCalls};
use signing_core::Moment;
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::Place;

pub use development::DevelopmentUpstream;
pub use fault::{FaultInForce, FaultSwitch};
pub use kms::{CredentialChain, CredentialChains, KmsClients, KmsUpstream, NO_CREDENTIALS};
pub use pkcs11::{Ledger, Life, Pkcs11Clients, Pkcs11Upstream};
pub use quota::Quota;
pub use served::{Latency, NoRoute, Reached, Route, Served};

/// One upstream of a signer, as one of the two runtimes holds it, behind the signer's switch.
#[derive(Debug)]
pub struct Upstream {
    provider: Provider,
    place: Arc<Place>,
    switch: FaultSwitch,
}

/// How often an upstream is asked.
#[derive(Clone, Copy)]
enum Attempts {
    One,
    Retried,
}

/// A way to reach a key.
#[derive(Debug)]
pub enum Provider {
    /// AWS KMS.
    AwsKms(KmsUpstream),
    /// A key on a PKCS#11 token.
    Pkcs11(Pkcs11Upstream),
    /// A key in a file.
    Development(DevelopmentUpstream),
}

/// How long an answer is of use to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A request, which has to be answered by then.
    Caller {
        /// The request's.
        deadline: Moment,
    },
    /// A canary: so long for the call itself, once it has begun.
    Canary {
        /// Of the call.
        timeout: Duration,
    },
}

/// What came of a call to an upstream.
#[derive(Debug)]
pub struct Answered {
    /// A signature that nobody believes yet, or what is known about the failure.
    pub result: Result<Vec<u8>, UpstreamError>,
    /// When the upstream began the call, whatever it waited for here before: what the call proves,
    /// it proves from then on, and how long it took counts from then.
    pub began: Moment,
}

/// The key that an upstream holds, not yet compared with the registered one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// DER SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    arn: Option<String>,
}

/// How a call failed, by what is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// It failed.
    #[error("{}: {detail}", fault.word())]
    Failed {
        /// What is known.
        fault: Fault,
        /// The upstream's error code, or a short sentence.
        detail: String,
    },
    /// It answered for another key or algorithm than it was asked for.
    #[error("doubtful answer: {detail}")]
    Doubt {
        /// What it answered.
        detail: String,
    },
}

impl UpstreamError {
    /// It failed, as `fault` says.
    pub fn failed(fault: Fault, detail: impl Into<String>) -> Self {
        Self::Failed { fault, detail: detail.into() }
    }

    /// The same as evidence for the gate.
    #[must_use]
    pub fn into_evidence(self) -> Evidence {
        match self {
            Self::Failed { fault, detail } => Evidence::Failed { fault, detail },
            Self::Doubt { detail } => Evidence::Doubt { detail },
        }
    }
}

impl Provider {
    /// Its name in the configuration: the label `upstream` of metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::AwsKms(_) => "aws-kms",
            Self::Pkcs11(_) => "pkcs11",
            Self::Development(_) => "development",
        }
    }

    /// The region of a metric label: of a token, its label; `local` where there is none.
    fn region(&self) -> &str {
        match self {
            Self::AwsKms(kms) => kms.region(),
            Self::Pkcs11(token) => token.region(),
            Self::Development(_) => "local",
        }
    }
}

impl Upstream {
    /// Reaches a key by `provider`, as long as `switch` lets it.
    #[must_use]
    pub fn new(provider: Provider, switch: FaultSwitch) -> Self {
        let place = Place { provider: provider.name(), region: provider.region().to_owned() };
        Self { provider, place: Arc::new(place), switch }
    }

    /// How it reaches its key.
    #[must_use]
    pub fn reached_by(&self) -> &Provider {
        &self.provider
    }

    /// Which upstream it is, in metrics and records.
    #[must_use]
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Asks for a signature. Bounded in time by the upstream's own call
    /// time-out, whatever the caller's deadline, so that an impatient caller
    /// is no evidence against a healthy upstream. A caller's patience bounds only how long the call
    /// may wait here for the upstream, where calls do.
    pub async fn sign(&self, order: &impl Order, patience: Patience) -> Answered {
        self.sign_in(order, patience, Attempts::Retried).await
    }

    /// The same, in one attempt: another upstream may be asked next.
    pub async fn sign_once(&self, order: &impl Order, patience: Patience) -> Answered {
        self.sign_in(order, patience, Attempts::One).await
    }

    async fn sign_in(
        &self,
        order: &impl Order,
        patience: Patience,
        attempts: Attempts,
    ) -> Answered {
        let asked = now();
        if let Err(drilled) = self.switch.pass() {
            return Answered { result: Err(drilled), began: asked };
        }
        if order.input().leaf().is_some() {
            // A batch signer's key signs the notes of batches and nothing else.
            let error = UpstreamError::failed(Fault::Rejected, "a leaf is signed in a batch only");
            return Answered { result: Err(error), began: asked };
        }
        let place = &self.place;
        let (result, began) = match (&self.provider, attempts) {
            (Provider::AwsKms(kms), Attempts::Retried) => (kms.sign(order, place).await, asked),
            (Provider::AwsKms(kms), Attempts::One) => {
                (kms.sign_in_one_attempt(order, place).await, asked)
            }
            (Provider::Pkcs11(token), _) => token.sign(order, place, patience, asked).await,
            (Provider::Development(development), _) => (development.sign(order, place), asked),
        };
        match &result {
            Ok(_) => self.switch.answered(asked),
            Err(UpstreamError::Failed { fault, .. }) => order.attempts().failed(*fault),
            Err(UpstreamError::Doubt { .. }) => {}
        }
        Answered { result, began }
    }

    /// Whether a call that is made now is expected to begin in time for a request's `deadline`.
    #[must_use]
    pub fn has_room(&self, deadline: Moment, now: Moment) -> bool {
        match &self.provider {
            Provider::Pkcs11(token) => token.has_room(deadline, now),
            // What limits these is a quota.
            Provider::AwsKms(_) | Provider::Development(_) => true,
        }
    }

    /// How long a canary may take that itself may take `timeout`.
    #[must_use]
    pub fn canary_max(&self, timeout: Duration) -> Duration {
        match &self.provider {
            // It may wait until a thread of the worker is free.
            Provider::Pkcs11(_) => timeout.saturating_mul(2),
            Provider::AwsKms(_) | Provider::Development(_) => timeout,
        }
    }

    /// Whether a call that certainly signed nothing may be made again now, here or elsewhere:
    /// spends the budget for that.
    #[must_use]
    pub fn grants_second_attempt(&self, now: Moment) -> bool {
        match &self.provider {
            Provider::AwsKms(kms) => kms.spends_retry(now),
            Provider::Pkcs11(token) => token.spends_retry(now),
            Provider::Development(_) => false,
        }
    }

    /// Asks which key the upstream holds; a call that is made for it is one of `calls`.
    ///
    /// # Errors
    /// What is known about the failure.
    pub async fn public_key(&self, calls: &ProbeCalls) -> Result<FoundKey, UpstreamError> {
        self.switch.pass()?;
        match &self.provider {
            Provider::AwsKms(kms) => kms.public_key(&self.place, calls).await,
            Provider::Pkcs11(token) => token.public_key(),
            Provider::Development(development) => {
                Ok(FoundKey { spki_der: development.public_key(), arn: None })
            }
        }
    }

    /// What speaks against the use of its key, where the upstream can be asked for that.
    pub async fn key_trouble(&self, calls: &ProbeCalls) -> Option<UpstreamError> {
        match &self.provider {
            Provider::AwsKms(kms) => kms.key_trouble(&self.place, calls).await,
            // Its sessions say so themselves.
            Provider::Pkcs11(_) | Provider::Development(_) => None,
        }
    }

    /// Keeps credentials and connections ready; to be spawned on the runtime that
    /// uses them. Ends at once where there is nothing to keep. `calls` are those of one question;
    /// without them it is not asked.
    pub async fn keep_warm(&self, calls: impl Fn() -> Option<ProbeCalls>) {
        match &self.provider {
            Provider::AwsKms(kms) => kms.keep_warm(&self.place, calls).await,
            Provider::Pkcs11(_) | Provider::Development(_) => {}
        }
    }

    /// Tells the upstream that `found` is the registered key.
    pub fn pin(&self, found: FoundKey) {
        match (&self.provider, found) {
            (Provider::AwsKms(kms), FoundKey { arn: Some(arn), .. }) => kms.pin(arn),
            (Provider::Pkcs11(token), FoundKey { spki_der, .. }) => token.pin(spki_der),
            (Provider::AwsKms(_) | Provider::Development(_), _) => {}
        }
    }
}
