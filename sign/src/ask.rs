//! Asking upstreams: which one, what they answered, and what that says about them.

use std::time::Duration;

use host::clock::now;
use release::{BatchOrder, BatchOutcome, Failed, Order, Proven, SigningOrder};
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::{Permit, Snapshot};
use signing_core::{Kid, Moment, Reason, Refusal};
use upstream::{Answered, NoRoute, Patience, Route, UpstreamError};

use crate::SigningRoom;

/// What a caller is told whose request no upstream would answer in time.
const NO_ROOM: &str = "more requests wait for every open upstream than it signs in time; this one was \
                       not sent";

/// What an upstream answered, which nobody believes yet.
#[derive(Debug)]
pub(crate) struct Asked {
    upstream: usize,
    /// The generation of the configuration for which it was made.
    made_in: u64,
    /// When the first upstream that was asked began its call.
    pub(crate) called: Moment,
    /// When this one did.
    began: Moment,
    /// When the answer was there.
    pub(crate) answered: Moment,
    answer: Result<Vec<u8>, Evidence>,
}

impl SigningRoom {
    /// Chooses the upstream to ask among those that are open, and spends its quota.
    ///
    /// # Errors
    /// `upstream_throttled` or `overloaded`, at once, if all of them are at their limit.
    pub(crate) fn route(
        &self,
        gates: &Snapshot,
        permit: &Permit,
        deadline: Moment,
    ) -> Result<Route, Refusal> {
        let (kid, now) = (&permit.grant().signer().kid, now());
        let signer = self.signers.get(kid).zip(gates.gate(kid));
        let same = signer.filter(|(signer, gate)| signer.served.made_in() == gate.made_in);
        let Some((signer, gate)) = same else {
            // A signer without upstream has no gate, which admits nothing: a reload came in between.
            let detail = "the configuration was reloaded since this was admitted; retry";
            return Err(Refusal::new(Reason::GateClosedInFlight, detail).about(kid));
        };
        let served = &signer.served;
        // A lease may have ended since the permit was given: then no quota is in the way.
        gates.check(kid, now)?;
        served.route(gate.serving(now), deadline, now).map_err(|why| {
            let (reason, detail) = match why {
                NoRoute::NoQuota => (
                    Reason::UpstreamThrottled,
                    "the quota of every open upstream is used up; this request was not sent",
                ),
                NoRoute::NoRoom => (Reason::Overloaded, NO_ROOM),
            };
            Refusal::new(reason, detail).about(kid)
        })
    }

    /// The route that was chosen a while ago, if its upstream is open still; else another.
    ///
    /// # Errors
    /// Why nobody is asked.
    pub(super) fn still(
        &self,
        kid: &Kid,
        route: Route,
        deadline: Moment,
    ) -> Result<Route, Refusal> {
        let (gates, now) = (self.monitor.gates(), now());
        gates.check(kid, now)?;
        let gate = gates.gate(kid).filter(|gate| gate.made_in == route.made_in());
        let Some(gate) = gate else {
            let detail =
                "the configuration was reloaded, and its upstream is no longer configured; retry";
            return Err(Refusal::new(Reason::GateClosedInFlight, detail).about(kid));
        };
        let mut open = gate.serving(now);
        if open.any(|at| at == route.upstream()) {
            return Ok(route);
        }
        self.other_route(kid, route.upstream(), deadline).ok_or_else(|| {
            let detail = "its upstream has shut, and no other one takes it";
            Refusal::new(Reason::UpstreamUnhealthy, detail).about(kid)
        })
    }

    /// Asks the upstream of `route`. If it certainly signed nothing, and another one is open,
    /// asks that one, within the budget for second attempts.
    pub(crate) async fn ask(
        &self,
        (kid, is_registered): (&Kid, bool),
        order: &impl Order,
        route: Route,
        deadline: Moment,
    ) -> Asked {
        let first = self.ask_one(order, kid, route, deadline).await;
        let was_not_served = matches!(
            &first.answer,
            Err(Evidence::Failed { fault: Fault::Unavailable | Fault::Overloaded, .. })
        );
        if !was_not_served {
            return first;
        }
        let next = self.other_route(kid, first.upstream, deadline);
        let Some(next) = next else { return first };
        if let Err(evidence) = &first.answer {
            self.tell(kid, is_registered, first.call(), first.answered, evidence.clone());
        }
        let second = self.ask_one(order, kid, next, deadline).await;
        Asked { called: first.called, ..second }
    }

