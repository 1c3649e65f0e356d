//! Incidents at the admin socket.

use serde::{Deserialize, Serialize};

use crate::incident::Item;

/// `POST /v1/incident/begin`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Its name.
    pub incident: String,
    /// What was seen, one line.
    pub reason: String,
}

/// `POST /v1/incident/captured`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// For which incident.
    pub incident: String,
    /// SHA-256 of the bundle's list of files, in lower-case hex.
    pub sha256: String,
    /// The parts that it lacks, by name, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// `POST /v1/incident/item`: what was done for a line of the runbook that only people know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// The section of the runbook, such as `5.2`.
    pub section: String,
    /// What was done and by whom, one line.
    pub detail: String,
    /// Whether the line is done with it.
    pub done: bool,
}

/// `POST /v1/incident/end`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// What was done, one line.
    pub reason: String,
    /// Whether it ends though something is left to do; that is recorded.
    #[serde(default)]
    pub unfinished: bool,
}

/// `GET /v1/incident`, and the answer to the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// The incident that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// The runbook over what the proxy knows.
    pub checklist: Vec<Item>,
    /// What is not as it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An incident that is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open {
    /// Its name.
    pub incident: String,
    /// What was seen.
    pub reason: String,
    /// Who began it.
    pub by: String,
    /// RFC 3339: since when.
    pub since: String,
    /// SHA-256 of the newest bundle's list of files, once the state was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<String>,
    /// The parts that this bundle lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}
