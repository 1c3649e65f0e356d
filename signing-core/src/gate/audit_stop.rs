//! The stop that the journal causes: without a record nothing is signed.

use crate::moment::Moment;

/// Why the journal records nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditStop {
    /// Whether an operator has to end it.
    pub sealed: bool,
    /// What was seen, for an operator.
    pub detail: String,
    /// Since when.
    pub since: Moment,
}

impl AuditStop {
    /// What a caller is told: not where the journal lies.
    #[must_use]
    pub const fn sentence(&self) -> &'static str {
        if self.sealed {
            "the journal is sealed: an operator has to look into it and run `signctl unseal --audit`"
        } else {
            "the journal cannot record now, and nothing is signed without a record"
        }
    }
}
