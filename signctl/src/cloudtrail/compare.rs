//! The comparison from end to end: calls and records of KMS's log go in, in any order and number, and a report comes
//! out. First they are grouped by order, then what is left by KMS's own name, then what is left by time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use signing_core::json;

use super::call::{Call, Journal, Loss};
use super::decide::{Context, EDGE_S, Paired, Span, Verdict, of_call, of_event, of_pair, pair};
use super::event::{Event, Logged};
use super::keys::{Keys, Place};
use super::report::{self, Finding, Report, time};
use super::sort::{Sorted, Sorter};

/// Calls and records of one order, or of one name: more are none of ours.
const GROUP_MAX: usize = 64;
/// Principals that make calls of ours.
const ISSUERS_MAX: usize = 1_000;
const CALL: u8 = 0;
const EVENT: u8 = 1;

/// What is known besides calls and records.
#[derive(Debug, Default)]
pub struct Known {
    /// The journals that were read, by their numbers.
    pub journals: Vec<Journal>,
    /// Where their records are lost.
    pub losses: Vec<Loss>,
    /// The logs of all journals that are known.
    pub names: BTreeSet<String>,
    /// Logs that a journal which is given took the place of, and since when: seconds since 1970.
    pub replaced: Vec<(String, i64)>,
    /// Journals whose process never runs again.
    pub ended: BTreeSet<String>,
    /// The signers that asked KMS, with the region.
    pub places: BTreeSet<Place>,
    /// Our keys, as far as somebody named them.
    pub keys: Keys,
    /// How long KMS's log may take, in seconds.
    pub grace_s: i64,
    /// From when to when the comparison has to reach, if somebody asks for that.
    pub wanted: (Option<i64>, Option<i64>),
    /// The records of losses that somebody has explained.
    pub explained: BTreeSet<String>,
    /// What could not be read.
    pub unread: Vec<String>,
}

/// Takes what is to be compared.
#[derive(Debug)]
pub struct Compare {
    scratch: PathBuf,
    most_bytes: usize,
    orders: Sorter,
    names: Sorter,
    logged: BTreeMap<String, report::Logged>,
    calls: u64,
    events: u64,
}

impl Compare {
    /// Holds about twice `most_bytes` in memory, and more in files without a name in `scratch`.
    #[must_use]
    pub fn new(scratch: &Path, most_bytes: usize) -> Self {
        Self {
            scratch: scratch.to_owned(),
            most_bytes,
            orders: Sorter::new(scratch, most_bytes),
            names: Sorter::new(scratch, most_bytes),
            logged: BTreeMap::new(),
            calls: 0,
            events: 0,
        }
    }

    /// A call of a journal.
    ///
    /// # Errors
    /// If what is compared cannot be kept.
    pub fn call(&mut self, call: &Call) -> io::Result<()> {
        self.calls += 1;
        self.orders.push(&[&call.attempt.order.bytes(), &[CALL], &bytes(call)?])
    }

    /// A record of KMS's log.
    ///
    /// # Errors
    /// If what is compared cannot be kept.
    pub fn logged(&mut self, logged: &Logged) -> io::Result<()> {
        let (at, region) = match logged {
            Logged::Sign(event) => (event.at, &event.region),
            Logged::Other { at, region } => (*at, region),
        };
        if let Some(reach) = self.logged.get_mut(region) {
            reach.during.from = reach.during.from.min(at);
            reach.during.to = reach.during.to.max(at);
            reach.records += 1;
        } else {
            let during = Span { from: at, to: at };
            self.logged.insert(region.clone(), report::Logged { during, records: 1 });
        }
        let Logged::Sign(event) = logged else { return Ok(()) };
        self.events += 1;
        match &event.attempt {
            Some(attempt) => {
                self.orders.push(&[&attempt.order.bytes(), &[EVENT], &bytes(&**event)?])
            }
            None => self.names.push(&[&name_of(event, self.events), &[EVENT], &bytes(&**event)?]),
        }
    }

