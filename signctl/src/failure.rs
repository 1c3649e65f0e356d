//! Why there is no answer, or none that is good.

use std::fmt::Display;

/// Why there is no answer: one word for programs, one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word.
    pub reason: String,
    /// The sentence.
    pub detail: String,
}

impl Failure {
    /// That word, and that sentence.
    #[must_use]
    pub fn new(reason: impl Into<String>, detail: impl Display) -> Self {
        Self { reason: reason.into(), detail: detail.to_string() }
    }
}
