//! AWS KMS. The SDK's own retries are off: whether a second attempt is made is
//! decided here, by what is known about the first.

mod call;
mod chain;
mod credentials;
mod faults;
mod files;
mod https;
mod no_credentials;
mod renewal;
mod sign;
mod state;
mod user_agent;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::{IdentityCache, Region};
use aws_sdk_kms::operation::sign::SignOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use host::clock::{now, wall_now};
use release::{Order, ProbeCalls};
use signing_core::evidence::Fault;
use signing_core::gate::Place;
use signing_core::key::{PublicKey, RAW_MESSAGE_MAX_BYTES};
use signing_core::{Algorithm, AttemptId, Hash, Moment, ToBeSigned};

use self::call::{Called, by_sdk, named};
use self::faults::CallFailed;
use self::https::Https;
use self::sign::{Message, SignCalls, Signed};
use super::retry::RetryBudget;
use super::{FoundKey, UpstreamError};
use crate::settings;

pub use credentials::CredentialChain;

/// One key in AWS KMS. A clone shares its connections and credentials.
#[derive(Clone, Debug)]
pub struct KmsUpstream {
    client: Client,
    /// None: the client signs too.
    sign_calls: Option<Arc<SignCalls>>,
    credentials: CredentialChain,
    key_id: String,
    region: String,
    /// The registered key.
    public_key: Arc<PublicKey>,
    call_timeout: Duration,
    retries: Arc<RetryBudget>,
    /// The ARN of the key that was compared with the registered one and equalled
    /// it. Every later answer has to name it too.
    arn: Arc<ArcSwapOption<String>>,
}

/// The chains of credentials of this process: signers whose chains are identical share one, so
/// that its sources are asked once. A chain asks STS in its upstream's region; all else of it is
/// the process's own.
#[derive(Debug, Default)]
pub struct CredentialChains(BTreeMap<String, CredentialChain>);

impl CredentialChains {
    /// The chain of an upstream.
    pub fn of(&mut self, config: &settings::AwsKms) -> CredentialChain {
        let new = || CredentialChain::new(&config.region, &config.proxies);
        self.0.entry(config.region.clone()).or_insert_with(new).clone()
    }
}

/// The same key through two clients with connections of their own: one for the
/// data plane, one for the monitor, so that load cannot starve probes.
#[derive(Debug)]
pub struct KmsClients {
    /// For callers' requests.
    pub data: KmsUpstream,
    /// For canaries.
    pub monitor: KmsUpstream,
}

impl KmsClients {
    /// Prepares both clients for a registered key. Nothing is sent yet.
    pub async fn new(
        config: &settings::AwsKms,
        public_key: &Arc<PublicKey>,
        credentials: &CredentialChain,
    ) -> Self {
        let retries = Arc::new(RetryBudget::new(config.retries_per_second_max));
        let arn = Arc::new(ArcSwapOption::empty());
        let upstream = |(client, sign_calls), call_timeout, retries| KmsUpstream {
            client,
            sign_calls,
            credentials: credentials.clone(),
            key_id: config.key_id.clone(),
            region: config.region.clone(),
            public_key: Arc::clone(public_key),
            call_timeout,
            retries,
            arn: Arc::clone(&arn),
        };
        Self {
            data: upstream(clients(config, credentials).await, config.call_timeout, retries),
            // A canary that fails is evidence; a second attempt would hide it.
            monitor: upstream(
                clients(config, credentials).await,
                PROBE_MAX,
                Arc::new(RetryBudget::new(0)),
            ),
        }
    }
}

/// The longest probe_timeout_ms: the prober bounds a canary itself, by what the
/// configuration says at that time.
const PROBE_MAX: Duration = Duration::from_secs(60);

/// How often the data plane's client is kept warm, and how long that may take:
/// longer than any call, since credentials may come slowly.
const WARM_EVERY: Duration = Duration::from_secs(60);
const WARM_MAX: Duration = Duration::from_secs(30);

impl KmsUpstream {
    /// Keeps credentials fresh and a connection open, for ever, so that a caller's
    /// request does not pay for either, nor runs out of time over them. What it
    /// sees is no evidence.
    pub(super) async fn keep_warm(
        &self,
        place: &Arc<Place>,
        calls: impl Fn() -> Option<ProbeCalls>,
    ) {
        loop {
            self.credentials.look_at_files();
            if let Some(calls) = calls() {
                let ask = || {
                    named(calls.attempts(), place, |attempt| {
                        by_sdk(attempt, self.client.get_public_key().key_id(&self.key_id).send())
                    })
                };
                // Only having asked counts.
                let _ = tokio::time::timeout(WARM_MAX, self.called(ask)).await;
            }
            tokio::time::sleep(WARM_EVERY).await;
        }
    }

