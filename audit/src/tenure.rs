//! A journal from its first record that is here to its newest checkpoint, and who signed it: each
//! audit key, from which size on to which.
//!
//! One checkpoint covers everything before it. So only the first and the last of each key are
//! verified here; `verify` verifies all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use signing_core::Registry;
use signing_core::journal::{AuditKeys, Custody, FrameError, KeyId, Leaf, SignedBy};
use signing_core::key::PublicKey;
use signing_core::tree::{LogId, SignedCheckpoint};

use crate::verify::{Keys, Known, VerifyError, named};
use crate::walk::{Defect, Stop, Walk, WalkStep, newest};

/// How long one audit key signed a journal.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The key.
    pub key: PublicKey,
    /// What `init` and `start` records call it. None: those that name it are not here.
    pub kid: Option<String>,
    /// The size of the first checkpoint here that has its signature.
    pub from: u64,
    /// The size of the last one. Where another key follows, both signed that one.
    pub to: u64,
}

/// Whose word the audit keys are that may sign.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'r> {
    /// This registry's, and no others.
    Registry(&'r Registry),
    /// Those that the journal names itself, and those of a registry if there is one. It proves less:
    /// whoever could write the journal could have made all of it anew.
    Journal(Option<&'r Registry>),
}

/// A journal whose newest checkpoint verifies.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Which log it is.
    pub log: LogId,
    /// Its audit keys, the one in force last.
    pub tenures: Vec<Tenure>,
    /// The newest checkpoint when the reading began.
    pub checkpoint: SignedCheckpoint,
}

/// Reads the journal in `directory` up to the checkpoint that is the newest now, and gives each
/// record to `take`. What was taken is proved only once this returns.
///
/// # Errors
/// [`VerifyError`], a defect too; and those of `take`.
pub fn read<E: From<VerifyError>>(
    directory: &Path,
    trust: Trust<'_>,
    mut take: impl FnMut(Leaf, &[u8]) -> Result<(), E>,
) -> Result<Signed, E> {
    let stopped = |stop: Stop| E::from(VerifyError::from(stop));
    let last = newest(directory).map_err(stopped)?.size;
    let mut walk = Walk::open(directory, 1).map_err(stopped)?;
    let mut tenures = Tenures::new(trust)?;
    loop {
        match walk.step().map_err(stopped)? {
            WalkStep::Record(place) => {
                if place.begins_segment()
                    && let Some(header) = walk.header()
                {
                    tenures.take(&header.checkpoint, walk.file(), 0).map_err(stopped)?;
                }
                let body = walk.body(&place);
                tenures.hear(body);
                take(place.leaf, body)?;
            }
            WalkStep::Sealed(seal) => {
                tenures.take(&seal.checkpoint, walk.file(), seal.at).map_err(stopped)?;
                if seal.checkpoint.checkpoint().size >= last {
                    break;
                }
            }
            // It was cut, or moved away, since this began.
            WalkStep::End | WalkStep::TornWrite(_) => break,
        }
    }
    let checkpoint = tenures.settle().map_err(stopped)?;
    let checkpoint = checkpoint.ok_or_else(|| stopped(Stop::NoJournal(directory.to_owned())))?;
    Ok(Signed { log: checkpoint.checkpoint().log, tenures: tenures.done, checkpoint })
}

/// The keys so far.
struct Tenures {
    known: Known,
    kids: BTreeMap<KeyId, String>,
    custody: Custody,
    done: Vec<Tenure>,
    now: Option<Span>,
}

/// Checkpoints that name the same key, one behind the other.
struct Span {
    first: Placed,
    /// The newest of them, if there are several.
    last: Option<Placed>,
}

#[derive(Clone)]
struct Placed {
    checkpoint: SignedCheckpoint,
    file: PathBuf,
    at: u64,
}

impl Tenures {
    fn new(trust: Trust<'_>) -> Result<Self, VerifyError> {
        let (registry, whose) = match trust {
            Trust::Registry(registry) => (Some(registry), Keys::Registered),
            Trust::Journal(registry) => (registry, Keys::SelfAsserted),
        };
        let keys = registry.map(AuditKeys::of_registry).unwrap_or_default();
        if keys.is_empty() && whose == Keys::Registered {
            return Err(VerifyError::NoAuditKey);
        }
        let known = Known { keys: Arc::new(keys), whose };
        let (kids, custody) = (BTreeMap::new(), Custody::default());
        Ok(Self { known, kids, custody, done: Vec::new(), now: None })
    }

    /// Learns what a record calls its audit key.
    fn hear(&mut self, body: &[u8]) {
        if let Some((key, kid)) = named(body) {
            self.kids.insert(KeyId::of(&key), kid);
            self.known.add(key);
        }
    }

    /// Takes the next checkpoint.
    fn take(&mut self, checkpoint: &SignedCheckpoint, file: &Path, at: u64) -> Result<(), Stop> {
        let placed = Placed { checkpoint: checkpoint.clone(), file: file.to_owned(), at };
        match &mut self.now {
            // The header repeats the last checkpoint of the segment before.
            Some(span) if span.first.checkpoint == *checkpoint => {}
            Some(span)
                if checkpoint.signatures() == 1
                    && checkpoint.signed_as() == span.first.checkpoint.signed_as() =>
            {
                span.last = Some(placed);
            }
            _ => {
                self.settle()?;
                self.now = Some(Span { first: placed, last: None });
            }
        }
        Ok(())
    }

    /// Verifies what the key signed whose checkpoints end here; its newest one.
    fn settle(&mut self) -> Result<Option<SignedCheckpoint>, Stop> {
        let Some(Span { first, last }) = self.now.take() else { return Ok(None) };
        let SignedBy { key, before } = self.verify(&first)?;
        if let (Some(_), Some(tenure)) = (before, self.done.last_mut()) {
            tenure.to = first.size();
        }
        if let Some(last) = &last {
            self.verify(last)?;
        }
        let last = last.unwrap_or(first.clone());
        let kid = self.kids.get(&key).cloned();
        let key = self.known.keys.get(key);
        let key = key.ok_or_else(|| first.defect(FrameError::UnknownKey.to_string()))?.clone();
        self.done.push(Tenure { key, kid, from: first.size(), to: last.size() });
        Ok(Some(last.checkpoint))
    }

    fn verify(&mut self, placed: &Placed) -> Result<SignedBy, Stop> {
        let Known { keys, whose } = &self.known;
        let signed = keys.verify(&placed.checkpoint);
        let signed = signed.map_err(|error| placed.defect(whose.unsigned(error)))?;
        self.custody.follow(signed).map_err(|error| placed.defect(error.to_string()))?;
        Ok(signed)
    }
}

impl Placed {
    fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }

    fn defect(&self, what: String) -> Stop {
        let (record, file, at) = (self.size().max(1), self.file.clone(), self.at);
        Stop::Defect(Defect { record, file, at, what })
    }
}
