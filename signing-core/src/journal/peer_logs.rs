//! The logs of the other process that this one knows, by instance and log, as its own journal tells them: a
//! proxy knows those of emergency signers, and an emergency signer those of proxies. One whose log does not
//! go on from there was put back to an older state, or is another one.

use serde::{Deserialize, Serialize};

use super::head::Head;
use super::record::{Kind, Outline};
use crate::tree::{Checkpoint, ExtensionError, LogId, TreeHash, verify_extension};

/// So many are known; for one more the one that was seen first is forgotten, and unknown from then on.
const KNOWN_MAX: usize = 8;

/// A log of the other process, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stated", into = "Stated")]
pub struct PeerLog {
    /// Whose: SHA-256 of the DER of its audit public key, in hex.
    pub instance: String,
    /// Which log.
    pub log: LogId,
    /// How far it went.
    pub head: Head,
}

/// The logs that are known, the one that was heard of last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerLogs(Vec<PeerLog>);

/// A known log in the signer's state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    head: String,
    instance: String,
}

/// Why a log is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// None was known before.
    First,
    /// It is shown to go on from what was known.
    Extends,
    /// An operator accepted it.
    Accepted,
}

/// Why a log is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// It is not shown to go on from what is known.
    #[error("its log does not go on from the one that is known here: {0}")]
    Extension(#[from] ExtensionError),
    /// No proof came.
    #[error("its log is not shown to go on from the one that is known here, which had {0} records")]
    NoProof(u64),
    /// The log is new here, and others are known.
    #[error("its log {log} of {size} records is not one that is known here")]
    Unknown {
        /// The log's 16 random bytes.
        log: LogId,
        /// How many records it has.
        size: u64,
    },
}

impl Acceptance {
    /// Its word in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Extends => "extends",
            Self::Accepted => "accepted",
        }
    }
}

impl PeerLog {
    /// `log:size:root`, as records embed it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}:{}:{}", self.log, self.head.size, self.head.root)
    }

    fn parse(instance: &str, text: &str) -> Option<Self> {
        let is_instance = instance.len() == 64 && TreeHash::parse(instance).is_some();
        let (log, head) = head_of(text)?;
        let known = Self { instance: instance.to_owned(), log, head };
        (is_instance && known.to_text() == text).then_some(known)
    }
}

/// Reads `log:size:root`.
fn head_of(text: &str) -> Option<(LogId, Head)> {
    let mut parts = text.split(':');
    let (log, size, root) = (parts.next()?, parts.next()?, parts.next()?);
    let head = Head { size: size.parse().ok()?, root: TreeHash::parse(root)? };
    parts.next().is_none().then_some((LogId::parse(log)?, head))
}

impl TryFrom<Stated> for PeerLog {
    type Error = &'static str;

    fn try_from(Stated { head, instance }: Stated) -> Result<Self, Self::Error> {
        Self::parse(&instance, &head).ok_or("a known log is no head of a journal")
    }
}

impl From<PeerLog> for Stated {
    fn from(log: PeerLog) -> Self {
        Self { head: log.to_text(), instance: log.instance }
    }
}

impl PeerLogs {
    /// What is known of that log, whoever signed it: an audit key that was renewed goes on with a log.
    #[must_use]
    pub fn of_log(&self, log: LogId) -> Option<&PeerLog> {
        let of_log = self.0.iter().filter(|known| known.log == log);
        of_log.max_by_key(|known| known.head.size)
    }

    /// What was known last of that instance, or of that log, or of any: what an unknown one is held against.
    #[must_use]
    pub fn nearest(&self, instance: &str, log: LogId) -> Option<&PeerLog> {
        let of_instance = || self.0.iter().rev().find(|known| known.instance == instance);
        self.of_log(log).or_else(of_instance).or_else(|| self.0.last())
    }

