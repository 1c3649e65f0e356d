//! The break-glass session and the emergency keys, as metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge};
use signing_core::breakglass::wire::{self, SessionState};
use signing_core::gate::{Armed, Snapshot};
use signing_core::{Kid, Moment, Reason};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Make;
use super::names::*;

/// What the emergency signer that is connected says of itself.
#[derive(Clone, Copy, Debug)]
pub struct EmergencySigner<'s> {
    /// Its state.
    pub state: &'s wire::State,
    /// Signatures that its session has left.
    pub remaining: Option<u64>,
}

/// The session's metrics.
#[derive(Debug)]
pub(super) struct BreakglassMetrics {
    active: Gauge,
    expires: Gauge,
    signatures: Counter,
    remaining: Gauge,
    connected: Gauge,
    recovered: Gauge,
    /// Kids of sessions that were in force: their requests are counted under them.
    kids: Mutex<BTreeMap<Kid, Counter>>,
}

impl BreakglassMetrics {
    pub(super) fn new(make: &Make<'_>) -> Self {
        Self {
            active: make.gauge(BREAKGLASS_ACTIVE, &[]),
            expires: make.gauge(BREAKGLASS_EXPIRES, &[]),
            signatures: make.counter(BREAKGLASS_SIGNATURES, &[]),
            remaining: make.gauge(BREAKGLASS_REMAINING, &[]),
            connected: make.gauge(BREAKGLASS_CONNECTED, &[]),
            recovered: make.gauge(BREAKGLASS_RECOVERED, &[]),
            kids: Mutex::default(),
        }
    }

    /// Shows the session at this moment.
    pub(super) fn session(
        &self,
        make: &Make<'_>,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) {
        let armed = gates.armed(now, wall);
        self.active.set(super::one_if(armed.is_some()));
        let Some(armed) = armed else {
            self.expires.set(0.0);
            self.remaining.set(0.0);
            self.recovered.set(0.0);
            return;
        };
        self.expires.set(seconds(armed.expires_at));
        let is_open = |kid: &Kid| gates.gate(kid).is_some_and(|gate| gate.state.is_open(now));
        self.recovered.set(super::one_if(armed.replaces.iter().any(is_open)));
        let kid = &armed.signer.kid;
        self.kids().entry(kid.clone()).or_insert_with(|| {
            let labels = [("result", "signed"), ("reason", ""), ("signer_kid", kid.as_str())];
            let [result, reason, signer] = labels;
            make.counter(REQUESTS, &[result, reason, signer, ("mode", "breakglass")])
        });
    }

    /// Shows what the emergency signer says of itself.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub(super) fn signer(
        &self,
        make: &Make<'_>,
        said: Option<EmergencySigner<'_>>,
        in_force: Option<&std::sync::Arc<Armed>>,
    ) {
        self.connected.set(super::one_if(said.is_some()));
        let Some(EmergencySigner { state, remaining }) = said else { return };
        let ours = |session: &&SessionState| {
            in_force.is_some_and(|armed| armed.session == session.session)
        };
        if state.session.as_ref().filter(ours).is_some()
            && let Some(left) = remaining
        {
            self.remaining.set(left as f64);
        }
        for key in &state.keys {
            let label = [("signer_kid", key.kid.as_str())];
            let due = key.destruction_due.as_deref();
            let due = due.and_then(|due| OffsetDateTime::parse(due, &Rfc3339).ok());
            make.gauge(BREAKGLASS_DUE, &label).set(due.map_or(0.0, seconds));
            make.gauge(BREAKGLASS_OVERDUE, &label).set(super::one_if(key.destruction_overdue));
        }
    }

    /// Counts a signature that an emergency key made and that left.
    pub(super) fn signed(&self, kid: &Kid) {
        if let Some(counter) = self.kids().get(kid) {
            counter.increment(1);
            self.signatures.increment(1);
        }
    }

    /// Counts a refusal under an emergency key; false if `kid` is of no session.
    pub(super) fn refused(&self, make: &Make<'_>, kid: &Kid, reason: Reason) -> bool {
        if !self.kids().contains_key(kid) {
            return false;
        }
        let [result, word, signer, _] = super::request_labels(Some(reason), kid.as_str());
        make.counter(REQUESTS, &[result, word, signer, ("mode", "breakglass")]).increment(1);
        true
    }

    fn kids(&self) -> std::sync::MutexGuard<'_, BTreeMap<Kid, Counter>> {
        // A panic under this lock leaves a whole map.
        self.kids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn seconds(at: OffsetDateTime) -> f64 {
    at.unix_timestamp() as f64
}
