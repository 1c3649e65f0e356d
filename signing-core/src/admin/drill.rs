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
    /// Instead: record that a break-glass ceremony is rehearsed. Nothing fails then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
}

/// That a break-glass ceremony is rehearsed, or was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// At its end: whether every step was as it has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// What it is, or what it came to: one line.
    pub detail: String,
    /// At its end: who approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
}

/// A rehearsal is in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RehearsalRecorded {
    /// True.
    pub recorded: bool,
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
