//! One prober per upstream: a canary when nothing else proves that it works.

use std::sync::Arc;
use std::time::Duration;

use host::clock::{now, wall_now};
use release::{CanaryOrder, Operation, ProbeCalls, Probes, Purpose};
use signing_core::canary::NONCE_BYTES;
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::key::PublicKey;
use signing_core::monitor::{Probe, ProbeStep, Probing};
use signing_core::{Canary, Kid, Moment, Signer};
use telemetry::metrics::Metrics;
use tokio::sync::watch;
use upstream::{Latency, Patience, Quota, Upstream, UpstreamError, random};

use super::Monitor;
use super::command::Command;
use super::owned::OfOwner;

pub(super) struct Prober {
    pub(super) kid: Kid,
    /// The generation of the configuration for which its upstream was made.
    pub(super) made_in: u64,
    /// The upstream's place in the signer's configuration.
    pub(super) at: usize,
    pub(super) upstream: Arc<Upstream>,
    pub(super) quota: Arc<Quota>,
    pub(super) latency: Latency,
    pub(super) monitor: Monitor,
    pub(super) pace: watch::Receiver<Probe>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) probes: Probes,
}

/// What a prober knows of a signer as the registry has it.
struct Known {
    signer: Arc<Signer>,
    probing: Probing,
}

/// What a probe came to.
struct Probed {
    evidence: Evidence,
    /// When the upstream began with it.
    began: Moment,
}

impl Known {
    fn of(signer: Arc<Signer>) -> Self {
        Self { signer, probing: Probing::default() }
    }
}