    /// Which credentials it has, in words, without anything secret.
    #[must_use]
    pub fn credentials(&self) -> String {
        self.credentials.described()
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) async fn sign(
        &self,
        order: &impl Order,
        place: &Arc<Place>,
    ) -> Result<Vec<u8>, UpstreamError> {
        let attempts = async {
            match self.sign_once(order, place).await {
                // Only what certainly was not answered with a signature, and only
                // within the budget: a throttle or an unknown result is never retried.
                Err(UpstreamError::Failed { fault: Fault::Unavailable, .. })
                    if self.retries.spend(now()) =>
                {
                    order.attempts().failed(Fault::Unavailable);
                    self.sign_once(order, place).await
                }
                answer => answer,
            }
        };
        self.bounded(attempts).await
    }

    /// Without a second attempt.
    pub(super) async fn sign_in_one_attempt(
        &self,
        order: &impl Order,
        place: &Arc<Place>,
    ) -> Result<Vec<u8>, UpstreamError> {
        self.bounded(self.sign_once(order, place)).await
    }

    pub(super) fn spends_retry(&self, now: Moment) -> bool {
        self.retries.spend(now)
    }

    async fn sign_once(
        &self,
        order: &impl Order,
        place: &Arc<Place>,
    ) -> Result<Vec<u8>, UpstreamError> {
        let (input, attempts) = (order.input(), order.attempts());
        let mu = self.external_mu(input)?;
        let (bytes, kind) = match (input.digest(), &mu) {
            (Some(digest), _) => (digest, MessageType::Digest),
            (None, Some(mu)) => (mu.as_slice(), MessageType::ExternalMu),
            (None, None) => (input.bytes(), MessageType::Raw),
        };
        let algorithm = spec(input.algorithm());
        let message = Message { bytes, kind: &kind, algorithm: &algorithm };
        let sign = || named(attempts, place, |attempt| self.sign_call(message, attempt));
        let answer = self.called(sign).await?;
        self.same_key(answer.key_id.as_deref())?;
        if answer.algorithm.as_deref() != Some(algorithm.as_str()) {
            return Err(UpstreamError::Doubt {
                detail: format!("Sign answered with {:?}", answer.algorithm),
            });
        }
        match answer.signature {
            Some(signature) => Ok(signature),
            None => Err(UpstreamError::Doubt { detail: "Sign answered no signature".into() }),
        }
    }

    /// What stands for a message that is too long for KMS, which only ML-DSA has. What comes back is
    /// verified over the message itself.
    fn external_mu(&self, input: &ToBeSigned) -> Result<Option<[u8; 64]>, UpstreamError> {
        if input.digest().is_some() || input.bytes().len() <= RAW_MESSAGE_MAX_BYTES {
            return Ok(None);
        }
        self.public_key.external_mu(input.bytes()).map(Some).ok_or_else(|| {
            UpstreamError::failed(Fault::Rejected, "the message is too long for such a key")
        })
    }

    async fn sign_call(&self, message: Message<'_>, attempt: AttemptId) -> Called<Signed> {
        if let Some(calls) = &self.sign_calls {
            return match self.credentials.ready().await {
                Ok(held) => calls.call(message, held.signs_with(), attempt, wall_now()).await,
                Err(_) => Called { request_id: None, answer: Err(CallFailed::not_built()) },
            };
        }
        let call = self.client.sign().key_id(&self.key_id).message(Blob::new(message.bytes));
        let call = call.message_type(message.kind.clone());
        let call = call.signing_algorithm(message.algorithm.clone()).send();
        let Called { request_id, answer } = by_sdk(attempt, call).await;
        let signed = |answer: SignOutput| Signed {
            key_id: answer.key_id,
            algorithm: answer.signing_algorithm.map(|spec| spec.as_str().to_owned()),
            signature: answer.signature.map(Blob::into_inner),
        };
        Called { request_id, answer: answer.map(signed) }
    }

