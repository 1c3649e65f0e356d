//! Commands that change whether the proxy signs, and what became of them.

use serde::{Deserialize, Serialize};

use crate::FreezeId;

/// `POST /v1/reload`, `/v1/doctor`: there is nothing to say.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Nothing {}

/// `POST /v1/freeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why; callers and records see it.
    pub reason: String,
}

/// `POST /v1/unfreeze`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfreeze {
    /// Why signing is safe again; recorded.
    pub reason: String,
}

/// What became of a freeze, or of its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Frozen {
    /// Whether a freeze is in force now.
    pub frozen: bool,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FreezeId>,
    /// Connections that a freeze reset, since their clients had not read what was signed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_cut: Option<usize>,
    /// What is not as it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `POST /v1/unseal`: either a signer, or the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// That signer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_kid: Option<String>,
    /// The journal.
    #[serde(default)]
    pub audit: bool,
    /// What was found and done.
    pub reason: String,
}

/// What became of an unseal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Unsealed {
    /// Whether the seal has ended.
    pub unsealed: bool,
    /// Of that signer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_kid: Option<String>,
    /// Of the journal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
    /// What is not as it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a reload did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// True.
    pub reloaded: bool,
    /// Which configuration since the start is in force.
    pub generation: u64,
    /// SHA-256 of the registry in force, in hex: of what `GET /v1/signers` answers.
    #[serde(default)]
    pub registry_sha256: String,
    /// The signers with other rules than before.
    pub signers_touched: Vec<String>,
    /// Connections that were reset.
    pub connections_cut: usize,
}
