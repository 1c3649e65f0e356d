//! The proxy's own side: what else than an upstream can keep callers or operators away. Each
//! component has one condition, which health, status, the doctor, the log and a metric show.

mod judge;
mod watch;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use host::clock::rfc3339;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::health::Reader;
use crate::json::put;

pub use watch::{Sources, watch, watch_socket};

/// What has a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The certificate that the data plane shows to callers.
    ServerCertificate,
    /// The authorities whose certificates callers may show.
    ClientAuthorities,
    /// The lists that say which of these certificates are revoked.
    RevocationLists,
    /// The socket through which operators freeze.
    AdminSocket,
    /// The process that holds the emergency key, where one is configured.
    EmergencySigner,
    /// Where log lines go.
    Log,
    /// The newest reload of the configuration.
    Reload,
    /// The wall clock.
    Clock,
}

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok,
    /// Callers get their signatures. An operator has to do something.
    Degraded,
    /// Callers cannot get signatures.
    Failed,
}

/// How one component is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Of what.
    pub component: Component,
    /// How it is.
    pub level: Level,
    /// What is wrong and what to do about it; empty while all is well.
    pub detail: String,
    /// Since when it has been on this level.
    pub since: OffsetDateTime,
}

/// The conditions in force, written by [`watch()`] every second.
#[derive(Debug, Default)]
pub struct Conditions {
    all: ArcSwap<Vec<Condition>>,
    /// Why nobody reaches the admin socket through its path.
    admin_socket_lost: ArcSwapOption<String>,
}

impl Component {
    /// Every component, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::ServerCertificate,
        Self::ClientAuthorities,
        Self::RevocationLists,
        Self::AdminSocket,
        Self::EmergencySigner,
        Self::Log,
        Self::Reload,
        Self::Clock,
    ];

    /// Its word in answers, log lines and metric labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server_certificate",
            Self::ClientAuthorities => "client_authorities",
            Self::RevocationLists => "revocation_lists",
            Self::AdminSocket => "admin_socket",
            Self::EmergencySigner => "emergency_signer",
            Self::Log => "log",
            Self::Reload => "reload",
            Self::Clock => "clock",
        }
    }
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

impl Conditions {
    /// The condition of every component.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Condition>> {
        self.all.load_full()
    }

    /// Says that nobody reaches the admin socket through its path, and why; None: they do.
    pub fn admin_socket_lost(&self, why: Option<String>) {
        self.admin_socket_lost.store(why.map(Arc::new));
    }
}

/// The first component that keeps callers from signatures.
pub(crate) fn first_failed(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.level == Level::Failed)
}

/// What is not well, as answers show it: without details for readers that nobody vouches for,
/// since a detail names files and what operators wrote.
pub(crate) fn not_ok(conditions: &[Condition], reader: Reader) -> Value {
    let bad = conditions.iter().filter(|condition| condition.level != Level::Ok);
    bad.map(|condition| one(condition, reader)).collect()
}

/// Every condition, with all that is known: for operators.
pub(crate) fn to_json(conditions: &[Condition]) -> Value {
    conditions.iter().map(|condition| one(condition, Reader::Operator)).collect()
}

fn one(condition: &Condition, reader: Reader) -> Value {
    let mut body = json!({
        "component": condition.component.word(),
        "state": condition.level.word(),
        "since": rfc3339(condition.since),
    });
    if reader == Reader::Operator && !condition.detail.is_empty() {
        put(&mut body, "detail", &condition.detail);
    }
    body
}
