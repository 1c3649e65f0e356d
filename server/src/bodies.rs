//! The bytes of request bodies in memory: bounded for each caller, and in total. A caller that
//! announces bodies and does not send them takes its own share, not another caller's.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use signing_core::{Caller, Reason, Refusal};

use super::share::{Share, Shares};

pub(super) const OF_CALLER: &str = "bodies_per_caller_max_bytes";

/// The shares that the bodies of one caller's requests take from: its own, then everybody's.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Arc<Shares<2>>);

/// Bytes kept for a body, until dropped.
#[derive(Debug)]
pub(super) struct Kept {
    of: Bodies,
    bytes: usize,
}

/// A request body, and its place among all bodies.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) kept: Kept,
}

impl Bodies {
    pub(super) fn of_all(limits: &configuration::Server) -> Arc<Share> {
        Share::new("bodies_max_bytes", limits.bodies_max_bytes)
    }

    /// Of another caller; everybody's are `all`.
    pub(super) fn of_caller(limits: &configuration::Server, all: &Arc<Share>) -> Self {
        let own = Share::new(OF_CALLER, limits.bodies_per_caller_max_bytes);
        Self(Arc::new(Shares([own, Arc::clone(all)])))
    }

    /// Keeps so many bytes for a body of `caller`.
    ///
    /// # Errors
    /// The refusal, if they have no room. Whoever is refused is told which limit is reached.
    pub(super) fn keep(&self, bytes: u64, caller: &Caller) -> Result<Kept, Refusal> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match self.0.try_add(bytes) {
            Ok(()) => Ok(Kept { of: self.clone(), bytes }),
            Err(full) => {
                let (key, max) = (full.key(), full.max());
                let whose = match key {
                    OF_CALLER => format!("of the caller {caller}"),
                    _ => "of all callers".to_owned(),
                };
                let detail = format!(
                    "{key} is {max}, and request bodies {whose} that are being read, or whose long messages \
                     are being signed, take that: retry once some of them are done"
                );
                Err(Refusal::new(Reason::Overloaded, detail))
            }
        }
    }
}

impl Body {
    /// Its place without its bytes, for what was read of it.
    pub(super) fn into_place(self) -> Kept {
        let Self { bytes, mut kept } = self;
        // One whose length was not announced has kept that of the longest.
        let used = bytes.len().min(kept.bytes);
        kept.of.0.remove(kept.bytes - used);
        kept.bytes = used;
        kept
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.of.0.remove(self.bytes);
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
