//! What the doctor found: for each upstream every check.

use serde::{Deserialize, Serialize};

use super::Condition;

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The endpoint's name.
    Dns,
    /// A connection to it.
    Tcp,
    /// Its certificate.
    Tls,
    /// Our clock beside its own.
    Clock,
    /// Who we are, to it.
    Credentials,
    /// The key, and whether it is the registered one.
    Key,
    /// A canary.
    Signature,
    /// Whether requests are let through to it.
    Gate,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    Ok,
    /// It is not.
    Failed,
    /// It signs, but not for long, or not everywhere.
    Warning,
    /// There is no such thing here.
    NotApplicable,
    /// Not looked at, since something before it failed.
    Skipped,
}

/// `POST /v1/doctor`: all upstreams, and the proxy's own side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether every upstream signed a canary, and nothing is wrong on the proxy's own side.
    pub ok: bool,
    /// One for each signer.
    pub signers: Vec<Signs>,
    /// One for each upstream of each signer.
    pub upstreams: Vec<Examined>,
    /// One for each component.
    pub conditions: Vec<Condition>,
}

/// Whether the next request of a signer is signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signs {
    /// The signer.
    pub signer_kid: String,
    /// Whether.
    pub signs: bool,
}

/// One upstream of one signer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Examined {
    /// The signer.
    pub signer_kid: String,
    /// The provider.
    pub provider: String,
    /// The region, or the token's label.
    pub region: String,
    /// Whether it signed a canary and nothing failed.
    pub ok: bool,
    /// Every check, in order.
    pub checks: Vec<Checked>,
}

/// One check that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// The step on the way to the upstream.
    pub check: Check,
    /// What it came to.
    pub state: State,
    /// What was found, and what to do.
    pub detail: String,
}

impl Check {
    /// Every check, in order.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Clock,
        Self::Credentials,
        Self::Key,
        Self::Signature,
        Self::Gate,
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Clock => "clock",
            Self::Credentials => "credentials",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Gate => "gate",
        }
    }
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::NotApplicable => "not_applicable",
            Self::Skipped => "skipped",
        }
    }
}
