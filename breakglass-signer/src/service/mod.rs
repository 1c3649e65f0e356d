//! The signer's one state, on one thread, which waits for no disk itself: who asks what of it is in
//! the files below. No borrow of it is held over a wait.

mod activate;
mod destroy;
mod end;
mod keys;
mod looks;
mod open_once;
mod proxies;
mod refusals;
mod sign;
mod tick;
mod unseal;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use audit::{Durable, Journal};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{now, rfc3339_seconds, wall_now};
use host::user::LocalUsers;
use signing_core::breakglass::Session;
use signing_core::breakglass::activation;
use signing_core::breakglass::wire::{
    JournalHead, JournalRecord, Reason, Refused, SessionState, State,
};
use signing_core::journal::AuditKeys;
use signing_core::tree::LogId;
use signing_core::{Kid, Moment};
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc};

use crate::arming::{self, Unreadable};
use crate::connection::Outgoing;
use crate::history::History;
use crate::key::EmergencyKey;
use crate::log::Log;
use crate::materials::Materials;
use crate::saver::Saver;
use crate::store::{Seal, Stored};
use crate::unlock::Unlock;
use crate::worker::Worker;
use proxies::RefusedLog;
use refusals::Refusals;

pub use destroy::AskedOver;
pub use end::EndedSession;
pub use sign::Unreleased;

/// Sentences in the state about why nothing can be armed, and the length of each.
const SENTENCES_MAX: usize = 8;
const SENTENCE_MAX_BYTES: usize = 512;
/// How long the beginning and the stop wait for the disk of the state.
const SAVE_MAX: Duration = Duration::from_secs(10);

/// The signer.
#[derive(Debug)]
pub struct Service {
    /// What was configured.
    pub materials: Materials,
    /// The journal.
    pub journal: Journal,
    /// The log.
    pub log: Log,
    /// Who the peers are.
    pub users: LocalUsers,
    saver: Saver,
    /// Opens keys, which takes as long as their files say, and looks at the approvers' file before.
    opener: Worker,
    /// Overwrites and removes the files of keys.
    destroyer: Worker,
    /// Reads the nodes of the journal's tree.
    prover: Worker,
    /// Each looks at the file of its key, which may be on another disk than the rest.
    probers: BTreeMap<Kid, Rc<Worker>>,
    since: OffsetDateTime,
    /// The latest time that is recorded, or that the clock has shown.
    latest: Cell<OffsetDateTime>,
    seal: RefCell<Option<Seal>>,
    /// The keys that sign the proxies' journals.
    audit_keys: AuditKeys,
    /// The proxy that is refused for its log.
    refused_proxy: RefCell<Option<RefusedLog>>,
    instance: String,
    armory: RefCell<Armory>,
    /// Held by the activation that is under way: one after the other, and the first wins.
    activating: Arc<Mutex<()>>,
    /// Held by the destruction that is under way: a key is gone once, and its copies are left once.
    destroying: Arc<Mutex<()>>,
    connections: Cell<u64>,
    /// The connections that have asked for an activation, and are not gone.
    served: RefCell<BTreeSet<u64>>,
    strangers: RefCell<Bucket>,
    gave_way: RefCell<Bucket>,
    refused_destructions: RefCell<Bucket>,
    /// What the log said last of why nothing can be armed.
    said_of_arming: RefCell<Vec<String>>,
}

/// What is known at the start.
#[derive(Debug)]
pub struct Known {
    /// What happened before.
    pub history: History,
    /// When the journal's oldest record was written.
    pub since: OffsetDateTime,
    /// The latest time that a record of it has.
    pub latest: OffsetDateTime,
    /// Who the users are.
    pub users: LocalUsers,
    /// Why no session begins until an operator has ended that.
    pub seal: Option<Seal>,
}

/// The part of the service that changes while it runs.
struct Armory {
    history: History,
    unlock: Unlock,
    active: Option<Active>,
    refusals: Refusals,
    /// Activations that were asked for lately.
    asked: Bucket,
}

/// The session in force, and the key that is open for it.
struct Active {
    session: Session,
    key: EmergencyKey,
    /// The connection that activated it, which alone may use it.
    owner: u64,
    out: mpsc::Sender<Outgoing>,
    /// The log of the proxy that it was activated for.
    proxy_log: LogId,
    signatures: u64,
    max_signatures: u64,
    activated_at: String,
    approved_by: Vec<String>,
    record: JournalRecord,
}

