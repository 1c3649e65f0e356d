//! Bodies from outside, read as the admin socket reads them, without one: what is fuzzed.

use breakglass::read_request;
use monitor::Sealed;
use signing_core::admin::breakglass::{Activate, Destroy, End};
use signing_core::admin::{Drill, Freeze, Unseal, path};
use signing_core::breakglass::Request;
use signing_core::{Kid, Reason, Refusal};

use super::{one_line, parsed, sealed};

/// What a body asks for, as far as it can be said without the state of the proxy.
#[derive(Debug, Default)]
pub struct Asked {
    /// The signer or key that it names.
    pub kid: Option<Kid>,
    /// Why, as it is recorded.
    pub reason: Option<String>,
    /// The request to activate.
    pub request: Option<Request>,
}

/// What a body for that path asks for.
///
/// # Errors
/// The refusal that its sender would get.
pub fn asked(to: &str, body: &[u8]) -> Result<Asked, Refusal> {
    let invalid = |why: String| Refusal::new(Reason::InvalidRequest, why);
    let because = |reason: String| one_line(&reason).map(Some);
    Ok(match to {
        path::FREEZE => {
            let Freeze { reason } = parsed(body)?;
            Asked { reason: because(reason)?, ..Asked::default() }
        }
        path::UNSEAL => {
            let asked: Unseal = parsed(body)?;
            let kid = match sealed(&asked)? {
                Sealed::Signer(kid) => Some(kid),
                Sealed::Journal => None,
            };
            Asked { kid, reason: because(asked.reason)?, request: None }
        }
        path::DRILL => {
            let Drill { .. } = parsed(body)?;
            Asked::default()
        }
        path::ACTIVATE => {
            let Activate { request_b64, .. } = parsed(body)?;
            let request = read_request(&request_b64).map_err(|why| invalid(why.detail))?;
            Asked { request: Some(request), ..Asked::default() }
        }
        path::END => {
            let End { reason } = parsed(body)?;
            Asked { reason: because(reason)?, ..Asked::default() }
        }
        path::DESTROY => {
            let Destroy { emergency_kid, reason, .. } = parsed(body)?;
            let reason = because(reason)?;
            let kid = Kid::parse(&emergency_kid).map_err(|error| invalid(error.to_string()))?;
            Asked { kid: Some(kid), reason, request: None }
        }
        other => return Err(Refusal::new(Reason::NotFound, other)),
    })
}
