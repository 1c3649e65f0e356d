//! What is known of a journal from elsewhere: how far it was on disk, and who says so. A tail that somebody
//! knows to have been on disk is no torn write, and is not cut; a journal that ends before that is refused.

use std::fmt;

use signing_core::journal::Head;
use signing_core::tree::{Checkpoint, LogId, TreeHash};

/// How far a journal was on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which log.
    pub log: LogId,
    /// How many of its records.
    pub size: u64,
    /// The root over all of them, if that is known.
    pub root: Option<TreeHash>,
    /// Who says so: `the state directory`.
    pub by: &'static str,
}

/// All that is known.
#[derive(Default)]
pub struct Claims<'c> {
    /// Known before the journal was read.
    pub known: Vec<Known>,
    /// Asked only if something would be cut: what the peer knows of that log, if it answers.
    pub ask: Option<&'c dyn Fn(LogId) -> Option<Known>>,
}

/// Not `LOG:SIZE:ROOT`, nor `LOG:SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be LOG:SIZE:ROOT or LOG:SIZE: 32 hex digits, a number, and 64 hex digits")]
pub struct NoKnownHead;

impl Known {
    /// What the state directory knows.
    #[must_use]
    pub const fn of_state((log, Head { size, root }): (LogId, Head)) -> Self {
        Self { log, size, root: Some(root), by: "the state directory" }
    }

    /// What the writer stated while it was idle: it needs nothing from elsewhere.
    #[must_use]
    pub(crate) const fn of_writer(stated: &Checkpoint) -> Self {
        let Checkpoint { log, size, root } = *stated;
        Self { log, size, root: Some(root), by: "the writer's own statement, the file durable," }
    }

    /// Reads `LOG:SIZE:ROOT`, as receipts and records name a head, or `LOG:SIZE`, as a sink names its position.
    ///
    /// # Errors
    /// [`NoKnownHead`].
    pub fn parse(text: &str, by: &'static str) -> Result<Self, NoKnownHead> {
        let mut parts = text.split(':');
        let (log, size, root) = (parts.next(), parts.next(), parts.next());
        let root = root.map(|root| TreeHash::parse(root).ok_or(NoKnownHead)).transpose()?;
        let log = log.and_then(LogId::parse).ok_or(NoKnownHead)?;
        let size = size.and_then(|size| size.parse().ok()).ok_or(NoKnownHead)?;
        parts.next().map_or(Ok(Self { log, size, root, by }), |_| Err(NoKnownHead))
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, size, root, by } = self;
        write!(f, "record {size} of log {log}")?;
        root.map_or(Ok(()), |root| write!(f, " with root {root}"))?;
        write!(f, " ({by} says so)")
    }
}

impl fmt::Debug for Claims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("known", &self.known).finish_non_exhaustive()
    }
}

impl From<Option<(LogId, Head)>> for Claims<'_> {
    fn from(state: Option<(LogId, Head)>) -> Self {
        Self { known: state.map(Known::of_state).into_iter().collect(), ask: None }
    }
}

impl Claims<'_> {
    /// The largest that is about that log.
    pub(crate) fn newest(&self, log: LogId) -> Option<&Known> {
        self.known.iter().filter(|known| known.log == log).max_by_key(|known| known.size)
    }
}
