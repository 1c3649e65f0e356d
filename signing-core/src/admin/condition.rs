//! How a component of the proxy's own side is.

use serde::{Deserialize, Serialize};

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    Ok,
    /// Callers get their signatures. An operator has to do something.
    Degraded,
    /// Callers cannot get signatures.
    Failed,
}

/// How one component is, and since when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// Of what, in a word.
    pub component: String,
    /// How it is.
    pub state: Level,
    /// RFC 3339: since when.
    pub since: String,
    /// What is wrong and what to do, for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Level {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}
