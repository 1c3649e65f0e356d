//! The newest events, in memory: a bounded number of the journal's records, for whoever watches. The journal's
//! writer puts them here and waits for nobody. Whoever reads too slowly misses the oldest, and learns that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signing_core::journal::Kind;
use tokio::sync::watch;

/// How many are kept.
const EVENTS_MAX: usize = 1024;
/// How many bytes of bodies are kept.
const BODIES_MAX_BYTES: usize = 1 << 20;

/// The newest events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    kept: Arc<Mutex<Kept>>,
    /// One more at each sync of the journal: what was kept before may be on disk now.
    synced: watch::Sender<u64>,
}

/// One event: a record, as it was laid out.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The number of the record.
    pub seq: u64,
    /// The body of the record.
    pub body: Vec<u8>,
}

/// What a reader at some position gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Newer {
    /// The events, the oldest first.
    pub events: Vec<Arc<Event>>,
    /// Set if events after the reader's position are gone: up to this record.
    pub missed_through: Option<u64>,
}

/// The decision what is kept, without a lock.
#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events up to this record are not here. None: nothing was heard yet.
    gone_through: Option<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Arc::default(), synced: watch::Sender::new(0) }
    }
}

impl Events {
    /// Keeps the record `seq`, if it is an event.
    pub fn laid_out(&self, kind: Kind, seq: u64, body: &[u8]) {
        if !kind.is_event() {
            return;
        }
        let event = Arc::new(Event { seq, body: body.to_vec() });
        self.lock().push(event);
    }

    /// Wakes whoever waits: more of the journal is on disk.
    pub fn synced(&self) {
        self.synced.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Changes whenever more may be on disk.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }

    /// The events after record `after`, of the `size` records that are on disk. Without a position: all that are kept.
    #[must_use]
    pub fn newer(&self, after: Option<u64>, size: u64) -> Newer {
        self.lock().newer(after, size)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock panics but for want of memory.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, event: Arc<Event>) {
        // What was recorded before this process began is not here.
        self.gone_through.get_or_insert(event.seq.saturating_sub(1));
        self.bytes += event.body.len();
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.bytes > BODIES_MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.body.len();
            self.gone_through = Some(oldest.seq);
        }
    }

    fn newer(&self, after: Option<u64>, size: u64) -> Newer {
        let from = after.unwrap_or(0);
        let newer = self.events.iter().filter(|event| event.seq > from && event.seq <= size);
        // What is not on disk yet may not be told, and so nobody can have missed it.
        let gone = self.gone_through.map(|gone| gone.min(size));
        let missed_through = after.and(gone).filter(|gone| from < *gone);
        Newer { events: newer.cloned().collect(), missed_through }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, bytes: usize) -> Arc<Event> {
        Arc::new(Event { seq, body: vec![b'x'; bytes] })
    }

    fn seqs(newer: &Newer) -> Vec<u64> {
        newer.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn a_reader_goes_on_from_its_position_and_sees_only_what_is_on_disk() {
        let mut kept = Kept::default();
        for seq in [7, 9, 12] {
            kept.push(event(seq, 10));
        }
        for (after, size, expected, missed) in [
            (None, 12, vec![7, 9, 12], None),
            // The twelfth is not on disk yet.
            (None, 11, vec![7, 9], None),
            (Some(6), 11, vec![7, 9], None),
            (Some(7), 12, vec![9, 12], None),
            (Some(12), 12, vec![], None),
            (Some(8), 12, vec![9, 12], None),
            // Records before the first one here were written before this process began.
            (Some(3), 12, vec![7, 9, 12], Some(6)),
            (Some(0), 12, vec![7, 9, 12], Some(6)),
            (Some(3), 5, vec![], Some(5)),
        ] {
            let newer = kept.newer(after, size);
            assert_eq!(
                (seqs(&newer), newer.missed_through),
                (expected, missed),
                "{after:?} {size}"
            );
        }
        assert_eq!(
            Kept::default().newer(Some(0), 5),
            Newer { events: vec![], missed_through: None }
        );
    }

    #[test]
    fn however_much_comes_little_is_kept_and_a_late_reader_is_told() {
        for (bytes, most) in [(10, EVENTS_MAX), (60_000, BODIES_MAX_BYTES / 60_000)] {
            let mut kept = Kept::default();
            for seq in 1..=5_000 {
                kept.push(event(seq, bytes));
                assert!(kept.events.len() <= EVENTS_MAX && kept.bytes <= BODIES_MAX_BYTES);
                assert_eq!(kept.bytes, kept.events.len() * bytes);
            }
            assert_eq!(kept.events.len(), most);
            let oldest = 5_000 - u64::try_from(most).unwrap() + 1;
            let late = kept.newer(Some(1), 5_000);
            assert_eq!((late.events[0].seq, late.missed_through), (oldest, Some(oldest - 1)));
            // Who has read all that is gone has missed nothing.
            assert_eq!(kept.newer(Some(oldest - 1), 5_000).missed_through, None);
        }
    }

    #[test]
    fn what_a_request_makes_is_no_event() {
        let events = Events::default();
        events.laid_out(Kind::Freeze, 1, b"a");
        events.laid_out(Kind::Signed, 2, b"b");
        events.laid_out(Kind::Gate, 3, b"c");
        assert_eq!(seqs(&events.newer(None, 3)), [1, 3]);
    }
}
