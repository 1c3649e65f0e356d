//! Health, as a pure view of the gates at one moment, and its JSON.

use std::time::Duration;

use host::clock::rfc3339;
use serde_json::{Value, json};
use signing_core::gate::{Armed, Extent, Place, Snapshot, State, UpstreamView};
use signing_core::{Kid, Mode, Moment, Refusal};
use time::OffsetDateTime;

use crate::conditions::{self, Condition, Level};
use crate::json::put;

/// Whether signing works, for all and for each.
#[derive(Debug)]
pub struct Health<'g> {
    /// Whether every signer would be admitted now, by its own gate or by a session.
    pub ok: bool,
    /// Whether each is by its own gate.
    pub own: bool,
    /// Each signer.
    pub signers: Vec<SignerHealth<'g>>,
    /// The break-glass session in force.
    pub session: Option<&'g Armed>,
    /// How the proxy's own side is.
    conditions: &'g [Condition],
    freeze: Option<&'g signing_core::gate::Freeze>,
    now: Moment,
}

/// One signer's health.
#[derive(Debug)]
pub struct SignerHealth<'g> {
    /// Which.
    pub kid: &'g Kid,
    /// The state of its gate as it counts now: an open gate whose lease is over
    /// is shut.
    pub state: &'static str,
    /// Whether one of its upstreams has proven itself within the lease, frozen or not.
    pub upstream_ok: bool,
    /// How much of it is out.
    pub extent: Extent,
    /// How long it has been in full outage.
    pub outage: Duration,
    /// Each of its upstreams.
    pub upstreams: Vec<UpstreamHealth<'g>>,
    /// Why a request would be refused; None if it would be admitted.
    pub refusal: Option<Refusal>,
    /// Whether a break-glass session signs in its place.
    pub replaced: bool,
    outage_runs: bool,
    gate: &'g State,
}

/// The health of one upstream of a signer.
#[derive(Debug)]
pub struct UpstreamHealth<'g> {
    /// Where it is.
    pub place: &'g Place,
    /// Whether it has proven itself within the lease.
    pub ok: bool,
    state: &'g State,
}

/// Who reads it: on the unauthenticated listener, no incident text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Anyone who reaches the listener.
    Anonymous,
    /// A caller with a client certificate.
    Caller,
    /// An operator on the admin socket.
    Operator,
}

impl<'g> Health<'g> {
    /// The health at `now`.
    #[must_use]
    pub fn of(
        gates: &'g Snapshot,
        conditions: &'g [Condition],
        now: Moment,
        wall: OffsetDateTime,
    ) -> Self {
        let stopped = gates.freeze().is_some() || gates.audit_stop().is_some();
        let signers: Vec<_> = gates
            .gates()
            .map(|(kid, gate)| {
                let upstream_ok = gate.state.is_open(now);
                let lease_over = matches!(gate.state, State::Open { .. }) && !upstream_ok;
                SignerHealth {
                    kid,
                    state: if lease_over { "shut" } else { gate.state.word() },
                    upstream_ok,
                    extent: gate.extent(now),
                    outage: gate.outage.elapsed(now),
                    upstreams: gate
                        .upstreams
                        .iter()
                        .map(|UpstreamView { place, state }| UpstreamHealth {
                            place,
                            ok: state.is_open(now),
                            state,
                        })
                        .collect(),
                    refusal: gates.check(kid, now).err(),
                    replaced: !stopped && gates.is_replaced(kid, now, wall),
                    outage_runs: gate.outage.is_running(),
                    gate: &gate.state,
                }
            })
            .collect();
        // A signature that no caller can fetch is none.
        let reached = !signers.is_empty() && conditions::first_failed(conditions).is_none();
        let own = reached && signers.iter().all(|signer| signer.refusal.is_none());
        let ok = reached && signers.iter().all(SignerHealth::signs);
        let session = gates.armed(now, wall).map(|armed| &**armed);
        Self { ok, own, signers, session, conditions, freeze: gates.freeze(), now }
    }

