//! What `signctl breakglass unlock` and the signer say to each other over `operator.sock`. The
//! peer sends one frame, the length as in the proxy's frames and then the passphrase
//! itself, never in JSON; the signer answers one frame of JSON and closes.

use serde::{Deserialize, Serialize};

/// Longest passphrase.
pub const PASSPHRASE_MAX_BYTES: usize = 1024;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlocked {
    /// Whether the passphrase waits to be used.
    pub unlocked: bool,
    /// What to do next, or why not.
    pub detail: String,
    /// How long it waits, in seconds.
    pub waits_s: u64,
}
