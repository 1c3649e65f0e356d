//! What callers asked for and what upstreams answered, counted since the start. Whoever asks twice knows the rates.

use serde::{Deserialize, Serialize};

/// A part of the status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Activity {
    /// Signatures that left.
    pub signed: u64,
    /// Requests to sign that were refused, by reason; a reason that never occurred is left out.
    pub refused: Vec<RefusedFor>,
    /// Calls to each upstream, canaries included.
    pub upstreams: Vec<UpstreamCalls>,
}

/// Refusals for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFor {
    /// The reason, in a word.
    pub reason: String,
    /// The number of refusals with this reason.
    pub count: u64,
}

/// Calls to one upstream of a signer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamCalls {
    /// The signer.
    pub signer_kid: String,
    /// The provider.
    pub upstream: String,
    /// The region, or the token's label.
    pub region: String,
    /// Calls that were answered with a signature.
    pub signed: u64,
    /// Calls that failed, throttled ones included.
    pub failed: u64,
    /// Calls that the upstream throttled.
    pub throttled: u64,
    /// Percent of the configured quota that is left now, where a quota is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_left_percent: Option<u8>,
}
