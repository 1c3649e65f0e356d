//! The state on its way to the disk. A thread of its own writes: a disk that hangs holds up no signature,
//! no end of a session, and no word to the watchdog. What waits there is the newest state, and no other.

use std::fmt::Display;
use std::io;
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit::TreeFile;
use serde_json::json;
use tokio::sync::watch;

use crate::log::Log;
use crate::store::{Store, Stored};
use crate::worker::Worker;

/// Saves, in order.
#[derive(Debug)]
pub struct Saver {
    worker: Worker,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    tree: Arc<TreeFile>,
    log: Log,
    newest: Mutex<Newest>,
    done: watch::Sender<Done>,
}

/// What was given last, and whether it still waits.
#[derive(Debug, Default)]
struct Newest {
    number: u64,
    waiting: Option<Stored>,
}

/// How far it has come: a state holds all that those before it hold.
#[derive(Debug)]
struct Done {
    number: u64,
    outcome: Result<(), String>,
}

impl Saver {
    /// Starts the thread, confined as this one is.
    pub(crate) fn start(store: Store, tree: TreeFile, log: Log) -> io::Result<Self> {
        let (done, _) = watch::channel(Done { number: 0, outcome: Ok(()) });
        let tree = Arc::new(tree);
        let shared = Shared { store, tree, log, newest: Mutex::default(), done };
        Ok(Self { worker: Worker::start("store")?, shared: Arc::new(shared) })
    }

    /// The nodes of the journal's tree.
    pub(crate) fn tree(&self) -> &Arc<TreeFile> {
        &self.shared.tree
    }

    /// Takes the place of a state that still waits, and waits for nothing. Dying before it is on disk leaves
    /// the one before it there. Returns what [`Self::saved`] takes. That it fails is in the log.
    pub(crate) fn offer(&self, stored: Stored) -> u64 {
        let number = {
            let mut newest = self.shared.newest();
            newest.number += 1;
            newest.waiting = Some(stored);
            newest.number
        };
        let shared = Arc::clone(&self.shared);
        match self.worker.begin(Box::new(move || shared.save())) {
            // The one that waits there takes the newest.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                self.shared.finish(number, Err("the thread that stores it is gone".to_owned()));
            }
        }
        number
    }

    /// Whether the state with that number, or a newer one, is done with, on disk or not.
    pub(crate) fn is_done(&self, number: u64) -> bool {
        self.shared.done.borrow().number >= number
    }

    /// Waits until the state with that number is on disk, as itself or in a newer one.
    ///
    /// # Errors
    /// Why it is not, as a sentence.
    pub(crate) async fn saved(&self, number: u64) -> Result<(), String> {
        let mut done = self.shared.done.subscribe();
        let reached = done.wait_for(|done| done.number >= number).await;
        reached.map_or_else(|gone| Err(gone.to_string()), |done| done.outcome.clone())
    }

    /// Says that the state is not on disk.
    pub(crate) fn say(&self, error: &dyn Display) {
        self.shared.say(error);
    }
}

impl Shared {
    /// On the thread.
    fn save(&self) {
        let (number, stored) = {
            let mut newest = self.newest();
            (newest.number, newest.waiting.take())
        };
        let Some(stored) = stored else { return };
        let saved = self.store.save(&stored);
        if let Err(error) = &saved {
            self.say(error);
        }
        // They hold no truth, and wait on if it fails. The stop waits for them too.
        if let Err(error) = self.tree.flush() {
            self.say(&error);
        }
        self.finish(number, saved.map_err(|error| error.to_string()));
    }

    fn finish(&self, number: u64, outcome: Result<(), String>) {
        self.done.send_replace(Done { number, outcome });
    }

    fn say(&self, error: &dyn Display) {
        self.log.error("the state cannot be stored", json!({"error": error.to_string()}));
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc;

    use super::*;
    use crate::store::Seal;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("saver-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn saver(directory: &Path) -> Saver {
        let tree = TreeFile::open(directory).unwrap();
        Saver::start(Store::new(directory), tree, Log::start().unwrap()).unwrap()
    }

    fn state(detail: &str) -> Stored {
        let seal = Seal { at: "2026-01-01T00:00:00Z".to_owned(), detail: detail.to_owned() };
        Stored { seal: Some(seal), ..Stored::default() }
    }

    #[tokio::test]
    async fn while_the_disk_hangs_nobody_waits_and_the_newest_state_is_the_one_that_is_stored() {
        let directory = scratch("hangs");
        let saver = saver(&directory);
        let (begun, has_begun) = mpsc::sync_channel::<()>(1);
        let (release, disk) = mpsc::sync_channel::<()>(1);
        let held = saver.worker.begin(Box::new(move || {
            begun.send(()).unwrap();
            let _ = disk.recv();
        }));
        assert!(held.is_ok());
        has_begun.recv().unwrap();
        let first = saver.offer(state("0"));
        let mut newest = first;
        for number in 1..100 {
            newest = saver.offer(state(&number.to_string()));
        }
        assert!(!saver.is_done(first));
        assert_eq!(Store::peek(&directory).unwrap(), Stored::default());
        release.send(()).unwrap();
        assert_eq!(saver.saved(newest).await, Ok(()));
        assert!(saver.is_done(first));
        assert_eq!(Store::peek(&directory).unwrap(), state("99"));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_it_is_not_stored_and_the_next_save_is_tried() {
        let directory = scratch("fails");
        let saver = saver(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert!(saver.saved(saver.offer(state("lost"))).await.is_err());
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(saver.saved(saver.offer(state("kept"))).await, Ok(()));
        assert_eq!(Store::peek(&directory).unwrap(), state("kept"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
