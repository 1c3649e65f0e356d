//! The loop: from the journals' files to the sink, with a back-off while either fails. Nothing of it
//! touches a signature.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::clock::{now, wall_now};
use host::log::Log;
use serde_json::json;
use signing_core::Moment;
use signing_core::journal::AuditKeys;
use tokio::time::{sleep, timeout};

use crate::back_off::BackOff;
use crate::check::Parts;
use crate::event::{Owner, of_checkpoint, of_gap};
use crate::metrics::{Metrics, Sink};
use crate::plan::{Due, Position, age, due};
use crate::postgres::{DatabaseError, Session, Shipment, Shipped};
use crate::required::Required;
use crate::source::{Source, SourceError, SourceOutput, identify};

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often the sink is asked where the journals are while nothing is shipped.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The same while a proxy waits for the sink: it hears each answer.
const ASK_OFTEN: Duration = Duration::from_secs(1);

/// A journal on its way.
struct Journal {
    owner: Owner,
    path: PathBuf,
    source: Option<Source>,
    /// Where it is in the sink, as was last seen.
    seen: Option<Position>,
    last_checkpoint: Option<Moment>,
    /// When it is looked at again after a failure to read it.
    not_before: Option<Moment>,
    back_off: BackOff,
}

/// Everything that the loop has.
pub(crate) struct Shipping {
    parts: Arc<Parts>,
    metrics: Metrics,
    log: Log,
    journals: Vec<Journal>,
    /// Who waits for what is committed, if a proxy does.
    required: Option<Required>,
}

impl Shipping {
    pub(crate) fn new(
        parts: Arc<Parts>,
        metrics: Metrics,
        log: Log,
        required: Option<Required>,
    ) -> Self {
        let journal = |(owner, path): &(Owner, PathBuf)| Journal {
            owner: *owner,
            path: path.clone(),
            source: None,
            seen: None,
            last_checkpoint: None,
            not_before: None,
            back_off: BackOff::new(),
        };
        let journals = parts.config.journals.iter().map(journal).collect();
        Self { parts, metrics, log, journals, required }
    }

    /// Ships until the process ends. It ends by itself only if the first session finds that waiting
    /// cannot help.
    pub(crate) async fn run(mut self) -> DatabaseError {
        let mut back_off = BackOff::new();
        let mut has_begun = false;
        loop {
            let failed = match Session::open(&self.parts.config.postgres).await {
                Ok(session) => {
                    if !has_begun {
                        self.log.info("the database is reached; shipping", json!({}));
                    }
                    has_begun = true;
                    back_off = BackOff::new();
                    if let Some(required) = &self.required {
                        required.sink_is_up();
                    }
                    self.session(session).await
                }
                Err(error) => error,
            };
            if let Some(required) = &self.required {
                required.withdraw(false);
            }
            if failed.is_final() && !has_begun && self.must_end(&failed) {
                return failed;
            }
            self.failed(&failed);
            sleep(back_off.next()).await;
        }
    }

    /// Whether that ends the process. A database that forgets does. Whatever else is wrong with it keeps neither the
    /// archive nor a notification back.
    fn must_end(&self, failed: &DatabaseError) -> bool {
        let config = &self.parts.config;
        let is_alone = config.archive.is_none() && config.notify.webhooks.is_empty();
        is_alone || matches!(failed, DatabaseError::Forgets { .. })
    }

    /// Ships in one session, until it fails.
    async fn session(&mut self, session: Session) -> DatabaseError {
        for journal in &mut self.journals {
            // What came of the last transaction is unknown: the sink says where it is.
            journal.source = None;
        }
        let mut asked = now();
        loop {
            let mut is_idle = true;
            for index in 0..self.journals.len() {
                match self.step(index, &session).await {
                    Ok(went_on) => is_idle &= !went_on,
                    Err(error) => return error,
                }
            }
            if is_idle {
                match &self.required {
                    Some(required) => {
                        // In time or told, it looks.
                        let _ = timeout(LOOK_EVERY, required.wanted()).await;
                    }
                    None => sleep(LOOK_EVERY).await,
                }
            }
            let every = if self.required.is_some() { ASK_OFTEN } else { ASK_EVERY };
            if (is_idle || self.required.is_some()) && now() >= asked.after(every) {
                if let Err(error) = self.ask_again(&session).await {
                    return error;
                }
                asked = now();
            }
        }
    }

