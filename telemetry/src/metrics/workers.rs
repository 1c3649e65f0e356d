//! How the workers of tokens fare, as metrics.

use metrics::{Counter, Gauge};

use super::{Make, WORKER_HANGS, WORKER_RESTARTS, WORKER_UP, WORKER_WAITING, one_if};
use crate::workers::Worker;

/// One worker's metrics.
pub(super) struct WorkerMetrics {
    worker: Worker,
    up: Gauge,
    restarts: Counter,
    hangs: Counter,
    waiting: Gauge,
}

impl WorkerMetrics {
    pub(super) fn new(make: &Make<'_>, worker: Worker) -> Self {
        // Those of the upstream's health, so that both can be joined.
        let labels = [
            ("signer_kid", worker.kid.as_str()),
            ("upstream", "pkcs11"),
            ("region", worker.token_label.as_str()),
        ];
        Self {
            up: make.gauge(WORKER_UP, &labels),
            restarts: make.counter(WORKER_RESTARTS, &labels),
            hangs: make.counter(WORKER_HANGS, &labels),
            waiting: make.gauge(WORKER_WAITING, &labels),
            worker,
        }
    }

    /// Shows how it fares at this moment.
    pub(super) fn show(&self) {
        let life = &self.worker.life;
        self.up.set(one_if(life.is_up()));
        self.restarts.absolute(life.restarts());
        self.hangs.absolute(life.hangs_killed());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        self.waiting.set(life.waiting() as f64);
    }
}
