//! Bytes of memory that several take from: a connection, a caller, everybody. What has no room in
//! one of its shares has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What several take from.
#[derive(Debug)]
pub(super) struct Share {
    bytes: AtomicUsize,
    max: usize,
    /// The config key of `max`.
    key: &'static str,
}

/// The shares that one thing takes from, the narrowest first.
#[derive(Debug)]
pub(super) struct Shares<const N: usize>(pub(super) [Arc<Share>; N]);

impl Share {
    pub(super) fn new(key: &'static str, max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max, key })
    }

    /// How many bytes are taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn key(&self) -> &'static str {
        self.key
    }

    /// False, and nothing is taken, if it has no room.
    pub(super) fn try_add(&self, bytes: usize) -> bool {
        let added = |all: usize| all.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, added).is_ok()
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl<const N: usize> Shares<N> {
    /// All or nothing; the share that has no room, the narrowest first.
    pub(super) fn try_add(&self, bytes: usize) -> Result<(), &Share> {
        for (at, share) in self.0.iter().enumerate() {
            if !share.try_add(bytes) {
                self.0.iter().take(at).for_each(|taken| taken.remove(bytes));
                return Err(share);
            }
        }
        Ok(())
    }

    /// Beyond every limit.
    pub(super) fn add(&self, bytes: usize) {
        self.0.iter().for_each(|share| share.add(bytes));
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.0.iter().for_each(|share| share.remove(bytes));
    }
}
