//! A refusal, as far as a person needs it.

use serde::{Deserialize, Serialize};

/// Of problem+json (RFC 9457), and of a break-glass command that was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:signing-proxy:refusal:<reason>`, of problem+json.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Why, in a word.
    pub reason: String,
    /// Why and what to do, for a person.
    pub detail: String,
}
