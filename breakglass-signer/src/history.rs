//! What happened before this start: out of the whole journal, which is the truth, and the
//! state directory, which knows what moved-away segments said.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use audit::TreeFile;
use audit::walk::{Stop, Walk, WalkStep};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use signing_core::journal::{Kind, Outline, PeerLogs};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What has to be known for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Nonces of requests that were activated, in hex.
    pub nonces: BTreeSet<String>,
    /// Keys whose destruction began, and that are refused: kids, and SHA-256 in hex.
    pub destroyed: BTreeSet<String>,
    /// How far the logs of proxies go, as far as this signer has seen.
    pub proxies: PeerLogs,
    /// Keys that a session used or whose destruction began, and when they have to be gone. One
    /// stays here until its file is gone and that is recorded.
    pub due: BTreeMap<String, Due>,
    /// Copies that the configuration named when a session began to use a key: each is to be destroyed with its
    /// key, also if the configuration names it no more.
    pub named: BTreeMap<String, BTreeSet<String>>,
    /// Keys whose file is gone, with copies of which nobody has attested that they are destroyed.
    pub copies: BTreeMap<String, Copies>,
}

/// Copies of a key, out of this process's reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copies {
    /// When they have to be destroyed.
    pub due: Due,
    /// Their names.
    pub left: BTreeSet<String>,
}

/// What only the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalSummary {
    /// The session that has no end.
    pub unended: Option<Unended>,
    /// When the oldest record was written.
    pub since: Option<OffsetDateTime>,
    /// The latest time that a record has, from the newest end of a seal on.
    pub latest: Option<OffsetDateTime>,
}

/// Why what happened before is not known.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal cannot be read.
    #[error("audit.dir: {0}")]
    Journal(#[from] Stop),
    /// The tree's nodes cannot be kept.
    #[error("state.dir: the nodes of the journal's tree cannot be written: {0}")]
    Tree(io::Error),
}

/// When a key has to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// RFC 3339.
    pub at: String,
    /// Whether it was recorded that this is over.
    pub told: bool,
}

/// A session that an earlier run did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unended {
    /// Its name.
    pub session: String,
    /// Its key.
    pub emergency_kid: String,
    /// Its incident.
    pub incident: String,
    /// Why there was it.
    pub justification: String,
    /// Signatures it made.
    pub signatures: u64,
}

impl Due {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        // What cannot be read was over long ago.
        OffsetDateTime::parse(&self.at, &Rfc3339).map_or(true, |at| now >= at)
    }
}

