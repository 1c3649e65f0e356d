//! A journal held against its rows: each record that has to have a row has exactly one, with what the
//! journal says, and each row is of a record that is there.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::canonical::canonical;
use crate::event::{CHECKPOINT, Event, GAP, has_object};
use crate::postgres::Stored;

/// Differences that are named; more are counted.
const NAMED: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows that are as their record or checkpoint is.
    pub matched: u64,
    /// Rows of records that are newer than a copy of the journal.
    pub newer: u64,
    /// Differences.
    pub gaps: u64,
    /// The first of them.
    pub named: Vec<String>,
    /// Emergency records with a verdict of the policy service; none: it was never configured.
    pub annotated: Option<u64>,
}

impl Found {
    /// One difference.
    pub fn gap(&mut self, what: String) {
        self.gaps += 1;
        if self.named.len() < NAMED {
            self.named.push(what);
        }
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.matched += other.matched;
        self.newer += other.newer;
        self.gaps += other.gaps;
        let left = NAMED.saturating_sub(self.named.len());
        self.named.extend(other.named.iter().take(left).cloned());
        if let Some(annotated) = other.annotated {
            self.annotated = Some(self.annotated.unwrap_or_default() + annotated);
        }
    }
}

/// The trail's rows, by what they are about; each payload as a hash, so that memory grows little.
#[derive(Debug, Default)]
pub struct Rows {
    rows: HashMap<Subject, Row>,
    twice: Vec<Subject>,
    gaps: Vec<(String, u64, u64)>,
    /// Rows that may have an object of their own, by id: what each says.
    with_object: HashMap<String, [u8; 32]>,
}

/// What is kept of a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    fingerprint: [u8; 32],
    /// The first record that a checkpoint's row covers.
    first: Option<u64>,
    /// When its record was written, else the row; none: it does not say.
    at: Option<OffsetDateTime>,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    log: String,
    event_type: String,
    number: u64,
}

impl Rows {
    /// Takes a row; others' rows are passed over.
    pub fn take(&mut self, row: &Stored) {
        let Some(Value::Object(payload)) = &row.payload else { return };
        let Some(subject) = Subject::of(payload) else { return };
        if subject.event_type == GAP {
            let first = payload.get("first").and_then(Value::as_u64).unwrap_or_default();
            self.gaps.push((subject.log.clone(), first, subject.number));
        }
        if let (Some(id), Some(actor)) = (&row.id, &row.actor_id)
            && has_object(actor, &subject.event_type)
        {
            self.with_object.insert(id.clone(), fingerprint(payload));
        }
        let first = payload.get("first").and_then(Value::as_u64);
        let recorded = payload.get("recorded_at").and_then(Value::as_str);
        let recorded = recorded.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        let row = Row { fingerprint: fingerprint(payload), first, at: recorded.or(row.at) };
        if self.rows.insert(subject.clone(), row).is_some() {
            self.twice.push(subject);
        }
    }

    /// A record of the journal that has a row, as the trail would tell it.
    pub fn record(&mut self, event: &Event, found: &mut Found) {
        let Some(subject) = Subject::of_event(event) else { return };
        let what = subject.to_string();
        match self.rows.remove(&subject) {
            None => found.gap(format!("{what} has no row")),
            Some(row) if row.fingerprint != fingerprint(&event.payload) => {
                found.gap(format!("{what} has a row that says other than the journal"));
            }
            Some(_) => found.matched += 1,
        }
    }

    /// A checkpoint of the journal; it has a row only where one was due. If the journal `begins` later
    /// than at its first record, the row's own records may begin before `first`.
    pub fn checkpoint(
        &mut self,
        log: &str,
        size: u64,
        note: &str,
        (first, begins): (u64, bool),
        found: &mut Found,
    ) -> bool {
        let subject =
            Subject { log: log.to_owned(), event_type: CHECKPOINT.to_owned(), number: size };
        let Some(row) = self.rows.remove(&subject) else { return false };
        let first = row.first.filter(|covered| begins && *covered < first).unwrap_or(first);
        let mut payload = Map::new();
        let owner = [crate::event::Owner::Proxy, crate::event::Owner::Signer];
        let is_same = owner.iter().any(|owner| {
            payload.clear();
            for (name, value) in [
                ("journal", Value::from(owner.word())),
                ("log", Value::from(log)),
                ("first", Value::from(first)),
                ("last", Value::from(size)),
                ("checkpoint", Value::from(note)),
            ] {
                payload.insert(name.to_owned(), value);
            }
            fingerprint(&payload) == row.fingerprint
        });
        if is_same {
            found.matched += 1;
        } else {
            found.gap(format!("{subject} has a row that says other than the journal"));
        }
        true
    }

