//! The armed period, as a machine over time: it has a scope, a quota and a rate, it ends
//! once, by itself at the latest, and nothing makes it longer (I12).

use std::time::Duration;

use time::OffsetDateTime;

use super::activation::Activation;
use super::caps::Caps;
use super::end::End;
use super::rate::Rate;
use super::request::Request;
use crate::caller::Caller;
use crate::key::{Kid, ToBeSigned};
use crate::moment::Moment;

/// A session, from its activation on.
#[derive(Debug)]
pub struct Session {
    id: String,
    request: Request,
    /// By the boot-time clock, which nobody sets and which counts time asleep.
    ends_at: Moment,
    remaining: u64,
    rate: Rate,
    ended: Option<End>,
}

/// What is asked of a session.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The session that the proxy believes to be in force.
    pub session: String,
    /// Who asked the proxy.
    pub caller: Caller,
    /// The signer that the emergency key is to stand in for.
    pub replaces: Kid,
    /// What is to be signed; never a canary, which [`ToBeSigned::prepare`] refuses.
    pub input: ToBeSigned,
}

/// Proof that a session in force allows one signature over one input. It is not `Clone`,
/// only [`Session::permit`] makes one, and the key consumes it:
///
/// ```
/// fn what(permit: &signing_core::breakglass::SignPermit) -> &signing_core::ToBeSigned {
///     permit.input()
/// }
/// ```
///
/// ```compile_fail
/// fn forge(input: signing_core::ToBeSigned) -> signing_core::breakglass::SignPermit {
///     signing_core::breakglass::SignPermit { input, remaining: 1 }
/// }
/// ```
///
/// ```compile_fail
/// fn twice(permit: &signing_core::breakglass::SignPermit) -> signing_core::breakglass::SignPermit {
///     permit.clone()
/// }
/// ```
#[derive(Debug)]
pub struct SignPermit {
    input: ToBeSigned,
    remaining: u64,
}

/// Why a session allows no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// It is over.
    #[error("the session {session} is over: {}; a new one needs a new request with two new approvals", end.sentence())]
    SessionEnded {
        /// The session's name.
        session: String,
        /// What ended it.
        end: End,
    },
    /// Another one is in force.
    #[error("the session {asked} is not the one in force, {in_force}")]
    Other {
        /// What was asked for.
        asked: String,
        /// What is in force.
        in_force: String,
    },
    /// The approvers did not name that signer.
    #[error(
        "the session {session} does not stand in for the signer {kid}; its request names: {named}"
    )]
    Signer {
        /// Which session.
        session: String,
        /// What was asked for.
        kid: String,
        /// What was approved.
        named: String,
    },
    /// The approvers did not name that caller.
    #[error("the session {session} is not for the caller {caller}; its request names: {named}")]
    Caller {
        /// Which session.
        session: String,
        /// Who asked.
        caller: String,
        /// Who was approved.
        named: String,
    },
    /// Too many in a second.
    #[error(
        "more than {per_second} signatures in a second, which caps.signatures_per_second_max allows; retry in a second"
    )]
    Rate {
        /// How many are allowed.
        per_second: u32,
    },
}

impl Session {
    /// Begins the session that was granted, at `now` and `wall`.
    #[must_use]
    pub fn begin(activation: Activation, caps: &Caps, now: Moment, wall: OffsetDateTime) -> Self {
        let request = activation.into_request();
        let left = Duration::try_from(request.expires_at() - wall).unwrap_or_default();
        Self {
            id: request.session(),
            // What was granted is within the caps; a clock that was set meanwhile is not.
            ends_at: now.after(left.min(caps.session_max)),
            remaining: request.max_signatures().min(caps.signatures_max),
            rate: Rate::new(caps.signatures_per_second_max),
            request,
            ended: None,
        }
    }

    /// Allows one signature, which counts from here on, whatever becomes of it.
    ///
    /// # Errors
    /// [`NoPermit`].
    pub fn permit(
        &mut self,
        ask: Ask,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<SignPermit, NoPermit> {
        let Ask { session, caller, replaces, input } = ask;
        // First: whoever asks, a time that was seen to be over stays over, though the calendar be
        // set back after.
        let ended = self.end_if_due(now, wall);
        if session != self.id {
            return Err(NoPermit::Other { asked: session, in_force: self.id.clone() });
        }
        if let Some(end) = ended {
            return Err(NoPermit::SessionEnded { session: self.id.clone(), end });
        }
        if !self.request.replaces().contains(&replaces) {
            let named = listed(self.request.replaces().iter().map(Kid::as_str));
            let (session, kid) = (self.id.clone(), replaces.to_string());
            return Err(NoPermit::Signer { session, kid, named });
        }
        if !self.request.callers().contains(&caller) {
            let named = listed(self.request.callers().iter().map(Caller::as_str));
            let (session, caller) = (self.id.clone(), caller.to_string());
            return Err(NoPermit::Caller { session, caller, named });
        }
        if !self.rate.take(now) {
            return Err(NoPermit::Rate { per_second: self.rate.per_second() });
        }
        // Not below zero: at zero the session is over.
        self.remaining = self.remaining.saturating_sub(1);
        Ok(SignPermit { input, remaining: self.remaining })
    }

    /// Ends it if its time or its quota is used up. Why it is over, if it is.
    pub fn end_if_due(&mut self, now: Moment, wall: OffsetDateTime) -> Option<End> {
        if now >= self.ends_at || wall >= self.request.expires_at() {
            self.end(End::Expired);
        } else if self.remaining == 0 {
            self.end(End::Quota);
        }
        self.ended
    }

    /// Ends it; the first reason stays, and is returned.
    pub fn end(&mut self, end: End) -> End {
        *self.ended.get_or_insert(end)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was approved.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Signatures that are left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long it lasts at most from `now` on, by the boot-time clock.
    #[must_use]
    pub fn lasts(&self, now: Moment) -> Duration {
        self.ends_at.since(now)
    }
}

impl SignPermit {
    /// What may be signed.
    #[must_use]
    pub fn input(&self) -> &ToBeSigned {
        &self.input
    }

    /// Signatures that are left after this one.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes the input out: what it allowed is used up.
    #[must_use]
    pub fn into_input(self) -> ToBeSigned {
        self.input
    }
}

impl NoPermit {
    /// Whether to ask again later makes sense.
    #[must_use]
    pub const fn reason(&self) -> super::wire::Reason {
        use super::wire::Reason;
        match self {
            Self::SessionEnded { end: End::Quota, .. } => Reason::QuotaExhausted,
            Self::SessionEnded { .. } | Self::Other { .. } => Reason::NoSession,
            Self::Signer { .. } | Self::Caller { .. } => Reason::OutOfScope,
            Self::Rate { .. } => Reason::RateLimited,
        }
    }
}

fn listed<'t>(names: impl Iterator<Item = &'t str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
