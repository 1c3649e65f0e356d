//! What a journal says that KMS was asked for: each call, from when to when it was under way, and what is known of
//! it. Pure: it takes the records in their order.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use signing_core::journal::{Kind, Outline};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::event::Attempt;
use super::keys::Place;

const KMS: &str = "aws-kms";
/// An intent that is not here was that long before its outcome at most.
const INTENT_LOST_S: i64 = 120;
/// Calls of canaries are recorded every ten seconds. So those are lost that a killed process made so long before its
/// last record.
const LOST_BEFORE_S: i64 = 15;
/// And those that it made so long after that, until it was killed; the last ones may take some time.
const LOST_AFTER_S: i64 = 30;

/// What a record claims of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// KMS signed: the signature verified.
    Signed,
    /// Nobody knows whether KMS signed.
    Open,
    /// KMS certainly did not sign.
    NotSigned,
}

/// A call of `Sign`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name. Number 0: any call of that order.
    pub attempt: Attempt,
    /// What the record claims.
    pub claim: Claim,
    /// What came of it, in the record's word.
    pub outcome: String,
    /// The earliest moment at which it can have been made: seconds since 1970.
    pub from: i64,
    /// The latest moment at which it was known to be over.
    pub to: i64,
    /// Which journal, by its place among those given.
    pub journal: u16,
    /// The record.
    pub seq: u64,
    /// The signer whose key was asked.
    pub kid: String,
    /// In which region.
    pub region: String,
    /// What KMS calls it; empty: it did not say.
    pub request_id: String,
}

/// Calls may have been made then whose records are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// From when on: seconds since 1970.
    pub from: i64,
    /// Until when.
    pub to: i64,
    /// The record that says so: `log:seq`.
    pub record: String,
    /// How many at most; none: nobody knows.
    pub most: Option<u64>,
}

/// What is known of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its log: 32 hex digits.
    pub log: String,
    /// The oldest record that is here.
    pub first_seq: u64,
    /// The time of its oldest record: seconds since 1970.
    pub from: i64,
    /// The time of its newest one.
    pub to: i64,
    /// Whether its process ended in order after the newest one.
    pub is_ended: bool,
}

/// Reads one journal.
#[derive(Debug)]
pub struct Reading {
    number: u16,
    journal: Journal,
    is_begun: bool,
    /// The intents without an outcome so far. As many as are under way at the same time.
    open: HashMap<u64, Call>,
    /// The newest record but those that only begin a segment.
    newest: Option<Kind>,
    /// Where calls may be lost.
    pub losses: Vec<Loss>,
    /// Other logs that its records name as journals of a proxy.
    pub names: BTreeSet<String>,
    /// The log that it took the place of, and when: seconds since 1970.
    pub replaces: Option<(String, i64)>,
    /// The signers that asked KMS, with the region.
    pub places: BTreeSet<Place>,
}

impl Reading {
    /// Begins with the journal of that log: 32 hex digits.
    #[must_use]
    pub fn new(number: u16, log: &str) -> Self {
        let journal =
            Journal { log: log.to_owned(), first_seq: 0, from: 0, to: 0, is_ended: false };
        Self {
            number,
            journal,
            is_begun: false,
            open: HashMap::new(),
            newest: None,
            losses: Vec::new(),
            names: BTreeSet::new(),
            replaces: None,
            places: BTreeSet::new(),
        }
    }

    /// Takes the next record; gives the calls that it tells the end of to `found`.
    ///
    /// # Errors
    /// What `found` refuses with.
    pub fn note<E>(
        &mut self,
        seq: u64,
        kind: Kind,
        outline: &Outline,
        found: &mut impl FnMut(Call) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = moment(&outline.at).unwrap_or(self.journal.to);
        let last = self.journal.to;
        if self.is_begun {
            self.journal.from = self.journal.from.min(at);
            self.journal.to = self.journal.to.max(at);
        } else {
            (self.journal.first_seq, self.journal.from, self.journal.to) = (seq, at, at);
            self.is_begun = true;
        }
        match kind {
            Kind::Intent => self.intent(seq, at, outline),
            Kind::Signed | Kind::Failed => self.outcome(seq, at, kind, outline, found)?,
            Kind::Probes => self.probes(seq, at, outline, found)?,
            Kind::Start if !matches!(self.newest, None | Some(Kind::Init | Kind::Stop)) => {
                let to = at.min(last.saturating_add(LOST_AFTER_S));
                self.lost(seq, last.saturating_sub(LOST_BEFORE_S), to, None);
            }
            // A canary that is under way then may be counted too late for the last record of its kind.
            Kind::Stop => {
                let from = at.saturating_sub(LOST_BEFORE_S);
                self.lost(seq, from, at.saturating_add(LOST_BEFORE_S), None);
            }
            Kind::Init => {
                self.replaces = log_of(outline.text("replaces")).map(|log| (log.to_owned(), at));
            }
            _ => {}
        }
        if let Some(log) = log_of(outline.text("proxy_head"))
            && !self.names.contains(log)
        {
            self.names.insert(log.to_owned());
        }
        if kind != Kind::Segment {
            self.newest = Some(kind);
        }
        Ok(())
    }

