//! A drill, and what it showed.

use serde::{Deserialize, Serialize};

/// `POST /v1/drill`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Which signer; needed if there are several.
    pub signer_kid: Option<String>,
    /// How long the fault lasts.
    pub seconds: Option<u64>,
    /// Callers of a real key are refused meanwhile, and that is meant.
    #[serde(default)]
    pub i_understand: bool,
}

/// What a drill showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrillReport {
    /// Whether it held.
    pub ok: bool,
    /// The signer.
    pub signer_kid: String,
    /// Signatures that left while the fault lasted.
    pub slipped: u64,
    /// How long after the fault began it refused; null: never.
    pub time_to_refuse_ms: Option<u64>,
    /// How long after the fault ended it signed; null: never.
    pub time_to_recover_ms: Option<u64>,
}