/// So many, and one more every few seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    taken: u32,
    counted_at: Moment,
}

impl Service {
    /// The signer as it starts: nothing is armed.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        materials: Materials,
        journal: Journal,
        log: Log,
        saver: Saver,
        Known { history, since, latest, users, seal }: Known,
    ) -> io::Result<Rc<Self>> {
        let der = materials.audit_public.spki_der();
        let instance = hex::encode(digest::digest(&digest::SHA256, der));
        let armory = Armory {
            history,
            unlock: Unlock::default(),
            active: None,
            refusals: Refusals::default(),
            asked: Bucket::default(),
        };
        let probers = materials.keys.keys().cloned();
        let probers = probers.map(|kid| Ok((kid, Rc::new(Worker::start("prober")?))));
        let probers: io::Result<BTreeMap<_, _>> = probers.collect();
        Ok(Rc::new(Self {
            audit_keys: AuditKeys::of_registry(&materials.registry),
            refused_proxy: RefCell::default(),
            materials,
            journal,
            log,
            users,
            saver,
            opener: Worker::of_secrets("opener")?,
            destroyer: Worker::start("destroyer")?,
            prover: Worker::start("prover")?,
            probers: probers?,
            since,
            latest: Cell::new(latest),
            seal: RefCell::new(seal),
            instance,
            armory: RefCell::new(armory),
            activating: Arc::default(),
            destroying: Arc::default(),
            connections: Cell::new(0),
            served: RefCell::default(),
            strangers: RefCell::default(),
            gave_way: RefCell::default(),
            refused_destructions: RefCell::default(),
            said_of_arming: RefCell::default(),
        }))
    }

    /// A name for a new connection, never used again.
    pub fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// This instance, in hex.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// All there is to know. It waits for the disk of the keys' files, and for no longer than
    /// `PROBE_MAX` of `looks.rs`.
    pub async fn state(&self) -> State {
        let unreadable = self.unreadable().await;
        let config = &self.materials.config;
        let armory = self.armory.borrow();
        let (now, wall) = (now(), wall_now());
        State {
            instance: self.instance.clone(),
            deployment: config.deployment.clone(),
            signer_version: env!("CARGO_PKG_VERSION").to_owned(),
            audit_public_key: STANDARD.encode(self.materials.audit_public.spki_der()),
            audit_kid: self.materials.audit_kid.to_string(),
            head: self.head(),
            session: armory.active.as_ref().map(|active| active.state(now)),
            keys: self.keys(&armory, &unreadable, wall),
            unlocked: armory.unlock.waits(now),
            min_outage_s: config.min_outage.as_secs(),
            session_max_s: config.caps.session_max.as_secs(),
            signatures_max: config.caps.signatures_max,
            signatures_per_second_max: config.caps.signatures_per_second_max,
            required_roles: config.rules.required_roles.iter().cloned().collect(),
            approvers_sha256: self.materials.approvers.sha256().to_owned(),
            hardware_required: config.rules.hardware_required,
            development: config.development,
            sealed: self.seal.borrow().as_ref().map(|seal| seal.detail.clone()),
            refused_proxy: self.refused_proxy(),
            cannot_arm: self.cannot_arm(&armory, &unreadable, wall),
        }
    }

    /// Why no session could begin; not more of it than a frame has room for.
    fn cannot_arm(
        &self,
        armory: &Armory,
        unreadable: &Unreadable,
        wall: OffsetDateTime,
    ) -> Vec<String> {
        let sealed = self.seal.borrow();
        let mut found: Vec<_> =
            sealed.iter().map(|seal| format!("it is sealed: {}", seal.detail)).collect();
        found.extend(self.refused_proxy.borrow().as_ref().map(RefusedLog::sentence));
        let arming = arming::inspect(&self.materials, &armory.history, unreadable, wall);
        found.extend(arming.mistakes);
        found.extend(activation::clock(wall, self.latest.get()).err().map(|no| no.sentence));
        let said = found.iter().take(SENTENCES_MAX).map(|why| one_line(why, SENTENCE_MAX_BYTES));
        said.collect()
    }

    /// Keeps a passphrase that an operator brought; false if too many of this user came lately.
    pub fn unlock(&self, passphrase: zeroize::Zeroizing<Vec<u8>>, (uid, by): (u32, &str)) -> bool {
        let mut armory = self.armory.borrow_mut();
        let may = armory.unlock.may_bring(uid, now());
        if may {
            armory.unlock.bring(passphrase, by.to_owned(), now());
        }
        may
    }

    /// A connection that asked nothing gave way to newer ones; said at most now and then.
    pub fn gave_way(&self, uid: u32, socket: &std::path::Path) {
        if self.gave_way.borrow_mut().take(now(), 5, 10) {
            let fields = serde_json::json!({"peer": self.users.named(uid), "socket": socket.display().to_string()});
            self.log.warn("a connection that had sent no request gave way to newer ones", fields);
        }
    }

    /// A peer that may not use a socket was closed; said at most now and then.
    pub fn refuse_peer(&self, uid: u32, socket: &std::path::Path) {
        if self.strangers.borrow_mut().take(now(), 5, 10) {
            let fields = serde_json::json!({"peer": self.users.named(uid), "socket": socket.display().to_string()});
            self.log.warn("refused: allowed_uids says who may use this socket", fields);
        }
    }

    /// Notes the newest record once nothing is written any more.
    pub async fn note_stop(&self) {
        self.save_in_time().await;
    }

    fn head(&self) -> JournalHead {
        JournalHead::new(self.journal.log(), self.journal.head())
    }

    /// Notes what has to be known for ever, a moment later and on another thread. The journal holds it
    /// too, so that neither a failure here nor dying before it is on disk is a reason to stop.
    fn save(&self) -> u64 {
        self.saver.offer(self.stored())
    }

    /// As [`Self::save`], and returns once it is on disk.
    ///
    /// # Errors
    /// Why it is not.
    async fn saved(&self) -> Result<(), String> {
        self.saver.saved(self.save()).await
    }

    /// As [`Self::saved`], where nobody serves meanwhile: a disk that hangs is not waited for without end.
    async fn save_in_time(&self) {
        // That it failed was said.
        if tokio::time::timeout(SAVE_MAX, self.saved()).await.is_err() {
            let why = format!("its disk has not answered for {} s", SAVE_MAX.as_secs());
            self.saver.say(&why);
        }
    }

    fn stored(&self) -> Stored {
        Stored {
            witness: Some(self.head()),
            history: self.armory.borrow().history.clone(),
            seal: self.seal.borrow().clone(),
        }
    }
}

