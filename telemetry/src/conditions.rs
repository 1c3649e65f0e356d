//! The proxy's own side: what else than an upstream can keep callers or operators away. Each
//! component has one condition, which health, status, the doctor, the log and a metric show.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use host::clock::rfc3339_seconds;
use signing_core::admin;
use time::OffsetDateTime;

pub use signing_core::admin::Level;

/// Who reads it: on the unauthenticated listener, no incident text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Anyone who reaches the listener.
    Anonymous,
    /// A caller with a client certificate.
    Caller,
    /// An operator on the admin socket.
    Operator,
}

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
    /// The word of the fleet, where one is configured.
    Fleet,
    /// The sink of the trail without which nothing is released, where one is required.
    RequiredTrail,
    /// Where log lines go.
    Log,
    /// The files of `[server.tls]` that are there now.
    TlsFiles,
    /// The newest reload of the configuration.
    Reload,
    /// The wall clock.
    Clock,
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

/// The conditions in force, which the proxy writes every second.
#[derive(Debug, Default)]
pub struct Conditions {
    all: ArcSwap<Vec<Condition>>,
    /// Why nobody reaches the admin socket through its path.
    admin_socket_lost: ArcSwapOption<String>,
}

impl Component {
    /// Every component, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::ServerCertificate,
        Self::ClientAuthorities,
        Self::RevocationLists,
        Self::AdminSocket,
        Self::EmergencySigner,
        Self::Fleet,
        Self::RequiredTrail,
        Self::Log,
        Self::TlsFiles,
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
            Self::Fleet => "fleet",
            Self::RequiredTrail => "required_trail",
            Self::Log => "log",
            Self::TlsFiles => "tls_files",
            Self::Reload => "reload",
            Self::Clock => "clock",
        }
    }
}

impl Conditions {
    /// The condition of every component.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Condition>> {
        self.all.load_full()
    }

    /// Puts the condition of every component in force.
    pub fn set(&self, all: Vec<Condition>) {
        self.all.store(Arc::new(all));
    }

    /// Says that nobody reaches the admin socket through its path, and why; None: they do.
    pub fn admin_socket_lost(&self, why: Option<String>) {
        self.admin_socket_lost.store(why.map(Arc::new));
    }

    /// Why nobody reaches the admin socket through its path.
    #[must_use]
    pub fn why_admin_socket_lost(&self) -> Option<Arc<String>> {
        self.admin_socket_lost.load_full()
    }
}

/// The first component that keeps callers from signatures.
pub(crate) fn first_failed(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.level == Level::Failed)
}

/// What is not well, as answers show it: without details for readers that nobody vouches for,
/// since a detail names files and what operators wrote.
pub(crate) fn not_ok(conditions: &[Condition], reader: Reader) -> Vec<admin::Condition> {
    let bad = conditions.iter().filter(|condition| condition.level != Level::Ok);
    bad.map(|condition| condition.message(reader)).collect()
}

impl Condition {
    /// As answers show it.
    #[must_use]
    pub fn message(&self, reader: Reader) -> admin::Condition {
        let is_told = reader == Reader::Operator && !self.detail.is_empty();
        admin::Condition {
            component: self.component.word().to_owned(),
            state: self.level,
            since: rfc3339_seconds(self.since),
            detail: is_told.then(|| self.detail.clone()),
        }
    }
}