    /// The end: what was found.
    ///
    /// # Errors
    /// If what is compared cannot be read again.
    pub fn finish(self, known: Known) -> io::Result<Report> {
        let compared = compared(&known);
        let mut work = Work {
            report: Report {
                compared,
                grace_s: known.grace_s,
                journals: known.journals.clone(),
                logged: self.logged,
                calls: self.calls,
                events: self.events,
                explained: known.explained.clone(),
                unread: known.unread.clone(),
                ..Report::default()
            },
            keys: known.keys.clone(),
            issuers: BTreeSet::new(),
            rest: Sorter::new(&self.scratch, self.most_bytes),
        };
        let mut names = self.names;
        let mut unnamed = self.events;
        let mut orders = self.orders.finish()?;
        groups(
            &mut orders,
            |_| Some(16),
            |found| {
                let rest = match found {
                    Found::Group(calls, events) => work.group(calls, events),
                    Found::More(event) => Paired { events: vec![*event], ..Paired::default() },
                };
                for call in rest.calls {
                    if call.request_id.is_empty() {
                        work.rest(call.from, CALL, &call)?;
                    } else {
                        let name = [b"r", call.request_id.as_bytes(), &[0]].concat();
                        names.push(&[&name, &[CALL], &bytes(&call)?])?;
                    }
                }
                for event in &rest.events {
                    unnamed += 1;
                    names.push(&[&name_of(event, unnamed), &[EVENT], &bytes(event)?])?;
                }
                Ok(())
            },
        )?;
        let mut names = names.finish()?;
        groups(
            &mut names,
            |entry| Some(entry.iter().position(|byte| *byte == 0)? + 1),
            |found| {
                let rest = match found {
                    Found::Group(calls, events) => work.group(calls, events),
                    Found::More(_) => {
                        // All of one name are one call.
                        work.report.duplicates += 1;
                        return Ok(());
                    }
                };
                for call in &rest.calls {
                    work.rest(call.from, CALL, call)?;
                }
                for event in &rest.events {
                    work.rest(event.at, EVENT, event)?;
                }
                Ok(())
            },
        )?;
        work.judge(&known)
    }
}

/// What is under way.
struct Work {
    report: Report,
    keys: Keys,
    issuers: BTreeSet<String>,
    rest: Sorter,
}

impl Work {
    /// Finds which is which among a group: what is left.
    fn group(&mut self, calls: Vec<Call>, events: Vec<Event>) -> Paired {
        let mut paired = pair(calls, events, &self.keys);
        self.report.duplicates += paired.duplicates;
        for (call, event, is_named) in std::mem::take(&mut paired.pairs) {
            if is_named {
                // A stranger can copy an attempt's name, and not KMS's.
                self.keys.learn(&(call.kid.clone(), call.region.clone()), &event.key);
                if self.issuers.len() < ISSUERS_MAX && !self.issuers.contains(&event.issuer) {
                    self.issuers.insert(event.issuer.clone());
                }
            }
            let journals = &self.report.journals;
            let found = |why: &str| Finding::of_call(&call, journals, Some(&event), why);
            match of_pair(&call, &event) {
                Verdict::Agreed => self.report.agreed += 1,
                Verdict::Ghost(why) => self.report.ghost.add(|| found(why)),
                Verdict::Contradicted => {
                    self.report.contradicted.add(|| found("KMS's log says that it signed"));
                }
                Verdict::Settled(true) => self.report.settled_signed.add(|| found("KMS signed")),
                Verdict::Settled(false) => {
                    self.report.settled_not_signed.add(|| found("KMS refused"));
                    self.report.refuse(true, &event);
                }
                Verdict::Refused => self.report.refuse(true, &event),
                Verdict::Unsettled
                | Verdict::Nothing
                | Verdict::Bypass(_)
                | Verdict::Unrecorded(_)
                | Verdict::Outside
                | Verdict::Late
                | Verdict::OtherKey => {}
            }
        }
        paired
    }

    fn rest(&mut self, at: i64, kind: u8, what: &impl Serialize) -> io::Result<()> {
        // In the order of the numbers, those below zero first.
        let at = (at.cast_unsigned() ^ (1 << 63)).to_be_bytes();
        self.rest.push(&[&at, &[kind], &bytes(what)?])
    }

