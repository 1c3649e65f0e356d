//! The pipeline: one function that reads like I1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use release::{Failed, Proven, Provenance, Release, SigningOrder, announce};
use signing_core::breakglass::wire::JournalHead;
use signing_core::gate::{Admitted, EmergencyPermit, Evidence, Slots};
use signing_core::journal::TimingUs;
use signing_core::{Caller, Kid, Moment, Refusal, SignRequest, ToBeSigned};

use crate::emergency::{Emergency, EmergencyError};
use crate::finish::Finisher;
use crate::idempotency::{Claim, Claimed, Idempotency, Kept};
use crate::metrics::{Metrics, Stages};
use crate::monitor::{Monitor, Over};
use crate::request_context::RequestContext;
use crate::time::{now, wall_now};
use crate::upstream::{Route, Served};

/// Everything the pipeline needs.
#[derive(Debug)]
pub struct SigningRoom {
    /// The gates, their evidence, and the rulebook in force.
    pub monitor: Monitor,
    /// Requests in flight.
    pub slots: Slots,
    /// The upstreams of each configured signer.
    pub upstreams: BTreeMap<Kid, Served>,
    /// The emergency signer.
    pub emergency: Emergency,
    /// Signatures given out lately, by idempotency key.
    pub idempotency: Idempotency,
    /// Where intents and outcomes are recorded.
    pub journal: Journal,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Finishes what a client that hangs up left behind.
    pub finisher: Finisher,
}

/// A signature that may leave, and where its time went.
#[derive(Debug)]
pub struct Signed {
    /// The signature, with every proof behind it.
    pub release: Release,
    /// Where the time went.
    pub stages: Stages,
}

/// Signs for `caller`, or says why not.
///
/// `leaving` is called right before the last look at the gate; what it returns
/// lives until the answer is written, so that a freeze can wait for it.
///
/// # Errors
/// The refusal.
pub async fn sign<L: Send + 'static>(
    room: &Arc<SigningRoom>,
    caller: &Arc<Caller>,
    request: SignRequest,
    context: &RequestContext,
    leaving: impl FnOnce() -> L + Send + 'static,
) -> Result<(Signed, L), Refusal> {
    let (signer, algorithm) = (request.signer.as_deref(), request.algorithm);
    // One snapshot for the grant and the permit: whatever changes after it is seen
    // at the release.
    let gates = room.monitor.gates();
    let (now, wall) = (now(), wall_now());
    if gates.has_session()
        // The emergency key signs with an algorithm of its own: any that the caller was granted
        // with the signer will do.
        && let Ok(grant) = gates.rulebook().authorize(caller, signer, None, wall)
            .or_else(|_| gates.rulebook().authorize(caller, signer, algorithm, wall))
        && gates.goes_to_session(&grant.signer().kid, now, wall)
    {
        let at = (now, wall);
        let permit = gates.admit_emergency(grant, algorithm, &room.slots, at, context.deadline)?;
        drop(gates);
        return sign_in_session(room, caller, request, permit, context, leaving).await;
    }
    let grant = gates.rulebook().authorize(caller, signer, algorithm, wall)?;
    let input = ToBeSigned::prepare(&request.input, grant.algorithm())
        .map_err(|refusal| refusal.about(&grant.signer().kid))?;
    request.format.fits(grant.algorithm()).map_err(|refusal| refusal.about(&grant.signer().kid))?;
    let permit = gates.admit(grant, &room.slots, now, context.deadline)?;
    // A signature that was given out already takes the place of the upstream's answer.
    let claimed = match &context.idempotency_key {
        Some(key) => Some(room.idempotency.claim(
            caller,
            key.clone(),
            &permit,
            &input,
            request.format,
            now,
        )?),
        None => None,
    };
    let route = || room.route(&gates, &permit, context.deadline);
    let asks = match claimed {
        Some(Claimed::Kept(kept)) => Asks::Nobody(kept.signature),
        Some(Claimed::Fresh(claim)) => Asks::Upstream(route()?, Some(claim)),
        None => Asks::Upstream(route()?, None),
    };
    // Not held while the upstream is asked: a thread has few places for such guards.
    drop(gates);
    let kid = permit.grant().signer().kid.clone();
    let order = announce(&room.journal, permit, input, context.of(&request))?;

    // From here on nothing that the client does stops the work.
    let times = (context.received, context.deadline);
    let rest = Box::pin(conclude(Arc::clone(room), order, asks, times, leaving));
    let finished = room.finisher.finish(rest, context).await;
    finished.map_err(|refusal| refusal.about(&kid))
}

/// Where a signature comes from.
enum Asks {
    /// An upstream; what it answers may be kept under an idempotency key.
    Upstream(Route, Option<Claim>),
    /// It was given out before.
    Nobody(Vec<u8>),
}

/// From the upstream to the release.
async fn conclude<L>(
    room: Arc<SigningRoom>,
    order: SigningOrder,
    asks: Asks,
    (received, deadline): (Moment, Moment),
    leaving: impl FnOnce() -> L,
) -> Result<(Signed, L), Refusal> {
    let (verdict, claim, at) = match asks {
        Asks::Upstream(route, claim) => {
            let asked = room.ask(&order, route, deadline).await;
            let (called, answered) = (asked.called, asked.answered);
            let (verdict, verified) = room.judge(order, asked);
            (verdict, claim, Times { received, called, answered, verified, replayed: false })
        }
        // Tells nothing about an upstream, since none was asked.
        Asks::Nobody(signature) => {
            let (verdict, at) = replay(order, signature, received);
            (verdict, None, at)
        }
    };
    settle(&room, verdict, None, claim, at, leaving).await
}

