//! The pipeline: one function that reads like I1.
//!
//! For the doors, which hand in a [`SignRequest`] of a caller and get a [`Signed`] or a refusal, at
//! whatever door and in whatever dialect. It knows no door and no configuration file. It is the only crate
//! that has upstreams or the emergency signer sign for callers.

mod answered;
mod ask;
mod batch;
pub mod finish;
pub mod headers;
pub mod idempotency;
pub mod request_context;
pub mod required;
mod signers;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use breakglass::emergency::Emergency;
use configuration::BatchLimits;
use host::clock::{now, wall_now};
use monitor::Monitor;
use release::{Probes, Provenance, Release, SigningOrder, announce};
use signing_core::gate::{Admitted as _, Permit, Slots, Snapshot};
use signing_core::journal::TimingUs;
use signing_core::key::RAW_MESSAGE_MAX_BYTES;
use signing_core::{
    Algorithm, Caller, Grant, Kid, Moment, Reason, Refusal, SignRequest, Signer, ToBeSigned,
};
use telemetry::metrics::{Metrics, Stages};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use upstream::{Served, random};

use crate::answered::Answered;
use crate::finish::Finisher;
use crate::idempotency::{Claim, Claimed, Idempotency, Kept};
use crate::request_context::RequestContext;
use crate::required::Required;
use crate::signers::Signers;
use crate::source::Source;

pub use breakglass::emergency::Witness;

/// What the pipeline is built of: handles on what others use too.
#[derive(Debug)]
pub struct Parts {
    /// The gates, their evidence, and the rulebook in force.
    pub monitor: Monitor,
    /// Requests in flight.
    pub slots: Slots,
    /// The emergency signer.
    pub emergency: Emergency,
    /// Where intents and outcomes are recorded.
    pub journal: Journal,
    /// What has to hold a record before its signature leaves.
    pub required: Required,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Everything the pipeline needs.
#[derive(Debug)]
pub struct SigningRoom {
    /// The gates, their evidence, and the rulebook in force.
    monitor: Monitor,
    /// Requests in flight.
    slots: Slots,
    /// The upstreams and the batches of each configured signer.
    signers: Signers,
    /// The emergency signer.
    emergency: Emergency,
    /// Signatures given out lately, by idempotency key.
    idempotency: Idempotency,
    /// Where intents and outcomes are recorded.
    journal: Journal,
    /// What has to hold a record before its signature leaves.
    required: Required,
    /// Counts.
    metrics: Arc<Metrics>,
    /// Finishes what a client that hangs up left behind.
    finisher: Finisher,
}

impl SigningRoom {
    /// A pipeline without upstreams yet; `runtime`, which is no caller's, finishes what clients leave behind, keeps
    /// connections ready and asks for the signatures of batches.
    #[must_use]
    pub fn new(parts: Parts, probes: Probes, runtime: Handle) -> Self {
        let Parts { monitor, slots, emergency, journal, required, metrics } = parts;
        Self {
            signers: Signers::new(probes, runtime.clone()),
            monitor,
            slots,
            emergency,
            idempotency: Idempotency::default(),
            journal,
            required,
            metrics,
            finisher: Finisher::new(runtime),
        }
    }

    /// Serves callers with these signers from now on, and no longer with those that are `gone`. What an upstream that is gone was
    /// asked already, it may answer still; it is asked nothing more.
    pub fn replace(
        self: &Arc<Self>,
        gone: &BTreeSet<Kid>,
        served: BTreeMap<Kid, Served>,
        batches: &BTreeMap<Kid, BatchLimits>,
    ) {
        for (kid, batcher) in self.signers.replace(gone, served, batches) {
            // A caller that hangs up stops nobody's batch.
            self.finisher.runtime().spawn(batch::run(Arc::clone(self), kid, &batcher));
        }
    }

    /// Serves nobody any more, and keeps no connection ready: for a process that stops.
    pub fn retire(&self) {
        self.signers.clear();
    }

    /// Changes what a signer may change while it serves: whom it prefers, how much each upstream may be asked, how its
    /// batches gather.
    pub fn adjust(&self, kid: &Kid, to: &configuration::Signer) {
        let Some(signer) = self.signers.get(kid) else { return };
        signer.served.set_prefer(to.prefer);
        for (reached, to) in signer.served.iter().zip(&to.upstreams) {
            reached.quota.set(to.requests_per_second_max);
        }
        if let Some(batcher) = &signer.batcher {
            batcher.set_limits(to.batch);
        }
    }

