//! Writes of a journal, gathered into objects. Nothing is lost here if the process dies: what is gathered is read again.

use std::time::Duration;

use signing_core::Moment;
use signing_core::tree::{Checkpoint, LogId, SignedCheckpoint};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::bucket::Object;
use super::cut::{Limits, Sum};
use super::name::{Part, directory};
use super::position::Found;
use crate::plan::Position;
use crate::source::Write;

/// Records on their way into objects.
pub(super) struct Objects {
    log: LogId,
    position: Position,
    limits: Limits,
    /// Records that a run before brought, and no checkpoint of them.
    begun: Option<Part>,
    /// The newest day.
    directory: Option<String>,
    open: Option<Open>,
    /// A write that begins the object after the open one.
    next: Option<(Write, Moment)>,
}

/// The object that is gathered.
struct Open {
    sum: Sum,
    at: String,
    lines: Vec<String>,
    checkpoint: SignedCheckpoint,
    since: Moment,
}

impl Objects {
    pub(super) fn new(log: LogId, position: Position, found: Found, limits: Limits) -> Self {
        let Found { begun, directory, .. } = found;
        Self { log, position, limits, begun, directory, open: None, next: None }
    }

    /// How far the bucket is.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// When the oldest record was written that is not in the bucket.
    pub(super) fn oldest_at(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.at.as_str())
    }

    /// Whether there is room for another write.
    pub(super) fn takes(&self) -> bool {
        self.next.is_none()
    }

    /// Takes the next write of the journal.
    pub(super) fn take(&mut self, write: Write, now: Moment) {
        let sum = sum(&write);
        let first = self.position.shipped + 1;
        match &mut self.open {
            None => self.open = Some(Open::new(write, sum, now)),
            Some(open) if joins(open, &sum, first, self.begun, &self.limits) => {
                open.sum = open.sum.and(&sum);
                open.lines.extend(write.lines);
                open.checkpoint = write.checkpoint;
            }
            Some(_) => self.next = Some((write, now)),
        }
    }

    /// The records and the checkpoint that are due, if they are. They stay due until they are brought.
    pub(super) fn due(&self, wall: OffsetDateTime, now: Moment) -> Option<[Object; 2]> {
        let open = self.open.as_ref()?;
        let part = Part { log: self.log, first: self.position.shipped + 1, last: open.size() };
        let is_due = self.next.is_some()
            || self.begun == Some(part)
            || open.sum.is_due(wall, now.since(open.since), &self.limits);
        if !is_due {
            return None;
        }
        let directory = self.directory_of(open);
        let mut body = String::with_capacity(open.sum.bytes);
        for line in &open.lines {
            body.push_str(line);
            body.push('\n');
        }
        let (note, missing) = (open.checkpoint.note().to_owned(), self.position.missing);
        let records = format!("{directory}{}", part.records());
        let checkpoint = format!("{directory}{}", part.checkpoint());
        Some([
            Object::new(records, body, "application/x-ndjson", missing),
            Object::new(checkpoint, note, "text/plain; charset=utf-8", missing),
        ])
    }

    /// The bucket holds what was due.
    pub(super) fn brought(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.directory = Some(self.directory_of(&open));
        let Checkpoint { size, root, .. } = *open.checkpoint.checkpoint();
        self.position = Position { shipped: size, root, covered: size, ..self.position };
        if let Some((write, since)) = self.next.take() {
            let sum = sum(&write);
            self.open = Some(Open::new(write, sum, since));
        }
    }

    /// Days do not go back: the newest object of a log is in its newest day.
    fn directory_of(&self, open: &Open) -> String {
        let own = directory(open.sum.at);
        match &self.directory {
            Some(newest) if *newest > own => newest.clone(),
            _ => own,
        }
    }
}

impl Open {
    fn new(write: Write, sum: Sum, since: Moment) -> Self {
        let Write { lines, checkpoint, at, .. } = write;
        Self { sum, at, lines, checkpoint, since }
    }

    fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size
    }
}

/// An object that a run before brought ends where it ended then, unless it cannot be one of ours.
fn joins(open: &Open, next: &Sum, first: u64, begun: Option<Part>, limits: &Limits) -> bool {
    match begun.filter(|begun| begun.first == first && open.size() <= begun.last) {
        Some(begun) => {
            let any_time = Limits { span: Duration::from_secs(u64::from(u32::MAX)), ..*limits };
            open.size() < begun.last && open.sum.joins(next, &any_time)
        }
        None => open.sum.joins(next, limits),
    }
}

fn sum(write: &Write) -> Sum {
    let at = OffsetDateTime::parse(&write.at, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let bytes = write.lines.iter().map(|line| line.len() + 1).sum();
    Sum { at, records: write.lines.len(), bytes }
}
