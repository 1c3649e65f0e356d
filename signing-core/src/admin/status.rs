//! The status of a proxy: its health, and what only an operator sees beside that.

use serde::{Deserialize, Serialize};

use super::incident::Open;
use super::{Activity, FleetMember, Health};
use crate::breakglass::wire::KeyState;

/// `GET /v1/status`: both in one object. Whoever reads it reads each part by itself, so that neither takes a
/// list in the place of an object.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The health.
    #[serde(flatten)]
    pub health: Health,
    /// The rest.
    #[serde(flatten)]
    pub proxy: ProxyStatus,
}

/// What only an operator sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// The deployment.
    pub deployment: String,
    /// The program's version.
    pub version: String,
    /// Which configuration since the start is in force.
    pub config_generation: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// How long an outage has to last before break-glass.
    pub min_outage_s: u64,
    /// Requests in flight.
    pub requests_in_flight: usize,
    /// Connections of callers.
    pub connections: usize,
    /// The incident that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Open>,
    /// What was asked and answered since the start.
    #[serde(default)]
    pub activity: Activity,
    /// The journal.
    pub audit: JournalStatus,
    /// How it is in its fleet; none: it is of no fleet and holds no freeze of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetMember>,
    /// Of tokens, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
    /// Whether the emergency signer is connected, where one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_signer_connected: Option<bool>,
    /// Its keys, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_keys: Option<Vec<EmergencyKey>>,
    /// Why no session could begin there: one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency_cannot_arm: Vec<String>,
}

/// The journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalStatus {
    /// The log.
    pub log: String,
    /// How many records are on disk.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// The directory of the journal.
    pub directory: String,
    /// Records that wait to be written.
    #[serde(default)]
    pub queued: usize,
    /// Bytes that are kept for a full disk.
    pub set_aside_bytes: u64,
    /// How far the check of older segments is.
    pub older_segments: OlderSegments,
    /// Whether it waits for an operator.
    pub sealed: bool,
    /// Why nothing is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The check of segments before the newest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OlderSegments {
    /// So many are checked.
    pub checked: u64,
    /// Of so many.
    pub of: u64,
    /// What it waits for.
    pub waits: Option<String>,
}

/// The worker of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// The signer.
    pub signer_kid: String,
    /// The token's label.
    pub region: String,
    /// Whether it serves.
    pub up: bool,
    /// How often it was started anew.
    pub restarts: u64,
    /// How often it was killed, since it hung.
    pub hangs_killed: u64,
}

/// An emergency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmergencyKey {
    /// Its kid.
    pub kid: String,
    /// Whether it can be used.
    pub state: KeyState,
    /// RFC 3339: when it has to be destroyed, since a session used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_due: Option<String>,
    /// Whether that time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_overdue: Option<bool>,
    /// Its copies of which nobody has attested that they are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies_left: Vec<String>,
}