    /// Finishes what a client that hangs up left behind.
    #[must_use]
    pub fn finisher(&self) -> &Finisher {
        &self.finisher
    }
}

/// A signature that may leave, and where its time went.
#[derive(Debug)]
pub struct Signed {
    /// The signature, with every proof behind it.
    pub release: Release,
    /// Where the time went.
    pub stages: Stages,
    /// The emergency signer's own record of it, if it made it.
    pub witnessed: Option<Witness>,
}

/// Signs for `caller`, or says why not. It reads like I1: who may ask, whether the gate is open,
/// what is announced, who signs, what verifies, what is on disk, whether the gate is still open.
///
/// `place` is what the request's body takes of a budget: it lives as long as its message is needed.
///
/// `leaving` is called right before the last look at the gate; what it returns
/// lives until the answer is written, so that a freeze can wait for it.
///
/// # Errors
/// The refusal.
pub async fn sign<P: Send + 'static, L: Send + 'static>(
    room: &Arc<SigningRoom>,
    caller: &Arc<Caller>,
    request: SignRequest,
    context: &RequestContext,
    place: P,
    leaving: impl FnOnce() -> L + Send + 'static,
) -> Result<(Signed, L), Refusal> {
    let (signer, algorithm) = (request.signer.as_deref(), request.algorithm);
    // One snapshot for the grant and the permit: whatever changes after it is seen
    // at the release. Not held while anybody is asked: a thread has few places for such guards.
    let gates = room.monitor.gates();
    let (now, wall) = (now(), wall_now());
    if let Some(grant) = for_session(&gates, caller, &request, (now, wall)) {
        let at = (now, wall);
        let permit = gates.admit_emergency(grant, algorithm, &room.slots, at, context.deadline)?;
        // Its own curve, as below: who names one of another curve could not verify the answer.
        permit.signer().is_of(request.key_kind)?;
        let input = prepare(&request, permit.signer(), permit.algorithm())?;
        let leaving = keeping(&input, place, leaving);
        let begun = begin(room, &gates, permit, input, &request, context)?;
        drop((gates, request));
        return finish(room, begun, context, leaving).await;
    }
    let grant = gates.rulebook().authorize(caller, signer, algorithm, wall)?;
    grant.signer().is_of(request.key_kind)?;
    let input = prepare(&request, grant.signer(), grant.algorithm())?;
    let leaving = keeping(&input, place, leaving);
    let permit = gates.admit(grant, &room.slots, now, context.deadline)?;
    let begun = begin(room, &gates, permit, input, &request, context)?;
    drop((gates, request));
    finish(room, begun, context, leaving).await
}

/// The grant of a request that goes to the break-glass session in force. The emergency key signs
/// with algorithms of its own: any that the caller was granted with the signer will do. The one that
/// the request names counts first, since an RSA emergency key signs with it if it was granted.
fn for_session(
    gates: &Snapshot,
    caller: &Arc<Caller>,
    request: &SignRequest,
    (now, wall): (Moment, OffsetDateTime),
) -> Option<Grant> {
    if !gates.has_session() {
        return None;
    }
    let (signer, rulebook) = (request.signer.as_deref(), gates.rulebook());
    let grant = rulebook
        .authorize(caller, signer, request.algorithm, wall)
        .or_else(|_| rulebook.authorize(caller, signer, None, wall))
        .ok()?;
    gates.goes_to_session(&grant.signer().kid, now, wall).then_some(grant)
}

/// Keeps `place` until the signature is about to leave, or is given up, if a long message is signed as it is: nothing else
/// bounds how many bytes of such messages wait for upstreams.
fn keeping<P: Send + 'static, L>(
    input: &ToBeSigned,
    place: P,
    leaving: impl FnOnce() -> L + Send + 'static,
) -> impl FnOnce() -> L + Send + 'static {
    let place = (input.bytes().len() > RAW_MESSAGE_MAX_BYTES).then_some(place);
    move || {
        drop(place);
        leaving()
    }
}

/// The bytes that `signer` would sign, in a form that its signature can have.
fn prepare(
    request: &SignRequest,
    signer: &Signer,
    algorithm: Algorithm,
) -> Result<ToBeSigned, Refusal> {
    signer.format(request.format, algorithm)?;
    let input = signer.prepare(&request.input, algorithm);
    input.map_err(|refusal| refusal.about(&signer.kid))
}

/// An announced order, and where its signature comes from.
struct Begun<A: Source> {
    order: SigningOrder<Permit<A>>,
    from: SignatureOrigin<A>,
}

/// Where a signature comes from.
enum SignatureOrigin<A: Source> {
    /// Whoever signs what `A` admitted; the answer may be kept under an idempotency key.
    Source(A::Chosen, Option<Claim>),
    /// It was given out already, and takes the place of an answer.
    Kept(Kept),
}

