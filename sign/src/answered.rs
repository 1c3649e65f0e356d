//! What came of asking whoever signs.

use breakglass::emergency::Witness;
use release::{Failed, Proven};
use signing_core::Moment;
use signing_core::gate::{Admits, Permit};

/// What became of an order, and when.
pub(crate) struct Answered<A: Admits> {
    /// Whether the answer verified under the registered key.
    pub(crate) verdict: Result<Proven<Permit<A>>, Failed>,
    /// The emergency signer's record of it, if it signed.
    pub(crate) witnessed: Option<Witness>,
    /// When the first one that was asked was called.
    pub(crate) called: Moment,
    /// When the answer was there.
    pub(crate) answered: Moment,
    /// When it was verified.
    pub(crate) verified: Moment,
}