    /// How much is out, of the signer of which the most is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.signers.iter().map(|signer| signer.extent).max().unwrap_or(Extent::Full)
    }

    /// The first reason that anything is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        let refused = self.signers.iter().filter(|signer| !signer.replaced);
        refused.into_iter().find_map(|signer| signer.refusal.as_ref())
    }

    /// The body of `/readyz`: whether callers get signatures, and what is not well.
    #[must_use]
    pub fn readiness(&self, draining: bool) -> (bool, Value) {
        let ready = self.ok && !draining;
        let mut body = json!({"ok": ready});
        if self.conditions.iter().any(|condition| condition.level != Level::Ok) {
            put(&mut body, "conditions", conditions::not_ok(self.conditions, Reader::Anonymous));
        }
        (ready, body)
    }

    /// The body of `/health`.
    #[must_use]
    pub fn to_json(&self, reader: Reader) -> Value {
        let mut body = json!({
            "ok": self.ok,
            "mode": if self.session.is_some() { Mode::Breakglass } else { Mode::Normal }.word(),
            "frozen": self.freeze.is_some(),
            "outage": self.extent().word(),
            "signers": self.signers.iter().map(|signer| signer.to_json(self.now, reader)).collect::<Vec<_>>(),
            "conditions": conditions::not_ok(self.conditions, reader),
        });
        if let Some(session) = self.session {
            let mut session_body = json!({
                "emergency_kid": session.signer.kid.as_str(),
                "expires_at": rfc3339(session.expires_at),
            });
            if reader != Reader::Anonymous {
                put(&mut session_body, "session", &session.session);
                put(&mut session_body, "incident", &session.incident);
            }
            put(&mut body, "breakglass", session_body);
        }
        if let Some(refusal) = self.refusal() {
            put(&mut body, "reason", refusal.reason.word());
            if reader != Reader::Anonymous {
                put(&mut body, "detail", &refusal.detail);
            }
        } else if let Some(failed) = conditions::first_failed(self.conditions) {
            put(&mut body, "reason", failed.component.word());
            if reader == Reader::Operator {
                put(&mut body, "detail", &failed.detail);
            }
        }
        if let Some(freeze) = self.freeze
            && reader != Reader::Anonymous
        {
            let freeze = json!({
                "reason": freeze.reason,
                "by": freeze.by,
                "since": host::clock::rfc3339(freeze.at),
            });
            put(&mut body, "freeze", freeze);
        }
        body
    }
}

impl SignerHealth<'_> {
    fn signs(&self) -> bool {
        self.refusal.is_none() || self.replaced
    }

    fn to_json(&self, now: Moment, reader: Reader) -> Value {
        let mut body = json!({
            "signer_kid": self.kid.as_str(),
            "state": self.state,
            "upstream_ok": self.upstream_ok,
            "outage": self.extent.word(),
            "for_s": now.since(self.gate.since()).as_secs(),
            "upstreams": self.upstreams.iter().map(|up| up.to_json(now, reader)).collect::<Vec<_>>(),
        });
        if self.replaced {
            put(&mut body, "replaced", true);
        }
        if !self.outage.is_zero() {
            put(&mut body, "outage_s", self.outage.as_secs());
            put(&mut body, "outage_counts", self.outage_runs);
        }
        if let Some(refusal) = &self.refusal {
            put(&mut body, "reason", refusal.reason.word());
        }
        if let State::Open { lease_until, .. } = self.gate {
            let left = lease_until.since(now).as_millis();
            put(&mut body, "lease_ms_left", u64::try_from(left).unwrap_or(u64::MAX));
        }
        if let (Reader::Operator, Some(detail)) = (reader, self.gate.told()) {
            put(&mut body, "detail", detail);
        }
        body
    }
}

impl UpstreamHealth<'_> {
    fn to_json(&self, now: Moment, reader: Reader) -> Value {
        let is_lease_over = matches!(self.state, State::Open { .. }) && !self.ok;
        let mut body = json!({
            "upstream": self.place.provider,
            "region": self.place.region,
            "ok": self.ok,
            "state": if is_lease_over { "shut" } else { self.state.word() },
            "for_s": now.since(self.state.since()).as_secs(),
        });
        if let (Reader::Operator, Some(detail)) = (reader, self.state.told()) {
            put(&mut body, "detail", detail);
        }
        body
    }
}