/// Chooses where the signature comes from, and announces the order.
fn begin<A: Source>(
    room: &SigningRoom,
    gates: &Snapshot,
    permit: Permit<A>,
    input: ToBeSigned,
    request: &SignRequest,
    context: &RequestContext,
) -> Result<Begun<A>, Refusal> {
    // Before anybody is asked: what nobody could release is not signed.
    room.required.check(&permit).map_err(|refusal| refusal.about(&permit.signer().kid))?;
    let claimed = match &context.idempotency_key {
        Some(key) => {
            let format = permit.signer().format(request.format, permit.algorithm())?;
            let key = key.clone();
            Some(room.idempotency.claim(key, &permit, &input, format, now())?)
        }
        None => None,
    };
    // A kept signature may be asked for again with its receipt. A required sink is told of the emergency signer's
    // record by the checkpoint of its proof.
    let proves = context.proves || claimed.is_some() || room.required.is_required();
    let choose = || A::choose(room, gates, &permit, request, proves);
    let from = match claimed {
        Some(Claimed::Kept(kept)) => SignatureOrigin::Kept(kept),
        Some(Claimed::Fresh(claim)) => SignatureOrigin::Source(choose()?, Some(claim)),
        None => SignatureOrigin::Source(choose()?, None),
    };
    let signs = match &from {
        SignatureOrigin::Source(chosen, _) => A::signs(room, &permit, chosen),
        SignatureOrigin::Kept(_) => None,
    };
    let attempts = match &from {
        SignatureOrigin::Source(chosen, _) => A::attempts(chosen),
        SignatureOrigin::Kept(_) => None,
    };
    let attempts = attempts.or_else(random::attempts).ok_or_else(|| {
        let detail = "the system gives no randomness to name a call to the upstream with";
        Refusal::new(Reason::Internal, detail).about(&permit.signer().kid)
    })?;
    let order = announce(&room.journal, permit, input, context.of(request), (attempts, signs))?;
    Ok(Begun { order, from })
}

/// From here on nothing that the client does stops the work.
async fn finish<A: Source, L: Send + 'static>(
    room: &Arc<SigningRoom>,
    begun: Begun<A>,
    context: &RequestContext,
    leaving: impl FnOnce() -> L + Send + 'static,
) -> Result<(Signed, L), Refusal> {
    let kid = begun.order.permit().signer().kid.clone();
    let rest = Box::pin(conclude(Arc::clone(room), begun, context.received, leaving));
    let finished = room.finisher.finish(rest, context).await;
    finished.map_err(|refusal| refusal.about(&kid))
}

/// From the order to the release: signed, proven, recorded, committed where a sink is required, released.
async fn conclude<A: Source, L>(
    room: Arc<SigningRoom>,
    Begun { order, from }: Begun<A>,
    received: Moment,
    leaving: impl FnOnce() -> L,
) -> Result<(Signed, L), Refusal> {
    let (answered, claim, replayed) = match from {
        SignatureOrigin::Source(chosen, claim) => {
            (A::sign(&room, order, chosen).await, claim, false)
        }
        // Tells nothing about an upstream, since none was asked.
        SignatureOrigin::Kept(kept) => (replay(order, kept), None, true),
    };
    let Answered { verdict, witnessed, called, answered, verified } = answered;
    let stages = Stages {
        queue: called.since(received),
        upstream: answered.since(called),
        verify: verified.since(answered),
        audit: Duration::ZERO,
    };
    let timing_us = TimingUs {
        queue: micros(stages.queue),
        upstream: micros(stages.upstream),
        verify: micros(stages.verify),
    };
    let record = witnessed.as_ref().map(|witness| &witness.record);
    let provenance = Provenance { witnessed: record, replayed, timing_us };
    let recorded = match verdict {
        Ok(proven) => proven.record(&room.journal, provenance).await?,
        Err(failed) => return Err(failed.record(&room.journal)),
    };
    // A freeze is not held up by this wait: the gate is looked at after it.
    let committed = match room.required.commit(recorded, witnessed.as_ref()).await {
        Ok(committed) => committed,
        Err(withheld) => return Err(withheld.record(&room.journal)),
    };
    let on_disk = now();

    // Entered before the gate is asked: a freeze either is seen by this look at
    // the gate, or waits for this answer.
    let leaving = leaving();
    let looked = now();
    let release = match committed.release(&room.monitor.gates(), looked, wall_now()) {
        Ok(release) => release,
        Err(withheld) => {
            drop(leaving);
            return Err(withheld.record(&room.journal));
        }
    };
    // An emergency key has no upstream here, and no drill.
    if let Some(signer) = room.signers.get(release.signature().kid()) {
        signer.served.switch.released(looked);
    }
    if let Some(claim) = claim {
        let signature = release.signature().bytes().to_vec();
        claim.keep(Kept { signature, witnessed: witnessed.clone() }, now());
    }
    let stages = Stages { audit: on_disk.since(verified), ..stages };
    Ok((Signed { release, stages, witnessed }, leaving))
}

/// Proves a signature that was given out before.
fn replay<A: Source>(
    order: SigningOrder<Permit<A>>,
    Kept { signature, witnessed }: Kept,
) -> Answered<A> {
    let called = now();
    let verdict = order.prove(Ok(signature));
    Answered { verdict, witnessed, called, answered: called, verified: now() }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
