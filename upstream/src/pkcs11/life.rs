//! How a token's worker fares, for metrics and status: its supervisor counts, others read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::calls::Calls;

/// The lives of one upstream's workers, one after the other.
#[derive(Debug)]
pub struct Life {
    calls: Arc<Calls>,
    starts: AtomicU64,
    hangs: AtomicU64,
    /// The group of processes that lives, until it is about to be reaped.
    group: Mutex<Option<Pid>>,
}

impl Life {
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self { calls, starts: AtomicU64::new(0), hangs: AtomicU64::new(0), group: Mutex::default() }
    }

    /// A worker's process was started.
    pub(super) fn started(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// The group that a worker leads; none: it is about to be reaped, and its number another's soon.
    pub(super) fn leads(&self, group: Option<Pid>) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }

    /// Nobody needs it any more: kills the worker, and all that its library has started, which
    /// would outlive the proxy.
    pub fn end(&self) {
        self.calls.close();
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = *group {
            // That it has ended by itself is no error.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// A worker did not answer within its time, and is killed.
    pub(super) fn hung(&self) {
        self.hangs.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a worker serves now: logged in, with its key found.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.calls.is_served()
    }

    /// How many calls wait for the token and were not sent to its worker yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.calls.waiting()
    }

    /// Workers started after the first.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Workers killed since they did not answer within their time.
    #[must_use]
    pub fn hangs_killed(&self) -> u64 {
        self.hangs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::super::super::UpstreamError;
    use super::super::line::Line;
    use super::*;
    use signing_core::evidence::Fault;

    #[test]
    fn the_first_start_is_no_restart_and_only_who_serves_is_up() {
        let calls = Arc::new(Calls::new(1, Duration::from_secs(2)));
        let life = Life::new(Arc::clone(&calls));
        let seen = || (life.is_up(), life.restarts(), life.hangs_killed());
        assert_eq!(seen(), (false, 0, 0));
        life.started();
        assert_eq!(seen(), (false, 0, 0), "it has not found its key yet");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        calls.serve(b"spki".to_vec(), Line::new(ours));
        assert_eq!(seen(), (true, 0, 0));
        life.hung();
        calls.leave(&UpstreamError::failed(Fault::Unavailable, "killed"));
        life.started();
        assert_eq!(seen(), (false, 1, 1));
    }
}
