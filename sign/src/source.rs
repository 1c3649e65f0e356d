//! Who signs an order: an upstream for what a signer's own gate admitted, by itself or in a batch; the
//! emergency signer for what a break-glass session admitted. Nothing else differs between them.

use std::sync::Arc;

use breakglass::emergency::EmergencyError;
use host::clock::now;
use monitor::SessionEnd;
use release::{Failed, SigningOrder, Signs};
use signing_core::breakglass::wire::JournalHead;
use signing_core::breakglass::{End, ProxyEnd};
use signing_core::evidence::Evidence;
use signing_core::gate::{Admits, Admitted as _, Permit, Session, Snapshot, Upstream};
use signing_core::{AttemptsId, Kid, Refusal, SignRequest};
use upstream::Route;

use crate::answered::Answered;
use crate::batch::Place;
use crate::{SigningRoom, ask};

/// Who signs what a gate or a session admitted.
pub(crate) trait Source: Admits {
    /// Whom to ask, and with what beside the order.
    type Chosen: Send + 'static;

    /// Chooses whom to ask, before anything is announced. `proves`: whether the answer may be given out
    /// with a proof, now or again.
    ///
    /// # Errors
    /// The refusal, at once, if nobody can be asked.
    fn choose(
        room: &SigningRoom,
        gates: &Snapshot,
        permit: &Permit<Self>,
        request: &SignRequest,
        proves: bool,
    ) -> Result<Self::Chosen, Refusal>;

    /// What names the calls that will be made, if that is decided already: of a batch, for all of its
    /// leaves.
    fn attempts(_: &Self::Chosen) -> Option<AttemptsId> {
        None
    }

    /// Who that is, for the records.
    fn signs(room: &SigningRoom, permit: &Permit<Self>, chosen: &Self::Chosen) -> Option<Signs>;

    /// Has the order signed, proves the answer, and reports what it shows.
    fn sign(
        room: &Arc<SigningRoom>,
        order: SigningOrder<Permit<Self>>,
        chosen: Self::Chosen,
    ) -> impl Future<Output = Answered<Self>> + Send;
}

/// Whom an upstream's order goes to.
pub(crate) enum ByUpstream {
    /// To an upstream, by itself.
    Alone(Route),
    /// Into a batch, in which it has its place.
    Batched(Place),
}

impl Source for Upstream {
    type Chosen = ByUpstream;

    fn choose(
        room: &SigningRoom,
        gates: &Snapshot,
        permit: &Permit<Self>,
        _: &SignRequest,
        _: bool,
    ) -> Result<ByUpstream, Refusal> {
        let signer = permit.signer();
        if !signer.batch.is_batch() {
            return room.route(gates, permit, permit.deadline()).map(ByUpstream::Alone);
        }
        let route = || room.route(gates, permit, permit.deadline());
        Place::take(room, signer, route).map(ByUpstream::Batched)
    }

    fn attempts(chosen: &ByUpstream) -> Option<AttemptsId> {
        match chosen {
            ByUpstream::Alone(_) => None,
            ByUpstream::Batched(place) => Some(place.attempts()),
        }
    }

    fn signs(room: &SigningRoom, permit: &Permit<Self>, chosen: &ByUpstream) -> Option<Signs> {
        match chosen {
            ByUpstream::Alone(route) => room.signs(&permit.signer().kid, route),
            ByUpstream::Batched(place) => Some(place.signs().clone()),
        }
    }

    async fn sign(
        room: &Arc<SigningRoom>,
        order: SigningOrder,
        chosen: ByUpstream,
    ) -> Answered<Self> {
        let route = match chosen {
            ByUpstream::Alone(route) => route,
            ByUpstream::Batched(place) => return place.sign(room, order).await,
        };
        let deadline = order.permit().deadline();
        let asked = room.ask(ask::about(&order), &order, route, deadline).await;
        let (called, answered) = (asked.called, asked.answered);
        let (verdict, verified) = room.judge(order, asked);
        Answered { verdict, witnessed: None, called, answered, verified }
    }
}

impl SigningRoom {
    /// Who the upstream of that route is, for the records.
    pub(super) fn signs(&self, kid: &Kid, route: &Route) -> Option<Signs> {
        let signer = self.signers.get(kid)?;
        let reached = signer.served.get(route)?;
        Some(Signs::Upstream(Arc::clone(reached.upstream.place())))
    }
}

impl Source for Session {
    /// The caller's justification, which the emergency signer records too, and whether it is to prove
    /// that.
    type Chosen = (Option<String>, bool);

    fn choose(
        _: &SigningRoom,
        _: &Snapshot,
        _: &Permit<Self>,
        request: &SignRequest,
        proves: bool,
    ) -> Result<Self::Chosen, Refusal> {
        Ok((request.justification.clone(), proves))
    }

    fn signs(_: &SigningRoom, _: &Permit<Self>, _: &Self::Chosen) -> Option<Signs> {
        Some(Signs::EmergencySigner)
    }

    async fn sign(
        room: &Arc<SigningRoom>,
        order: SigningOrder<Permit<Self>>,
        chosen: Self::Chosen,
    ) -> Answered<Self> {
        let called = now();
        let head = JournalHead::new(room.journal.log(), room.journal.head());
        let answer = room.emergency.sign(&order, chosen, head).await;
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
            let detail = format!("an emergency signature is not believed: {detail}");
            let end = SessionEnd::by_this_proxy(ProxyEnd::SignatureRejected, detail);
            let _ = room.monitor.disarm(session, end).await;
            room.emergency.ends(End::Proxy, "its answer is not believed");
            refusal.detail =
                "the emergency signer's answer did not verify under the registered key; the \
                 break-glass session is over"
                    .to_owned();
        }
        if let (Err(failed), Some(refusal)) = (&mut verdict, refusal) {
            // What the emergency signer said is more than the class of the failure.
            failed.refusal = refusal;
        }
        Answered { verdict, witnessed, called, answered, verified: now() }
    }
}
