//! Connections of the data plane that were reset, by reason.

use metrics::Counter;

use super::Make;
use super::names::CONNECTIONS_RESET;

/// Why a connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// Its client did not take what was there for it.
    Unread,
    /// A freeze, a seal, the end of a session or a reload: something released before had not arrived.
    Stop,
    /// A reload: its client would not be let in any more.
    NotLetIn,
    /// The process stops.
    Drain,
}

/// The counters.
pub struct Resets([(ResetReason, Counter); 4]);

impl Resets {
    pub(super) fn new(make: &Make<'_>) -> Self {
        let all =
            [ResetReason::Unread, ResetReason::Stop, ResetReason::NotLetIn, ResetReason::Drain];
        Self(all.map(|why| (why, make.counter(CONNECTIONS_RESET, &[("reason", why.word())]))))
    }

    /// Counts so many.
    pub fn count(&self, why: ResetReason, connections: usize) {
        if let Some((_, counter)) = self.0.iter().find(|(reason, _)| *reason == why) {
            counter.increment(connections as u64);
        }
    }
}

impl ResetReason {
    fn word(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Stop => "stop",
            Self::NotLetIn => "not_let_in",
            Self::Drain => "drain",
        }
    }
}
