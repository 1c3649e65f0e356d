//! The loop: from the journals' files to the bucket, with a back-off while either fails. No signature waits for it, and
//! neither does any other sink.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::clock::{now, wall_now};
use host::log::Log;
use serde_json::json;
use signing_core::Moment;
use tokio::time::sleep;

use super::bucket::{Bucket, Object};
use super::error::ArchiveError;
use super::objects::{Objects, Remainder};
use super::place::Settings;
use crate::back_off::BackOff;
use crate::check::Parts;
use crate::event::Owner;
use crate::metrics::{Metrics, Sink};
use crate::plan::{Position, age};
use crate::source::{Source, SourceError, SourceOutput, identify};

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Lines that are read at once.
const LINES_MAX: usize = 10_000;

/// A journal on its way.
struct Journal {
    owner: Owner,
    path: PathBuf,
    /// What was read of it; none after a failure.
    reading: Option<Reading>,
    /// When it is looked at again after a failure to read it.
    not_before: Option<Moment>,
    back_off: BackOff,
}

/// A journal that is read, and the objects that are made of it.
struct Reading {
    source: Source,
    objects: Objects,
}

/// Why a journal is not archived now.
#[derive(Debug, thiserror::Error)]
enum Kept {
    /// Only this one.
    #[error(transparent)]
    Journal(#[from] SourceError),
    /// An object of this one.
    #[error("{0}")]
    Object(ArchiveError),
    /// All.
    #[error(transparent)]
    Bucket(ArchiveError),
}

impl From<ArchiveError> for Kept {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Object { .. } => Self::Object(error),
            _ => Self::Bucket(error),
        }
    }
}

/// Everything that the loop has.
pub(crate) struct Archiving {
    parts: Arc<Parts>,
    settings: Settings,
    metrics: Metrics,
    log: Log,
    journals: Vec<Journal>,
}

impl Archiving {
    pub(crate) fn new(parts: Arc<Parts>, settings: Settings, metrics: Metrics, log: Log) -> Self {
        let journal = |(owner, path): &(Owner, PathBuf)| Journal {
            owner: *owner,
            path: path.clone(),
            reading: None,
            not_before: None,
            back_off: BackOff::new(),
        };
        let journals = parts.config.journals.iter().map(journal).collect();
        Self { parts, settings, metrics, log, journals }
    }

