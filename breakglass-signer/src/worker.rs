//! Threads beside the one that serves, for what waits for a disk or computes for long: meanwhile a
//! session signs and ends, and the watchdog hears that the signer lives.

use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};

use host::stack;
use tokio::sync::{Mutex, oneshot};
use zeroize::Zeroize as _;

/// Of the thread that opens keys; four times of what it was seen to use, most of which is wiped.
const SECRETS_STACK_BYTES: usize = 512 << 10;
/// What is wiped of it after each thing: what opens a key leaves some of it there (I4), and no other call may
/// come that overwrites that.
const WIPED_BYTES: usize = 128 << 10;

/// What a thread is given to do.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// One thread. It does one thing after the other; one more may wait.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
    /// Held by the work that is under way, of those who wait for their turn.
    turn: Arc<Mutex<()>>,
    /// Whether its work leaves secrets on the stack.
    has_secrets: bool,
}

/// It was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what was asked for before is not done yet: its disk does not answer, or it computes; try again later"
)]
pub(crate) struct Busy;

impl Worker {
    /// Starts it, confined as the thread that does.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        Self::started(name, false)
    }

    /// The same for work that leaves secrets on the stack: it is wiped after each.
    pub(crate) fn of_secrets(name: &str) -> io::Result<Self> {
        Self::started(name, true)
    }

    fn started(name: &str, has_secrets: bool) -> io::Result<Self> {
        let stack_bytes = if has_secrets { SECRETS_STACK_BYTES } else { stack::PLAIN_BYTES };
        let (jobs, waiting) = mpsc::sync_channel::<Job>(1);
        let body = move || {
            while let Ok(job) = waiting.recv() {
                // The next one is done all the same. Whoever waits for this one hears that it was not done.
                let _ = catch_unwind(AssertUnwindSafe(job));
                if has_secrets {
                    wipe_stack();
                }
            }
        };
        std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(body)?;
        Ok(Self { jobs, turn: Arc::default(), has_secrets })
    }

    /// Begins it after the one that is under way.
    pub(crate) fn begin(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)
    }

    /// What comes of it. It is done to its end also if nobody waits for that any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (done, outcome) = oneshot::channel();
        let has_secrets = self.has_secrets;
        let job = move || {
            let outcome = apart(work);
            if has_secrets {
                wipe_stack();
            }
            // Nobody may wait any more: then it is dropped here.
            let _ = done.send(outcome);
        };
        self.begin(Box::new(job)).map_err(|_| Busy)?;
        outcome.await.map_err(|_| Busy)
    }

    /// As [`Self::run`], and waits for its turn before that, however long the disk takes. Of a thread whose
    /// work all comes by this. The turn is over with the work, and not with whoever waits for it: those who
    /// come and go while a disk hangs leave nothing behind.
    pub(crate) async fn run_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let work = move || {
            let outcome = work();
            drop(turn);
            outcome
        };
        self.run(work).await
    }
}

/// What it leaves on the stack is below the caller.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Overwrites what the calls before it left below the caller.
#[inline(never)]
fn wipe_stack() {
    let mut left = [0_u8; WIPED_BYTES];
    left.zeroize();
    black_box(&left);
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn i8_one_thing_is_done_and_one_waits_and_no_more() {
        let worker = Worker::start("test").unwrap();
        let (begun, has_begun) = mpsc::sync_channel::<()>(1);
        let (release, gate) = mpsc::sync_channel::<()>(1);
        let held = worker.begin(Box::new(move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
        }));
        assert!(held.is_ok());
        has_begun.recv().unwrap();
        assert!(worker.begin(Box::new(|| ())).is_ok());
        assert_eq!(worker.run(|| 7).await, Err(Busy));
        release.send(()).unwrap();
        while worker.run(|| 7).await != Ok(7) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn i8_who_waits_for_a_turn_is_not_refused_and_who_goes_leaves_nothing() {
        let worker = Worker::start("test").unwrap();
        let (begun, has_begun) = mpsc::sync_channel::<()>(1);
        let (release, gate) = mpsc::sync_channel::<()>(1);
        let mut hangs = Box::pin(worker.run_in_turn(move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
        }));
        assert!(is_waiting(&mut hangs).await);
        has_begun.recv().unwrap();
        // Whoever began it is gone, and so are many who waited behind it.
        drop(hangs);
        for _ in 0..100 {
            let mut waits = Box::pin(worker.run_in_turn(|| 7));
            assert!(is_waiting(&mut waits).await);
        }
        let mut waits = Box::pin(worker.run_in_turn(|| 7));
        assert!(is_waiting(&mut waits).await);
        release.send(()).unwrap();
        assert_eq!(waits.await, Ok(7));
        // Also after one that panicked.
        assert_eq!(worker.run_in_turn(|| panic!("in a test")).await, Err::<(), _>(Busy));
        assert_eq!(worker.run_in_turn(|| 8).await, Ok(8));
    }

    /// Polls it once; whether it waits.
    async fn is_waiting<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}
