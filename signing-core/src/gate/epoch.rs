//! The epoch.

/// A number that changes whenever the gate's answer could change. A release
/// needs the epoch of its admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of every gate at the start.
    pub(super) const FIRST: Self = Self(0);

    /// The one after this.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
