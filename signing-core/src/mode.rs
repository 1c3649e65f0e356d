//! With whose key a signature is made.

use serde::{Deserialize, Serialize};

/// The mode of a signature, in answers, records and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Through the signer's own upstream.
    Normal,
    /// With the emergency key of a break-glass session.
    Breakglass,
}

impl Mode {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Breakglass => "breakglass",
        }
    }
}