    /// Archives until the process ends.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut back_off = BackOff::new();
        let mut has_begun = false;
        loop {
            let failed = match self.reach().await {
                Ok(bucket) => {
                    if !has_begun {
                        self.log.info("the bucket is reached; archiving", json!({}));
                    }
                    has_begun = true;
                    self.session(&bucket, &mut back_off).await
                }
                Err(error) => error,
            };
            self.failed(&failed);
            sleep(back_off.next()).await;
        }
    }

    async fn reach(&self) -> Result<Bucket, ArchiveError> {
        let bucket = Bucket::new(&self.settings.place).await?;
        bucket.is_locked().await?;
        Ok(bucket)
    }

    /// Archives until a call fails. What was read stays: the same object is brought again.
    async fn session(&mut self, bucket: &Bucket, back_off: &mut BackOff) -> ArchiveError {
        loop {
            let mut is_idle = true;
            for index in 0..self.journals.len() {
                match self.step(index, bucket).await {
                    Ok(went_on) => {
                        is_idle &= !went_on;
                        if went_on {
                            *back_off = BackOff::new();
                        }
                    }
                    Err(Kept::Bucket(error)) => return error,
                    Err(error) => self.kept_back(index, &error),
                }
            }
            if is_idle {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// One turn of one journal; whether anything was written.
    async fn step(&mut self, index: usize, bucket: &Bucket) -> Result<bool, Kept> {
        let Some(journal) = self.journals.get_mut(index) else { return Ok(false) };
        if journal.not_before.is_some_and(|at| now() < at) {
            return Ok(false);
        }
        let reading = match journal.reading.take() {
            Some(reading) => reading,
            None => self.begin(index, bucket).await?,
        };
        let Reading { source, mut objects } = reading;
        let reading = tokio::task::spawn_blocking(move || {
            let mut source = source;
            source.read(LINES_MAX).map(|()| source)
        });
        // It panics only where it would have panicked here.
        let Ok(read) = reading.await else { return Ok(false) };
        let mut source = read?;
        while objects.takes() {
            let Some(write) = source.take_write() else { break };
            objects.take(write, now());
        }
        let rest = match (source.is_at_end() && objects.takes(), source.is_drained()) {
            (false, _) => Remainder::More,
            (true, false) => Remainder::Unstated,
            (true, true) => Remainder::Nothing,
        };
        let brought = match objects.due(rest, (wall_now(), now())) {
            None => Ok(false),
            Some([records, checkpoint]) => {
                let days = self.settings.retention_days;
                bring(bucket, &records, &checkpoint, days).await.map(|()| {
                    objects.brought();
                    true
                })
            }
        };
        self.tell(index, &source, &objects, brought.is_ok());
        if let Some(journal) = self.journals.get_mut(index) {
            if brought.is_ok() {
                journal.back_off = BackOff::new();
                journal.not_before = None;
            }
            journal.reading = Some(Reading { source, objects });
        }
        Ok(brought?)
    }

    /// The bucket says where the journal is. It is read from there on, or from behind what is gone.
    async fn begin(&self, index: usize, bucket: &Bucket) -> Result<Reading, Kept> {
        let Some(journal) = self.journals.get(index) else {
            return Err(Kept::Bucket(ArchiveError::Settings("no journal".to_owned())));
        };
        let keys = self.parts.audit_keys();
        let (log, _) = identify(&journal.path).map_err(SourceError::from)?;
        let found = bucket.find(log, &keys).await?;
        let (shipped, root) = (found.head.size, found.head.root);
        let mut position = Position { shipped, root, covered: shipped, missing: found.missing };
        let open = |position| {
            Source::open(&journal.path, journal.owner, keys.clone(), SourceOutput::Lines, position)
        };
        let mut source = open(position)?;
        if let Some((first, last)) = source.gap() {
            // The next object notes how many there are. A run that is killed before finds the same gap.
            position = Position {
                shipped: last,
                root: source.root_before()?,
                covered: last,
                missing: position.missing + (last - first + 1),
            };
            source = open(position)?;
            self.log.error(
                "records were removed before they were archived: a gap for ever",
                json!({"journal": journal.owner.word(), "first": first, "last": last}),
            );
        }
        let objects = Objects::new(log, position, found, self.settings.limits);
        Ok(Reading { source, objects })
    }

    /// Says how far a journal is.
    fn tell(&self, index: usize, source: &Source, objects: &Objects, is_well: bool) {
        let Some(journal) = self.journals.get(index) else { return };
        let position = objects.position();
        let oldest = objects.oldest_at().or(source.oldest_at());
        self.metrics.update(Sink::Archive, journal.owner, |lag| {
            lag.shipped = position.shipped;
            lag.records = source.newest().saturating_sub(position.shipped);
            lag.seconds = oldest.map_or(0.0, |at| age(at, wall_now()));
            lag.missing = position.missing;
            if is_well {
                lag.trouble = None;
            }
        });
    }

    /// A journal cannot be read, or an object of it is not as it has to be: the others go on.
    fn kept_back(&mut self, index: usize, error: &Kept) {
        let Some(journal) = self.journals.get_mut(index) else { return };
        let wait = journal.back_off.next();
        journal.not_before = Some(now().after(wait));
        let words = error.to_string();
        let fields = json!({"journal": journal.owner.word(), "error": words});
        self.log.error("a journal cannot be archived", fields);
        self.metrics.update(Sink::Archive, journal.owner, |lag| {
            lag.errors += 1;
            lag.trouble = Some(words);
        });
    }

    /// The bucket failed: every journal waits, and the lag is counted from the files.
    fn failed(&self, error: &ArchiveError) {
        let words = error.to_string();
        self.log.error("the archive failed", json!({"kind": error.kind(), "error": words}));
        for journal in &self.journals {
            let newest = audit::walk::newest(&journal.path).map_or(0, |head| head.size);
            let reading = journal.reading.as_ref();
            let shipped = reading.map_or(0, |reading| reading.objects.position().shipped);
            let oldest = reading.and_then(|Reading { source, objects }| {
                objects.oldest_at().or(source.oldest_at()).map(|at| age(at, wall_now()))
            });
            self.metrics.update(Sink::Archive, journal.owner, |lag| {
                lag.errors += 1;
                lag.records = newest.saturating_sub(shipped.max(lag.shipped));
                lag.trouble = Some(words.clone());
                if let Some(seconds) = oldest {
                    lag.seconds = seconds;
                }
            });
        }
    }
}

/// The records first. Dying in between: the next run finds records without a checkpoint, makes the same object, and
/// goes on with its checkpoint.
async fn bring(
    bucket: &Bucket,
    records: &Object,
    checkpoint: &Object,
    retention_days: u64,
) -> Result<(), ArchiveError> {
    bucket.bring(records, retention_days).await?;
    bucket.bring(checkpoint, retention_days).await?;
    Ok(())
}
