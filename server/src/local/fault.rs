//! Why a request does not prove who calls, with the exception that AWS has for it.

use signing_core::{Reason, Refusal};

/// What is wrong with a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is none.
    Missing,
    /// It is not of the form that is taken.
    Incomplete,
    /// It does not hold for this request.
    Invalid,
    /// It is nobody's here.
    Unknown,
}

/// No caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotProven {
    pub(crate) fault: Fault,
    pub(crate) refusal: Refusal,
}

impl NotProven {
    /// `unauthenticated`, for that reason.
    pub(super) fn new(fault: Fault, detail: &str) -> Self {
        Self { fault, refusal: Refusal::new(Reason::Unauthenticated, detail) }
    }
}

impl From<Refusal> for NotProven {
    fn from(refusal: Refusal) -> Self {
        Self { fault: Fault::Unknown, refusal }
    }
}
