//! The records of a member of a fleet. Fields stand in the order of their names.

use serde::Serialize;

use super::Approved;

/// A freeze that the whole fleet obeys was obeyed here.
#[derive(Clone, Debug, Serialize)]
pub struct FleetFreeze<'r> {
    /// Who ordered it, as whoever presented it says.
    pub by: &'r str,
    /// Its id.
    pub freeze_id: String,
    /// Who presented it: a peer of the admin socket.
    pub presented_by: &'r str,
    /// The reason that was given with it.
    pub reason: &'r str,
}

/// Freezes of the fleet are about to end here, by a statement that was verified; they end once this is
/// on disk.
#[derive(Clone, Debug, Serialize)]
pub struct FleetUnfreeze<'r> {
    /// Who signed.
    pub approved: Approved<'r>,
    /// The freezes that the statement names.
    pub ends: Vec<String>,
    /// RFC 3339: it counts until then.
    pub expires_at: &'r str,
    /// Who presented it: a peer of the admin socket.
    pub presented_by: &'r str,
    /// Why signing is safe again.
    pub reason: &'r str,
    /// The signature, armored.
    pub signature: &'r str,
    /// Base64 of the statement.
    pub statement_b64: &'r str,
}

/// What this member hears of its fleet changed.
#[derive(Clone, Debug, Serialize)]
pub struct FleetLink<'r> {
    /// The fleet's name.
    pub fleet: &'r str,
    /// `joined`: it was read for the first time, and signing may begin once this is on disk. `lost`: it
    /// was not heard within the lease. `heard`: it was heard again.
    pub state: &'r str,
}
