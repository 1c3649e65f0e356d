//! One prober per signer: a canary when nothing else proves that it works.

use std::sync::Arc;
use std::time::Duration;

use signing_core::canary::NONCE_BYTES;
use signing_core::gate::{Evidence, Fault, Observation, Source, State};
use signing_core::key::PublicKey;
use signing_core::{Canary, Kid, Moment, Signer};
use tokio::sync::watch;

use super::writer::Command;
use super::{Monitor, Pace};
use crate::metrics::Metrics;
use crate::order::CanaryOrder;
use crate::time::{now, wall_now};
use crate::upstream::{Upstream, UpstreamError};

pub(super) struct Prober {
    pub(super) kid: Kid,
    pub(super) upstream: Arc<Upstream>,
    pub(super) monitor: Monitor,
    pub(super) pace: watch::Receiver<Pace>,
    pub(super) metrics: Arc<Metrics>,
}

/// What a prober remembers.
struct Memory {
    pace: Pace,
    /// When the newest probe began. None: probe whatever else is known.
    newest_probe: Option<Moment>,
    /// Whether the upstream's key was found to be the registered one.
    compared: bool,
}

/// What the prober does next.
enum Next {
    /// Probe now.
    Probe,
    /// Nothing to learn before this long.
    Wait(Duration),
}

impl Prober {
    /// Probes for ever. Dies with the admin runtime; leases end then.
    pub(super) async fn run(mut self) {
        let pace = self.pace.borrow_and_update().clone();
        let mut memory = Memory { pace, newest_probe: None, compared: false };
        let upstream = Arc::clone(&self.upstream);
        tokio::spawn(async move { upstream.keep_warm().await });
        loop {
            let pace = self.pace.borrow_and_update().clone();
            if pace.generation != memory.pace.generation {
                // Another registry: what was known of the key is known no more.
                memory = Memory { pace, newest_probe: None, compared: false };
            }
            match self.next(&mut memory, now()) {
                Next::Wait(pause) => {
                    // A gate that just shut is probed at the faster pace at once.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        changed = self.pace.changed() => if changed.is_err() { return },
                    }
                }
                Next::Probe => {
                    let started = now();
                    memory.newest_probe = Some(started);
                    let evidence = self.probe(&mut memory).await;
                    self.metrics.observed_call(&self.kid, &evidence, now().since(started));
                    let observation = Observation {
                        source: Source::Canary,
                        started,
                        at: now(),
                        count: 1,
                        evidence,
                    };
                    let kid = self.kid.clone();
                    let command = Command::Observe { kid, observation };
                    if self.monitor.commands.send(command).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn next(&self, memory: &mut Memory, now: Moment) -> Next {
        let gates = self.monitor.gates();
        let state = gates.gates().find(|(kid, _)| **kid == self.kid).map(|(_, gate)| &gate.state);
        let probe = &memory.pace.probe;
        let (interval, proven) = match state {
            Some(State::Sealed { .. }) => {
                // Nothing but an operator helps; after that the key is compared anew.
                memory.compared = false;
                return Next::Wait(probe.interval);
            }
            // One failure: the next canary decides, and comes before the lease ends.
            Some(State::Open { failures: 1.., .. }) => (probe.recovery_interval, None),
            Some(State::Open { .. }) => {
                (probe.interval, self.monitor.evidence.newest_success(&self.kid))
            }
            Some(State::Shut { .. } | State::Probing { .. }) | None => {
                (probe.recovery_interval, None)
            }
        };
        let Some(newest_probe) = memory.newest_probe else { return Next::Probe };
        let due = proven.map_or(newest_probe, |proven| proven.max(newest_probe)).after(interval);
        if now < due { Next::Wait(due.since(now)) } else { Next::Probe }
    }

    async fn probe(&self, memory: &mut Memory) -> Evidence {
        let gates = self.monitor.gates();
        let Some(signer) = gates.rulebook().registry().get(self.kid.as_str()).map(Arc::clone)
        else {
            let detail = "the registry does not hold it".to_owned();
            return Evidence::Failed { fault: Fault::KeyUnavailable, detail };
        };
        drop(gates);
        if let Err(refusal) = signer.usable_at(wall_now()) {
            // Policy refuses it already; so health says so too.
            return Evidence::Failed { fault: Fault::KeyUnavailable, detail: refusal.detail };
        }
        let probe = async {
            if !memory.compared {
                if let Some(evidence) = self.compare(&signer).await {
                    return evidence;
                }
                memory.compared = true;
            }
            self.canary(&signer).await
        };
        let timeout = memory.pace.probe.timeout;
        tokio::time::timeout(timeout, probe).await.unwrap_or_else(|_| Evidence::Failed {
            fault: Fault::Indeterminate,
            detail: format!("no answer to the canary within {} ms", timeout.as_millis()),
        })
    }

    /// Whether the upstream holds the registered key: None if it does.
    async fn compare(&self, signer: &Signer) -> Option<Evidence> {
        let key = match self.upstream.public_key().await {
            Ok(key) => key,
            Err(error) => return Some(error.into_evidence()),
        };
        let registered = &signer.public_key;
        let found = match PublicKey::from_spki_der(&key.spki_der, registered.algorithm()) {
            Ok(found) if found == *registered => {
                self.upstream.pin(key);
                return None;
            }
            Ok(found) => format!("has SHA-256 {}", found.sha256_hex()),
            Err(error) => error.to_string(),
        };
        Some(Evidence::Doubt {
            detail: format!(
                "the upstream's public key is not the registered one: it {found}; the registry \
                 has SHA-256 {}; correct the key id or signers.json, then unseal",
                registered.sha256_hex()
            ),
        })
    }

    async fn canary(&self, signer: &Arc<Signer>) -> Evidence {
        let mut nonce = [0; NONCE_BYTES];
        if aws_lc_rs::rand::fill(&mut nonce).is_err() {
            return Evidence::Failed {
                fault: Fault::Unavailable,
                detail: "no randomness for a canary".into(),
            };
        }
        let canary = Canary::new(&signer.kid, nonce);
        let order = CanaryOrder::new(Arc::clone(signer), &canary);
        let answer = self.upstream.sign(&order).await.map_err(UpstreamError::into_evidence);
        order.evidence(answer)
    }
}
