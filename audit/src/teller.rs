//! Tells whoever waits alone for an outcome that it is on disk, from a task of the waiter's own runtime.
//!
//! A wake from the writer's thread goes through the runtime's shared queue, and a thread that takes a task from there
//! first wakes one more thread, to look for more work. An event on a file descriptor wakes the one thread that waits
//! for events, and what is told from there stays on that thread. Where many wait, all threads are at work anyway.
//! Whoever must not depend on the callers' runtime, such as the thread of the admin socket, is told by the writer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::receipt::Durable;

/// Somebody who waits, and what is to be said.
#[derive(Debug)]
pub(crate) struct Acknowledgement {
    sender: oneshot::Sender<Durable>,
    durable: Durable,
}

/// The way from the writer to its task.
#[derive(Debug)]
pub(crate) struct Teller {
    bell: Sender,
    /// Whom the task is to tell; none: it is gone.
    waiting: Mutex<Option<Vec<Acknowledgement>>>,
    /// Told too: the journal went on.
    went_on: Arc<Notify>,
}

/// The task's own, which says when the task is gone.
struct Task(Arc<Teller>);

impl Teller {
    /// Starts its task on `runtime`.
    pub(crate) fn start(runtime: &Handle, went_on: Arc<Notify>) -> io::Result<Arc<Self>> {
        let _entered = runtime.enter();
        let (bell, rings) = pipe::pipe()?;
        let waiting = Mutex::new(Some(Vec::new()));
        let teller = Arc::new(Self { bell, waiting, went_on });
        runtime.spawn(run(Task(Arc::clone(&teller)), rings));
        Ok(teller)
    }

    /// Has them told.
    pub(crate) fn tell(&self, told: Vec<Acknowledgement>) {
        let gone = match self.waiting().as_mut() {
            Some(waiting) => {
                waiting.extend(told);
                None
            }
            None => Some(told),
        };
        let rung = gone.is_none() && self.bell.try_write(&[1]).is_ok();
        if !rung {
            gone.unwrap_or_else(|| self.take()).into_iter().for_each(Acknowledgement::now);
            self.went_on.notify_one();
        }
    }

    fn take(&self) -> Vec<Acknowledgement> {
        self.waiting().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<Acknowledgement>>> {
        // Nothing under this lock panics but for want of memory.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the bell cannot be heard.
async fn run(task: Task, rings: Receiver) {
    let mut heard = [0; 64];
    while rings.readable().await.is_ok() {
        match rings.try_read(&mut heard) {
            Ok(1..) => {
                task.0.take().into_iter().for_each(Acknowledgement::now);
                // What is woken last goes first: a trail that a release waits for hears of it at once.
                task.0.went_on.notify_one();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

impl Acknowledgement {
    pub(crate) fn new(sender: oneshot::Sender<Durable>, durable: Durable) -> Self {
        Self { sender, durable }
    }

    /// Whoever waited may be gone; the record is there all the same.
    pub(crate) fn now(self) {
        let _ = self.sender.send(self.durable);
    }
}

impl Drop for Task {
    /// With its runtime: from here on the writer tells by itself.
    fn drop(&mut self) {
        let waiting = self.0.waiting().take();
        waiting.into_iter().flatten().for_each(Acknowledgement::now);
        self.0.went_on.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use signing_core::journal::Leaf;
    use signing_core::tree::{LogId, TreeHash};
    use tokio::runtime::Builder;

    use super::*;

    fn waiting() -> (Acknowledgement, oneshot::Receiver<Durable>) {
        let (sender, receiver) = oneshot::channel();
        let leaf = Leaf { seq: 1, hash: TreeHash::empty() };
        (Acknowledgement::new(sender, Durable::new(LogId::new([1; 16]), leaf, None)), receiver)
    }

    #[test]
    fn all_are_told_by_the_task_and_once_its_runtime_is_gone_by_the_writer() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let teller = Teller::start(runtime.handle(), Arc::default()).unwrap();
        runtime.block_on(teller.bell.writable()).unwrap();
        for count in 1..100 {
            let (told, mut receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| waiting()).unzip();
            teller.tell(told);
            // The runtime does not run, so that nobody but the writer could have told them.
            assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_err()));
            let all = async {
                for receiver in receivers {
                    receiver.await.unwrap();
                }
            };
            runtime.block_on(all);
        }
        drop(runtime);
        let (told, mut receiver) = waiting();
        teller.tell(vec![told]);
        assert!(receiver.try_recv().is_ok());
    }

    #[test]
    fn whoever_waits_when_the_runtime_ends_is_told() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let teller = Teller::start(runtime.handle(), Arc::default()).unwrap();
        runtime.block_on(teller.bell.writable()).unwrap();
        let (told, mut receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| waiting()).unzip();
        teller.tell(told);
        assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_err()));
        drop(runtime);
        assert!(receivers.into_iter().all(|mut receiver| receiver.try_recv().is_ok()));
    }

    #[test]
    fn whoever_the_task_cannot_be_told_of_is_told_by_the_writer() {
        // Its pipe was never looked at, so that it may be full.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let teller = Teller::start(runtime.handle(), Arc::default()).unwrap();
        let (told, mut receiver) = waiting();
        teller.tell(vec![told]);
        assert!(receiver.try_recv().is_ok());
    }
}
