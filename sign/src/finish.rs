//! Finish what you start: once an intent is noted, the work goes on when the
//! client hangs up or runs out of patience.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use host::clock::now;
use signing_core::{Reason, Refusal};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::request_context::RequestContext;

/// Knows the runtime on which abandoned work goes on, and how much is under way.
#[derive(Clone, Debug)]
pub struct Finisher {
    runtime: Handle,
    under_way: TaskTracker,
}

/// Runs a future in place; if it is dropped before its end, hands the rest to
/// the runtime. Costs no task as long as nobody hangs up.
struct FinishOnDrop<F: Future<Output: Send> + Send + 'static> {
    rest: Option<(Pin<Box<F>>, TaskTrackerToken)>,
    runtime: Handle,
    /// What the log names the request by.
    request_id: String,
    traceparent: Option<String>,
}

impl Finisher {
    /// Work that is abandoned goes on on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        let under_way = TaskTracker::new();
        // A closed tracker still takes tokens, and its `wait` ends whenever it holds none.
        under_way.close();
        Self { runtime, under_way }
    }

    /// Where work goes on that is no caller's.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for `work` of a request until its deadline. Whatever happens to the one who
    /// waits, `work` is run to its end. It comes in a box: by value it would be
    /// copied into each of the futures around it.
    ///
    /// # Errors
    /// Its refusal, or `indeterminate` when the deadline passes first.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: Pin<Box<impl Future<Output = Result<T, Refusal>> + Send + 'static>>,
        of: &RequestContext,
    ) -> Result<T, Refusal> {
        let finish_on_drop = FinishOnDrop {
            // A token and no task of the tracker's: those are spawned at once.
            rest: Some((work, self.under_way.token())),
            runtime: self.runtime.clone(),
            request_id: of.request_id.clone(),
            traceparent: of.traceparent.clone(),
        };
        tokio::time::timeout(of.deadline.since(now()), finish_on_drop).await.unwrap_or_else(|_| {
            Err(Refusal::new(
                Reason::Indeterminate,
                "the deadline passed while the upstream was asked; it may have signed, but \
                 nothing was released",
            ))
        })
    }

    /// Waits until no work is under way.
    pub async fn idle(&self) {
        self.under_way.wait().await;
    }

    /// How much work is under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for FinishOnDrop<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((rest, _)) = self.rest.as_mut() else { return Poll::Pending };
        let polled = rest.as_mut().poll(context);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for FinishOnDrop<F> {
    fn drop(&mut self) {
        // A panicking future is not polled again.
        if let Some((rest, token)) = self.rest.take()
            && !std::thread::panicking()
        {
            let request_id = std::mem::take(&mut self.request_id);
            let traceparent = self.traceparent.take();
            self.runtime.spawn(async move {
                // Nobody waits for the result any more; its record is what counts.
                let _ = rest.await;
                drop(token);
                tracing::info!(
                    target: "outcome",
                    outcome = "not_delivered",
                    request_id,
                    traceparent
                );
            });
        }
    }
}
