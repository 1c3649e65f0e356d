//! What this proxy knows of the emergency signer's log, and whether a signer is believed (I7): its log has
//! to go on from there, by a checkpoint of its audit key and a proof. What is known is in this proxy's own
//! journal, so that a restart forgets nothing; dying before a record of it is on disk leaves what was known
//! before, which is still a beginning of the signer's log.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit::{Journal, TreeFile};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::admin::breakglass::RefusedSigner;
use signing_core::breakglass::wire::{self, Extends, JournalHead, Show, Shown};
use signing_core::breakglass::{ProxyReason, Refused};
use signing_core::journal::{
    Acceptance, AuditKeys, Head, KeyId, PeerLog, PeerLogs, Record, SignerLogRecord,
};
use signing_core::tree::{LogId, SignedCheckpoint};

/// After so many records the signer is shown again that this log goes on, so that less has to be kept for it.
const SHOWN_AGAIN_AFTER: u64 = 1 << 20;
/// Who records what no operator asked for.
const OURSELVES: &str = "this proxy";

/// The logs that are known. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Journal,
    /// What shows the signer that this log goes on.
    tree: Option<TreeFile>,
    /// How many records of it the signer is known to know.
    known_there: AtomicU64,
    keys: AuditKeys,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: PeerLogs,
    /// The newest that is known is not in the journal yet.
    is_unrecorded: bool,
    /// What the signer that is believed showed last.
    newest: Option<SignedCheckpoint>,
    refused: Option<RefusedLog>,
}

/// A signer that is refused for its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLog {
    /// What it showed, signed by its audit key.
    pub shown: PeerLog,
    /// What was known, of this log or what comes nearest to it.
    pub known: Option<PeerLog>,
    /// Why it is refused.
    pub why: String,
}

/// Whom a connection is with, as it says; what it shows has to be signed by that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    instance: String,
    key: KeyId,
    log: LogId,
}

impl Peer {
    /// Whom `state` names.
    ///
    /// # Errors
    /// What it names is no signer.
    pub(super) fn of(state: &wire::State) -> Result<Self, String> {
        let der = STANDARD.decode(&state.audit_public_key);
        let der = der.map_err(|_| "its audit key is not base64".to_owned())?;
        let hash = digest::digest(&digest::SHA256, &der);
        if hex::encode(hash.as_ref()) != state.instance {
            return Err("its instance is not the one of its audit key".to_owned());
        }
        let id = hash.as_ref().first_chunk().ok_or("its audit key has no name")?;
        let (log, _) = state.head.parse().ok_or("its head is no head of a journal")?;
        Ok(Self { instance: state.instance.clone(), key: KeyId::new(*id), log })
    }

    /// Which log it says that it writes.
    pub(super) const fn log(&self) -> LogId {
        self.log
    }
}

impl Heads {
    /// What `known`, out of the journal, says; checkpoints are signed by one of `keys`.
    #[must_use]
    pub fn new(journal: Journal, tree: Option<TreeFile>, keys: AuditKeys, known: PeerLogs) -> Self {
        let state = State { known, is_unrecorded: false, newest: None, refused: None };
        let known_there = AtomicU64::new(0);
        Self(Arc::new(Shared { journal, tree, known_there, keys, state: Mutex::new(state) }))
    }

    /// From which size on a signer of that log has to show that it goes on.
    pub(super) fn known_size(&self, log: LogId) -> u64 {
        self.lock().known.of_log(log).map_or(0, |known| known.head.size)
    }

    /// Hears what a signer shows when asked from `asked` on. None: another answer came in between, and
    /// this one says nothing.
    ///
    /// # Errors
    /// Why the signer is not believed, and what to do.
    pub(super) fn hear(
        &self,
        peer: &Peer,
        asked: u64,
        answer: &Extends,
    ) -> Result<Option<Head>, String> {
        let Shown { checkpoint, path } =
            answer.parse().ok_or("what it shows of its log is no checkpoint with a proof")?;
        let newest = *checkpoint.checkpoint();
        let signed = self.0.keys.verify(&checkpoint);
        if signed.map(|signed| signed.key) != Ok(peer.key) {
            return Err("the checkpoint of its log is not signed by its audit key".to_owned());
        }
        if newest.log != peer.log {
            return Err("the checkpoint that it shows is of another log than it names".to_owned());
        }
        let head = Head::of(&newest);
        let shown = PeerLog { instance: peer.instance.clone(), log: newest.log, head };
        let mut state = self.lock();
        if state.known.of_log(newest.log).map_or(0, |known| known.head.size) != asked {
            return Ok(None);
        }
        match state.known.judge(&newest, path.as_deref()) {
            Ok(how) => {
                state.refused = None;
                state.newest = Some(checkpoint);
                self.learn(&mut state, shown, how);
                Ok(Some(head))
            }
            Err(why) => {
                let known = state.known.nearest(&shown.instance, shown.log).cloned();
                let why = why.to_string();
                state.refused = Some(RefusedLog { shown, known, why: why.clone() });
                Err(format!(
                    "{why}: it was put back to an older state, or is another signer; nothing is asked of \
                     it; bring its newest state and journal back, or, once it is clear how this came \
                     about: signctl breakglass accept-signer --reason WHY"
                ))
            }
        }
    }

