//! What became of the spans of requests.

use metrics::Counter;

use super::TRACE_SPANS;
use super::make::Make;

/// Counts of spans.
#[derive(Clone)]
pub struct TraceSpans {
    /// The collector took them.
    pub sent: Counter,
    /// The queue before the collector was full.
    pub queue_full: Counter,
    /// The collector was not reached, or did not answer 200.
    pub failed: Counter,
    /// The collector answered 200, and that it did not take them.
    pub rejected: Counter,
}

impl TraceSpans {
    pub(super) fn new(make: &Make<'_>) -> Self {
        let of = |result| make.counter(TRACE_SPANS, &[("result", result)]);
        Self {
            sent: of("sent"),
            queue_full: of("queue_full"),
            failed: of("failed"),
            rejected: of("rejected"),
        }
    }
}

impl std::fmt::Debug for TraceSpans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TraceSpans")
    }
}
