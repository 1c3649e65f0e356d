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

/// What a journal has beyond what was taken of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    /// More that may be taken.
    More,
    /// What nobody states to be on disk yet.
    Unstated,
    /// Nothing.
    Nothing,
}

/// Who writes a journal states within a second what is on disk. After this, whoever wrote the rest is dead.
const STATED_WITHIN: Duration = Duration::from_secs(10);

/// The object that is gathered.
struct Open {
    sum: Sum,
    at: String,
    lines: Vec<String>,
    checkpoint: SignedCheckpoint,
    since: Moment,
    /// Whether its end was decided: it may be in the bucket already, and grows no more.
    is_ended: bool,
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
            Some(open) if !open.is_ended && joins(open, &sum, first, self.begun, &self.limits) => {
                open.sum = open.sum.and(&sum);
                open.lines.extend(write.lines);
                open.checkpoint = write.checkpoint;
            }
            Some(_) => self.next = Some((write, now)),
        }
    }

    /// The records and the checkpoint that are due, if they are. They stay due until they are brought, and the same:
    /// whether the bucket has them is unknown then. Time ends an object only where the journal has no other record
    /// yet, or its end would depend on how much is read at once.
    pub(super) fn due(
        &mut self,
        rest: Remainder,
        (wall, now): (OffsetDateTime, Moment),
    ) -> Option<[Object; 2]> {
        let open = self.open.as_mut()?;
        let part = Part { log: self.log, first: self.position.shipped + 1, last: open.size() };
        let held = now.since(open.since);
        let is_all = match rest {
            Remainder::More => false,
            Remainder::Unstated => held >= self.limits.span + STATED_WITHIN,
            Remainder::Nothing => true,
        };
        open.is_ended = open.is_ended
            || self.next.is_some()
            || self.begun == Some(part)
            || (is_all && open.sum.is_due(wall, held, &self.limits));
        if !open.is_ended {
            return None;
        }
        let open = self.open.as_ref()?;
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
        Self { sum, at, lines, checkpoint, since, is_ended: false }
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

#[cfg(test)]
mod tests {
    use signing_core::tree::TreeHash;

    use super::super::name::Name;
    use super::*;
    use crate::source::Write;

    const LOG: LogId = LogId::new([1; 16]);
    const LIMITS: Limits =
        Limits { records: 30_000, bytes: 8 << 20, span: Duration::from_secs(30) };

    /// One record, written in that second.
    fn write(seq: u64, second: i64) -> Write {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second);
        let root = TreeHash::leaf(&seq.to_be_bytes());
        let checkpoint = Checkpoint { log: LOG, size: seq, root }.sign(&[]);
        let at = at.format(&Rfc3339).unwrap();
        Write { events: Vec::new(), rows: 0, lines: vec!["line".to_owned()], checkpoint, at }
    }

    fn objects() -> Objects {
        let found = Found {
            head: signing_core::journal::Head { size: 0, root: TreeHash::empty() },
            missing: 0,
            begun: None,
            directory: None,
        };
        Objects::new(LOG, Position::begin(), found, LIMITS)
    }

    /// The clock, long after all of these.
    fn later() -> (OffsetDateTime, Moment) {
        (OffsetDateTime::UNIX_EPOCH + time::Duration::days(1), Moment::from_nanos(1))
    }

    fn last(due: &[Object; 2]) -> u64 {
        let [records, _] = due;
        match Name::parse(&records.key) {
            Some(Name::Records(part)) => part.last,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_objects_end_does_not_depend_on_how_much_is_read_at_once() {
        let ends = |chunk: u64| {
            let (mut objects, mut next, mut ends) = (objects(), 1, Vec::new());
            while ends.last() != Some(&200) {
                let until = (next + chunk).min(201);
                while objects.takes() && next < until {
                    objects.take(
                        write(next, i64::try_from(next * next % 7 + next).unwrap()),
                        later().1,
                    );
                    next += 1;
                }
                while let Some(due) = objects
                    .due(if next == 201 { Remainder::Nothing } else { Remainder::More }, later())
                {
                    ends.push(last(&due));
                    objects.brought();
                }
            }
            ends
        };
        let expected = ends(200);
        assert!(expected.len() > 4, "{expected:?}");
        for chunk in [1, 2, 3, 7, 50, 199] {
            assert_eq!(ends(chunk), expected, "{chunk} at once");
        }
    }

    #[test]
    fn an_object_that_may_be_in_the_bucket_does_not_grow() {
        let mut objects = objects();
        objects.take(write(1, 0), later().1);
        let first = objects.due(Remainder::Nothing, later()).unwrap();
        // Nobody heard what came of it. The clock was set back: this record would join.
        objects.take(write(2, 0), later().1);
        let again = objects.due(Remainder::Nothing, later()).unwrap();
        assert_eq!((last(&first), last(&again)), (1, 1));
        assert_eq!(first[0].body, again[0].body);
        objects.brought();
        assert_eq!(last(&objects.due(Remainder::Nothing, later()).unwrap()), 2);
    }

    #[test]
    fn what_a_dead_writer_left_unstated_holds_an_object_back_for_a_while_only() {
        let mut objects = objects();
        let (wall, began) = later();
        objects.take(write(1, 0), began);
        assert!(objects.due(Remainder::Unstated, (wall, began)).is_none());
        let after = began.after(LIMITS.span + STATED_WITHIN);
        assert!(objects.due(Remainder::Unstated, (wall, after)).is_some());
    }
}
