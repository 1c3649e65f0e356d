//! An incident: the name that people give it, what the proxy keeps of it, and what is left to do.

mod checklist;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use checklist::{ASKED, Facts, Item, PARTS, State, checklist, left};

/// Names an incident: `INC-42`. It stands in records, in file names and on a command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(String);

/// A text that names no incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an incident is named by 1 to {ID_MAX_BYTES} characters out of A-Z a-z 0-9 . _ -, the first a letter or a \
     digit, such as INC-42, not {0:?}"
)]
pub struct NoIncidentId(String);

/// Longest name.
const ID_MAX_BYTES: usize = 64;

impl IncidentId {
    /// Reads it.
    ///
    /// # Errors
    /// [`NoIncidentId`].
    pub fn parse(text: &str) -> Result<Self, NoIncidentId> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if begins && text.len() <= ID_MAX_BYTES && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoIncidentId(text.chars().take(ID_MAX_BYTES).collect()))
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.0
    }
}

impl TryFrom<String> for IncidentId {
    type Error = NoIncidentId;

    fn try_from(text: String) -> Result<Self, NoIncidentId> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_a_file_name_and_is_no_option() {
        for good in ["INC-42", "7", "a.b_c-D", &"x".repeat(64)] {
            assert_eq!(IncidentId::parse(good).unwrap().as_str(), good);
        }
        for odd in ["", "-x", ".x", "a/b", "a b", "INC-42\n", "\u{e9}", &"x".repeat(65)] {
            assert!(IncidentId::parse(odd).is_err(), "{odd:?}");
        }
    }
}
