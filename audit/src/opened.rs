//! A journal that was read and is not written yet: what it holds is compared with what is
//! known of it, then the writer starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::stack;
use signing_core::journal::{
    AuditKeys, Failed, Head, InForce, InForceSnapshot, Layout, Outline, Record, Start,
};
use signing_core::tree::{LogId, Recent, SignedCheckpoint};
use tokio::sync::Notify;

use crate::claims::{Claims, Known};
use crate::directory::Directory;
use crate::error::{JournalError, OpenError};
use crate::journal::{Clock, Journal, Newest, Observer, Shared};
use crate::key::AuditKey;
use crate::queue::Queue;
use crate::recovery::{self, Found};
use crate::segment::Segment;
use crate::segment_check::Progress;
use crate::stated::{Statement, stated};
use crate::torn_write::Cut;
use crate::writer::{IDLE, SharedU64, Spared, Writer, prepare_segments};

/// The program that writes the journal.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'i> {
    /// The deployment's name.
    pub deployment: &'i str,
    /// The audit key's kid.
    pub audit_kid: &'i str,
    /// The program's version.
    pub version: &'i str,
    /// The user of the trail without whose word nothing leaves; none: nothing waits for a trail.
    pub required_trail: Option<&'i str>,
    /// The freeze and the seals in force.
    pub in_force: &'i InForce,
}

/// A journal that was read and is not written yet.
#[derive(Debug)]
pub struct Opened {
    directory: Directory,
    found: Found,
    key: AuditKey,
    previous: Option<AuditKey>,
}

/// The audit keys that a process holds.
#[derive(Debug)]
pub struct WriterKeys {
    /// Signs checkpoints from now on.
    pub key: AuditKey,
    /// The one before it, for the first start with a new one: it signs the handover.
    pub previous: Option<AuditKey>,
}

impl From<AuditKey> for WriterKeys {
    fn from(key: AuditKey) -> Self {
        Self { key, previous: None }
    }
}

