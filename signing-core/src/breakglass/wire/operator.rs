//! What `signctl breakglass` and the signer say to each other over `operator.sock`, past the proxy.
//! The peer sends one frame, the signer answers one of JSON and closes.
//!
//! A frame with a passphrase is the length as in the proxy's frames and then the passphrase itself,
//! never in JSON; [`Unlocked`] answers it. Where [`NO_PASSPHRASE`] stands in place of that length, an
//! [`Ask`] follows as a frame of the proxy's form; an [`super::Answer`] with the id 0 answers it. After
//! [`Ask::Open`] comes the frame with the passphrase.

use serde::{Deserialize, Serialize};

use super::Attested;

/// Longest passphrase.
pub const PASSPHRASE_MAX_BYTES: usize = 1024;
/// Said in place of a passphrase's length: an [`Ask`] follows.
pub const NO_PASSPHRASE: u32 = 0;

/// What an operator may ask. Who asks is what the kernel says, so nothing here says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// How are you? Answered by `status`.
    Status {},
    /// What does your clock show? Answered by `clock`.
    Clock {},
    /// Open an emergency key once, prove that it is the registered one, and wipe it: nothing is armed, and
    /// nothing is signed. A frame with the passphrase follows. Answered by `opened`, or `refused`.
    Open {
        /// Which key.
        emergency_kid: String,
    },
    /// End the session in force, whoever activated it. Answered by `ended`, or `refused`.
    End {
        /// Why, one line.
        reason: String,
    },
    /// End the signer's seal. Answered by `unsealed`, or `refused`.
    Unseal {
        /// What was found and done, one line.
        reason: String,
    },
    /// Accept the proxy that is refused for its log. Answered by `accepted_proxy`, or `refused`.
    AcceptProxy {
        /// What was found and done, one line.
        reason: String,
    },
    /// Destroy an emergency key that no session uses, due or not. Answered by `destroyed`, or
    /// `refused`.
    Destroy {
        /// Which key.
        emergency_kid: String,
        /// Why, one line.
        reason: String,
        /// Copies of it of which somebody attests that they are destroyed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attested: Vec<Attested>,
    },
}

/// The answer to a passphrase.
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
