//! What the comparison found, for a person and for a program. Pure.

use std::collections::{BTreeMap, BTreeSet};

use host::clock::rfc3339_seconds;
use serde_json::{Value, json};
use text::counted;
use time::OffsetDateTime;

use super::call::{Call, Journal};
use super::decide::Span;
use super::event::Event;
use super::keys::Place;

/// Findings of a kind that a program is given; more are counted.
pub const NAMED_MAX: usize = 10_000;
/// Findings of a kind that a person is shown.
const SHOWN_MAX: usize = 20;
/// Kinds of refused calls that are told apart.
const REFUSED_MAX: usize = 1_000;

/// One finding.
#[derive(Clone, Debug)]
pub struct Finding {
    /// For a person, in one line.
    pub line: String,
    /// For a program.
    pub json: Value,
}

/// All findings of a kind.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The number of findings.
    pub count: u64,
    /// The first of them.
    pub named: Vec<Finding>,
}

/// Calls that KMS refused, of one principal with one error.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// The number of calls.
    pub count: u64,
    /// The first and the last one, in seconds since 1970.
    pub during: Span,
}

/// How far KMS's log of a region reaches.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// From its first record to its last.
    pub during: Span,
    /// How many records.
    pub records: u64,
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the journals tell of; none: there is no such time.
    pub compared: Option<Span>,
    /// How long KMS's log may take.
    pub grace_s: i64,
    /// The journals.
    pub journals: Vec<Journal>,
    /// KMS's log, by region.
    pub logged: BTreeMap<String, Logged>,
    /// Our keys, by every name that is known.
    pub keys: BTreeSet<String>,
    /// Calls in the journals.
    pub calls: u64,
    /// Calls of `Sign` in KMS's log.
    pub events: u64,
    /// Of these, under keys that are not ours.
    pub other_keys: u64,
    /// Records of a call that another record was of.
    pub duplicates: u64,
    /// Calls of which both say that KMS signed.
    pub agreed: u64,
    /// KMS signed with our key, and no journal asked for it.
    pub bypass: Findings,
    /// A journal has a signature that KMS's log has not.
    pub ghost: Findings,
    /// A journal says that KMS certainly did not sign, and it did.
    pub contradicted: Findings,
    /// Nobody knew whether KMS signed: it did.
    pub settled_signed: Findings,
    /// It did not.
    pub settled_not_signed: Findings,
    /// Nobody knows whether KMS signed, and its log cannot tell yet.
    pub unsettled: Findings,
    /// KMS signed, and the record is lost: by the record that names the loss.
    pub unrecorded: BTreeMap<String, Findings>,
    /// Of these records, those that somebody has explained.
    pub explained: BTreeSet<String>,
    /// Signatures that the log cannot have yet, or has no more.
    pub late: u64,
    /// Calls at a time of which the journals do not tell.
    pub outside: Findings,
    /// Calls that KMS refused: whether ours, who, the error.
    pub refused: BTreeMap<(bool, String, String), Refused>,
    /// Refused calls of further kinds.
    pub refused_more: u64,
    /// Journals of the deployment that are known and not given.
    pub missing: BTreeSet<String>,
    /// Signers whose key nobody knows.
    pub unknown_keys: Vec<Place>,
    /// Regions of which no log is given.
    pub unlogged: BTreeSet<String>,
    /// What could not be read, or proves nothing.
    pub unread: Vec<String>,
    /// What was to be compared and is not.
    pub uncovered: Vec<String>,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(finding());
        }
    }

    fn to_json(&self) -> Value {
        let named: Vec<_> = self.named.iter().map(|one| one.json.clone()).collect();
        json!({"count": self.count, "named": named})
    }

    fn lines(&self, what: &str, lines: &mut Vec<String>) {
        let shown = self.named.iter().take(SHOWN_MAX);
        lines.extend(shown.map(|one| format!("{what}: {}", one.line)));
        let more = self.count.saturating_sub(u64::try_from(SHOWN_MAX).unwrap_or(u64::MAX));
        if more > 0 {
            lines.push(format!("{what}: and {more} more; --json names them"));
        }
    }
}

impl Report {
    /// A call that KMS refused.
    pub fn refuse(&mut self, is_ours: bool, event: &Event) {
        let code = event.error.clone().unwrap_or_default();
        let kind = (is_ours, event.issuer.clone(), code);
        let at = event.at;
        if let Some(refused) = self.refused.get_mut(&kind) {
            refused.count += 1;
            refused.during.from = refused.during.from.min(at);
            refused.during.to = refused.during.to.max(at);
        } else if self.refused.len() < REFUSED_MAX {
            self.refused.insert(kind, Refused { count: 1, during: Span { from: at, to: at } });
        } else {
            self.refused_more += 1;
        }
    }

