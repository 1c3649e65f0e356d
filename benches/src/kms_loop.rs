//! The least that a call of KMS can cost, in a process of its own: the SDK's client in a loop, set up
//! as `upstream/src/kms/mod.rs` does it; and beside it our own client, as the proxy has it, with its
//! deadline, its names of calls and its checks of the answer. Both sign the same bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::Region;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use host::clock::now;
use release::{CanaryOrder, Operation, Probes, Purpose as ProbePurpose};
use signing_core::key::{Batching, PublicKey, Purpose};
use signing_core::{Algorithm, Canary, Kid, Signer, ToBeSigned};
use tokio::task::JoinSet;
use upstream::settings::{AwsKms, Client as Which, Proxies};
use upstream::{CredentialChains, FaultSwitch, KmsClients, Patience, Provider, Upstream, random};

use crate::cpu::ProcessClock;
use crate::load::{Phase, Sample, sample};

/// What to call, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct KmsLoop {
    /// The endpoint.
    #[arg(long)]
    pub endpoint: String,
    /// The key.
    #[arg(long)]
    pub key_id: String,
    /// Its algorithm, as KMS names it.
    #[arg(long)]
    pub algorithm: String,
    /// Its public key, PEM `PUBLIC KEY`.
    #[arg(long)]
    pub public_key: String,
    /// Calls by our own client, not the SDK's.
    #[arg(long)]
    pub lean: bool,
    /// Calls at once.
    #[arg(long)]
    pub connections: usize,
    /// Warm-up, in milliseconds.
    #[arg(long)]
    pub warm_up_ms: u64,
    /// The time that counts, in milliseconds.
    #[arg(long)]
    pub counting_ms: u64,
}

/// Calls until the time is over.
///
/// # Errors
/// If a call fails.
pub async fn run(args: &KmsLoop) -> anyhow::Result<Sample> {
    let signer = signer(args)?;
    let canary = Canary::new(&signer.kid, [0; _]);
    let caller = if args.lean {
        Caller::Lean(Box::new(Lean::new(args, signer, canary).await?))
    } else {
        Caller::Sdk(Sdk {
            client: client(&args.endpoint).await,
            key_id: args.key_id.clone(),
            input: canary.to_be_signed(&signer),
        })
    };
    let shared = Arc::new((caller, Phase::default()));
    let mut calling = JoinSet::new();
    for _ in 0..args.connections {
        let shared = Arc::clone(&shared);
        calling.spawn(async move { call_until_over(&shared.0, &shared.1).await });
    }
    let millis = Duration::from_millis;
    let clock = ProcessClock::of(std::process::id())?;
    let timed = shared.1.run(millis(args.warm_up_ms), millis(args.counting_ms), clock).await?;
    let mut latencies = Vec::new();
    while let Some(called) = calling.join_next().await {
        latencies.extend(called??);
    }
    Ok(sample(latencies, timed))
}

async fn call_until_over(caller: &Caller, phase: &Phase) -> anyhow::Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while !phase.is_over() {
        let called = Instant::now();
        match caller {
            Caller::Sdk(sdk) => sdk.call().await?,
            Caller::Lean(lean) => lean.call().await?,
        }
        if phase.counts() {
            latencies.push(u64::try_from(called.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

enum Caller {
    Sdk(Sdk),
    Lean(Box<Lean>),
}

/// The SDK's client, and nothing around it.
struct Sdk {
    client: Client,
    key_id: String,
    input: ToBeSigned,
}

impl Sdk {
    async fn call(&self) -> anyhow::Result<()> {
        let kind = match self.input.digest() {
            Some(_) => MessageType::Digest,
            None => MessageType::Raw,
        };
        let call = self.client.sign().key_id(&self.key_id).message_type(kind);
        let call = call.message(Blob::new(self.input.bytes()));
        let algorithm = SigningAlgorithmSpec::from(self.input.algorithm().name());
        let answer = call.signing_algorithm(algorithm).send().await?;
        answer.signature.context("Sign answered no signature")?;
        Ok(())
    }
}

/// Our own client, as the proxy has it.
struct Lean {
    upstream: Upstream,
    signer: Arc<Signer>,
    canary: Canary,
    probes: Probes,
}

impl Lean {
    async fn new(args: &KmsLoop, signer: Signer, canary: Canary) -> anyhow::Result<Self> {
        let settings = AwsKms {
            key_id: args.key_id.clone(),
            region: REGION.to_owned(),
            endpoint: args.endpoint.clone(),
            client: Which::Lean,
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            retries_per_second_max: 0,
            proxies: Proxies::default(),
        };
        let credentials = CredentialChains::default().of(&settings);
        let public_key = Arc::new(signer.public_key.clone());
        let clients = KmsClients::new(&settings, &public_key, &credentials).await;
        let upstream = Upstream::new(Provider::AwsKms(clients.data), FaultSwitch::default());
        let probes = Probes::new(now());
        // It believes no answer before it has seen which key it is that answers.
        let asked = (ProbePurpose::Canary, Operation::GetPublicKey);
        let calls = random::attempts().context("no randomness")?;
        let found = upstream.public_key(&probes.calls(&signer.kid, asked, calls)).await?;
        upstream.pin(found);
        Ok(Self { upstream, signer: Arc::new(signer), canary, probes })
    }

    async fn call(&self) -> anyhow::Result<()> {
        let calls = random::attempts().context("no randomness")?;
        let counted = (ProbePurpose::Canary, &self.probes);
        let order = CanaryOrder::new(Arc::clone(&self.signer), &self.canary, calls, counted);
        let patience = Patience::Canary { timeout: CALL_TIMEOUT };
        self.upstream.sign(&order, patience).await.result?;
        Ok(())
    }
}

/// Whoever signs here, as a registry has it.
fn signer(args: &KmsLoop) -> anyhow::Result<Signer> {
    let algorithm = Algorithm::parse(&args.algorithm).context("no such algorithm")?;
    Ok(Signer {
        kid: Kid::parse("bench")?,
        public_key: PublicKey::from_pem(&args.public_key, algorithm)?,
        purpose: Purpose::Signing,
        batch: Batching::No,
        not_after: None,
        revoked_at: None,
    })
}

const REGION: &str = "eu-test-1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

async fn client(endpoint: &str) -> Client {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .use_fips(false)
        .use_dual_stack(false)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build());
    Client::new(&loader.load().await)
}
