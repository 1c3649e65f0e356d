//! What an operator is told of break-glass, and what `signctl breakglass request` writes a request from.

use std::collections::BTreeMap;

use host::clock::{now, rfc3339, wall_now};
use serde_json::{Value, json};
use signing_core::Kid;
use signing_core::breakglass::is_out;
use signing_core::gate::{Armed, Snapshot};
use signing_core::key::Purpose;

use super::Breakglass;

impl Breakglass {
    /// What an operator asks for: outages, the session, the signer.
    pub async fn status(&self) -> Value {
        let known = match self.emergency.refresh().await {
            Ok(known) => Some(known),
            Err(_) => self.emergency.known(),
        };
        let gates = self.monitor.gates();
        let kids: Vec<_> = gates.gates().map(|(kid, _)| kid).collect();
        let signers: Vec<_> = kids.iter().map(|kid| kid.as_str()).collect();
        let outages = self.claims(&gates, kids.iter().copied()).into_iter().map(|claim| {
            let kid = Kid::parse(&claim.signer_kid).ok();
            let of = |kid: &Kid| gates.gate(kid).is_some_and(|gate| gate.outage.is_running());
            json!({
                "signer_kid": claim.signer_kid,
                "since": claim.since,
                "seconds": claim.seconds,
                "qualifies": kid.as_ref().is_some_and(|kid| is_out(&gates, kid, self.min_outage, now()).is_ok()),
                "running": kid.as_ref().is_some_and(of),
            })
        });
        let callers = gates.rulebook().callers().map(signing_core::Caller::as_str);
        let mut body = json!({
            "configured": self.emergency.is_configured(),
            "callers": callers.collect::<Vec<_>>(),
            "signers": signers,
            "emergency_keys_registered": registered(&gates),
            "min_outage_s": self.min_outage.as_secs(),
            "outages": outages.collect::<Vec<_>>(),
        });
        if let Some(armed) = gates.armed(now(), wall_now()) {
            let mut session = session_json(armed);
            let held = known.as_ref().and_then(|known| known.state.session.as_ref());
            if let Some(held) = held.filter(|held| held.session == armed.session) {
                let left = known.as_ref().and_then(|known| known.remaining());
                crate::json::put(&mut session, "remaining", left);
                crate::json::put(&mut session, "max_signatures", held.max_signatures);
            }
            crate::json::put(&mut body, "session", session);
        }
        if let Some(known) = known {
            crate::json::put(&mut body, "deployment", &known.state.deployment);
            crate::json::put(&mut body, "signer", json!(known.state));
        }
        body
    }
}

/// The emergency keys that a session of this proxy could use, and the SHA-256 of each: what a request
/// binds.
fn registered(gates: &Snapshot) -> BTreeMap<String, String> {
    let signers = gates.rulebook().registry().iter();
    let usable = signers.filter(|signer| {
        signer.purpose == Purpose::Breakglass && signer.usable_at(wall_now()).is_ok()
    });
    usable.map(|signer| (signer.kid.to_string(), signer.public_key.sha256_hex())).collect()
}

fn session_json(armed: &Armed) -> Value {
    json!({
        "session": armed.session,
        "incident": armed.incident,
        "justification": armed.justification,
        "emergency_kid": armed.signer.kid.as_str(),
        "algorithm": armed.signer.algorithm().name(),
        "replaces": armed.replaces.iter().map(Kid::as_str).collect::<Vec<_>>(),
        "callers": armed.callers.iter().map(signing_core::Caller::as_str).collect::<Vec<_>>(),
        "expires_at": rfc3339(armed.expires_at),
        "expires_in_s": armed.lease_until.since(now()).as_secs(),
    })
}