impl Active {
    fn state(&self, now: Moment) -> SessionState {
        let request = self.session.request();
        SessionState {
            session: self.session.id().to_owned(),
            incident: request.incident().to_owned(),
            justification: request.justification().to_owned(),
            emergency_kid: request.emergency_kid().to_string(),
            algorithm: self.key.registered().algorithm().name().to_owned(),
            public_key: STANDARD.encode(self.key.registered().public_key.spki_der()),
            replaces: request.replaces().iter().map(ToString::to_string).collect(),
            callers: request.callers().iter().map(ToString::to_string).collect(),
            activated_at: self.activated_at.clone(),
            expires_at: rfc3339_seconds(request.expires_at()),
            expires_in_ms: u64::try_from(self.session.lasts(now).as_millis()).unwrap_or(0),
            remaining: self.session.remaining(),
            max_signatures: self.max_signatures,
            under_freeze: request.under_freeze(),
            approved_by: self.approved_by.clone(),
            record: self.record.clone(),
        }
    }
}

impl Bucket {
    /// Takes a place of `most`, of which one comes back every `every_s`.
    fn take(&mut self, now: Moment, most: u32, every_s: u64) -> bool {
        let back = now.since(self.counted_at).as_secs() / every_s;
        if back > 0 {
            self.taken = self.taken.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            self.counted_at = now;
        }
        let may = self.taken < most;
        self.taken += u32::from(may);
        may
    }
}

impl fmt::Debug for Armory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armory").field("armed", &self.active.is_some()).finish_non_exhaustive()
    }
}

fn record_of(durable: &Durable) -> JournalRecord {
    JournalRecord::new(durable.log(), durable.leaf())
}

fn refused(id: u64, reason: Reason, detail: impl Into<String>) -> Refused {
    Refused { id, reason, detail: detail.into(), record: None }
}

/// A peer's words, as far as they go into a record: one line, not too long.
fn one_line(text: &str, most: usize) -> String {
    text::clipped(text, most)
}
