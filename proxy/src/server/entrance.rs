//! Through which door a connection came, and what its requests prove there. A door proves who
//! calls, and nothing else.

use std::sync::Arc;

use http::request::Parts;
use signing_core::{Caller, Door, Refusal};

use super::local::Visit;

/// Where a connection came in.
#[derive(Clone, Debug)]
pub(super) enum Entrance {
    /// With a client certificate, which names the caller or nobody.
    Mtls(Result<Arc<Caller>, Refusal>),
    /// At a local door.
    Local(Arc<Visit>),
}

/// A request that came in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) door: Door,
    /// Whether anything of it is looked at.
    pub(super) admitted: Result<(), Refusal>,
    /// Who calls.
    pub(super) caller: Result<Arc<Caller>, Refusal>,
}

impl Entrance {
    pub(super) fn enter(&self, head: &Parts) -> Entered {
        match self {
            Self::Mtls(caller) => {
                Entered { door: Door::Mtls, admitted: Ok(()), caller: caller.clone() }
            }
            Self::Local(visit) => {
                let admitted = visit.admits(head);
                let caller = admitted.clone().and_then(|()| visit.caller(head));
                Entered { door: Door::Local, admitted, caller }
            }
        }
    }
}
