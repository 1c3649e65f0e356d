//! A journal held against its rows: each record that has to have a row has exactly one, with what the
//! journal says, and each row is of a record that is there.

mod subject;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};
use signing_core::journal::AuditKeys;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{CHECKPOINT, Event, GAP, has_object};
use crate::postgres::Stored;

use subject::{Subject, fingerprint, name};

/// Differences that are named; more are counted.
const NAMED: usize = 20;

/// Rows of which it is kept what is wrong with them.
const EXPLAINED: usize = 1_000;

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

/// The trail's rows, by what they are about. Payloads are kept as hashes, long names shortened, and reasons for the
/// first altered rows only. So a row takes a few hundred bytes, whatever it holds.
#[derive(Debug, Default)]
pub struct Rows {
    rows: HashMap<Subject, Row>,
    twice: Vec<Subject>,
    gaps: Vec<(String, u64, u64)>,
    /// Rows that may have an object of their own, by id: what each says.
    with_object: HashMap<String, [u8; 32]>,
    /// The newest record that a checkpoint row names, by log.
    reaches: HashMap<String, u64>,
    /// When copies of journals were begun, and whose word counts for rows that go beyond their ends.
    copied: Option<(OffsetDateTime, AuditKeys)>,
    /// How many rows say what is wrong with them.
    explained: usize,
}

/// What is kept of a row.
#[derive(Clone, Debug)]
struct Row {
    fingerprint: [u8; 32],
    /// The first record that a checkpoint's row covers.
    first: Option<u64>,
    /// When its record was written, else the row; none: it does not say.
    at: Option<OffsetDateTime>,
    /// A checkpoint's row since the copies were begun whose checkpoint an audit key signed.
    is_signed: bool,
    /// What is not as the trail wrote it.
    altered: Option<Cow<'static, str>>,
}

impl Rows {
    /// Rows of journals, or of copies that were begun then, on whose originals others write.
    #[must_use]
    pub fn of(copied: Option<(OffsetDateTime, AuditKeys)>) -> Self {
        Self { copied, ..Self::default() }
    }

    /// Whether they are held against copies, on whose originals others write.
    #[must_use]
    pub fn are_of_copies(&self) -> bool {
        self.copied.is_some()
    }

    /// Takes a row; others' rows are passed over. `is_as_written` says of one of that log what is wrong with it.
    pub fn take(&mut self, row: &Stored, is_as_written: impl FnOnce(&str) -> Result<(), String>) {
        let Some(Value::Object(payload)) = &row.payload else { return };
        let Some(subject) = Subject::of(payload) else { return };
        let altered = is_as_written(&subject.log).err().map(|why| self.explained(why));
        if subject.event_type == GAP {
            let first = payload.get("first").and_then(Value::as_u64).unwrap_or_default();
            self.gaps.push((subject.log.clone(), first, subject.number));
        }
        if let (Some(id), Some(actor)) = (&row.id, &row.actor_id)
            && has_object(actor, &subject.event_type)
        {
            self.with_object.insert(name(id), fingerprint(payload));
        }
        let first = payload.get("first").and_then(Value::as_u64);
        let recorded = payload.get("recorded_at").and_then(Value::as_str);
        let recorded = recorded.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        let at = recorded.or(row.at);
        let is_signed = self.copied.as_ref().is_some_and(|(began, keys)| {
            at.is_some_and(|at| at >= *began) && subject.is_signed(payload, keys)
        });
        if subject.event_type == CHECKPOINT {
            let reach = self.reaches.entry(subject.log.clone()).or_default();
            *reach = subject.number.max(*reach);
        }
        let row = Row { fingerprint: fingerprint(payload), first, at, is_signed, altered };
        if self.rows.insert(subject.clone(), row).is_some() {
            self.twice.push(subject);
        }
    }