    /// A row that has an object of its own: it has to be a row of the table, and say the same.
    pub fn archived(&mut self, payload: &Map<String, Value>, found: &mut Found) {
        let id = payload.get("id").and_then(Value::as_str).unwrap_or_default();
        match self.with_object.remove(id) {
            None => found.gap(format!("the row {id} is archived, and there is no such row")),
            // A row that was written again, as after a restore of the database, has another place in the chain.
            Some(row) if row != fingerprint(payload) => {
                found.gap(format!("the row {id} is archived other than the table has it"));
            }
            Some(_) => found.matched += 1,
        }
    }

    /// Every row that has no object of its own is a gap.
    pub fn not_archived(&self, found: &mut Found) {
        let mut ids: Vec<_> = self.with_object.keys().collect();
        ids.sort_unstable();
        for id in ids {
            found.gap(format!("the row {id} has no object of its own"));
        }
    }

    /// The end of a journal whose oldest record here is `oldest`: what is left is of no record of it, or of
    /// one before that. `copied`: the journal is a copy that ends with that record, and was begun then; rows
    /// of later records are newer.
    pub fn finish(
        &self,
        log: &str,
        oldest: u64,
        copied: Option<(u64, OffsetDateTime)>,
        found: &mut Found,
    ) {
        for subject in self.twice.iter().filter(|subject| subject.log == log) {
            found.gap(format!("{subject} has a row twice"));
        }
        for (_, first, last) in self.gaps.iter().filter(|(of, ..)| of == log) {
            found.gap(format!(
                "records {first} to {last} of {log} were gone before they were shipped"
            ));
        }
        let is_left = |(subject, _): &(&Subject, &Row)| {
            subject.event_type != GAP && subject.log == log && subject.number >= oldest
        };
        let mut left: Vec<_> = self.rows.iter().filter(is_left).collect();
        left.sort_by_key(|(subject, _)| subject.number);
        for (subject, row) in left {
            let is_newer = copied.is_some_and(|(last, at)| {
                subject.number > last && row.at.is_some_and(|it| it >= at)
            });
            if is_newer {
                found.newer += 1;
            } else {
                found.gap(format!("{subject} has a row, and the journal has no such record"));
            }
        }
    }

    /// How many rows are left of each log: all of a journal that nobody held against them.
    #[must_use]
    pub fn left(&self) -> BTreeMap<&str, u64> {
        let mut left = BTreeMap::new();
        for subject in self.rows.keys() {
            *left.entry(subject.log.as_str()).or_default() += 1;
        }
        left
    }
}

impl Subject {
    fn of(payload: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        let log = text("log").filter(|log| log.starts_with("signing-journal/"))?;
        Self::numbered(log, text("event_type")?, payload)
    }

    fn of_event(event: &Event) -> Option<Self> {
        let log = event.payload.get("log").and_then(Value::as_str)?.to_owned();
        Self::numbered(log, event.event_type.clone(), &event.payload)
    }

    fn numbered(log: String, event_type: String, payload: &Map<String, Value>) -> Option<Self> {
        let name = if [CHECKPOINT, GAP].contains(&&*event_type) { "last" } else { "seq" };
        let number = payload.get(name)?.as_u64()?;
        Some(Self { log, event_type, number })
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, event_type, number } = self;
        write!(f, "record {number} of {log} ({event_type})")
    }
}

/// The payload without its place in a chain.
fn fingerprint(payload: &Map<String, Value>) -> [u8; 32] {
    let mut payload = payload.clone();
    for name in ["id", "actor_id", "event_type", "created_at"] {
        payload.remove(name);
    }
    let hashed = digest(&SHA256, canonical(&Value::Object(payload)).as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hashed.as_ref());
    bytes
}
