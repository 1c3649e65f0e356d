//! Whether signing works, for all and for each.

use serde::{Deserialize, Serialize};

use super::Condition;
use crate::FreezeId;
use crate::gate::Extent;
use crate::mode::Mode;

/// `GET /health`, and the first part of `GET /v1/status`. Who is not an operator is told less.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Whether callers of every signer are served, by its own key or in a session.
    pub ok: bool,
    /// Whether a break-glass session is in force.
    pub mode: Mode,
    /// Whether an operator froze the proxy.
    pub frozen: bool,
    /// How much is out, of the signer of which the most is.
    pub outage: Extent,
    /// Each signer.
    pub signers: Vec<SignerHealth>,
    /// What is not well on the proxy's own side.
    pub conditions: Vec<Condition>,
    /// The session in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakglass: Option<SessionHealth>,
    /// The first reason that anything is refused, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The freeze in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeInForce>,
    /// The incident that is open: no pipeline goes on before it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_incident: Option<OpenIncident>,
}

/// One signer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignerHealth {
    /// The signer's kid in the registry.
    pub signer_kid: String,
    /// The state of its gate: `open`, `shut`, `probing` or `sealed`.
    pub state: String,
    /// Whether an upstream has proven itself within the lease, frozen or not.
    pub upstream_ok: bool,
    /// How much of it is out.
    pub outage: Extent,
    /// Seconds in that state.
    pub for_s: u64,
    /// Each upstream.
    pub upstreams: Vec<UpstreamHealth>,
    /// Whether a break-glass session signs in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
    /// Seconds of full outage, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_s: Option<u64>,
    /// Whether that clock runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_counts: Option<bool>,
    /// Why a request would be refused, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds until an open gate shuts without new evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms_left: Option<u64>,
    /// Why it is not open, for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One upstream of a signer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamHealth {
    /// The provider.
    pub upstream: String,
    /// The region, or the token's label.
    pub region: String,
    /// Whether it has proven itself within the lease.
    pub ok: bool,
    /// The state of its gate, as of a signer's.
    pub state: String,
    /// Seconds in that state.
    pub for_s: u64,
    /// Why it is not open, for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The session in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionHealth {
    /// The key that signs.
    pub emergency_kid: String,
    /// RFC 3339: over from then on, at the latest.
    pub expires_at: String,
    /// Its name, for callers and operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The incident, for callers and operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The freeze under which it signs; everything else is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<FreezeId>,
    /// The signers that it stands in for; this and what follows is for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Vec<String>>,
    /// Seconds that are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Those of the signers whose own gate is open again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstreams_back: Option<Vec<String>>,
    /// Signatures that are left, as far as the emergency signer has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// Signatures of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_signatures: Option<u64>,
}

/// An incident that is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenIncident {
    /// Its name, for callers and operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

/// A freeze in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreezeInForce {
    /// Its name, which a break-glass request may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FreezeId>,
    /// The reason that the operator gave.
    pub reason: String,
    /// Who froze.
    pub by: String,
    /// RFC 3339: since when.
    pub since: String,
    /// Whether the fleet stops it, so that no operator of this proxy can end it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_fleet: bool,
}

/// `GET /readyz` and `/livez`. Nothing else is read as one: a health that cannot be read says `ok` too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Whether.
    pub ok: bool,
    /// What is not well on the proxy's own side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