    /// Lost calls that nobody has explained.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let lost = self.unrecorded.iter().filter(|(record, _)| !self.explained.contains(*record));
        lost.map(|(_, found)| found.count).sum()
    }

    /// Whether nobody signed around the journals, and all that is needed to say so was there.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let gaps = [&self.bypass, &self.ghost, &self.contradicted];
        gaps.iter().all(|found| found.count == 0)
            && self.unexplained() == 0
            && self.lacks().is_empty()
    }

    /// What is not there that is needed to say anything.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let mut lacks: Vec<_> = self.missing.iter().map(|log| {
            format!("the journal {log} is known and not given: --also DIR, or who else signed is not known")
        }).collect();
        lacks.extend(self.unknown_keys.iter().map(|(kid, region)| {
            format!("the key of {kid} in {region} is not known: name it with --config or --key")
        }));
        lacks.extend(
            self.unlogged.iter().map(|region| format!("no log of KMS in {region} is given")),
        );
        lacks.extend(self.unread.iter().cloned());
        lacks.extend(self.uncovered.iter().cloned());
        if self.compared.is_none() {
            lacks.push("the journals tell of no time in common, so nothing is compared".to_owned());
        }
        lacks
    }

    /// The answer, in one sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        let Self { bypass, ghost, contradicted, agreed, .. } = self;
        let unexplained = self.unexplained();
        let gaps = [
            (bypass.count, "bypass"),
            (ghost.count, "ghost"),
            (contradicted.count, "contradicted"),
            (unexplained, "unrecorded"),
        ];
        let gaps: Vec<_> = gaps
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let lacks = self.lacks().len();
        match (gaps.is_empty(), lacks) {
            (true, 0) => format!(
                "nobody signed around the journals: {} in both, none only in KMS's log",
                counted(*agreed, "signature")
            ),
            (true, _) => {
                let lacks = counted(lacks, "part");
                format!("NOT KNOWN whether anybody signed around the journals: {lacks} missing")
            }
            (false, _) => format!("NOT WHOLE: {}", gaps.join(", ")),
        }
    }

    /// For a program.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let span = |span: Span| json!({"from": time(span.from), "to": time(span.to)});
        let logged = self.logged.iter().map(|(region, logged)| {
            (region.clone(), json!({"from": time(logged.during.from), "to": time(logged.during.to), "records": logged.records}))
        });
        let journals = self.journals.iter().map(|one| {
            json!({
                "log": one.log, "first_seq": one.first_seq, "from": time(one.from), "to": time(one.to),
                "ended": one.is_ended,
            })
        });
        let unrecorded = self.unrecorded.iter().map(|(record, found)| {
            let mut found = found.to_json();
            if let Some(found) = found.as_object_mut() {
                found.insert("by".to_owned(), json!(record));
                found.insert("explained".to_owned(), json!(self.explained.contains(record)));
            }
            found
        });
        let refused = self.refused.iter().map(|((is_ours, who, code), refused)| {
            json!({
                "ours": is_ours, "kind": kind(code), "error": code, "principal": who, "count": refused.count,
                "first": time(refused.during.from), "last": time(refused.during.to),
            })
        });
        json!({
            "ok": self.is_good(), "verdict": self.verdict(), "compared": self.compared.map(span),
            "grace_s": self.grace_s, "journals": journals.collect::<Vec<_>>(),
            "kms_log": logged.collect::<serde_json::Map<_, _>>(), "keys": self.keys,
            "calls": self.calls, "events": self.events, "other_keys": self.other_keys,
            "duplicates": self.duplicates, "agreed": self.agreed,
            "bypass": self.bypass.to_json(), "ghost": self.ghost.to_json(),
            "contradicted": self.contradicted.to_json(),
            "settled": {"signed": self.settled_signed.to_json(), "not_signed": self.settled_not_signed.to_json()},
            "unsettled": self.unsettled.to_json(), "unrecorded": unrecorded.collect::<Vec<_>>(),
            "late": self.late, "outside": self.outside.to_json(),
            "refused": refused.collect::<Vec<_>>(), "refused_more": self.refused_more,
            "lacks": self.lacks(),
        })
    }

    /// For a person.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.push(match self.compared {
            Some(Span { from, to }) => format!("compared: from {} to {}", time(from), time(to)),
            None => "compared: nothing".to_owned(),
        });
        lines.extend(self.journals.iter().map(|one| {
            let cut = if one.first_seq > 1 { ", older records are not here" } else { "" };
            let end = if one.is_ended { ", then its process ended" } else { "" };
            format!("journal: {} from {} to {}{end}{cut}", one.log, time(one.from), time(one.to))
        }));
        lines.extend(self.logged.iter().map(|(region, logged)| {
            let Span { from, to } = logged.during;
            format!(
                "KMS's log: {region} from {} to {}, {}",
                time(from),
                time(to),
                counted(logged.records, "record")
            )
        }));
        lines.extend(self.keys.iter().map(|key| format!("key: {key}")));
        lines.push(format!(
            "grace: {} s; KMS's log may be so late, so nothing is missing so near to its ends",
            self.grace_s
        ));
        lines.push(format!(
            "calls: {} in the journals, {} in KMS's log ({} under other keys, {} twice); {} in both",
            self.calls, self.events, self.other_keys, self.duplicates, counted(self.agreed, "signature")
        ));
        self.bypass.lines("BYPASS", &mut lines);
        self.ghost.lines("GHOST", &mut lines);
        self.contradicted.lines("CONTRADICTED", &mut lines);
        for (record, found) in &self.unrecorded {
            let how = if self.explained.contains(record) {
                "explained".to_owned()
            } else {
                format!("when somebody has looked at it: --explained {record}")
            };
            lines.push(format!(
                "unrecorded: {} lost by record {record}; {how}",
                counted(found.count, "call")
            ));
            found.lines("unrecorded", &mut lines);
        }
        self.settled_signed.lines("settled, KMS signed", &mut lines);
        self.settled_not_signed.lines("settled, KMS did not sign", &mut lines);
        self.unsettled.lines("unsettled", &mut lines);
        if self.late > 0 {
            lines.push(format!(
                "late: {} that KMS's log cannot have, or has no more; look again later, with more of it",
                counted(self.late, "signature")
            ));
        }
        self.outside.lines("outside", &mut lines);
        lines.extend(self.refused.iter().map(|((is_ours, who, code), refused)| {
            let whose = if *is_ours { "of ours" } else { "of no journal" };
            let Span { from, to } = refused.during;
            format!(
                "{}: {} {whose}, {code}, by {who}, from {} to {}",
                kind(code),
                counted(refused.count, "call"),
                time(from),
                time(to)
            )
        }));
        if self.refused_more > 0 {
            lines.push(format!(
                "denied: and {} more of other kinds",
                counted(self.refused_more, "call")
            ));
        }
        lines.extend(self.lacks().into_iter().map(|what| format!("MISSING: {what}")));
        lines.push(self.verdict());
        // What others chose is in some of them, and makes no lines of its own.
        lines.iter().map(|line| text::line(line).into_owned()).collect()
    }
}

