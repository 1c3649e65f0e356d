//! One prober per upstream: a canary when nothing else proves that it works.

use std::sync::Arc;
use std::time::Duration;

use signing_core::canary::NONCE_BYTES;
use signing_core::gate::{Evidence, Fault, Observation, Source, State};
use signing_core::key::PublicKey;
use signing_core::{Canary, Kid, Moment, Signer};
use tokio::sync::watch;

use super::Monitor;
use super::writer::Command;
use crate::config::Probe;
use crate::metrics::Metrics;
use crate::order::CanaryOrder;
use crate::time::{now, wall_now};
use crate::upstream::{Quota, Upstream, UpstreamError};

pub(super) struct Prober {
    pub(super) kid: Kid,
    /// The upstream's place in the signer's configuration.
    pub(super) at: usize,
    pub(super) upstream: Arc<Upstream>,
    pub(super) quota: Option<Arc<Quota>>,
    pub(super) monitor: Monitor,
    pub(super) pace: watch::Receiver<Probe>,
    pub(super) metrics: Arc<Metrics>,
}

/// What a prober knows of a signer as the registry has it.
struct Known {
    signer: Arc<Signer>,
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
        let mut known: Option<Known> = None;
        let upstream = Arc::clone(&self.upstream);
        tokio::spawn(async move { upstream.keep_warm().await });
        loop {
            let probe = self.pace.borrow_and_update().clone();
            let next = match self.registered() {
                Some(signer) => {
                    // Another entry: what was known of it is known no more. A reload that
                    // leaves it as it is asks nothing of the upstream.
                    let known = match &mut known {
                        Some(known) if known.signer == signer => known,
                        _ => known.insert(Known { signer, newest_probe: None, compared: false }),
                    };
                    match self.next(known, &probe, now()) {
                        Next::Wait(pause) => Some(pause),
                        Next::Probe => {
                            if !self.observe(known, &probe).await {
                                return;
                            }
                            None
                        }
                    }
                }
                // What is served is registered, or nothing starts and no reload takes hold.
                None => Some(probe.interval),
            };
            if let Some(pause) = next {
                // A gate that just shut is probed at the faster pace at once.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    changed = self.pace.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    fn registered(&self) -> Option<Arc<Signer>> {
        let gates = self.monitor.gates();
        gates.rulebook().registry().get(self.kid.as_str()).map(Arc::clone)
    }

    /// Probes once; false if nobody wants to know any more.
    async fn observe(&self, known: &mut Known, probe: &Probe) -> bool {
        let started = now();
        known.newest_probe = Some(started);
        if let Some(quota) = &self.quota {
            quota.count(started);
        }
        let evidence = self.probe(known, probe).await;
        self.metrics.observed_call(&self.kid, self.at, &evidence, now().since(started));
        let (upstream, source) = (self.at, Source::Canary);
        let observation = Observation { upstream, source, started, at: now(), count: 1, evidence };
        let command = Command::Observe { kid: self.kid.clone(), observation };
        self.monitor.commands.send(command).await.is_ok()
    }

    fn next(&self, known: &mut Known, probe: &Probe, now: Moment) -> Next {
        let gates = self.monitor.gates();
        let state =
            gates.gate(&self.kid).and_then(|gate| gate.upstreams.get(self.at)).map(|at| &at.state);
        let (interval, proven) = match state {
            Some(State::Sealed { .. }) => {
                // Nothing but an operator helps; after that the key is compared anew.
                known.compared = false;
                return Next::Wait(probe.interval);
            }
            // One failure: the next canary decides, and comes before the lease ends.
            Some(State::Open { failures: 1.., .. }) => (probe.recovery_interval, None),
            Some(State::Open { .. }) => {
                (jittered(probe.interval), self.monitor.evidence.newest_success(&self.kid, self.at))
            }
            Some(State::Shut { .. } | State::Probing { .. }) | None => {
                (probe.recovery_interval, None)
            }
        };
        let Some(newest_probe) = known.newest_probe else { return Next::Probe };
        let due = proven.map_or(newest_probe, |proven| proven.max(newest_probe)).after(interval);
        if now < due { Next::Wait(due.since(now)) } else { Next::Probe }
    }

    async fn probe(&self, known: &mut Known, probe: &Probe) -> Evidence {
        let signer = &known.signer;
        if let Err(refusal) = signer.usable_at(wall_now()) {
            // Policy refuses it already; so health says so too.
            return Evidence::Failed { fault: Fault::KeyUnavailable, detail: refusal.detail };
        }
        let timeout = probe.timeout;
        let probe = async {
            if !known.compared {
                if let Some(evidence) = self.compare(signer).await {
                    return evidence;
                }
                known.compared = true;
            }
            self.canary(signer).await
        };
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
                 has SHA-256 {}; correct an alias in KMS and unseal; or correct key_id or signers.json, restart, \
                 then unseal",
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

/// Up to a tenth sooner, so that many proxies, or many signers of one, do not ask together.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0];
    // Without randomness they do.
    let _ = aws_lc_rs::rand::fill(&mut random);
    interval.saturating_sub(interval / 10 * u32::from(random[0]) / 255)
}