impl Opened {
    /// Opens the journal in `path` and reads what is there; `registered` are the keys that may
    /// have signed its checkpoints. A torn write is cut, unless one of `claims` says that it was on disk, or
    /// the writer itself stated so while it was idle.
    ///
    /// # Errors
    /// [`OpenError`]. [`OpenError::Behind`]: it does not hold what is known: it is an older copy,
    /// or was cut short.
    pub fn open<'c>(
        path: &Path,
        keys: WriterKeys,
        registered: &AuditKeys,
        claims: impl Into<Claims<'c>>,
    ) -> Result<Self, OpenError> {
        let directory = Directory::open(path)?;
        let mut claims = claims.into();
        let stated = stated(path).map_err(OpenError::io(path))?;
        claims
            .known
            .extend(stated.as_ref().map(SignedCheckpoint::checkpoint).map(Known::of_writer));
        let found = recovery::recover(&directory, registered, &mut claims)?;
        let WriterKeys { key, previous } = keys;
        let signs = found.custody.key();
        if found.custody.was_replaced(key.id()) {
            return Err(OpenError::ReplacedKey { path: path.to_owned(), given: key.id() });
        }
        let previous = match signs {
            Some(id) if id == key.id() => None,
            Some(id) => Some(previous.filter(|previous| previous.id() == id).ok_or_else(|| {
                OpenError::OtherKey { path: path.to_owned(), found: id, given: key.id() }
            })?),
            None => None,
        };
        let opened = Self { directory, found, key, previous };
        claims.known.iter().try_for_each(|known| opened.holds(known))?;
        Ok(opened)
    }

    /// Which log it is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.found.growing.log()
    }

    /// How far it goes.
    #[must_use]
    pub fn head(&self) -> Head {
        self.found.growing.newest()
    }

    /// What was cut off its end.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.found.cut.as_ref()
    }

    /// The freeze and the seals in force, as its records tell.
    #[must_use]
    pub fn in_force(&self) -> &InForce {
        &self.found.in_force
    }

    /// When its newest record was written, by the clock of then: RFC 3339.
    #[must_use]
    pub fn written_at(&self) -> &str {
        &self.found.written_at
    }

    /// How many intents have no outcome.
    #[must_use]
    pub fn open_intents(&self) -> usize {
        self.found.open.len()
    }

    /// Checks that it holds what was once all of it.
    fn holds(&self, known: &Known) -> Result<(), OpenError> {
        let path = self.directory.path();
        let found = if known.log != self.log() {
            format!("this is the log {}", self.log())
        } else if known.size > self.head().size {
            format!("this one ends with record {}", self.head().size)
        } else {
            let Some(root) = known.root else { return Ok(()) };
            match recovery::find(path, known.size)? {
                Some(head) if head.root == root => return Ok(()),
                // The segment it was in may have been moved away, as old ones may.
                None if known.size < self.found.first_seq() => return Ok(()),
                Some(_) => "what it holds up to there is something else".to_owned(),
                None => "it has no checkpoint there".to_owned(),
            }
        };
        Err(OpenError::Behind { path: path.to_owned(), expected: known.to_string(), found })
    }

    /// Begins to write: the start is recorded, and every open intent concluded as
    /// indeterminate. Returns once that is on disk. It blocks: call it before there is a
    /// runtime.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left running then.
    pub fn start(
        self,
        identity: &Identity<'_>,
        segment_bytes: u64,
        clock: Clock,
        observer: Box<dyn Observer>,
    ) -> Result<Journal, OpenError> {
        let Self { directory, found, key, previous } = self;
        let first_seq = found.first_seq();
        let Found { files, segment, end, growing, newest, open, cut, .. } = found;
        let (log, head) = (growing.log(), growing.newest());
        let path = directory.path().to_owned();
        let io = || OpenError::io(&path);
        let left = segment.bytes().saturating_sub(end);
        let queue = Queue::new(
            head.size + 1,
            left,
            segment_bytes,
            open.keys().copied(),
            identity.in_force.clone(),
        );
        // Before the first record, which may find the segment full.
        queue.prepared(
            Segment::prepare(&path, segment_bytes)
                .map_err(|error| JournalError::of_next_segment(segment_bytes, &error)),
        );
        let InForceSnapshot { fleet, freeze, incident, key_modes, seals, signer_logs } =
            identity.in_force.snapshot();
        let audit_key = STANDARD.encode(key.public().spki_der());
        let shared = Arc::new(Shared {
            queue,
            clock,
            busy_since: SharedU64::new(IDLE),
            changed: Notify::new(),
            newest: Mutex::new(Newest { on_disk: newest.clone(), written: newest.clone() }),
            went_on: Arc::new(Notify::new()),
            log,
            path: path.clone(),
            writer: Mutex::new(None),
            older: Progress { of: files.len().saturating_sub(1) as u64, ..Progress::default() },
            teller: OnceLock::new(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            stated: Statement::open(&path).ok(),
            directory,
            segment,
            end,
            layout: Layout::new(log),
            tree: Recent::since(growing.tree().clone()),
            newest,
            key,
            previous,
            spared: Spared::default(),
            clock,
            observer,
            durable: head.size,
            buffer: Vec::new(),
            unsynced: Vec::new(),
        };
        let named = |name: &str| {
            thread::Builder::new().name(name.to_owned()).stack_size(stack::PLAIN_BYTES)
        };
        let thread = named("journal");
        let writing = thread.spawn(move || writer.run()).map_err(io())?;
        let preparing = Arc::clone(&shared);
        let (directory, thread) = (path.clone(), named("segments"));
        let prepare = move || prepare_segments(&preparing, &directory, segment_bytes);
        thread.spawn(prepare).map_err(io())?;
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writing);
        let journal = Journal { shared };

        let start = Record::Start(Start {
            audit_key: &audit_key,
            audit_kid: identity.audit_kid,
            cut_bytes: cut.as_ref().map_or(0, |cut| cut.bytes),
            cut_sha256: cut.as_ref().map(|cut| cut.sha256.as_str()),
            deployment: identity.deployment,
            first_seq,
            fleet,
            freeze,
            incident,
            key_modes,
            open_intents: open.len() as u64,
            required_trail: identity.required_trail,
            seals,
            signer_logs,
            version: identity.version,
        });
        let started = begin(&journal, &start, &open)
            .map_err(|error| OpenError::Unrecorded { path: path.clone(), why: error.to_string() })
            .and_then(|()| journal.check_segments(files).map_err(io()));
        if started.is_err() {
            journal.shared.queue.close();
        }
        started.map(|()| journal)
    }
}

/// Records the start and concludes what an earlier process left open.
fn begin(
    journal: &Journal,
    start: &Record<'_>,
    open: &BTreeMap<u64, Outline>,
) -> Result<(), JournalError> {
    let mut last = journal.push(start, None, true)?.1;
    for (intent, outline) in open {
        let text = |name| outline.text(name).unwrap_or_default();
        let failed = Record::Failed(Failed {
            algorithm: text("algorithm"),
            attempt: outline.text("attempt"),
            caller: text("caller"),
            detail: "the process ended before the outcome was recorded; the upstream may \
                     have signed, and nothing was released",
            door: text("door"),
            earlier_attempts: Vec::new(),
            input_digest: text("input_digest"),
            intent: *intent,
            mode: text("mode"),
            reason: "indeterminate",
            region: outline.text("region"),
            request_id: text("request_id"),
            signer_kid: text("signer_kid"),
            upstream: outline.text("upstream"),
            upstream_request_id: None,
        });
        last = journal.push(&failed, Some(*intent), true)?.1;
    }
    let durable = last.and_then(|waiting| waiting.blocking_recv().ok());
    durable.map(|_| ()).ok_or_else(|| journal.gone())
}