impl Finding {
    /// A call that KMS logged.
    #[must_use]
    pub fn of_event(event: &Event, why: &str) -> Self {
        let Event { region, key, request_id, event_id, principal, agent, source, .. } = event;
        let at = time(event.at);
        let line = format!(
            "{at} {key} by {principal} from {source}, {agent:?}, requestID {request_id}: {why}"
        );
        let json = json!({
            "at": at, "key": key, "region": region, "principal": principal, "source": source, "agent": agent,
            "request_id": request_id, "event_id": event_id, "why": why,
        });
        Self { line, json }
    }

    /// A call that a journal has, and what KMS logged of it.
    #[must_use]
    pub fn of_call(call: &Call, journals: &[Journal], event: Option<&Event>, why: &str) -> Self {
        let log =
            journals.get(usize::from(call.journal)).map_or("", |journal| journal.log.as_str());
        let Call { attempt, outcome, seq, kid, region, .. } = call;
        let request_id = event.map_or(call.request_id.as_str(), |event| &event.request_id);
        let at = time(event.map_or(call.to, |event| event.at));
        let line = format!(
            "{at} {kid} in {region}, attempt {attempt}, record {log}:{seq} ({outcome}), requestID {request_id:?}: {why}"
        );
        let json = json!({
            "at": at, "signer_kid": kid, "region": region, "attempt": attempt.to_string(), "log": log, "seq": seq,
            "outcome": outcome, "request_id": request_id, "event_id": event.map(|event| &event.event_id), "why": why,
        });
        Self { line, json }
    }
}

fn kind(code: &str) -> &'static str {
    if code.contains("Throttl") || code.contains("LimitExceeded") {
        "throttled"
    } else if code.contains("Denied") || code.contains("Unauthorized") {
        "denied"
    } else {
        "failed"
    }
}

/// Seconds since 1970, for a person.
#[must_use]
pub fn time(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at).map_or_else(|_| at.to_string(), rfc3339_seconds)
}
