//! What can be measured in one thread, without a server: CPU time per call.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use development::DevelopmentKey;
use signing_core::{Algorithm, Digest, Hash, Input, Registry, ToBeSigned};

use crate::cpu::of_this_thread;
use crate::statistics::float;

/// Calls between two looks at the clock.
const BATCH: u64 = 16;

/// CPU time of one call of `work`, in microseconds, over about `counting`.
///
/// # Errors
/// If the system has no CPU clock.
pub fn per_call<T>(counting: Duration, mut work: impl FnMut() -> T) -> anyhow::Result<f64> {
    let mut run = |long: Duration| -> anyhow::Result<(u64, Duration)> {
        let (started, before, mut calls) = (Instant::now(), of_this_thread()?, 0);
        while started.elapsed() < long {
            for _ in 0..BATCH {
                black_box(work());
            }
            calls += BATCH;
        }
        Ok((calls, of_this_thread()?.saturating_sub(before)))
    };
    run(counting / 5)?;
    let (calls, cpu) = run(counting)?;
    Ok(cpu.as_secs_f64() * 1e6 / float(calls.max(1)))
}

/// A key of the development provider, and its entry in the registry.
#[derive(Debug)]
pub struct Alone {
    key: DevelopmentKey,
    registry: Registry,
    kid: String,
    input: ToBeSigned,
}

impl Alone {
    /// Signs with `key`; verifies under what `registry` says of `kid`.
    ///
    /// # Errors
    /// If the registry cannot be read, or the algorithm takes no digest.
    pub fn new(
        key: DevelopmentKey,
        algorithm: Algorithm,
        registry: &str,
        kid: &str,
    ) -> anyhow::Result<Self> {
        let digest = Digest::new(Hash::Sha256, &crate::stage::DIGEST)
            .map_err(|refusal| anyhow!("{}", refusal.detail))?;
        let input = Input::Digest(digest);
        Ok(Self {
            key,
            registry: Registry::from_json(registry)
                .map_err(|mistakes| anyhow!("the registry: {}", mistakes.join("; ")))?,
            kid: kid.to_owned(),
            input: ToBeSigned::prepare(&input, algorithm)
                .map_err(|refusal| anyhow!("{}", refusal.detail))?,
        })
    }

    /// CPU time of one signature.
    ///
    /// # Errors
    /// If it cannot sign.
    pub fn sign(&self, counting: Duration) -> anyhow::Result<f64> {
        self.key.sign(&self.input)?;
        per_call(counting, || self.key.sign(&self.input))
    }

    /// CPU time of one verification.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, counting: Duration) -> anyhow::Result<f64> {
        let signer = self.registry.get(&self.kid).context("the signer is not registered")?;
        let signature = self.key.sign(&self.input)?;
        signer.verify(&self.input, signature.clone())?;
        per_call(counting, || signer.verify(&self.input, signature.clone()))
    }
}
