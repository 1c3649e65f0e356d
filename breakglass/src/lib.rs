//! Break-glass, the proxy's half: the hot switch to an emergency key that the emergency signer
//! has opened, and back.
//!
//! The signer judges approvals, key, times and quota (I5). What is judged here comes first and
//! consumes nothing: not frozen, no other session, and the proxy's own outage clock, which is a
//! necessary condition and is handed on as a claim.
//!
//! For the pipeline, which asks [`emergency`] for signatures of announced orders alone, and for the admin
//! socket, which begins and ends sessions. It knows neither of them, and no upstream: it can switch to the
//! emergency key, and never release what that key signs.

pub mod emergency;
pub mod heads;
mod keeper;
mod record;
mod status;

use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{now, rfc3339, wall_now};
use monitor::{Monitor, SessionEnd};
use signing_core::admin::breakglass::{Accepted, Destroyed, Ended, RefusedSigner};
use signing_core::breakglass::wire::{self, Answer, Ask, JournalHead};
use signing_core::breakglass::{
    Clause, End, ProxyEnd, ProxyReason, REQUEST_MAX_BYTES, Refused, Request, may_begin,
};
use signing_core::gate::{Armed, Snapshot};
use signing_core::journal::Record;
use signing_core::{Kid, Moment, Signer};
use tokio::sync::Mutex;

use crate::emergency::Emergency;
use record::ActivationRecord;

pub use keeper::keep;

/// How long the record of an activation may take.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// What the ceremony works on.
#[derive(Debug)]
pub struct Breakglass {
    /// The emergency signer.
    emergency: Emergency,
    /// The gates.
    monitor: Monitor,
    /// The journal.
    journal: Journal,
    /// How long each replaced signer has to have been out.
    min_outage: Duration,
    /// One ceremony at a time.
    one: Mutex<()>,
}

impl Breakglass {
    /// Ceremonies, each for signers that were out for `min_outage`.
    #[must_use]
    pub fn new(
        emergency: Emergency,
        monitor: Monitor,
        journal: Journal,
        min_outage: Duration,
    ) -> Self {
        Self { emergency, monitor, journal, min_outage, one: Mutex::default() }
    }

    /// How long each replaced signer has to have been out.
    #[must_use]
    pub fn min_outage(&self) -> Duration {
        self.min_outage
    }

