//! What the journal's writer tells, as metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::{Journal, JournalError, Observer, Space, file_system_free};
use metrics::{Counter, Gauge, Histogram};
use signing_core::Moment;
use signing_core::journal::{HEADER_BYTES, Kind};

use super::Make;
use crate::events::Events;

/// How far back the rate goes by which the journal fills.
const RATE_OVER: Duration = Duration::from_mins(5);
/// How often the rate is taken anew, at most.
const RATE_EVERY: Duration = Duration::from_secs(10);

/// The journal's metrics.
#[derive(Debug)]
pub(super) struct AuditMetrics {
    pub(super) append: Histogram,
    pub(super) sync: Histogram,
    pub(super) batch: Histogram,
    pub(super) records: BTreeMap<Kind, Counter>,
    pub(super) queue: Gauge,
    pub(super) free: Gauge,
    pub(super) full_in: Gauge,
    pub(super) sealed: Gauge,
    fill: Mutex<Fill>,
}

/// How fast the journal fills.
#[derive(Debug, Default)]
struct Fill {
    looked: Option<(Moment, f64)>,
    /// None: not known yet.
    bytes_per_s: Option<f64>,
}

/// Hears the writer.
#[derive(Debug)]
pub struct JournalObserver {
    metrics: Arc<super::Metrics>,
    events: Events,
}

impl AuditMetrics {
    pub(super) fn new(make: &Make<'_>) -> Self {
        let record =
            |kind: &Kind| (*kind, make.counter(super::AUDIT_RECORDS, &[("type", kind.word())]));
        Self {
            append: make.histogram(super::AUDIT_APPEND, &[]),
            sync: make.histogram(super::AUDIT_SYNC, &[]),
            batch: make.histogram(super::AUDIT_BATCH, &[]),
            records: Kind::ALL.iter().map(record).collect(),
            queue: make.gauge(super::AUDIT_QUEUE, &[]),
            free: make.gauge(super::AUDIT_FREE, &[]),
            full_in: make.gauge(super::AUDIT_FULL_IN, &[]),
            sealed: make.gauge(super::AUDIT_SEALED, &[]),
            fill: Mutex::default(),
        }
    }

    /// Shows how much space there is, and when there will be none.
    pub(super) fn space(&self, journal: &Journal, now: Moment) {
        let space = journal.space();
        // A file system that cannot be asked adds nothing.
        let free = match journal.error() {
            // Whatever the file system says, it refuses.
            Some(JournalError::Full(_)) => None,
            _ => Some(usable(space, file_system_free(journal.path()).unwrap_or(0))),
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge shows a size, not each byte of it")]
        let (free, queued) = (free.map(|free| free as f64), space.queued as f64);
        self.queue.set(queued);
        self.free.set(free.unwrap_or(0.0));
        // A panic under this lock leaves an older rate.
        let mut fill = self.fill.lock().unwrap_or_else(PoisonError::into_inner);
        self.full_in.set(fill.full_in(free, now));
    }
}

/// The bytes that signatures can still take: what is set aside for them, and the segments
/// that fit whole into what is `free` on the file system.
fn usable(space: Space, free: u64) -> u64 {
    let segments = free / space.segment_bytes.max(1);
    let each = space.segment_bytes.saturating_sub(HEADER_BYTES as u64);
    space.usable.saturating_add(segments.saturating_mul(each))
}

impl Fill {
    /// The seconds until nothing is `free`, by the smoothed rate at which it shrinks. None is
    /// free while the journal refuses: then it is full now, however little is written.
    fn full_in(&mut self, free: Option<f64>, now: Moment) -> f64 {
        let Some(free) = free else {
            // What comes after is measured anew: the jump is not what signatures free.
            self.looked = None;
            return 0.0;
        };
        match self.looked {
            None => self.looked = Some((now, free)),
            Some((at, before)) if now.since(at) >= RATE_EVERY => {
                let passed = now.since(at).as_secs_f64();
                let rate = ((before - free) / passed).max(0.0);
                let weight = (passed / RATE_OVER.as_secs_f64()).min(1.0);
                let smoothed = self.bytes_per_s.unwrap_or(rate);
                self.bytes_per_s = Some(smoothed + (rate - smoothed) * weight);
                self.looked = Some((now, free));
            }
            Some(_) => {}
        }
        // Nothing fills it, as far as was seen: no number is the honest answer.
        self.bytes_per_s.filter(|rate| *rate > 0.0).map_or(f64::INFINITY, |rate| free / rate)
    }
}

impl JournalObserver {
    /// One that tells `metrics`, and keeps `events`.
    #[must_use]
    pub fn new(metrics: Arc<super::Metrics>, events: Events) -> Self {
        Self { metrics, events }
    }
}

impl Observer for JournalObserver {
    fn record(&mut self, kind: Kind) {
        if let Some(counter) = self.metrics.audit.records.get(&kind) {
            counter.increment(1);
        }
    }

    fn body(&mut self, kind: Kind, seq: u64, body: &[u8]) {
        self.events.laid_out(kind, seq, body);
    }

    fn appended(&mut self, took: Duration) {
        self.metrics.audit.append.record(took);
    }

    fn synced(&mut self, took: Duration) {
        self.metrics.audit.sync.record(took);
        self.events.synced();
    }

    fn batch(&mut self, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.metrics.audit.batch.record(records as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(1 + seconds * 1_000_000_000)
    }

    #[test]
    fn the_first_rate_counts_at_once_and_a_full_journal_is_full_now() {
        let mut fill = Fill::default();
        assert_eq!(fill.full_in(Some(1000.0), at(0)), f64::INFINITY);
        // 10 bytes a second, and 900 are left.
        assert_eq!(fill.full_in(Some(900.0), at(10)), 90.0);
        assert_eq!(fill.full_in(None, at(20)), 0.0);
        // Nothing is written while it refuses: it stays full.
        assert_eq!(fill.full_in(None, at(2000)), 0.0);
        // There is space again: at the rate that was seen.
        assert_eq!(fill.full_in(Some(5000.0), at(2010)), 500.0);
        // It slows down, smoothly.
        let later = fill.full_in(Some(5000.0), at(2020));
        assert!(later > 500.0 && later < 600.0, "{later}");
    }

    #[test]
    fn only_whole_segments_and_what_is_not_kept_count_as_free() {
        let segment_bytes = 1 << 20;
        let space = Space { set_aside: 600_000, usable: 300_000, segment_bytes, queued: 0 };
        assert_eq!(usable(space, segment_bytes - 1), 300_000);
        assert_eq!(
            usable(space, 2 * segment_bytes + 5),
            300_000 + 2 * (segment_bytes - HEADER_BYTES as u64)
        );
    }
}