    /// Whether a log that `newest` states is believed, by the proof that it goes on from `known`, which
    /// [`Self::of_log`] gave when the proof was asked for. Who signed it is checked elsewhere.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn judge(
        &self,
        newest: &Checkpoint,
        path: Option<&[TreeHash]>,
    ) -> Result<Acceptance, NotBelieved> {
        match self.of_log(newest.log) {
            Some(PeerLog { head, .. }) if newest.size < head.size => {
                Err(ExtensionError::Shorter { known: head.size, found: newest.size }.into())
            }
            Some(PeerLog { head, .. }) => {
                let path = path.ok_or(NotBelieved::NoProof(head.size))?;
                verify_extension((head.size, head.root), newest, path)?;
                Ok(Acceptance::Extends)
            }
            None if self.0.is_empty() => Ok(Acceptance::First),
            None => Err(NotBelieved::Unknown { log: newest.log, size: newest.size }),
        }
    }

    /// Knows that log from now on. One that was accepted takes the place of what was known of that
    /// instance and of that log: what is put back to before is not believed again.
    pub fn learn(&mut self, new: PeerLog, how: Acceptance) {
        let is_replaced = |old: &PeerLog| {
            let (same_instance, same_log) = (old.instance == new.instance, old.log == new.log);
            match how {
                Acceptance::Accepted => same_instance || same_log,
                Acceptance::First | Acceptance::Extends => same_instance && same_log,
            }
        };
        self.0.retain(|old| !is_replaced(old));
        self.0.push(new);
        let over = self.0.len().saturating_sub(KNOWN_MAX);
        self.0.drain(..over);
    }

    /// Whether a log of that instance is known.
    #[must_use]
    pub fn has_of(&self, instance: &str) -> bool {
        self.0.iter().any(|known| known.instance == instance)
    }

    /// Hears that a log which is known has come so far, from the one whose log it is.
    pub fn advance(&mut self, log: LogId, head: Head) {
        let of_log = self.0.iter_mut().filter(|known| known.log == log);
        let newest = of_log.max_by_key(|known| known.head.size);
        if let Some(known) = newest.filter(|known| known.head.size < head.size) {
            known.head = head;
        }
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What both know together; of one log of one instance, what `other` knows.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        other.0.into_iter().for_each(|known| self.learn(known, Acceptance::Extends));
        self
    }

    /// Hears a `signer_log` record. None if its fields cannot be read.
    #[must_use]
    pub(super) fn hear(&mut self, outline: &Outline) -> Option<()> {
        self.hear_of(outline, ["signer_instance", "signer_head"])
    }

    /// Hears what an emergency signer's journal says of proxies: a `proxy_log` record, or the head of a
    /// known log in another one. None if its fields cannot be read.
    #[must_use]
    pub fn hear_of_proxies(&mut self, kind: Kind, outline: &Outline) -> Option<()> {
        if kind == Kind::ProxyLog {
            return self.hear_of(outline, ["proxy_instance", "proxy_head"]);
        }
        if matches!(kind, Kind::SessionActivated | Kind::EmergencySigned) {
            let (log, head) = head_of(outline.text("proxy_head")?)?;
            self.advance(log, head);
        }
        Some(())
    }

    fn hear_of(&mut self, outline: &Outline, [instance, head]: [&str; 2]) -> Option<()> {
        let how = [Acceptance::First, Acceptance::Extends, Acceptance::Accepted];
        let how = how.into_iter().find(|how| outline.text("how") == Some(how.word()))?;
        self.learn(PeerLog::parse(outline.text(instance)?, outline.text(head)?)?, how);
        Some(())
    }

    /// The form that `start` and `segment` records tell it in.
    pub(super) fn snapshot(&self) -> Vec<KnownLog> {
        let known = self.0.iter();
        known
            .map(|log| KnownLog {
                signer_head: log.to_text(),
                signer_instance: log.instance.clone(),
            })
            .collect()
    }

    /// Reads what [`Self::snapshot`] gave.
    pub(super) fn from_snapshot(outline: &Outline) -> Option<Self> {
        let Some(told) = outline.data.get("signer_logs") else { return Some(Self::default()) };
        let known = told.as_array()?.iter().map(|known| {
            let known = KnownLog::deserialize(known).ok()?;
            PeerLog::parse(&known.signer_instance, &known.signer_head)
        });
        Some(Self(known.collect::<Option<_>>()?))
    }
}

/// A known log in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownLog {
    /// `log:size:root`.
    pub signer_head: String,
    /// The instance of the emergency signer whose log this is.
    pub signer_instance: String,
}