impl Prober {
    /// Probes for ever. Dies with the admin runtime; leases end then.
    pub(super) async fn run(mut self) {
        let mut known: Option<Known> = None;
        let upstream = Arc::clone(&self.upstream);
        let calls = calls_for_warmth(&self.probes, &self.kid);
        let _warm = OfOwner(tokio::spawn(async move { upstream.keep_warm(calls).await }));
        loop {
            let probe = self.pace.borrow_and_update().clone();
            let next = match self.registered() {
                Some(signer) => {
                    // Another entry: what was known of it is known no more. A reload that
                    // leaves it as it is asks nothing of the upstream.
                    let known = match &mut known {
                        Some(known) if known.signer == signer => known,
                        _ => known.insert(Known::of(signer)),
                    };
                    let (pause, is_wanted) = match self.next(known, &probe, now()) {
                        ProbeStep::Wait(pause) => (Some(pause), true),
                        ProbeStep::Probe => (None, self.observe(known, &probe).await),
                        ProbeStep::AskState => (None, self.ask_state(known, &probe).await),
                    };
                    if !is_wanted {
                        return;
                    }
                    pause
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
        known.probing.begins(started);
        self.quota.count(started);
        let Probed { evidence, began } = self.probe(known, probe, started).await;
        let at = now();
        self.metrics.observed_call(&self.kid, self.at, &evidence, at.since(began));
        if evidence == Evidence::Signed {
            self.latency.answered_in(at.since(started));
        }
        self.tell(began, evidence).await
    }

    /// Asks for the state of the key, which is told only if it speaks against the key; false
    /// if nobody wants to know any more.
    async fn ask_state(&self, known: &mut Known, probe: &Probe) -> bool {
        let started = now();
        match self.key_trouble(known, probe).await {
            Some(trouble) => self.tell(started, trouble).await,
            None => true,
        }
    }

    async fn tell(&self, started: Moment, evidence: Evidence) -> bool {
        let (upstream, source) = (self.at, Source::Canary);
        let observation = Observation { upstream, source, started, at: now(), count: 1, evidence };
        let command =
            Command::Observe { kid: self.kid.clone(), made_in: self.made_in, observation };
        self.monitor.commands.send(command).await.is_ok()
    }

    fn next(&self, known: &mut Known, probe: &Probe, now: Moment) -> ProbeStep {
        let gates = self.monitor.gates();
        let state =
            gates.gate(&self.kid).and_then(|gate| gate.upstreams.get(self.at)).map(|at| &at.state);
        let proven = self.monitor.evidence.traffic().newest_success(&self.kid, self.at);
        let mut random = [0; 2];
        // Without randomness many proxies may ask together.
        let _ = aws_lc_rs::rand::fill(&mut random);
        known.probing.next(probe, state, proven, random, now)
    }

    async fn probe(&self, known: &mut Known, probe: &Probe, started: Moment) -> Probed {
        let signer = Arc::clone(&known.signer);
        let since_start = |evidence| Probed { evidence, began: started };
        if let Err(refusal) = signer.usable_at(wall_now()) {
            // Policy refuses it already; so health says so too.
            let detail = refusal.detail;
            return since_start(Evidence::Failed { fault: Fault::KeyUnavailable, detail });
        }
        let timeout = probe.timeout;
        let canary = async {
            if known.probing.has_to_compare() {
                if let Some(evidence) = self.compare(&signer).await {
                    return since_start(self.explained(known, probe, evidence).await);
                }
                known.probing.compared();
            }
            if known.probing.asks_first()
                && let Some(trouble) = self.key_trouble(known, probe).await
            {
                return since_start(trouble);
            }
            let Probed { evidence, began } = self.canary(&signer, timeout).await;
            Probed { evidence: self.explained(known, probe, evidence).await, began }
        };
        let longest = self.upstream.canary_max(timeout);
        tokio::time::timeout(longest, canary).await.unwrap_or_else(|_| {
            since_start(Evidence::Failed {
                fault: Fault::Indeterminate,
                detail: format!("no answer to the canary within {} ms", longest.as_millis()),
            })
        })
    }

    /// A denial in the words of the key's state, where that can be asked for.
    async fn explained(&self, known: &mut Known, probe: &Probe, evidence: Evidence) -> Evidence {
        if !evidence.is_denial() {
            return evidence;
        }
        self.key_trouble(known, probe).await.unwrap_or(evidence)
    }

    /// What the state of the key says against it. No answer says nothing, and soon: a canary's
    /// own answer must not be lost over it.
    async fn key_trouble(&self, known: &mut Known, probe: &Probe) -> Option<Evidence> {
        known.probing.asks_state(now());
        let calls = self.calls(Operation::DescribeKey)?;
        let asked = self.upstream.key_trouble(&calls);
        let asked = tokio::time::timeout(probe.state_timeout(), asked).await;
        let trouble = asked.ok().flatten();
        known.probing.state_known(trouble.is_some());
        trouble.map(UpstreamError::into_evidence)
    }

    /// Whether the upstream holds the registered key: None if it does.
    async fn compare(&self, signer: &Signer) -> Option<Evidence> {
        let Some(calls) = self.calls(Operation::GetPublicKey) else { return Some(no_randomness()) };
        let key = match self.upstream.public_key(&calls).await {
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
                 has SHA-256 {}; correct an alias in KMS and unseal; or correct key_id, reload and unseal; or \
                 correct signers.json, restart and unseal",
                registered.sha256_hex()
            ),
        })
    }

    fn calls(&self, operation: Operation) -> Option<ProbeCalls> {
        let asked = (Purpose::Canary, operation);
        random::attempts().map(|attempts| self.probes.calls(&self.kid, asked, attempts))
    }

    async fn canary(&self, signer: &Arc<Signer>, timeout: Duration) -> Probed {
        let mut nonce = [0; NONCE_BYTES];
        let drawn = aws_lc_rs::rand::fill(&mut nonce).ok().and_then(|()| random::attempts());
        let Some(attempts) = drawn else {
            return Probed { evidence: no_randomness(), began: now() };
        };
        let canary = Canary::new(&signer.kid, nonce);
        let counted = (Purpose::Canary, &self.probes);
        let order = CanaryOrder::new(Arc::clone(signer), &canary, attempts, counted);
        let answered = self.upstream.sign(&order, Patience::Canary { timeout }).await;
        let answer = answered.result.map_err(UpstreamError::into_evidence);
        Probed { evidence: order.evidence(answer), began: answered.began }
    }
}

fn no_randomness() -> Evidence {
    Evidence::Failed { fault: Fault::Unavailable, detail: "no randomness for a canary".into() }
}

/// The calls of whoever keeps a client warm, each time it asks.
pub fn calls_for_warmth(
    probes: &Probes,
    kid: &Kid,
) -> impl Fn() -> Option<ProbeCalls> + Send + Sync + 'static {
    let (probes, kid) = (probes.clone(), kid.clone());
    let asked = (Purpose::Warmth, Operation::GetPublicKey);
    move || random::attempts().map(|attempts| probes.calls(&kid, asked, attempts))
}