    /// What the signer that was believed last showed of its log, which was on its disk.
    #[must_use]
    pub fn newest(&self) -> Option<SignedCheckpoint> {
        self.lock().newest.clone()
    }

    /// Which log this proxy writes.
    pub(super) fn log(&self) -> LogId {
        self.0.journal.log()
    }

    /// Shows the signer that this log goes on from what it knows of it. It reads files.
    pub(super) fn show(&self, known: Option<&JournalHead>) -> Show {
        let newest = self.0.journal.checkpoint();
        let size = known.map_or(0, |known| known.size);
        let tree = self.0.tree.as_ref();
        let path = tree.and_then(|tree| tree.prove(size, newest.checkpoint().size));
        Show::new(0, size, &newest, path.as_deref())
    }

    /// Hears how far the signer knows this log to go; whether that is so long ago that it is to be shown again.
    pub(super) fn knows(&self, known: Option<&JournalHead>) -> bool {
        let size = known.map_or(0, |known| known.size);
        self.0.known_there.store(size, Ordering::Relaxed);
        known.is_some() && self.0.journal.head().size.saturating_sub(size) >= SHOWN_AGAIN_AFTER
    }

    /// Writes what waits of the tree, and lets go of what nobody asks for any more. It waits for the disk.
    ///
    /// # Errors
    /// If it cannot be written; it waits on then.
    pub fn keep(&self) -> io::Result<()> {
        let Some(tree) = &self.0.tree else { return Ok(()) };
        tree.flush()?;
        tree.forget(self.0.known_there.load(Ordering::Relaxed))
    }

    /// Knows more from now on, and notes it.
    fn learn(&self, state: &mut State, shown: PeerLog, how: Acceptance) {
        let known = state.known.of_log(shown.log).cloned();
        let is_new = known.as_ref() != Some(&shown);
        if !is_new && !state.is_unrecorded {
            return;
        }
        let record = LogRecord::new(&shown, known.filter(|known| known.head != shown.head), how);
        state.known.learn(shown, how);
        // In force here even if it cannot be recorded now; it is tried again with the next look.
        state.is_unrecorded = self.0.journal.note(&record.as_record(OURSELVES, None)).is_err();
    }

    /// The keys that sign journals.
    pub(super) fn keys(&self) -> &AuditKeys {
        &self.0.keys
    }

    /// The signer that is refused now for its log.
    #[must_use]
    pub fn refused(&self) -> Option<RefusedLog> {
        self.lock().refused.clone()
    }

    /// Accepts the signer that is refused, once the record of that is on disk: its log is the one that has
    /// to go on from now on, and what was known of its instance or its log counts no more. Dying before
    /// the record is on disk leaves it refused.
    ///
    /// # Errors
    /// [`Refused`]; it stays refused.
    pub(super) async fn accept(&self, reason: &str, by: &str) -> Result<RefusedLog, Refused> {
        let Some(refused) = self.refused() else {
            let why =
                "no emergency signer is refused for its log; look at signctl breakglass status";
            return Err(Refused::new(ProxyReason::NothingRefused, why));
        };
        let record = LogRecord::new(&refused.shown, refused.known.clone(), Acceptance::Accepted);
        let appending = self.0.journal.begin_append(&record.as_record(by, Some(reason)));
        let recording = async { appending?.durable().await };
        let recorded = tokio::time::timeout(super::RECORD_MAX, recording).await;
        let recorded = recorded
            .map_err(|_| "the disk does not answer; look again after a while".to_owned())
            .and_then(|recorded| recorded.map_err(|trouble| trouble.to_string()));
        recorded.map_err(|why| Refused::new(wire::Reason::AuditUnavailable, why))?;
        let mut state = self.lock();
        state.known.learn(refused.shown.clone(), Acceptance::Accepted);
        if state.refused.as_ref().is_some_and(|now| now.shown.instance == refused.shown.instance) {
            state.refused = None;
        }
        Ok(refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusedLog {
    /// As operators are told of it.
    #[must_use]
    pub fn message(&self) -> RefusedSigner {
        RefusedSigner {
            instance: self.shown.instance.clone(),
            head: self.shown.to_text(),
            known: self.known.as_ref().map(PeerLog::to_text),
            why: self.why.clone(),
        }
    }
}

/// A record, with what it borrows.
struct LogRecord {
    instance: String,
    head: String,
    known: Option<String>,
    how: Acceptance,
}

impl LogRecord {
    fn new(shown: &PeerLog, known: Option<PeerLog>, how: Acceptance) -> Self {
        Self {
            instance: shown.instance.clone(),
            head: shown.to_text(),
            known: known.as_ref().map(PeerLog::to_text),
            how,
        }
    }

    fn as_record<'r>(&'r self, by: &'r str, reason: Option<&'r str>) -> Record<'r> {
        Record::SignerLog(SignerLogRecord {
            by,
            how: self.how.word(),
            known: self.known.as_deref(),
            reason,
            signer_head: &self.head,
            signer_instance: &self.instance,
        })
    }
}
