//! Traces, if the configuration asks for them: one span for each request to sign and one for each of
//! its stages, to a collector (OTLP over HTTP).
//!
//! A request leaves its span in a bounded queue and never waits. What has no room there, and what
//! the collector does not take, is counted and lost. The collector has a thread of its own.

mod collector;
mod encode;
mod span;

use std::io;
use std::sync::Arc;

use host::clock::{now, wall_now};
use http::HeaderMap;
use tokio::sync::mpsc;

use sign::request_context;
use telemetry::metrics::TraceSpans;

use span::{Ids, Span};

pub use span::{Begun, SPAN_MAX_BYTES};

/// Where spans go, or nowhere. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Queue>>);

/// The queue before the collector.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Span>,
    counts: TraceSpans,
    sample_percent: u64,
}

impl Traces {
    /// Starts the thread that sends spans, if the configuration names a collector. The thread ends
    /// with the last clone.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    pub fn start(
        config: &configuration::Traces,
        deployment: &str,
        counts: &TraceSpans,
    ) -> io::Result<Self> {
        let Some(endpoint) = &config.endpoint else { return Ok(Self::default()) };
        let (spans, queued) = mpsc::channel(config.queue_max);
        collector::start((endpoint.clone(), config.timeout), deployment, queued, counts.clone())?;
        let sample_percent = config.sample_percent;
        Ok(Self(Some(Arc::new(Queue { spans, counts: counts.clone(), sample_percent }))))
    }

    /// The span of a request whose headers are read. None: there is no collector, or the request is
    /// not sampled. A caller that sent a trace has decided that itself.
    #[must_use]
    pub fn begin(&self, headers: &HeaderMap) -> Option<Begun> {
        let queue = self.0.as_ref()?;
        let traceparent = request_context::traceparent(headers);
        let ids = Ids::new(traceparent.as_deref(), queue.sample_percent)?;
        let queue = Arc::clone(queue);
        Some(Begun::new(ids, (wall_now(), now()), move |span| queue.push(span)))
    }
}

impl Queue {
    fn push(&self, span: Span) {
        let count = span.count();
        if self.spans.try_send(span).is_err() {
            self.counts.queue_full.increment(count);
        }
    }
}
