//! All receivers at once, each in a task of its own: one that hangs keeps no other waiting.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use host::files;
use host::log::Log;
use serde_json::json;
use tokio::spawn;
use tokio::task::{JoinHandle, JoinSet};

use super::deliver::Delivering;
use super::metrics::Deliveries;
use super::policy::Annotating;
use crate::check::Parts;
use crate::config::POLICY_NAME;
use crate::metrics::Metrics;
use crate::serve::ServeError;

/// Held by the one process that keeps the state.
const LOCK: &str = "lock";

/// Everybody who is told something.
pub(crate) struct Notifying {
    deliveries: Deliveries,
    /// It ends with the process.
    _lock: Option<File>,
}

impl Notifying {
    /// Takes the state directory, if there is anything to keep there.
    ///
    /// # Errors
    /// [`ServeError::Notify`].
    pub(crate) fn new(parts: &Parts) -> Result<Self, ServeError> {
        let notify = &parts.config.notify;
        let lock = if notify.webhooks.is_empty() { None } else { Some(lock(&notify.state_dir)?) };
        let webhooks = notify.webhooks.iter().map(|webhook| webhook.name.clone());
        let policy = parts.config.policy.iter().map(|_| POLICY_NAME.to_owned());
        Ok(Self { deliveries: Deliveries::new(webhooks.chain(policy)), _lock: lock })
    }

    pub(crate) fn deliveries(&self) -> Deliveries {
        self.deliveries.clone()
    }

    /// Tells until the process ends.
    pub(crate) async fn run(self, parts: Arc<Parts>, metrics: Metrics, log: Log) {
        let mut watched = JoinSet::new();
        for webhook in parts.config.notify.webhooks.iter().cloned() {
            let (name, metrics) = (webhook.name.clone(), metrics.clone());
            let deliveries = self.deliveries.clone();
            let delivering = Delivering::new(webhook, &parts, metrics, deliveries, log.clone());
            watched.spawn(watch(
                name,
                spawn(delivering.run()),
                self.deliveries.clone(),
                log.clone(),
            ));
        }
        if let Some(policy) = parts.config.policy.clone() {
            let annotating = Annotating::new(policy, &parts, self.deliveries.clone(), log.clone());
            let name = POLICY_NAME.to_owned();
            watched.spawn(watch(
                name,
                spawn(annotating.run()),
                self.deliveries.clone(),
                log.clone(),
            ));
        }
        while watched.join_next().await.is_some() {}
        // The rows are shipped all the same.
        std::future::pending().await
    }
}

/// A task never ends by itself. If it does, that is said, and nobody else is stopped.
async fn watch(name: String, task: JoinHandle<()>, deliveries: Deliveries, log: Log) {
    let _ = task.await;
    log.error("a receiver's task has ended; restart signing-trail", json!({"destination": name}));
    let trouble = "its task has ended; restart signing-trail".to_owned();
    deliveries.update(&name, |delivery| delivery.trouble = Some(trouble));
}

fn lock(directory: &Path) -> Result<File, ServeError> {
    let file = directory.join(LOCK);
    let why = |what: String| ServeError::Notify(format!("{}: {what}", file.display()));
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    let opened = files::open_with(&mut options, &file).map_err(|error| why(error.to_string()))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => {
            Err(why("another signing-trail uses this directory; give each its own".to_owned()))
        }
        Err(TryLockError::Error(error)) => Err(why(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::super::state::{Place, State};
    use super::*;

    #[test]
    fn a_named_pipe_in_place_of_a_file_is_an_error_and_holds_up_nobody() {
        let directory = std::env::temp_dir().join(format!("notify-pipes-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        assert!(lock(&directory).is_ok());
        let pipe = |name: &str| {
            let _ = std::fs::remove_file(directory.join(name));
            assert!(Command::new("mkfifo").arg(directory.join(name)).status().unwrap().success());
        };
        pipe(LOCK);
        pipe("hook.new");
        let (done, ended) = sync_channel(1);
        let at = directory.clone();
        std::thread::spawn(move || {
            let locked = lock(&at).map(|_| ()).map_err(|error| error.to_string());
            done.send([locked, Place::new(&at, "hook").write(&State::new())])
        });
        for opened in ended.recv_timeout(Duration::from_secs(60)).expect("nobody waits") {
            let why = opened.unwrap_err();
            assert!(why.contains("is no regular file"), "{why}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