/// Proves a signature that was given out before.
fn replay<P: Admitted>(
    order: SigningOrder<P>,
    signature: Vec<u8>,
    received: Moment,
) -> (Result<Proven<P>, Failed>, Times) {
    let called = now();
    let verdict = order.prove(Ok(signature));
    let at = Times { received, called, answered: called, verified: now(), replayed: true };
    (verdict, at)
}

/// When what happened.
#[derive(Clone, Copy)]
struct Times {
    received: Moment,
    called: Moment,
    answered: Moment,
    verified: Moment,
    replayed: bool,
}

/// From the verdict to the release; the same for both kinds of permit.
async fn settle<P: Admitted, L>(
    room: &SigningRoom,
    verdict: Result<Proven<P>, Failed>,
    witnessed: Option<JournalHead>,
    claim: Option<Claim>,
    at: Times,
    leaving: impl FnOnce() -> L,
) -> Result<(Signed, L), Refusal> {
    let Times { received, called, answered, verified, replayed } = at;
    let timing_us = TimingUs {
        queue: micros(called.since(received)),
        upstream: micros(answered.since(called)),
        verify: micros(verified.since(answered)),
    };
    let provenance = Provenance { witnessed: witnessed.as_ref(), replayed, timing_us };
    let outcome = match verdict {
        Ok(proven) => proven.record(&room.journal, provenance).await?,
        Err(failed) => return Err(failed.record(&room.journal)),
    };
    let recorded = now();

    // Entered before the gate is asked: a freeze either is seen by this look at
    // the gate, or waits for this answer.
    let leaving = leaving();
    let looked = now();
    let released = outcome.release(&room.monitor.gates(), looked, wall_now());
    let (release, leaving) = match released {
        Ok(release) => {
            // An emergency key has no upstream here, and no drill.
            if let Some(served) = room.upstreams.get(release.signature().kid()) {
                served.switch.released(looked);
            }
            (release, leaving)
        }
        Err(withheld) => {
            drop(leaving);
            return Err(withheld.record(&room.journal));
        }
    };
    if let Some(claim) = claim {
        let signature = release.signature().bytes().to_vec();
        claim.keep(Kept { signature, witnessed }, now());
    }
    let stages = Stages {
        queue: called.since(received),
        upstream: answered.since(called),
        verify: verified.since(answered),
        audit: recorded.since(verified),
    };
    Ok((Signed { release, stages }, leaving))
}

/// The same pipeline in a break-glass session: another permit, and the emergency signer in
/// place of an upstream.
async fn sign_in_session<L: Send + 'static>(
    room: &Arc<SigningRoom>,
    caller: &Arc<Caller>,
    request: SignRequest,
    permit: EmergencyPermit,
    context: &RequestContext,
    leaving: impl FnOnce() -> L + Send + 'static,
) -> Result<(Signed, L), Refusal> {
    let kid = permit.signer().kid.clone();
    let about = |refusal: Refusal| refusal.about(&kid);
    let input = ToBeSigned::prepare(&request.input, permit.algorithm()).map_err(about)?;
    request.format.fits(permit.algorithm()).map_err(about)?;
    let claimed = match &context.idempotency_key {
        Some(key) => {
            let (key, format) = (key.clone(), request.format);
            Some(room.idempotency.claim(caller, key, &permit, &input, format, now())?)
        }
        None => None,
    };
    let order = announce(&room.journal, permit, input, context.of(&request))?;
    let rest = Box::pin(conclude_in_session(
        Arc::clone(room),
        order,
        (claimed, request.justification),
        context.received,
        leaving,
    ));
    let finished = room.finisher.finish(rest, context).await;
    finished.map_err(about)
}

async fn conclude_in_session<L>(
    room: Arc<SigningRoom>,
    order: SigningOrder<EmergencyPermit>,
    (claimed, justification): (Option<Claimed>, Option<String>),
    received: Moment,
    leaving: impl FnOnce() -> L,
) -> Result<(Signed, L), Refusal> {
    let claim = match claimed {
        Some(Claimed::Kept(Kept { signature, witnessed })) => {
            let (verdict, at) = replay(order, signature, received);
            return settle(&room, verdict, witnessed, None, at, leaving).await;
        }
        Some(Claimed::Fresh(claim)) => Some(claim),
        None => None,
    };
    let called = now();
    let head = JournalHead::new(room.journal.chain(), room.journal.head());
    let answer = room.emergency.sign(&order, justification, head).await;
    let answered = now();
    let session = order.permit().armed().session.clone();
    let (answer, witnessed, refusal) = match answer {
        Ok(signed) => (Ok(signed.signature), Some(signed.record), None),
        Err(EmergencyError { evidence, refusal }) => (Err(evidence), None, Some(refusal)),
    };
    let mut verdict = order.prove(answer);
    if let Err(Failed { evidence: Evidence::Doubt { detail }, refusal, .. }) = &mut verdict {
        // Over before anyone is answered: whatever else it signed does not leave. If the monitor
        // is gone, so are all leases.
        let _ = room.monitor.disarm(session, Over::doubt(detail)).await;
        room.emergency.ends("its answer is not believed");
        refusal.detail =
            "the emergency signer's answer did not verify under the registered key; the \
             break-glass session is over"
                .to_owned();
    }
    if let (Err(failed), Some(refusal)) = (&mut verdict, refusal) {
        // What the emergency signer said is more than the class of the failure.
        failed.refusal = refusal;
    }
    let at = Times { received, called, answered, verified: now(), replayed: false };
    settle(&room, verdict, witnessed, claim, at, leaving).await
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