impl History {
    /// Adds what the journal in `directory` says; returns what only that knows. `tree` gets its records.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &mut self,
        directory: &Path,
        tree: Option<&TreeFile>,
    ) -> Result<JournalSummary, ReadError> {
        let mut walk = Walk::open(directory, 1)?;
        let mut summary = JournalSummary::default();
        let mut has_begun = false;
        loop {
            match walk.step()? {
                WalkStep::Record(place) => {
                    if let (Some(tree), Some(header)) = (tree, walk.header()) {
                        if !std::mem::replace(&mut has_begun, true) {
                            tree.begin(&header.frontier).map_err(ReadError::Tree)?;
                        }
                        tree.push(place.leaf.hash).map_err(ReadError::Tree)?;
                    }
                    if let Some((outline, kind)) = Outline::parse(walk.body(&place)) {
                        let at = OffsetDateTime::parse(&outline.at, &Rfc3339).ok();
                        summary.since = summary.since.or(at);
                        // Whoever ended a seal answered for the clock: what an earlier one said is over.
                        summary.latest =
                            if kind == Kind::Unseal { at } else { summary.latest.max(at) };
                        self.take(kind, &outline, &mut summary.unended);
                    }
                }
                WalkStep::Sealed(_) => {}
                WalkStep::End | WalkStep::TornWrite(_) => return Ok(summary),
            }
        }
    }

    fn take(&mut self, kind: Kind, outline: &Outline, unended: &mut Option<Unended>) {
        // Its form is checked by who verifies the journal; what cannot be read says nothing.
        let _ = self.proxies.hear_of_proxies(kind, outline);
        let text = |name| outline.text(name).unwrap_or_default().to_owned();
        if kind == Kind::SessionActivated {
            self.nonces.insert(text("nonce"));
            self.name_copies(&text("emergency_kid"), copies(outline));
            *unended = Some(Unended {
                session: text("session"),
                emergency_kid: text("emergency_kid"),
                incident: text("incident"),
                justification: text("justification"),
                signatures: 0,
            });
        } else if kind == Kind::EmergencySigned {
            if let Some(unended) = unended {
                unended.signatures += 1;
            }
        } else if kind == Kind::SessionEnded {
            let due = Due { at: text("destruction_due"), told: false };
            self.due.entry(text("emergency_kid")).or_insert(due);
            *unended = None;
        } else if kind == Kind::DestructionOverdue {
            if let Some(due) = self.due_of_mut(&text("emergency_kid")) {
                due.told = true;
            }
        } else if kind == Kind::KeyDestroyed {
            let kid = text("emergency_kid");
            self.refuse(&kid, &text("emergency_key_sha256"));
            self.gone(&kid, copies(outline).collect(), &outline.at);
        } else if kind == Kind::CopyDestroyed {
            self.attested(&text("emergency_kid"), &text("copy"));
        }
    }

    /// A key is refused from here on, for ever. It stays due: its file may still be there.
    pub fn refuse(&mut self, kid: &str, sha256: &str) {
        self.destroyed.extend([kid.to_owned(), sha256.to_owned()]);
    }

    /// A session uses a key that has these copies, and the record of that is on disk.
    pub fn name_copies(&mut self, kid: &str, copies: impl Iterator<Item = String>) {
        let mut copies = copies.peekable();
        if copies.peek().is_some() {
            self.named.entry(kid.to_owned()).or_default().extend(copies);
        }
    }

    /// A key's file is gone, and the record of that is on disk since `at`: what is due from here on are its
    /// copies.
    pub fn gone(&mut self, kid: &str, copies: BTreeSet<String>, at: &str) {
        let due = self.due_of(kid).cloned();
        let due = due.unwrap_or_else(|| Due { at: at.to_owned(), told: false });
        self.due.remove(kid);
        self.named.remove(kid);
        if !copies.is_empty() {
            self.copies.insert(kid.to_owned(), Copies { due, left: copies });
        }
    }

    /// Somebody attests that a copy is destroyed, and the record of that is on disk.
    pub fn attested(&mut self, kid: &str, copy: &str) {
        if let Some(copies) = self.copies.get_mut(kid) {
            copies.left.remove(copy);
            if copies.left.is_empty() {
                self.copies.remove(kid);
            }
        }
    }

    /// When a key, or the last of its copies, has to be destroyed.
    #[must_use]
    pub fn due_of(&self, kid: &str) -> Option<&Due> {
        self.due.get(kid).or_else(|| self.copies.get(kid).map(|copies| &copies.due))
    }

    /// The same, to note that it was told.
    pub fn due_of_mut(&mut self, kid: &str) -> Option<&mut Due> {
        let copies = self.copies.get_mut(kid).map(|copies| &mut copies.due);
        self.due.get_mut(kid).or(copies)
    }

    /// Every key that is due, or has copies that are.
    pub fn all_due(&self) -> impl Iterator<Item = (&String, &Due)> {
        let copies = self.copies.iter().map(|(kid, copies)| (kid, &copies.due));
        self.due.iter().chain(copies)
    }
}

/// The copies of a key that a record names.
fn copies(outline: &Outline) -> impl Iterator<Item = String> + '_ {
    let copies = outline.data.get("copies").and_then(Value::as_array).into_iter().flatten();
    copies.filter_map(Value::as_str).map(str::to_owned)
}