    /// The end of it. What has no outcome yet is open.
    ///
    /// # Errors
    /// What `found` refuses with.
    pub fn finish<E>(
        &mut self,
        found: &mut impl FnMut(Call) -> Result<(), E>,
    ) -> Result<Journal, E> {
        self.journal.is_ended = self.newest == Some(Kind::Stop);
        for (_, mut call) in self.open.drain() {
            call.to = self.journal.to;
            found(call)?;
        }
        Ok(self.journal.clone())
    }

    fn intent(&mut self, seq: u64, at: i64, outline: &Outline) {
        let attempt = outline.text("attempt").and_then(Attempt::parse);
        let (Some(attempt), Some(KMS)) = (attempt, outline.text("upstream")) else { return };
        let call = Call {
            attempt,
            claim: Claim::Open,
            outcome: "no outcome is recorded".to_owned(),
            from: at,
            to: at,
            journal: self.number,
            seq,
            kid: text(&outline.data, "signer_kid"),
            region: text(&outline.data, "region"),
            request_id: String::new(),
        };
        self.open.insert(seq, call);
    }

    fn outcome<E>(
        &mut self,
        seq: u64,
        at: i64,
        kind: Kind,
        outline: &Outline,
        found: &mut impl FnMut(Call) -> Result<(), E>,
    ) -> Result<(), E> {
        let intent = outline.number("intent").and_then(|intent| self.open.remove(&intent));
        let from = intent.map_or(at.saturating_sub(INTENT_LOST_S), |intent| intent.from);
        let data = &outline.data;
        let (claim, outcome) = match kind {
            Kind::Signed => (Claim::Signed, "signed".to_owned()),
            _ => (of_refusal(outline.text("reason").unwrap_or_default()), text(data, "reason")),
        };
        let time = (from, at);
        self.call(seq, time, (data, data), (claim, outcome), found)?;
        for earlier in list(data, "earlier_attempts") {
            let word = text(earlier, "reason");
            self.call(seq, time, (earlier, data), (of_word(&word), word), found)?;
        }
        Ok(())
    }

    fn probes<E>(
        &mut self,
        seq: u64,
        at: i64,
        outline: &Outline,
        found: &mut impl FnMut(Call) -> Result<(), E>,
    ) -> Result<(), E> {
        let over = outline.number("over_s").and_then(|over| i64::try_from(over).ok());
        let from = at.saturating_sub(over.unwrap_or(0)).saturating_sub(LOST_AFTER_S);
        for call in list(&outline.data, "calls") {
            if call.get("operation").and_then(Value::as_str) == Some("Sign") {
                let word = text(call, "outcome");
                self.call(seq, (from, at), (call, call), (of_word(&word), word), found)?;
            }
        }
        if let Some(left_out) = outline.number("left_out") {
            self.lost(seq, from, at, Some(left_out));
        }
        Ok(())
    }

    /// A call that `data` names, of the signer that `whose` names.
    fn call<E>(
        &mut self,
        seq: u64,
        (from, to): (i64, i64),
        (data, whose): (&Value, &Value),
        (claim, outcome): (Claim, String),
        found: &mut impl FnMut(Call) -> Result<(), E>,
    ) -> Result<(), E> {
        let attempt = data.get("attempt").and_then(Value::as_str).and_then(Attempt::parse);
        let is_kms = data.get("upstream").and_then(Value::as_str) == Some(KMS);
        let Some(attempt) = attempt.filter(|_| is_kms) else { return Ok(()) };
        let place = (text(whose, "signer_kid"), text(data, "region"));
        if !self.places.contains(&place) {
            self.places.insert(place.clone());
        }
        let (kid, region) = place;
        let (journal, request_id) = (self.number, text(data, "upstream_request_id"));
        found(Call { attempt, claim, outcome, from, to, journal, seq, kid, region, request_id })
    }

    fn lost(&mut self, seq: u64, from: i64, to: i64, most: Option<u64>) {
        let record = format!("{}:{seq}", self.journal.log);
        self.losses.push(Loss { from, to, record, most });
    }
}

/// The log of a head that a record names: `log:size:root`.
fn log_of(head: Option<&str>) -> Option<&str> {
    head.and_then(|head| head.split(':').next())
}

/// By the word of a fault, as calls have it.
fn of_word(word: &str) -> Claim {
    match word {
        "signed" => Claim::Signed,
        "rejected" | "unavailable" | "throttled" | "key_unavailable" | "overloaded" => {
            Claim::NotSigned
        }
        _ => Claim::Open,
    }
}

/// By the word of a refusal, as outcomes have it.
fn of_refusal(word: &str) -> Claim {
    match word {
        "upstream_unhealthy" | "upstream_throttled" | "key_unavailable" | "overloaded"
        | "deadline_exceeded" => Claim::NotSigned,
        _ => Claim::Open,
    }
}

fn list<'v>(data: &'v Value, name: &str) -> &'v [Value] {
    data.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Seconds since 1970.