    /// Asks the sink where the journals are: a database that was restored, or a session that ended, would else be
    /// noticed only when there is something to ship.
    async fn ask_again(&mut self, session: &Session) -> Result<(), DatabaseError> {
        for journal in &mut self.journals {
            let Some(source) = &journal.source else { continue };
            let position = session.position(source.log()).await?;
            if journal.seen != Some(position) {
                journal.notice(position, (&self.log, self.required.as_ref()));
                // It is read again from there.
                journal.source = None;
            }
        }
        if let Some(required) = &self.required {
            session.keeps().await?;
            required.sink_answered();
        }
        Ok(())
    }

    /// One turn of one journal; whether anything was written.
    async fn step(&mut self, index: usize, session: &Session) -> Result<bool, DatabaseError> {
        let Some(journal) = self.journals.get_mut(index) else { return Ok(false) };
        if journal.not_before.is_some_and(|at| now() < at) {
            return Ok(false);
        }
        let opened = match journal.source.take() {
            Some(source) => Ok(source),
            None => match identify(&journal.path) {
                Err(stop) => Err(SourceError::from(stop)),
                Ok((log, _)) => {
                    let position = session.position(log).await?;
                    journal.notice(position, (&self.log, self.required.as_ref()));
                    let keys = self.parts.audit_keys();
                    journal.open(keys, position)
                }
            },
        };
        let rows_max = self.parts.config.batch_rows;
        let read = match opened {
            Err(error) => Err(error),
            Ok(source) => match self.read(source, rows_max).await {
                Some(read) => read,
                None => return Ok(false),
            },
        };
        let source = match read.and_then(|source| self.hear(source)) {
            Ok(source) => source,
            Err(error) => {
                self.unreadable(index, &error);
                return Ok(false);
            }
        };
        let Some(journal) = self.journals.get_mut(index) else { return Ok(false) };
        journal.back_off = BackOff::new();
        journal.not_before = None;
        let mut source = source;
        let shipment = journal.shipment(&mut source, rows_max, self.required.is_some());
        let Some((shipment, with_checkpoint)) = shipment else {
            self.tell(index, &source);
            if let Some(journal) = self.journals.get_mut(index) {
                journal.source = Some(source);
            }
            return Ok(false);
        };
        let (log, to, gap) = (shipment.log, shipment.to, source.gap());
        let parts = Arc::clone(&self.parts);
        let shipping = async {
            // A row that does not exist yet cannot be moved.
            if shipment.events.is_empty() && shipment.from.shipped > 0 {
                session.advance(log, shipment.from, to).await
            } else {
                session.ship(shipment, &parts.key, &parts.kid).await
            }
        };
        // Who is behind reads the next batch while the database takes this one.
        let reading = async {
            if source.has(rows_max) {
                read_on(source, 2 * rows_max).await
            } else {
                Some(Ok(source))
            }
        };
        let (shipped, read) = tokio::join!(shipping, reading);
        let (shipped, read) = (shipped?, read.transpose());
        let Some(journal) = self.journals.get_mut(index) else { return Ok(false) };
        match shipped {
            Shipped::Elsewhere(position) => {
                journal.notice(position, (&self.log, self.required.as_ref()));
            }
            Shipped::Committed => {
                journal.seen = Some(to);
                if with_checkpoint {
                    journal.last_checkpoint = Some(now());
                }
                if let Some((first, last)) = gap {
                    self.log.error(
                        "records were removed before they were shipped: a gap for ever",
                        json!({"journal": journal.owner.word(), "first": first, "last": last}),
                    );
                    // It is read from behind the gap.
                    return Ok(true);
                }
                let mut source = match read {
                    Ok(Some(source)) => source,
                    Ok(None) => return Ok(true),
                    Err(error) => {
                        self.unreadable(index, &error);
                        return Ok(true);
                    }
                };
                source.shipped(to);
                self.say_committed(&mut source);
                self.tell(index, &source);
                // A proxy says when there is more: the way to its next record is not held up by a look for that.
                let has_more = self.required.is_none() || !source.is_caught_up();
                if let Some(journal) = self.journals.get_mut(index) {
                    journal.source = Some(source);
                }
                return Ok(has_more);
            }
        }
        Ok(true)
    }

    /// Reads on, and up to what a proxy said by itself at once: whoever waits for a few records is not kept by another
    /// thread's turn. None: as [`read_on`].
    async fn read(
        &self,
        mut source: Source,
        rows_max: usize,
    ) -> Option<Result<Source, SourceError>> {
        let required = self.required.as_ref();
        let said = required.map(|required| required.said(source.log())).unwrap_or_default();
        if source.is_said(said) {
            Some(source.read(rows_max).map(|()| source))
        } else {
            read_on(source, rows_max).await
        }
    }

    /// Takes over what a proxy says is on disk, and says what the sink holds of it.
    fn hear(&self, mut source: Source) -> Result<Source, SourceError> {
        source.is_on_disk()?;
        self.say_committed(&mut source);
        Ok(source)
    }

