//! Whether a journal is there, for whoever looks before anything is started.

use std::io;
use std::path::Path;

use crate::scan::segments;

/// What a look at the directory shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whether there is one; none: whoever looks may not read the directory.
    pub is_there: Option<bool>,
    /// The same for a person, with what to do.
    pub detail: String,
}

impl Presence {
    /// Looks; `init` is the command that makes one. Nothing of it is read: a start finds what is wrong.
    #[must_use]
    pub fn inspect(directory: &Path, init: &str) -> Self {
        let shown = directory.display();
        match segments(directory) {
            Ok(found) if !found.is_empty() => {
                let count = found.len();
                let noun = if count == 1 { "segment" } else { "segments" };
                Self { is_there: Some(true), detail: format!("{shown} has one, of {count} {noun}") }
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Self {
                is_there: None,
                detail: format!(
                    "whether there is one in {shown} is not known: {error}; run check as root or as the \
                     user of the process"
                ),
            },
            Ok(_) | Err(_) => Self {
                is_there: Some(false),
                detail: format!(
                    "there is no journal in {shown}, and nothing is served without a journal; if there never \
                     was a journal, make it: {init}; if there was, restore it"
                ),
            },
        }
    }
}
