//! The watch over `[server.tls]`: files that were swapped are read again, all of them or none. Whoever renews a
//! certificate tells nobody: Kubernetes and cert-manager swap a link, certbot several, spiffe-helper writes in place.
//!
//! A thread that may block looks, so that a file system that hangs stops nothing else; no signature waits for it.

mod settle;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::{now, rfc3339, wall_now};
use mtls::{ServerTls, Stamp};
use tokio::task::JoinError;

use crate::reload::Reloader;
use settle::{Settling, WatchStep};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A file system that does not answer in this time is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// By whom the records say that a reload was asked for.
const ORIGIN: &str = "the watch over [server.tls]";

/// Watches for ever.
pub async fn watch(tls: Arc<ArcSwap<ServerTls>>, reloader: Arc<Reloader>) {
    let mut settling = Settling::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let in_force = tls.load().stamp().clone();
        if !tls.load().is_watched() {
            settling = Settling::default();
            reloader.certificates_refused(None);
            continue;
        }
        let Some(found) = stamp(in_force.clone(), &reloader).await else { return };
        match settling.observe(&in_force, found, now()) {
            WatchStep::InForce => reloader.certificates_refused(None),
            WatchStep::Wait => {}
            WatchStep::Read { again } => read(&settling, &reloader, again).await,
        }
    }
}

/// How the files look now. None: the process ends.
async fn stamp(in_force: Stamp, reloader: &Reloader) -> Option<Stamp> {
    patiently(move || in_force.again(), reloader).await.ok()
}

async fn read(settling: &Settling<Stamp>, reloader: &Reloader, again: bool) {
    let taken = match reloader.certificate_files().await {
        Ok(files) => {
            let named = files.clone();
            let read = patiently(move || ServerTls::load(&named, wall_now()), reloader).await;
            // What panics over a file is a mistake of that file; callers are served by those in force.
            let read = read.unwrap_or_else(|died| Err(vec![died.to_string()]));
            reloader.take_certificates(&files, read, ORIGIN).await
        }
        Err(busy) => Err(busy),
    };
    let Err(error) = taken else { return };
    if !again {
        tracing::info!(target: "admin", by = ORIGIN, %error, "certificates not reloaded yet");
    }
    // A certificate whose key is not there yet is no mistake; one whose key does not come is.
    if settling.is_to_be_said(now()) {
        let at = rfc3339(wall_now());
        reloader.certificates_refused(Some(format!("at {at}: {}", error.in_short())));
    }
}

/// Does this on a thread that may block, and never twice at once: threads that hang would add up. While it hangs, that
/// is said.
async fn patiently<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    reloader: &Reloader,
) -> Result<T, JoinError> {
    let mut working = tokio::task::spawn_blocking(work);
    loop {
        match tokio::time::timeout(ANSWER_MAX, &mut working).await {
            Ok(done) => return done,
            Err(_) => reloader.certificates_refused(Some(format!(
                "the file system of the files in [server.tls] has not answered for {} s",
                ANSWER_MAX.as_secs()
            ))),
        }
    }
}
