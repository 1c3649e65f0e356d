//! What the proxy says of an outage: a claim, which the approvers attest beside it (I11).

use serde::{Deserialize, Serialize};

/// How long a signer has been out, as the proxy saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageClaim {
    /// Which signer.
    pub signer_kid: String,
    /// RFC 3339: when the outage clock began.
    pub since: String,
    /// What it shows: pauses do not count.
    pub seconds: u64,
}
