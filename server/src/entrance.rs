//! Through which door a connection came, and what its requests prove there. A door proves who
//! calls, and nothing else.

use std::sync::Arc;

use http::request::Parts;
use signing_core::{Caller, Door, Refusal};

use super::local::{Calls, Fault, NotProven, Visit};

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
    /// Who calls, or what would show it.
    pub(super) calls: Result<Calls, NotProven>,
}

/// Who calls, once all is known that shows it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) caller: Result<Arc<Caller>, Refusal>,
    /// What is wrong with the proof of nobody.
    pub(super) fault: Option<Fault>,
}

impl Entrance {
    pub(super) fn enter(&self, head: &Parts) -> Entered {
        match self {
            Self::Mtls(caller) => Entered {
                door: Door::Mtls,
                admitted: Ok(()),
                calls: caller.clone().map(Calls::Known).map_err(NotProven::from),
            },
            Self::Local(visit) => {
                let admitted = visit.admits(head);
                let calls = match &admitted {
                    Ok(()) => visit.caller(head),
                    Err(refusal) => Err(refusal.clone().into()),
                };
                Entered { door: Door::Local, admitted, calls }
            }
        }
    }
}

impl From<Result<Arc<Caller>, NotProven>> for Identity {
    fn from(found: Result<Arc<Caller>, NotProven>) -> Self {
        match found {
            Ok(caller) => Self { caller: Ok(caller), fault: None },
            Err(NotProven { fault, refusal }) => Self { caller: Err(refusal), fault: Some(fault) },
        }
    }
}