    /// Now that all that is certainly ours is known: what is only in one of the two.
    fn judge(self, known: &Known) -> io::Result<Report> {
        let Self { mut report, keys, issuers, rest } = self;
        let grace = known.grace_s;
        let logged = report.logged.iter().map(|(region, logged)| {
            let Span { from, to } = logged.during;
            (
                region.clone(),
                Span { from: from.saturating_add(grace), to: to.saturating_sub(grace) },
            )
        });
        let mut context = Context {
            compared: report.compared.unwrap_or(Span { from: 1, to: 0 }),
            logged: logged.collect(),
            keys,
            issuers,
            losses: known.losses.clone(),
        };
        let mut rest = rest.finish()?;
        while let Some(entry) = rest.next()? {
            match entry.split_at_checked(8).and_then(|(_, rest)| rest.split_first()) {
                Some((&CALL, call)) => {
                    let call: Call = read(call)?;
                    let journals = &report.journals;
                    let found = |why: &str| Finding::of_call(&call, journals, None, why);
                    match of_call(&call, &context) {
                        Verdict::Ghost(why) => report.ghost.add(|| found(why)),
                        Verdict::Late => report.late += 1,
                        Verdict::Settled(_) => {
                            report.settled_not_signed.add(|| found("KMS's log has no such call"));
                        }
                        Verdict::Unsettled => {
                            report.unsettled.add(|| found("KMS's log may be late"))
                        }
                        _ => {}
                    }
                }
                Some((_, event)) => {
                    let event: Event = read(event)?;
                    match of_event(&event, &mut context) {
                        Verdict::Bypass(why) => {
                            report.bypass.add(|| Finding::of_event(&event, why))
                        }
                        Verdict::Unrecorded(at) => {
                            let record = context.losses.get(at).map(|loss| loss.record.clone());
                            let found = report.unrecorded.entry(record.unwrap_or_default());
                            let why = "its record is lost";
                            found.or_default().add(|| Finding::of_event(&event, why));
                        }
                        Verdict::Outside => {
                            let why = "no journal that is given tells of that time";
                            report.outside.add(|| Finding::of_event(&event, why));
                        }
                        Verdict::Refused => report.refuse(false, &event),
                        Verdict::OtherKey => report.other_keys += 1,
                        _ => {}
                    }
                }
                None => {
                    return Err(io::Error::other("a file of ours was changed while it was sorted"));
                }
            }
        }
        lacks(&mut report, &context.keys, known);
        Ok(report)
    }
}

/// What is not there that is needed to say anything.
fn lacks(report: &mut Report, keys: &Keys, known: &Known) {
    report.keys = keys.names();
    report.unknown_keys = keys.unknown(&known.places);
    let given: BTreeSet<_> = known.journals.iter().map(|journal| &journal.log).collect();
    // One that was replaced before the time that is compared tells of nothing in it.
    let from = report.compared.map_or(i64::MAX, |compared| compared.from);
    let (over, within): (Vec<_>, Vec<_>) =
        known.replaced.iter().partition(|(_, since)| *since <= from);
    let named = known.names.iter().chain(within.into_iter().map(|(log, _)| log));
    let missing =
        named.filter(|log| !given.contains(log) && !over.iter().any(|(old, _)| old == *log));
    report.missing = missing.cloned().collect();
    if report.keys.is_empty() {
        report.uncovered.push("no key is known: name one with --config or --key".to_owned());
    }
    // Also where the proxy never signed: others can.
    let places = known.places.iter().chain(known.keys.places());
    let regions: BTreeSet<_> = places.map(|(_, region)| region).collect();
    let unlogged = regions.iter().filter(|region| !report.logged.contains_key(**region));
    report.unlogged = unlogged.map(|region| (*region).clone()).collect();
    let (from, until) = known.wanted;
    // Before its first record a journal that is whole has nothing to tell.
    let is_whole = known.journals.iter().all(|journal| journal.first_seq == 1);
    let begin = report.compared.filter(|_| is_whole).map(|compared| compared.from);
    let from = from.map(|from| begin.map_or(from, |begin| from.max(begin)));
    if let (Some(from), Some(compared)) = (from, report.compared)
        && compared.from > from
    {
        report.uncovered.push(format!("the journals tell only from {} on", time(compared.from)));
    }
    if let (Some(until), Some(compared)) = (until, report.compared)
        && compared.to < until
    {
        report.uncovered.push(format!("the journals tell only until {}", time(compared.to)));
    }
    for region in regions {
        let Some(logged) = report.logged.get(region) else { continue };
        let Span { from: first, to: last } = logged.during;
        if from.is_some_and(|from| first > from.saturating_add(known.grace_s)) {
            report.uncovered.push(format!("KMS's log of {region} begins at {}", time(first)));
        }
        if until.is_some_and(|until| last < until) {
            report.uncovered.push(format!("KMS's log of {region} ends at {}", time(last)));
        }
    }
}