    /// Verifies what was answered, and reports what it shows of the upstream.
    pub(crate) fn judge(
        &self,
        order: SigningOrder,
        asked: Asked,
    ) -> (Result<Proven, Failed>, Moment) {
        let (kid, is_registered) = about(&order);
        let kid = kid.clone();
        let call = asked.call();
        let verdict = order.prove(asked.answer);
        let verified = now();
        let evidence =
            verdict.as_ref().map_or_else(|failed| failed.evidence.clone(), |_| Evidence::Signed);
        self.tell(&kid, is_registered, call, verified, evidence);
        (verdict, verified)
    }

    /// The same for a batch: verified once, for all of its leaves.
    pub(super) fn judge_batch(
        &self,
        kid: &Kid,
        order: BatchOrder,
        asked: Asked,
    ) -> (BatchOutcome, Call) {
        let call = asked.call();
        let outcome = order.prove(asked.answer);
        // A batch signer has one algorithm: the registered one.
        self.tell(kid, true, call, now(), outcome.evidence());
        (outcome, call)
    }

    /// Reports what one leaf of a batch showed, beside what its call did.
    pub(super) fn tell_of_leaf(&self, kid: &Kid, call: Call, evidence: Evidence) {
        self.tell(kid, true, call, now(), evidence);
    }

    async fn ask_one(
        &self,
        order: &impl Order,
        kid: &Kid,
        route: Route,
        deadline: Moment,
    ) -> Asked {
        let asked = now();
        let patience = Patience::Caller { deadline };
        // Held until it answers, whatever a reload takes out meanwhile.
        let signer = self.signers.get(kid);
        let served = signer.as_ref().map(|signer| &signer.served);
        let reached = served.and_then(|served| served.get(&route));
        let made_in = route.made_in();
        let Answered { result, began } = match (served, reached) {
            // Another one is asked next, rather than this one again.
            (Some(served), Some(reached)) if served.iter().count() > 1 => {
                reached.upstream.sign_once(order, patience).await
            }
            (_, Some(reached)) => reached.upstream.sign(order, patience).await,
            (_, None) => {
                let why = "the configuration was reloaded before it was asked";
                // It is no upstream's failure: nobody was asked.
                let error = UpstreamError::failed(Fault::Overloaded, why);
                Answered { result: Err(error), began: asked }
            }
        };
        let answered = now();
        if let (Ok(_), Some(reached)) = (&result, reached) {
            // With the wait for it: who is preferred for being fast has to have room.
            reached.latency.answered_in(answered.since(asked));
        }
        let answer = result.map_err(UpstreamError::into_evidence);
        Asked { upstream: route.upstream(), made_in, called: began, began, answered, answer }
    }

    /// A route to another open upstream than `tried`, if its budget grants a second attempt.
    fn other_route(&self, kid: &Kid, tried: usize, deadline: Moment) -> Option<Route> {
        let (gates, now) = (self.monitor.gates(), now());
        let signer = self.signers.get(kid)?;
        let served = &signer.served;
        let budget = served.iter().nth(tried)?;
        let gate = gates.gate(kid).filter(|gate| gate.made_in == served.made_in())?;
        let mut others = gate.serving(now).filter(|at| *at != tried).peekable();
        others.peek()?;
        let is_granted = budget.upstream.grants_second_attempt(now);
        is_granted.then(|| served.route(others, deadline, now).ok())?
    }

    fn tell(
        &self,
        kid: &Kid,
        is_registered: bool,
        Call { upstream, made_in, began, took }: Call,
        at: Moment,
        evidence: Evidence,
    ) {
        let is_served = |gates: &Snapshot| gates.gate(kid).map(|gate| gate.made_in);
        if is_served(&self.monitor.gates()) != Some(made_in) {
            // Of an upstream that a reload has taken out, it says nothing about the one there now. A doubt is
            // of the signer: whatever its upstreams are now, it seals (I10).
            if evidence.is_doubt() {
                self.monitor.evidence().report(kid, 0, (began, took), at, evidence);
            }
            return;
        }
        self.metrics.observed_call(kid, upstream, &evidence, took);
        // Of another algorithm than the registered one a denial says nothing.
        if is_registered || !evidence.is_denial() {
            self.monitor.evidence().report(kid, upstream, (began, took), at, evidence);
        }
    }
}

/// One call to an upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    upstream: usize,
    made_in: u64,
    began: Moment,
    took: Duration,
}

impl Call {
    /// When its answer was there.
    pub(super) fn ended(self) -> Moment {
        self.began.after(self.took)
    }
}

impl Asked {
    fn call(&self) -> Call {
        let (upstream, made_in, began) = (self.upstream, self.made_in, self.began);
        Call { upstream, made_in, began, took: self.answered.since(began) }
    }
}

/// The signer that is asked, and whether for its registered algorithm.
pub(super) fn about(order: &SigningOrder) -> (&Kid, bool) {
    let grant = order.permit().grant();
    (&grant.signer().kid, grant.algorithm() == grant.signer().algorithm())
}