    fn explained(&mut self, why: String) -> Cow<'static, str> {
        if self.explained >= EXPLAINED {
            return "the reason is not kept, since many rows were altered".into();
        }
        self.explained += 1;
        why.into()
    }

    /// The newest record of a log that a checkpoint row names. That the row is the journal's is for
    /// [`Rows::checkpoint`] to say.
    #[must_use]
    pub fn reach(&self, log: &str) -> u64 {
        self.reaches.get(log).copied().unwrap_or_default()
    }

    /// Whether a signed checkpoint row covers the records from `first` to `last`, with which a copy ends, and
    /// newer ones that are not in the copy. Never so of what is no copy.
    #[must_use]
    pub fn go_beyond(&self, log: &str, first: u64, last: u64) -> bool {
        self.rows.iter().any(|(subject, row)| {
            row.is_signed
                && subject.log == log
                && subject.number > last
                && row.first.is_some_and(|covered| covered <= first)
        })
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
            Some(row) => row.matches(&what, found),
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
            row.matches(&subject, found);
        } else {
            found.gap(format!("{subject} has a row that says other than the journal"));
        }
        true
    }

    /// A row that has an object of its own: it has to be a row of the table, and say the same.
    pub fn archived(&mut self, payload: &Map<String, Value>, found: &mut Found) {
        let id = payload.get("id").and_then(Value::as_str).unwrap_or_default();
        let id = name(id);
        match self.with_object.remove(&id) {
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

impl Row {
    /// It says what the journal says: it counts, if the rest of it is as the trail wrote it.
    fn matches(&self, what: &impl std::fmt::Display, found: &mut Found) {
        match &self.altered {
            None => found.matched += 1,
            Some(altered) => {
                found.gap(format!("{what} has a row that is not as the trail wrote it: {altered}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;
    use signing_core::tree::{Checkpoint, LogId, TreeHash};
    use time::Duration;

    use super::subject::NAME_MAX;
    use super::*;
    use crate::event::Owner;
    use crate::key::RowKey;

    const LOG: LogId = LogId::new([7; 16]);
    const BEGAN: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    /// A checkpoint's row, signed by the key of that seed.
    fn row((first, last): (u64, u64), size: u64, seed: [u8; 32], at: OffsetDateTime) -> Stored {
        let sign = |text: &[u8]| SigningKey::from_bytes(&seed).sign(text).to_bytes();
        let checkpoint = Checkpoint { log: LOG, size, root: TreeHash::empty() };
        let note = checkpoint.sign(&[(RowKey::of_seed(seed).public(), &sign)]);
        let payload = json!({
            "event_type": CHECKPOINT, "log": LOG.origin(), "first": first, "last": last, "checkpoint": note.note(),
        });
        Stored {
            id: None,
            actor_id: None,
            event_type: None,
            payload: Some(payload),
            prev_hash: None,
            hash: None,
            signature: None,
            signers: Vec::new(),
            at: Some(at),
            other_at: None,
        }
    }

    #[test]
    fn the_end_of_a_copy_is_covered_by_a_signed_row_that_goes_beyond_it_and_by_nothing_else() {
        let (ours, others) = ([1; 32], [2; 32]);
        let mut keys = AuditKeys::default();
        keys.add(RowKey::of_seed(ours).public().clone());
        let since = Some((BEGAN, keys));
        for (copied, row, expected) in [
            (since.clone(), row((6, 12), 12, ours, BEGAN), true),
            (None, row((6, 12), 12, ours, BEGAN), false),
            // It begins behind what is to be covered, or does not go beyond the copy.
            (since.clone(), row((7, 12), 12, ours, BEGAN), false),
            (since.clone(), row((6, 9), 9, ours, BEGAN), false),
            // Nobody signed that, or it is older than the copy and would be in it.
            (since.clone(), row((6, 12), 12, others, BEGAN), false),
            (since.clone(), row((6, 12), 11, ours, BEGAN), false),
            (since, row((6, 12), 12, ours, BEGAN - Duration::SECOND), false),
        ] {
            let mut rows = Rows::of(copied);
            rows.take(&row, |_| Ok(()));
            assert_eq!(rows.go_beyond(&LOG.origin(), 6, 9), expected, "{row:?}");
            assert!(!rows.go_beyond("signing-journal/other", 6, 9));
        }
    }

    #[test]
    fn rows_reach_as_far_as_the_newest_checkpoint_row_of_their_log() {
        let mut rows = Rows::default();
        assert_eq!(rows.reach(&LOG.origin()), 0);
        for (first, last) in [(1, 5), (6, 9), (1, 3)] {
            rows.take(&row((first, last), last, [1; 32], BEGAN), |_| Ok(()));
        }
        assert_eq!(rows.reach(&LOG.origin()), 9);
        assert_eq!(rows.reach("signing-journal/other"), 0);
    }

    #[test]
    fn a_row_that_says_the_same_counts_only_if_it_is_as_the_trail_wrote_it() {
        for (checked, named) in [
            (Ok(()), None),
            (
                Err("its hash is empty".to_owned()),
                Some("not as the trail wrote it: its hash is empty"),
            ),
        ] {
            let row = row((1, 5), 5, [1; 32], BEGAN);
            let mut payload = row.payload.clone().unwrap();
            payload["journal"] = json!(crate::event::Owner::Proxy.word());
            let note = payload["checkpoint"].as_str().unwrap().to_owned();
            let mut rows = Rows::default();
            rows.take(&Stored { payload: Some(payload), ..row }, |_| checked);
            let mut found = Found::default();
            assert!(rows.checkpoint(&LOG.origin(), 5, &note, (1, false), &mut found));
            assert_eq!(found.matched, u64::from(named.is_none()), "{found:?}");
            assert_eq!(found.gaps, u64::from(named.is_some()), "{found:?}");
            assert!(named.is_none_or(|named| found.named[0].ends_with(named)), "{found:?}");
        }
    }

    #[test]
    fn a_row_takes_little_memory_whatever_was_written_into_it() {
        let long = "x".repeat(1 << 20);
        let (mut rows, mut found) = (Rows::default(), Found::default());
        for number in 1..=EXPLAINED as u64 + 1 {
            let row = row((number, number), number, [1; 32], BEGAN);
            rows.take(&row, |_| Err("its hash is empty".to_owned()));
        }
        let said = rows.rows.values().filter_map(|row| row.altered.as_deref());
        assert_eq!(said.filter(|why| *why == "its hash is empty").count(), EXPLAINED);
        for member in ["log", "event_type"] {
            let mut row = row((1, 1), 1, [1; 32], BEGAN);
            let payload = row.payload.as_mut().unwrap();
            payload["seq"] = json!(1);
            payload[member] = json!(format!("{}/{long}", LOG.origin()));
            row.id = Some(long.clone());
            row.actor_id = Some(Owner::Signer.actor().to_owned());
            rows.take(&row, |_| Ok(()));
        }
        assert_eq!(rows.rows.len(), EXPLAINED + 3);
        let subjects = rows.rows.keys().flat_map(|subject| [&subject.log, &subject.event_type]);
        let longest = subjects.chain(rows.with_object.keys()).map(String::len).max();
        assert!(longest.is_some_and(|bytes| bytes <= NAME_MAX), "{longest:?}");
        // Nothing of it is passed over.
        assert_eq!(rows.left().values().sum::<u64>(), EXPLAINED as u64 + 3);
        rows.finish(&LOG.origin(), 1, None, &mut found);
        assert_eq!(found.gaps, EXPLAINED as u64 + 2, "{:?}", found.named);
    }
}