/// What all journals tell of. Where older records of one were moved away, or where a process goes on, another call
/// may be recorded than those that are here.
fn compared(known: &Known) -> Option<Span> {
    let journals = || known.journals.iter();
    let is_over = |journal: &Journal| {
        let is_replaced = || known.replaced.iter().any(|(log, _)| *log == journal.log);
        journal.is_ended || known.ended.contains(&journal.log) || is_replaced()
    };
    let cut = journals().filter(|journal| journal.first_seq > 1);
    let from = cut.map(|journal| journal.from.saturating_add(EDGE_S)).max();
    let from = from.or_else(|| journals().map(|journal| journal.from).min())?;
    let running = journals().filter(|journal| !is_over(journal));
    let to = running.map(|journal| journal.to.saturating_sub(EDGE_S)).min();
    let to = to.or_else(|| journals().map(|journal| journal.to).max())?;
    (from <= to).then_some(Span { from, to })
}

/// By what all records of a call are together: KMS's name, else CloudTrail's, else none.
fn name_of(event: &Event, number: u64) -> Vec<u8> {
    let number = number.to_string();
    let (kind, name) = match (event.request_id.as_str(), event.event_id.as_str()) {
        ("", "") => (b"n", number.as_str()),
        ("", event_id) => (b"e", event_id),
        (request_id, _) => (b"r", request_id),
    };
    let plain = name.bytes().filter(|byte| *byte != 0);
    kind.iter().copied().chain(plain).chain([0]).collect()
}

/// What the entries with one beginning are.
enum Found {
    /// Calls, and records of KMS's log, that may be of each other.
    Group(Vec<Call>, Vec<Event>),
    /// A record above the limit of its group.
    More(Box<Event>),
}

/// Goes through entries of which those with the same beginning are together. `ends` says where it ends.
fn groups(
    sorted: &mut Sorted,
    ends: impl Fn(&[u8]) -> Option<usize>,
    mut found: impl FnMut(Found) -> io::Result<()>,
) -> io::Result<()> {
    let mut name: Vec<u8> = Vec::new();
    let (mut calls, mut events) = (Vec::new(), Vec::new());
    while let Some(entry) = sorted.next()? {
        let parts = ends(&entry).and_then(|end| {
            let (of, rest) = entry.split_at_checked(end)?;
            let (kind, what) = rest.split_first()?;
            Some((of, *kind, what))
        });
        let Some((of, kind, what)) = parts else {
            return Err(io::Error::other("a file of ours was changed while it was sorted"));
        };
        if of != name {
            found(Found::Group(std::mem::take(&mut calls), std::mem::take(&mut events)))?;
            of.clone_into(&mut name);
        }
        if kind == CALL {
            calls.push(read(what)?);
        } else if events.len() < GROUP_MAX {
            events.push(read(what)?);
        } else {
            found(Found::More(Box::new(read(what)?)))?;
        }
    }
    found(Found::Group(calls, events))
}

fn bytes(what: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(io::Error::other)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    json::from_slice(bytes).map_err(io::Error::other)
}