fn moment(at: &str) -> Option<i64> {
    OffsetDateTime::parse(at, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORDER: &str = "0123456789abcdef0123456789abcdef";

    fn read(records: &[(u8, Kind, Value)]) -> (Reading, Vec<Call>, Journal) {
        let (mut reading, mut calls) = (Reading::new(3, "log"), Vec::new());
        let mut take = |call| {
            calls.push(call);
            Ok::<_, ()>(())
        };
        for (seq, (minute, kind, data)) in (1..).zip(records) {
            let at = format!("2026-11-26T05:{minute:02}:00.000000Z");
            let outline = Outline { at, data: data.clone(), r#type: kind.word().to_owned() };
            reading.note(seq, *kind, &outline, &mut take).unwrap();
        }
        let journal = reading.finish(&mut take).unwrap();
        (reading, calls, journal)
    }

    fn asked(more: Value) -> Value {
        let mut data = json!({"signer_kid": "k", "upstream": "aws-kms", "region": "eu-1"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    }

    #[test]
    fn each_call_has_its_claim_and_its_time() {
        let id = |number: u8| format!("{ORDER}-{number}");
        let earlier = json!([
            {"attempt": id(1), "reason": "throttled", "upstream": "aws-kms", "region": "us-1", "upstream_request_id": "r-1"},
            {"attempt": id(2), "reason": "indeterminate", "upstream": "aws-kms", "region": "eu-1"},
            {"attempt": id(9), "reason": "unavailable", "upstream": "pkcs11", "region": "token"},
        ]);
        let signed = asked(
            json!({"attempt": id(3), "intent": 2, "earlier_attempts": earlier, "upstream_request_id": "r-3"}),
        );
        let records = [
            (0, Kind::Init, json!({"replaces": "old:5:root"})),
            (1, Kind::Intent, asked(json!({"attempt": ORDER}))),
            (3, Kind::Signed, signed),
            (4, Kind::Signed, json!({"intent": 9, "replayed": true})),
            (
                5,
                Kind::Failed,
                asked(json!({"intent": 9, "reason": "indeterminate", "attempt": ORDER})),
            ),
            (
                6,
                Kind::Failed,
                asked(json!({"intent": 9, "reason": "upstream_throttled", "attempt": id(1)})),
            ),
            (
                7,
                Kind::Probes,
                json!({"over_s": 10, "left_out": 2, "calls": [
                    asked(json!({"operation": "Sign", "outcome": "signed", "attempt": id(1)})),
                    asked(json!({"operation": "DescribeKey", "outcome": "answered", "attempt": id(1)})),
                ]}),
            ),
            (8, Kind::Intent, asked(json!({"attempt": ORDER}))),
        ];
        let (reading, calls, journal) = read(&records);
        let minute = |at: i64| (at - journal.from) / 60;
        let rows: Vec<_> = calls
            .iter()
            .map(|call| {
                (
                    call.attempt.number,
                    call.claim,
                    call.region.as_str(),
                    minute(call.from),
                    minute(call.to),
                )
            })
            .collect();
        let expected = [
            (3, Claim::Signed, "eu-1", 1, 3),
            (1, Claim::NotSigned, "us-1", 1, 3),
            (2, Claim::Open, "eu-1", 1, 3),
            (0, Claim::Open, "eu-1", 3, 5),
            (1, Claim::NotSigned, "eu-1", 4, 6),
            (1, Claim::Signed, "eu-1", 6, 7),
            (0, Claim::Open, "eu-1", 8, 8),
        ];
        assert_eq!(rows, expected);
        assert_eq!((calls[0].request_id.as_str(), calls[1].request_id.as_str()), ("r-3", "r-1"));
        assert_eq!(reading.replaces, Some(("old".to_owned(), journal.from)));
        assert_eq!((reading.losses[0].most, reading.losses[0].record.as_str()), (Some(2), "log:7"));
        assert!(!journal.is_ended && reading.places.len() == 2, "{reading:?}");
    }

    #[test]
    fn a_stop_and_a_start_after_no_stop_tell_of_lost_calls() {
        let kinds = |kinds: &[Kind]| {
            let records = (0..).zip(kinds).map(|(minute, kind)| (minute, *kind, json!({})));
            let (reading, _, journal) = read(&records.collect::<Vec<_>>());
            (reading.losses.len(), journal.is_ended)
        };
        assert_eq!(
            kinds(&[Kind::Init, Kind::Start, Kind::Stop, Kind::Segment, Kind::Start]),
            (1, false)
        );
        assert_eq!(kinds(&[Kind::Start, Kind::Stop]), (1, true));
        assert_eq!(
            kinds(&[Kind::Init, Kind::Start, Kind::Gate, Kind::Start, Kind::Stop]),
            (2, true)
        );
        let (reading, ..) = read(&[(0, Kind::Gate, json!({})), (1, Kind::Start, json!({}))]);
        let Loss { from, to, most, .. } = &reading.losses[0];
        assert_eq!((to - from, *most), (LOST_BEFORE_S + LOST_AFTER_S, None));
    }
}
