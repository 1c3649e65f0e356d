//! One prober per signer: a canary when nothing else proves that it works.

use std::sync::Arc;
use std::time::Duration;

use signing_core::canary::NONCE_BYTES;
use signing_core::gate::{Evidence, Fault, Observation, Source, State};
use signing_core::key::PublicKey;
use signing_core::{Canary, Moment, Signer};
use tokio::sync::watch;

use super::Monitor;
use super::writer::Command;
use crate::config::Probe;
use crate::metrics::Metrics;
use crate::order::CanaryOrder;
use crate::time::{now, wall_now};
use crate::upstream::{Upstream, UpstreamError};

pub(super) struct Prober {
    pub(super) signer: Arc<Signer>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) probe: Probe,
    pub(super) monitor: Monitor,
    pub(super) changed: watch::Receiver<()>,
    pub(super) metrics: Arc<Metrics>,
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
        let mut compared = false;
        let mut newest_probe = None;
        let upstream = Arc::clone(&self.upstream);
        tokio::spawn(async move { upstream.keep_warm().await });
        loop {
            match self.next(newest_probe, now(), &mut compared) {
                Next::Wait(pause) => {
                    // A gate that just shut is probed at the faster pace at once.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        changed = self.changed.changed() => if changed.is_err() { return },
                    }
                }
                Next::Probe => {
                    let started = now();
                    newest_probe = Some(started);
                    let evidence = self.probe(&mut compared).await;
                    self.metrics.observed_call(&self.signer.kid, &evidence, now().since(started));
                    let observation = Observation {
                        source: Source::Canary,
                        started,
                        at: now(),
                        count: 1,
                        evidence,
                    };
                    let kid = self.signer.kid.clone();
                    let command = Command::Observe { kid, observation };
                    if self.monitor.commands.send(command).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn next(&self, newest_probe: Option<Moment>, now: Moment, compared: &mut bool) -> Next {
        let gates = self.monitor.gates();
        let state =
            gates.gates().find(|(kid, _)| **kid == self.signer.kid).map(|(_, gate)| &gate.state);
        let (interval, proven) = match state {
            Some(State::Sealed { .. }) => {
                // Nothing but an operator helps; after that the key is compared anew.
                *compared = false;
                return Next::Wait(self.probe.interval);
            }
            // One failure: the next canary decides, and comes before the lease ends.
            Some(State::Open { failures: 1.., .. }) => (self.probe.recovery_interval, None),
            Some(State::Open { .. }) => {
                (self.probe.interval, self.monitor.evidence.newest_success(&self.signer.kid))
            }
            Some(State::Shut { .. } | State::Probing { .. }) | None => {
                (self.probe.recovery_interval, None)
            }
        };
        let due = newest_probe.max(proven).map(|at| at.after(interval));
        match due {
            Some(due) if now < due => Next::Wait(due.since(now)),
            Some(_) | None => Next::Probe,
        }
    }

    async fn probe(&self, compared: &mut bool) -> Evidence {
        if let Err(refusal) = self.signer.usable_at(wall_now()) {
            // Policy refuses it already; so health says so too.
            return Evidence::Failed { fault: Fault::KeyUnavailable, detail: refusal.detail };
        }
        let probe = async {
            if !*compared {
                if let Some(evidence) = self.compare().await {
                    return evidence;
                }
                *compared = true;
            }
            self.canary().await
        };
        tokio::time::timeout(self.probe.timeout, probe).await.unwrap_or_else(|_| Evidence::Failed {
            fault: Fault::Indeterminate,
            detail: format!("no answer to the canary within {} ms", self.probe.timeout.as_millis()),
        })
    }

    /// Whether the upstream holds the registered key: None if it does.
    async fn compare(&self) -> Option<Evidence> {
        let key = match self.upstream.public_key().await {
            Ok(key) => key,
            Err(error) => return Some(error.into_evidence()),
        };
        let registered = &self.signer.public_key;
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

    async fn canary(&self) -> Evidence {
        let mut nonce = [0; NONCE_BYTES];
        if aws_lc_rs::rand::fill(&mut nonce).is_err() {
            return Evidence::Failed {
                fault: Fault::Unavailable,
                detail: "no randomness for a canary".into(),
            };
        }
        let canary = Canary::new(&self.signer.kid, nonce);
        let order = CanaryOrder::new(Arc::clone(&self.signer), &canary);
        let answer = self.upstream.sign(&order).await.map_err(UpstreamError::into_evidence);
        order.evidence(answer)
    }
}
