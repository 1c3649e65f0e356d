//! The least that a call of KMS can cost: the SDK's client in a loop, set up as
//! `upstream/src/kms/mod.rs` does it, in a process of its own.

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
use tokio::task::JoinSet;

use crate::cpu::ProcessClock;
use crate::load::{Phase, Sample, sample};
use crate::stage::DIGEST;

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
    let shared = Arc::new((client(&args.endpoint).await, args.clone(), Phase::default()));
    let mut calling = JoinSet::new();
    for _ in 0..args.connections {
        let shared = Arc::clone(&shared);
        calling.spawn(async move { call_until_over(&shared.0, &shared.1, &shared.2).await });
    }
    let millis = Duration::from_millis;
    let clock = ProcessClock::of(std::process::id())?;
    let timed = shared.2.run(millis(args.warm_up_ms), millis(args.counting_ms), clock).await?;
    let mut latencies = Vec::new();
    while let Some(called) = calling.join_next().await {
        latencies.extend(called??);
    }
    Ok(sample(latencies, timed))
}

async fn call_until_over(
    client: &Client,
    args: &KmsLoop,
    phase: &Phase,
) -> anyhow::Result<Vec<u64>> {
    let algorithm = SigningAlgorithmSpec::from(args.algorithm.as_str());
    let kind = match algorithm {
        SigningAlgorithmSpec::Ed25519Sha512 => MessageType::Raw,
        _ => MessageType::Digest,
    };
    let mut latencies = Vec::new();
    while !phase.is_over() {
        let called = Instant::now();
        let answer = client
            .sign()
            .key_id(&args.key_id)
            .message(Blob::new(DIGEST))
            .message_type(kind.clone())
            .signing_algorithm(algorithm.clone())
            .send()
            .await?;
        answer.signature.context("Sign answered no signature")?;
        if phase.counts() {
            latencies.push(u64::try_from(called.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

async fn client(endpoint: &str) -> Client {
    let connect_timeout = Duration::from_secs(1);
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-test-1"))
        .endpoint_url(endpoint)
        .use_fips(false)
        .use_dual_stack(false)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(connect_timeout).build());
    Client::new(&loader.load().await)
}
