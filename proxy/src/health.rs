//! Health, as a pure view of the gates at one moment, and its JSON.

use serde_json::{Value, json};
use signing_core::gate::{Snapshot, State};
use signing_core::{Kid, Moment, Refusal};

use crate::json::put;

/// Whether signing works, for all and for each.
#[derive(Debug)]
pub struct Health<'g> {
    /// Whether every signer would be admitted now.
    pub ok: bool,
    /// Each signer.
    pub signers: Vec<SignerHealth<'g>>,
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
    /// Whether its upstream has proven itself within the lease, frozen or not.
    pub upstream_ok: bool,
    /// Why a request would be refused; None if it would be admitted.
    pub refusal: Option<Refusal>,
    gate: &'g State,
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
    pub fn of(gates: &'g Snapshot, now: Moment) -> Self {
        let signers: Vec<_> = gates
            .gates()
            .map(|(kid, gate)| {
                let upstream_ok =
                    matches!(&gate.state, State::Open { lease_until, .. } if now < *lease_until);
                let lease_over = matches!(gate.state, State::Open { .. }) && !upstream_ok;
                SignerHealth {
                    kid,
                    state: if lease_over { "shut" } else { gate.state.word() },
                    upstream_ok,
                    refusal: gates.check(kid, now).err(),
                    gate: &gate.state,
                }
            })
            .collect();
        let ok = !signers.is_empty() && signers.iter().all(|signer| signer.refusal.is_none());
        Self { ok, signers, freeze: gates.freeze(), now }
    }

    /// The first reason that anything is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.signers.iter().find_map(|signer| signer.refusal.as_ref())
    }

    /// The body of `/health`.
    #[must_use]
    pub fn to_json(&self, reader: Reader) -> Value {
        let mut body = json!({
            "ok": self.ok,
            "mode": "normal",
            "frozen": self.freeze.is_some(),
            "signers": self.signers.iter().map(|signer| signer.to_json(self.now, reader)).collect::<Vec<_>>(),
        });
        if let Some(refusal) = self.refusal() {
            put(&mut body, "reason", refusal.reason.word());
            if reader != Reader::Anonymous {
                put(&mut body, "detail", &refusal.detail);
            }
        }
        if let Some(freeze) = self.freeze
            && reader != Reader::Anonymous
        {
            let freeze = json!({
                "reason": freeze.reason,
                "by": freeze.by,
                "since": crate::time::rfc3339(freeze.at),
            });
            put(&mut body, "freeze", freeze);
        }
        body
    }
}

impl SignerHealth<'_> {
    fn to_json(&self, now: Moment, reader: Reader) -> Value {
        let mut body = json!({
            "signer_kid": self.kid.as_str(),
            "state": self.state,
            "upstream_ok": self.upstream_ok,
            "for_s": now.since(self.gate.since()).as_secs(),
        });
        if let Some(refusal) = &self.refusal {
            put(&mut body, "reason", refusal.reason.word());
        }
        if let State::Open { lease_until, .. } = self.gate {
            let left = lease_until.since(now).as_millis();
            put(&mut body, "lease_ms_left", u64::try_from(left).unwrap_or(u64::MAX));
        }
        if reader == Reader::Operator {
            let detail = match self.gate {
                State::Shut { cause, .. } | State::Probing { cause, .. } => Some(match cause {
                    signing_core::gate::Cause::Failing { fault, detail } => {
                        format!("{}: {detail}", fault.word())
                    }
                    other => other.sentence(),
                }),
                State::Sealed { detail, .. } => Some(detail.clone()),
                State::Open { .. } => None,
            };
            if let Some(detail) = detail {
                put(&mut body, "detail", detail);
            }
        }
        body
    }
}
