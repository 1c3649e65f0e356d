//! What is known of one member of a fleet: of a proxy, with its emergency signer. A report about one proxy
//! has one member, without a name.

use super::ceremony::Ceremony;
use super::health::Health;
use super::load::Load;

/// Whose journal a record is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Journal {
    Proxy,
    Signer,
}

impl Journal {
    /// Its name in a table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Signer => "emergency signer",
        }
    }
}

/// A member.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its name among the members; none: the report is about one proxy.
    pub(super) name: Option<String>,
    pub(super) deployment: String,
    /// The logs of its journals that were read.
    pub(super) logs: Vec<(Journal, String)>,
    pub(super) health: Health,
    pub(super) ceremony: Ceremony,
    pub(super) load: Load,
}

impl Member {
    /// A member of that name, of which nothing is known yet.
    pub(super) fn named(name: Option<String>) -> Self {
        Self { name, ..Self::default() }
    }

    /// Its name, as a cell of a table.
    pub(super) fn cell(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    /// Something of it, behind its name if it has one.
    pub(super) fn of(&self, what: &str) -> String {
        self.name.as_ref().map_or_else(|| what.to_owned(), |name| format!("{name}: {what}"))
    }
}
