//! Records of an incident. Fields stand in the order of their names.

use serde::Serialize;

/// Somebody began an incident: the proxy names it until it ends.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentBegun<'r> {
    /// The user at the admin socket.
    pub by: &'r str,
    /// Its name.
    pub incident: &'r str,
    /// What was seen.
    pub reason: &'r str,
}

/// The state was captured into a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentCaptured<'r> {
    /// The user at the admin socket.
    pub by: &'r str,
    /// For which incident.
    pub incident: &'r str,
    /// The parts that the bundle lacks, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<&'r str>,
    /// SHA-256 of the bundle's `SHA256SUMS`, in hex: it names every file with its own.
    pub sha256: &'r str,
}

/// Somebody says of a line of the runbook what was done.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentItem<'r> {
    /// Who changed the item.
    pub by: &'r str,
    /// What was done, and by whom.
    pub detail: &'r str,
    /// Whether the line is done with it.
    pub done: bool,
    /// Of which incident.
    pub incident: &'r str,
    /// The section of the runbook.
    pub section: &'r str,
}

/// Somebody ends an incident; it ends once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentEnded<'r> {
    /// The user at the admin socket.
    pub by: &'r str,
    /// The incident's name.
    pub incident: &'r str,
    /// The sections of the runbook that the proxy saw were not done.
    pub left: Vec<&'r str>,
    /// What was done.
    pub reason: &'r str,
}
