//! What the journal's writer tells, as metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::{Journal, Observer, Space, file_system_free};
use metrics::{Counter, Gauge, Histogram};
use signing_core::Moment;
use signing_core::journal::Kind;

use super::Make;

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
    bytes_per_s: f64,
}

/// Hears the writer.
#[derive(Debug)]
pub struct JournalObserver {
    metrics: Arc<super::Metrics>,
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
        let Space { set_aside, queued } = journal.space();
        // A file system that can not be asked adds nothing.
        let free = set_aside.saturating_add(file_system_free(journal.path()).unwrap_or(0));
        #[expect(clippy::cast_precision_loss, reason = "a gauge shows a size, not each byte of it")]
        let (free, queued) = (free as f64, queued as f64);
        self.queue.set(queued);
        self.free.set(free);
        // A panic under this lock leaves an older rate.
        let mut fill = self.fill.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = fill.look(free, now);
        // Nothing fills it, as far as was seen: no number is the honest answer.
        self.full_in.set(if rate > 0.0 { free / rate } else { f64::INFINITY });
    }
}

impl Fill {
    /// The bytes per second by which the free space shrinks, smoothed.
    fn look(&mut self, free: f64, now: Moment) -> f64 {
        match self.looked {
            None => self.looked = Some((now, free)),
            Some((at, before)) if now.since(at) >= RATE_EVERY => {
                let passed = now.since(at).as_secs_f64();
                let rate = ((before - free) / passed).max(0.0);
                let weight = (passed / RATE_OVER.as_secs_f64()).min(1.0);
                self.bytes_per_s += (rate - self.bytes_per_s) * weight;
                self.looked = Some((now, free));
            }
            Some(_) => {}
        }
        self.bytes_per_s
    }
}

impl JournalObserver {
    /// One that tells `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<super::Metrics>) -> Self {
        Self { metrics }
    }
}

impl Observer for JournalObserver {
    fn record(&mut self, kind: Kind) {
        if let Some(counter) = self.metrics.audit.records.get(&kind) {
            counter.increment(1);
        }
    }

    fn appended(&mut self, took: Duration) {
        self.metrics.audit.append.record(took);
    }

    fn synced(&mut self, took: Duration) {
        self.metrics.audit.sync.record(took);
    }

    fn batch(&mut self, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.metrics.audit.batch.record(records as f64);
    }
}
