//! `signctl audit verify --archive`: are the objects as the trail wrote them?

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use host::out;
use serde_json::{Map, Value, json};
use signing_core::Registry;
use signing_core::journal::Leaf;
use signing_core::tree::LogId;
use trail::archive::read::{Archive, ReadObserver};
use trail::archive::verify::{Found, Verifier};

use crate::archive::ArchiveFlags;
use crate::database::runtime;

/// A person sees how far it is after so many objects.
const SHOWN_EVERY: u64 = 100;

/// Shows how far it is, and passes on what else is heard.
pub(super) struct Shows<H> {
    is_person: bool,
    heard: H,
}

impl<H: FnMut(Heard<'_>)> Shows<H> {
    pub(super) fn new(heard: H) -> Self {
        Self { is_person: io::stderr().is_terminal(), heard }
    }
}

/// What is sound in an archive.
pub(super) enum Heard<'a> {
    /// A record of a log.
    Record(LogId, Leaf),
    /// A row that has an object of its own.
    Event(&'a Map<String, Value>),
}

impl<H: FnMut(Heard<'_>)> ReadObserver for Shows<H> {
    fn record(&mut self, log: LogId, leaf: Leaf) {
        (self.heard)(Heard::Record(log, leaf));
    }

    fn event(&mut self, _: &str, payload: &Map<String, Value>) {
        (self.heard)(Heard::Event(payload));
    }

    fn progress(&mut self, read: u64, of: u64) {
        if self.is_person && (read.is_multiple_of(SHOWN_EVERY) || read == of) {
            out::say_for_now(&if read == of {
                String::new()
            } else {
                format!("{read} of {of} objects ")
            });
        }
    }
}

pub(super) fn run(
    flags: &ArchiveFlags,
    registry: &Registry,
    is_partial: bool,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let archive = flags.open(&runtime)?;
    let verifier = Verifier::new(registry, !is_partial);
    let found = runtime.block_on(archive.verify(verifier, &mut Shows::new(|_| {})))?;
    let is_bucket = matches!(archive, Archive::Bucket(_));
    if as_json {
        out::report_json(&in_json(&found, is_bucket))?;
    } else {
        out::report(&text::lines(&readable(&found, is_bucket)))?;
    }
    Ok(if found.defects == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_json(found: &Found, is_bucket: bool) -> Value {
    let logs: Vec<_> = found
        .logs
        .iter()
        .map(|(log, reach)| json!({"log": log.origin(), "first": reach.first, "last": reach.last}))
        .collect();
    json!({
        "ok": found.defects == 0,
        "objects": found.objects,
        "records": found.records,
        "events": found.events,
        "logs": logs,
        "roots_not_checked": found.rootless,
        "locks_checked": is_bucket,
        "locks_ended": found.unlocked_by_age,
        "defects": found.defects,
        "defect": found.named,
        "notes": found.notes,
    })
}

fn readable(found: &Found, is_bucket: bool) -> String {
    let mut lines: Vec<_> = found.named.iter().map(|what| format!("DEFECT: {what}")).collect();
    let named = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    if found.defects > named {
        lines.push(format!("and {} more", found.defects - named));
    }
    let verdict = if found.defects == 0 { "no defect" } else { "NOT WHOLE" };
    let Found { objects, records, events, .. } = found;
    lines.push(format!(
        "{verdict}: {records} records in {objects} objects, and {events} rows of their own"
    ));
    for (log, reach) in &found.logs {
        lines.push(format!("{log}: records {} to {}", reach.first, reach.last));
    }
    if found.rootless > 0 {
        lines.push(format!(
            "not checked: the roots of {} objects, since records before them are not here",
            found.rootless
        ));
    }
    if !is_bucket {
        lines
            .push("not checked: locks and versions, which only the bucket itself knows".to_owned());
    }
    if found.unlocked_by_age > 0 {
        lines.push(format!(
            "{} objects are no longer locked: their time has passed",
            found.unlocked_by_age
        ));
    }
    lines.extend(found.notes.iter().cloned());
    lines.join("\n")
}