    /// Begins a session, for `by`; returns it. Every attempt is recorded.
    ///
    /// # Errors
    /// [`Refused`]; no session is in force by it then.
    pub async fn activate(
        &self,
        request_b64: String,
        approvals_b64: Vec<String>,
        by: &str,
    ) -> Result<wire::SessionState, Refused> {
        let _one = self.one.lock().await;
        let request = read_request(&request_b64);
        let begun = match &request {
            Ok(request) => self.begin(request, request_b64, approvals_b64, by).await,
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = &begun {
            tracing::warn!(target: "breakglass", by, reason = why.reason.word(), detail = why.detail, "no session");
            let known = self.emergency.known();
            let record =
                ActivationRecord::new(request.as_ref().ok(), Err(why), known.as_deref(), by);
            // Nothing began, so nothing waits.
            let _ = self.journal.note(&Record::Activation(record.as_record()));
        }
        begun
    }

    async fn begin(
        &self,
        request: &Request,
        request_b64: String,
        approvals_b64: Vec<String>,
        by: &str,
    ) -> Result<wire::SessionState, Refused> {
        let emergency =
            may_begin(&self.monitor.gates(), request, self.min_outage, now(), wall_now())?;
        let gates = self.monitor.gates();
        let outages = request.replaces().iter().filter_map(|kid| claim(&gates, kid)).collect();
        let freeze = gates.freeze().and_then(|freeze| freeze.id);
        drop(gates);
        let proxy_head = JournalHead::new(self.journal.log(), self.journal.head());
        // The signer's time counts from its answer; ours, from before it was asked, is shorter.
        let asked = now();
        let by_whom = by.to_owned();
        let answer = self.emergency.command(move |id| {
            Ask::Activate(wire::Activate {
                id,
                request_b64,
                approvals_b64,
                outages,
                freeze,
                proxy_head,
                by: by_whom,
            })
        });
        let session = match answer.await {
            Ok(Answer::Activated(wire::Activated { session, .. })) => session,
            Ok(Answer::Refused(wire::Refused { reason, detail, .. })) => {
                return Err(Refused::new(reason, detail));
            }
            Ok(_) => {
                self.emergency.ends(End::Proxy, "its answer to an activation is nonsense");
                return Err(Refused::new(
                    ProxyReason::SignerUnavailable,
                    "the signer answered nonsense",
                ));
            }
            Err(error) => {
                // It may have activated it, and then it is to end it.
                self.emergency.ends(End::Proxy, "its answer to an activation did not come");
                return Err(Refused::new(ProxyReason::SignerUnavailable, error.to_string()));
            }
        };
        // From here on the signer is armed: whatever fails has to disarm it. If this process
        // dies, its connection goes, and the signer ends the session by itself.
        //
        // The log that the request is used up in is known here before the session is in force: a signer
        // that is put back to before it is not believed again.
        if let Err(error) = self.emergency.refresh().await {
            self.emergency.ends(End::Proxy, "its log was not shown after an activation");
            return Err(Refused::new(ProxyReason::SignerUnavailable, error.to_string()));
        }
        let switched = match self.switch(request, &session, emergency, asked, by).await {
            Ok(()) => self.still_there(&session.session).await,
            Err(why) => Err(why),
        };
        switched.map(|()| session).inspect_err(|why| self.emergency.ends(End::Proxy, &why.detail))
    }

    /// The signer may have ended the session, or its connection may have gone, before the session
    /// was in force here and the keeper would have heard it. Asked after that, it says so. Meanwhile a new freeze, or
    /// anything else that ends sessions here, may have ended this one.
    async fn still_there(&self, session: &str) -> Result<(), Refused> {
        let why = match self.emergency.refresh().await {
            Ok(known) if known.has(session) => {
                let gates = self.monitor.gates();
                let in_force = gates.session_in_force();
                if in_force.is_some_and(|armed| armed.session == session) {
                    return Ok(());
                }
                let why = "it began, and is over already; its record breakglass_ended says why";
                return Err(Refused::new(ProxyReason::NotInForce, why));
            }
            Ok(_) => "the signer has ended it already".to_owned(),
            Err(error) => error.to_string(),
        };
        let end = self.session_end(ProxyEnd::SignerGone, &why, "this proxy");
        let _ = self.monitor.disarm(session.to_owned(), end).await;
        Err(Refused::new(ProxyReason::SignerUnavailable, why))
    }

    /// On disk first, then in force.
    async fn switch(
        &self,
        request: &Request,
        session: &wire::SessionState,
        signer: Arc<Signer>,
        asked: Moment,
        by: &str,
    ) -> Result<(), Refused> {
        if session.session != request.session() {
            let detail = format!("the signer activated another session, {}", session.session);
            return Err(Refused::new(ProxyReason::SignerUnavailable, detail));
        }
        let known = self.emergency.known();
        let record = ActivationRecord::new(Some(request), Ok(session), known.as_deref(), by);
        let appending = self.journal.begin_append(&Record::Activation(record.as_record()));
        let recording = async { appending?.durable().await };
        match tokio::time::timeout(RECORD_MAX, recording).await {
            Ok(Ok(_)) => {}
            Ok(Err(trouble)) => {
                return Err(Refused::new(wire::Reason::AuditUnavailable, trouble.to_string()));
            }
            Err(_) => {
                return Err(Refused::new(
                    wire::Reason::AuditUnavailable,
                    "the disk does not answer",
                ));
            }
        }
        // What was approved counts, whatever the signer says of it.
        let most = Duration::try_from(request.expires_at() - wall_now()).unwrap_or_default();
        let lease = most.min(Duration::from_millis(session.expires_in_ms));
        let armed = Armed {
            session: session.session.clone(),
            incident: request.incident().to_owned(),
            justification: request.justification().to_owned(),
            signer,
            replaces: request.replaces().clone(),
            callers: request.callers().clone(),
            under_freeze: request.under_freeze(),
            since: now(),
            lease_until: asked.after(lease),
            expires_at: request.expires_at(),
        };
        match self.monitor.arm(armed).await {
            Ok(Ok(())) => {
                let (session, expires_at) = (&session.session, &session.expires_at);
                tracing::warn!(target: "breakglass", session, expires_at, by, "a session is in force");
                Ok(())
            }
            Ok(Err(why)) => Err(Refused::new(ProxyReason::NotInForce, why)),
            Err(gone) => Err(Refused::new(ProxyReason::NotInForce, gone.to_string())),
        }
    }

    /// Ends the session in force, for `by`.
    ///
    /// # Errors
    /// [`Refused`], if there is none.
    pub async fn end(&self, reason: &str, by: &str) -> Result<Ended, Refused> {
        // It waits for no other ceremony: an end is never in the wrong moment.
        let armed = self.monitor.gates().armed(now(), wall_now()).map(Arc::clone);
        let Some(armed) = armed else {
            return self.end_stray(reason, by).await;
        };
        // Here first: from now on nothing leaves, whatever the signer does.
        let end = self.session_end(End::Operator, reason, by);
        let ended = self.monitor.disarm(armed.session.clone(), end).await;
        if let Err(gone) = ended {
            // Leases end it here. The signer wipes the key now.
            let there = match self.tell_signer_to_end(reason, by).await {
                Ok(Answer::Ended(_)) => "the emergency signer has ended it",
                _ => "the emergency signer did not confirm an end",
            };
            return Err(Refused::new(ProxyReason::NotEnded, format!("{gone}; {there}")));
        }
        let session = armed.session.clone();
        let here = Ended { ended: true, session, ..Ended::default() };
        Ok(match self.tell_signer_to_end(reason, by).await {
            Ok(Answer::Ended(wire::Ended { record, destruction_due, .. })) => {
                // Its log is known to its end; else the next look comes soon.
                let _ = self.emergency.refresh().await;
                Ended {
                    destruction_due: Some(destruction_due),
                    signer_record: Some(record.to_text()),
                    ..here
                }
            }
            Ok(Answer::Refused(wire::Refused { detail, .. })) => {
                Ended { note: Some(format!("the signer says: {detail}")), ..here }
            }
            Ok(_) | Err(_) => {
                let note = "the signer did not confirm it; it ends the session when its connection \
                            goes, or at its expiry: look at `signctl breakglass status`";
                Ended { note: Some(note.to_owned()), ..here }
            }
        })
    }

    /// No session is in force here: should the signer have one, that ends.
    async fn end_stray(&self, reason: &str, by: &str) -> Result<Ended, Refused> {
        let has_one = self.emergency.known().is_some_and(|known| known.state.session.is_some());
        let ended = if has_one { self.tell_signer_to_end(reason, by).await.ok() } else { None };
        match ended {
            Some(Answer::Ended(wire::Ended { session, destruction_due, record, .. })) => {
                let note = "no session was in force in this proxy; the signer's is over";
                Ok(Ended {
                    ended: true,
                    session,
                    destruction_due: Some(destruction_due),
                    signer_record: Some(record.to_text()),
                    note: Some(note.to_owned()),
                    connections_cut: None,
                })
            }
            _ => Err(Refused::new(wire::Reason::NoSession, "no session is in force")),
        }
    }

    /// Accepts the emergency signer that is refused for its log, for `by`.
    ///
    /// # Errors
    /// [`Refused`]; it stays refused.
    pub async fn accept_signer(&self, reason: &str, by: &str) -> Result<Accepted, Refused> {
        let _one = self.one.lock().await;
        let Some(heads) = self.emergency.heads() else {
            let why = "no emergency signer is configured ([breakglass] signer_socket)";
            return Err(Refused::new(ProxyReason::NothingRefused, why));
        };
        let accepted = heads.accept(reason, by).await?;
        tracing::warn!(
            target: "breakglass", instance = accepted.shown.instance, head = accepted.shown.to_text(),
            known = accepted.known.as_ref().map(|known| known.to_text()), by, reason,
            "an operator accepted the emergency signer's log"
        );
        let RefusedSigner { instance, head, known, why } = accepted.message();
        Ok(Accepted { accepted: true, instance, head, known, why })
    }

    /// Destroys an emergency key, for `by`.
    ///
    /// # Errors
    /// [`Refused`]; the key is as it was.
    pub async fn destroy(
        &self,
        kid: &str,
        reason: &str,
        attested: Vec<wire::Attested>,
        by: &str,
    ) -> Result<Destroyed, Refused> {
        let _one = self.one.lock().await;
        let (kid, reason, by) = (kid.to_owned(), reason.to_owned(), by.to_owned());
        let ask =
            move |id| Ask::Destroy(wire::Destroy { id, emergency_kid: kid, reason, attested, by });
        match self.emergency.command(ask).await {
            Ok(Answer::Destroyed(wire::Destroyed {
                emergency_kid,
                overwritten,
                copies_left,
                record,
                ..
            })) => {
                // What it says of itself is old now; the next look comes soon.
                let _ = self.emergency.refresh().await;
                let signer_record = record.to_text();
                Ok(Destroyed {
                    destroyed: true,
                    emergency_kid,
                    overwritten,
                    copies_left,
                    signer_record,
                })
            }
            Ok(Answer::Refused(wire::Refused { reason, detail, .. })) => {
                Err(Refused::new(reason, detail))
            }
            Ok(_) => {
                Err(Refused::new(ProxyReason::SignerUnavailable, "the signer answered nonsense"))
            }
            Err(error) => Err(Refused::new(ProxyReason::SignerUnavailable, error.to_string())),
        }
    }

    async fn tell_signer_to_end(
        &self,
        reason: &str,
        by: &str,
    ) -> Result<Answer, crate::emergency::AskError> {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        self.emergency.command(move |id| Ask::End(wire::End { id, reason, by, own: None })).await
    }

    fn session_end(&self, reason: impl Into<ProxyEnd>, detail: &str, by: &str) -> SessionEnd {
        let known = self.emergency.known();
        SessionEnd {
            by: by.to_owned(),
            reason: reason.into(),
            detail: detail.to_owned(),
            signer_head: known.map(|known| known.state.head.to_text()),
            signer_record: None,
        }
    }
}

/// What the outage clock of a signer shows, if it has counted anything.
fn claim(gates: &Snapshot, kid: &Kid) -> Option<wire::OutageClaim> {
    let elapsed = gates.gate(kid)?.outage.elapsed(now());
    (!elapsed.is_zero()).then(|| wire::OutageClaim {
        signer_kid: kid.to_string(),
        since: rfc3339(wall_now() - elapsed),
        seconds: elapsed.as_secs(),
    })
}

/// Reads a request document, base64 as the admin socket carries it.
///
/// # Errors
/// [`Refused`]: too long, not base64, or no request.
pub fn read_request(request_b64: &str) -> Result<Request, Refused> {
    let invalid = |why: String| Refused::new(Clause::Request, why);
    if request_b64.len() > REQUEST_MAX_BYTES * 2 {
        return Err(invalid(format!("a request has at most {REQUEST_MAX_BYTES} bytes")));
    }
    let bytes = STANDARD
        .decode(request_b64)
        .map_err(|error| invalid(format!("\"request_b64\" is not base64: {error}")))?;
    Request::parse(&bytes).map_err(|error| invalid(error.to_string()))
}