    fn say_committed(&self, source: &mut Source) {
        let passed = source.take_passed();
        if let Some(required) = &self.required {
            required.committed(source.log(), passed.into_iter());
        }
    }

    /// Says how far a journal is.
    fn tell(&self, index: usize, source: &Source) {
        let Some(journal) = self.journals.get(index) else { return };
        let position = journal.seen.unwrap_or_else(Position::begin);
        self.metrics.update(Sink::Postgres, journal.owner, |lag| {
            lag.shipped = position.shipped;
            lag.records = source.newest().saturating_sub(position.shipped);
            lag.seconds = source.oldest_at().map_or(0.0, |at| age(at, wall_now()));
            lag.missing = position.missing;
            lag.trouble = None;
        });
    }

    /// A journal cannot be read: the others go on.
    fn unreadable(&mut self, index: usize, error: &SourceError) {
        let Some(journal) = self.journals.get_mut(index) else { return };
        let wait = journal.back_off.next();
        journal.not_before = Some(now().after(wait));
        let words = error.to_string();
        let fields = json!({"journal": journal.owner.word(), "error": words});
        self.log.error("a journal cannot be shipped", fields);
        self.metrics.update(Sink::Postgres, journal.owner, |lag| {
            lag.errors += 1;
            lag.trouble = Some(words);
        });
    }

    /// The sink failed: every journal waits, and the lag is counted from the files.
    fn failed(&self, error: &DatabaseError) {
        let words = error.to_string();
        self.log.error("the sink failed", json!({"kind": error.kind(), "error": words}));
        for journal in &self.journals {
            let newest = audit::walk::newest(&journal.path).map_or(0, |head| head.size);
            let shipped = journal.seen.map_or(0, |seen| seen.shipped);
            let oldest =
                journal.source.as_ref().and_then(Source::oldest_at).map(|at| age(at, wall_now()));
            self.metrics.update(Sink::Postgres, journal.owner, |lag| {
                lag.errors += 1;
                lag.records = newest.saturating_sub(shipped);
                lag.trouble = Some(words.clone());
                if let Some(seconds) = oldest {
                    lag.seconds = seconds;
                }
            });
        }
    }
}

/// Reads on, on a thread for that. None: it panicked, and there is nothing left to go on with.
async fn read_on(mut source: Source, rows_max: usize) -> Option<Result<Source, SourceError>> {
    let reading = tokio::task::spawn_blocking(move || source.read(rows_max).map(|()| source));
    reading.await.ok()
}

impl Journal {
    fn open(&self, keys: AuditKeys, position: Position) -> Result<Source, SourceError> {
        Source::open(&self.path, self.owner, keys, SourceOutput::Rows, position)
    }

    /// The sink says where the journal is. It never goes back by itself.
    fn notice(&mut self, position: Position, (log, required): (&Log, Option<&Required>)) {
        if let Some(seen) = self.seen.filter(|seen| position.shipped < seen.shipped) {
            log.error(
                "the sink holds less than it did: it was restored or cut; what is missing is shipped again",
                json!({"journal": self.owner.word(), "held": seen.shipped, "holds": position.shipped}),
            );
            if let Some(required) = required {
                required.withdraw(true);
            }
        }
        self.seen = Some(position);
    }

    /// What is due, and whether a row is in it that covers all.
    fn shipment(
        &self,
        source: &mut Source,
        rows_max: usize,
        is_required: bool,
    ) -> Option<(Shipment, bool)> {
        let (log, owner, from) = (source.log(), self.owner, self.seen?);
        if let Some((first, last)) = source.gap() {
            let root = source.root_before().ok()?;
            let missing = from.missing + (last - first + 1);
            let to = Position { shipped: last, root, covered: last, missing };
            let events = vec![of_gap(owner, log, first, last)];
            return Some((Shipment { log, owner, events, from, to }, false));
        }
        let (available, has_rows) = (source.available(), source.has_rows());
        let is_due = due(from, available, has_rows, self.last_checkpoint, (now(), is_required));
        let with_checkpoint = match is_due {
            Due::Nothing => return None,
            Due::Position | Due::Rows => false,
            Due::RowsAndCheckpoint => true,
        };
        let batch = source.batch(rows_max)?;
        let said = *batch.checkpoint.checkpoint();
        let mut to = Position { shipped: said.size, root: said.root, ..from };
        let mut events = batch.events;
        if with_checkpoint && said.size > from.covered {
            events.push(of_checkpoint(owner, from.covered + 1, &batch.checkpoint));
            to.covered = said.size;
        }
        Some((Shipment { log, owner, events, from, to }, with_checkpoint))
    }
}
