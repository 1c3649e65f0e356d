//! Rows of the emergency signer's records as objects of their own, which readers in the field look for. What a row
//! is called and the day that it is kept under follow from its record, so that a row that is written to the database
//! again does not become a second object.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use host::clock::wall_now;
use host::log::Log;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;

use super::bucket::{Bucket, Object};
use super::error::ArchiveError;
use super::name::directory;
use super::place::Settings;
use crate::back_off::BackOff;
use crate::canonical::canonical;
use crate::check::Parts;
use crate::event::Owner;
use crate::metrics::{Metrics, Sink};
use crate::plan::age;
use crate::postgres::{Client, DatabaseError, PageStart, Stored};
use crate::row::{hash, parse_hash};
use crate::shape::Shape;

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rows that are read at once.
const ROWS_MAX: i64 = 500;

/// Why rows are not archived now.
#[derive(Debug, thiserror::Error)]
enum EventsError {
    #[error(transparent)]
    Bucket(#[from] ArchiveError),
    #[error("the rows cannot be read: {0}")]
    Database(#[from] DatabaseError),
}

/// Everything that the loop has.
pub(crate) struct Events {
    parts: Arc<Parts>,
    settings: Settings,
    metrics: Metrics,
    log: Log,
}

/// A row, as far as it is needed.
struct EventRow {
    object: Object,
    seq: u64,
    at: String,
}

impl Events {
    pub(crate) fn new(parts: Arc<Parts>, settings: Settings, metrics: Metrics, log: Log) -> Self {
        Self { parts, settings, metrics, log }
    }

    /// Archives rows until the process ends.
    pub(crate) async fn run(self) -> Infallible {
        let mut back_off = BackOff::new();
        loop {
            let failed = match self.session(&mut back_off).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let words = failed.to_string();
            let kind = match &failed {
                EventsError::Bucket(error) => error.kind(),
                EventsError::Database(error) => error.kind(),
            };
            self.log.error("rows cannot be archived", json!({"kind": kind, "error": words}));
            self.metrics.update(Sink::ArchiveEvents, Owner::Signer, |lag| {
                lag.errors += 1;
                lag.trouble = Some(words);
            });
            sleep(back_off.next()).await;
        }
    }

    async fn session(&self, back_off: &mut BackOff) -> Result<Infallible, EventsError> {
        let bucket = Bucket::new(&self.settings.place).await?;
        bucket.is_locked().await?;
        let place = &self.parts.config.postgres;
        let client = place.connect().await?;
        // The other loop makes it.
        while !place.is_there(&client, &place.table.quoted()).await? {
            sleep(LOOK_EVERY).await;
        }
        let shape = place.shape(&client).await?;
        let mut after = self.newest(&bucket, &client, &shape).await?;
        loop {
            let rows = place.own_rows(&client, &shape, PageStart::After(after), ROWS_MAX).await?;
            let is_end = rows.is_empty();
            for (index, row) in rows.iter().enumerate() {
                if let Some(own) = own(row, &self.parts.kid) {
                    self.tell(rows.len() - index, Some(&own));
                    self.bring(&bucket, &own).await?;
                }
                after = row.at.map(micros).or(after);
                *back_off = BackOff::new();
            }
            if is_end {
                self.tell(0, None);
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// The time of the newest row that has its object: rows are archived in their order, so all before it have
    /// theirs.
    async fn newest(
        &self,
        bucket: &Bucket,
        client: &Client,
        shape: &Shape,
    ) -> Result<Option<i64>, EventsError> {
        let place = &self.parts.config.postgres;
        let mut before = None;
        loop {
            let rows = place.own_rows(client, shape, PageStart::Before(before), ROWS_MAX).await?;
            if rows.is_empty() {
                return Ok(None);
            }
            for row in &rows {
                before = row.at.map(micros).or(before);
                if let Some(own) = own(row, &self.parts.kid)
                    && bucket.kept(&own.object.key).await?.is_some()
                {
                    self.noted(&own);
                    return Ok(before);
                }
            }
        }
    }

    async fn bring(&self, bucket: &Bucket, own: &EventRow) -> Result<(), EventsError> {
        match bucket.bring(&own.object, self.settings.retention_days).await {
            Ok(_) => {}
            Err(error @ ArchiveError::Object { .. }) => {
                // The database was restored, and the row written again: the object says what it said first.
                let key = &own.object.key;
                let there = bucket.read(key, None).await?.unwrap_or_default();
                let is_same_row =
                    there != own.object.body && said(&there) == said(&own.object.body);
                if !is_same_row {
                    return Err(error.into());
                }
                self.log.warn(
                    "a row was written to the database again; its object says what it said first",
                    json!({"key": key}),
                );
            }
            Err(error) => return Err(error.into()),
        }
        self.noted(own);
        Ok(())
    }

    fn noted(&self, own: &EventRow) {
        self.metrics.update(Sink::ArchiveEvents, Owner::Signer, |lag| {
            lag.shipped = own.seq;
            lag.trouble = None;
        });
    }

    fn tell(&self, rows: usize, oldest: Option<&EventRow>) {
        self.metrics.update(Sink::ArchiveEvents, Owner::Signer, |lag| {
            lag.records = rows as u64;
            lag.seconds = oldest.map_or(0.0, |own| age(&own.at, wall_now()));
            if rows == 0 {
                lag.trouble = None;
            }
        });
    }
}

/// The object of a row. None: another trail or writer made it.
fn own(row: &Stored, kid: &str) -> Option<EventRow> {
    if !row.signers.iter().flatten().any(|signer| signer == kid) {
        return None;
    }
    let Some(Value::Object(payload)) = &row.payload else { return None };
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    let (id, created_at) = (text("id")?, text("created_at")?);
    let recorded_at = OffsetDateTime::parse(text("recorded_at")?, &Rfc3339).ok()?;
    let seq = payload.get("seq")?.as_u64()?;
    let prev = row.prev_hash.as_deref().filter(|prev| !prev.is_empty());
    let computed =
        hash(&canonical(&Value::Object(payload.clone())), prev.and_then(parse_hash).as_ref());
    let body = json!({
        "id": id,
        "eventType": text("event_type")?,
        "payload": payload,
        "prevHash": prev,
        "hash": hex::encode(computed),
        "signature": row.signature.as_deref()?,
        "signerId": kid,
        "ts": created_at,
        "metadata": {"log": text("log")?, "seq": seq},
    });
    let key = format!("{}{id}.json", directory(recorded_at));
    let object = Object::new(key, canonical(&body), "application/json", 0);
    Some(EventRow { object, seq, at: created_at.to_owned() })
}

/// What an object says, without its place in the chain of the table.
fn said(body: &[u8]) -> Option<Map<String, Value>> {
    let read: Value = signing_core::json::from_slice(body).ok()?;
    let mut payload = read.get("payload")?.as_object()?.clone();
    payload.remove("created_at");
    Some(payload)
}

fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
