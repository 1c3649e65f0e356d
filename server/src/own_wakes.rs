//! Wakes that a connection's task gives itself while it is polled. hyper does so with every body: it tells the
//! reader, which is the same task. The scheduler would put the task at the end of a queue and wake another
//! thread for it, at some 13 us each time. Instead it is polled once more at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often it is polled in one go: hyper needs three for a request with a body. Then others have their turn.
const POLLS_MAX: usize = 3;

/// Nobody polls: a wake goes to the scheduler.
const IDLE: u8 = 0;
/// It is being polled, and nobody woke it since.
const POLLED: u8 = 1;
/// It is being polled, and was woken.
const WOKEN: u8 = 2;

/// Polls a future, and keeps its wakes of itself from the scheduler.
#[derive(Debug)]
pub(super) struct OwnWakes {
    wakes: Arc<Wakes>,
    waker: Waker,
}

/// What the future is woken through.
#[derive(Debug)]
struct Wakes {
    /// [`IDLE`], [`POLLED`] or [`WOKEN`].
    state: AtomicU8,
    /// The scheduler's, of the task that polls.
    task: Mutex<Waker>,
}

impl OwnWakes {
    pub(super) fn new() -> Self {
        let task = Mutex::new(Waker::noop().clone());
        let wakes = Arc::new(Wakes { state: AtomicU8::new(IDLE), task });
        Self { waker: Waker::from(Arc::clone(&wakes)), wakes }
    }

    /// Waits for `future`. May be dropped and called again.
    pub(super) async fn wait<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| self.poll(future.as_mut(), context)).await
    }

    fn poll<F: Future>(&self, mut future: Pin<&mut F>, context: &Context<'_>) -> Poll<F::Output> {
        self.wakes.belong_to(context.waker());
        let state = &self.wakes.state;
        for _ in 0..POLLS_MAX {
            // It takes what it was, so that the poll sees what was written before that wake.
            state.swap(POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&self.waker))
            {
                state.store(IDLE, Ordering::SeqCst);
                return Poll::Ready(output);
            }
            // In one step: a wake comes before it and is seen here, or after it and goes to the scheduler.
            let idle = state.compare_exchange(POLLED, IDLE, Ordering::SeqCst, Ordering::SeqCst);
            if idle.is_ok() {
                return Poll::Pending;
            }
        }
        state.store(IDLE, Ordering::SeqCst);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wakes {
    fn belong_to(&self, waker: &Waker) {
        let mut task = self.task();
        if !task.will_wake(waker) {
            task.clone_from(waker);
        }
    }

    fn task(&self) -> MutexGuard<'_, Waker> {
        // Nothing under this lock panics but for want of memory.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Written anew by each wake, for the same reason.
        let woken = |state| (state != IDLE).then_some(WOKEN);
        if self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, woken).is_err() {
            let task = self.task().clone();
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    /// Longer than any thread sleeps while this one waits.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Counts what reaches the scheduler.
    #[derive(Default)]
    struct Scheduler(AtomicUsize);

    impl Wake for Scheduler {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls `future` once as a scheduler would; whether it is done, and how often it was woken so far.
    fn poll(
        own: &OwnWakes,
        future: Pin<&mut impl Future<Output = ()>>,
        scheduler: &Arc<Scheduler>,
    ) -> (bool, usize) {
        let waker = Waker::from(Arc::clone(scheduler));
        let polled = own.poll(future, &Context::from_waker(&waker));
        (polled.is_ready(), scheduler.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_at_once_and_not_for_ever() {
        for (wakes, expected) in [(0, (true, 0)), (1, (true, 0)), (2, (true, 0)), (3, (false, 1))] {
            let mut left = wakes;
            let future = pin!(poll_fn(move |context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            }));
            let (own, scheduler) = (OwnWakes::new(), Arc::default());
            assert_eq!(poll(&own, future, &scheduler), expected, "{wakes}");
        }
    }

    #[test]
    fn a_wake_from_elsewhere_goes_to_the_task_that_polled_last() {
        let (own, first, second) = (OwnWakes::new(), Arc::default(), Arc::default());
        let kept = Mutex::new(None);
        let mut future = pin!(poll_fn(|context| {
            *kept.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        assert_eq!(poll(&own, future.as_mut(), &first), (false, 0));
        kept.lock().unwrap().take().unwrap().wake();
        assert_eq!(first.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&own, future.as_mut(), &second), (false, 0));
        kept.lock().unwrap().take().unwrap().wake();
        let (first, second) = (first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst));
        assert_eq!((first, second), (1, 1));
    }

    #[test]
    fn no_wake_of_another_thread_is_lost() {
        // A channel between threads: a message that wakes nobody would leave the receiver asleep for ever.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let sending =
            std::thread::spawn(move || (0..100_000).for_each(|n| sender.blocking_send(n).unwrap()));
        let own = OwnWakes::new();
        for expected in 0..100_000 {
            // The clock comes first: what wakes the task would also have it find a message of which nobody told it.
            let received = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(PATIENCE) => panic!("a wake was lost"),
                    received = async { own.wait(pin!(receiver.recv())).await } => received,
                }
            });
            assert_eq!(received, Some(expected));
        }
        sending.join().unwrap();
    }
}