    pub(super) async fn public_key(
        &self,
        place: &Arc<Place>,
        calls: &ProbeCalls,
    ) -> Result<FoundKey, UpstreamError> {
        let ask = || {
            named(calls.attempts(), place, |attempt| {
                by_sdk(attempt, self.client.get_public_key().key_id(&self.key_id).send())
            })
        };
        let answer = self.bounded(self.called(ask)).await?;
        if answer.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Err(UpstreamError::failed(
                Fault::KeyUnavailable,
                format!("the key's usage is {:?}, not SIGN_VERIFY", answer.key_usage()),
            ));
        }
        let algorithm = self.public_key.algorithm();
        if !answer.signing_algorithms().contains(&spec(algorithm)) {
            return Err(UpstreamError::failed(
                Fault::KeyUnavailable,
                format!("the key signs with {:?}, not {algorithm}", answer.signing_algorithms(),),
            ));
        }
        match (answer.public_key, answer.key_id) {
            (Some(key), Some(arn)) => Ok(FoundKey { spki_der: key.into_inner(), arn: Some(arn) }),
            _ => Err(UpstreamError::Doubt { detail: "GetPublicKey answered no key".into() }),
        }
    }

    /// The key named `arn` is the registered one: from now on nothing else is believed.
    pub(super) fn pin(&self, arn: String) {
        self.arn.store(Some(Arc::new(arn)));
    }

    /// Whether an answer is about the key that was asked for: an alias that was
    /// pointed elsewhere, or a confused endpoint, is doubt.
    fn same_key(&self, answered: Option<&str>) -> Result<(), UpstreamError> {
        match self.arn.load().as_deref() {
            Some(expected) if answered == Some(expected.as_str()) => Ok(()),
            Some(expected) => Err(UpstreamError::Doubt {
                detail: format!("KMS answered for the key {answered:?}, not {expected:?}"),
            }),
            None => Err(UpstreamError::failed(
                Fault::Unavailable,
                "the key has not been compared with the registry yet",
            )),
        }
    }

    /// Makes a call. If KMS refuses its credentials, which certainly signed nothing, and others
    /// are to be had, it is made once more with those: a rotation costs no request.
    async fn called<T, C>(&self, call: impl Fn() -> C) -> Result<T, UpstreamError>
    where
        C: Future<Output = Result<T, CallFailed>>,
    {
        let used = self.credentials.serial();
        let failed = match call().await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let is_worth_another = match failed.refused_credentials() {
            Some(code) => self.credentials.refused(used, code).await,
            None => false,
        };
        if !is_worth_another {
            return Err(failed.into());
        }
        Ok(call().await?)
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let (began, millis) = (now(), self.call_timeout.as_millis());
        // Asked for here already: without credentials certainly nothing was sent.
        let credentials = tokio::time::timeout(self.call_timeout, self.credentials.ready()).await;
        let why = match credentials {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("still being loaded after {millis} ms")),
        };
        if let Some(why) = why {
            return Err(UpstreamError::failed(
                Fault::Unavailable,
                format!("{NO_CREDENTIALS}{why}"),
            ));
        }
        let left = self.call_timeout.saturating_sub(now().since(began));
        tokio::time::timeout(left, call).await.unwrap_or_else(|_| {
            Err(UpstreamError::failed(
                Fault::Indeterminate,
                format!("no answer within {millis} ms"),
            ))
        })
    }
}

/// How a failure begins that is for want of credentials.
pub const NO_CREDENTIALS: &str = "no credentials: ";

/// A client with connections of its own, and what asks for signatures on the same connections.
async fn clients(
    config: &settings::AwsKms,
    credentials: &CredentialChain,
) -> (Client, Option<Arc<SignCalls>>) {
    let https = Https::new(&config.proxies);
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .endpoint_url(&config.endpoint)
        .http_client(https.clone())
        .credentials_provider(credentials.clone())
        // The chain keeps them itself.
        .identity_cache(IdentityCache::no_cache())
        // Named already where asked for: see the configuration's default endpoint.
        .use_fips(false)
        .use_dual_stack(false)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(config.connect_timeout).build());
    let built = aws_sdk_kms::config::Builder::from(&loader.load().await);
    let client = Client::from_conf(built.interceptor(user_agent::Named).build());
    let sign_calls = match config.client {
        settings::Client::Sdk => None,
        settings::Client::Lean => {
            // The time-outs that the SDK asks for, so that both use the same connections.
            let timeouts =
                HttpConnectorSettings::builder().connect_timeout(config.connect_timeout).build();
            let pool = https.pool(&timeouts);
            SignCalls::new(pool, &config.endpoint, &config.region, &config.key_id)
        }
    };
    (client, sign_calls.map(Arc::new))
}

fn spec(algorithm: Algorithm) -> SigningAlgorithmSpec {
    match algorithm {
        Algorithm::Ed25519Sha512 => SigningAlgorithmSpec::Ed25519Sha512,
        Algorithm::EcdsaSha256 => SigningAlgorithmSpec::EcdsaSha256,
        Algorithm::EcdsaSha384 => SigningAlgorithmSpec::EcdsaSha384,
        Algorithm::EcdsaSha512 => SigningAlgorithmSpec::EcdsaSha512,
        Algorithm::RsaPkcs1(Hash::Sha256) => SigningAlgorithmSpec::RsassaPkcs1V15Sha256,
        Algorithm::RsaPkcs1(Hash::Sha384) => SigningAlgorithmSpec::RsassaPkcs1V15Sha384,
        Algorithm::RsaPkcs1(Hash::Sha512) => SigningAlgorithmSpec::RsassaPkcs1V15Sha512,
        Algorithm::RsaPss(Hash::Sha256) => SigningAlgorithmSpec::RsassaPssSha256,
        Algorithm::RsaPss(Hash::Sha384) => SigningAlgorithmSpec::RsassaPssSha384,
        Algorithm::RsaPss(Hash::Sha512) => SigningAlgorithmSpec::RsassaPssSha512,
        Algorithm::MlDsaShake256 => SigningAlgorithmSpec::MlDsaShake256,
    }
}
