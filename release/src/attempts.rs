//! The calls that are made for one order. Each has its id before it is made, and the order's
//! records name them all.
//!
//! The ids of one order share their beginning, which the intent's record holds. So whichever call a
//! crash cuts off, the journal holds enough of its id to find it in the upstream's own log, though
//! nobody knew at the intent how many calls there would be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signing_core::evidence::Fault;
use signing_core::gate::Place;
use signing_core::journal::EarlierAttempt;
use signing_core::{AttemptId, AttemptsId, UpstreamRequestId};

/// What the records call the emergency signer.
const EMERGENCY_SIGNER: &str = "breakglass-signer";

/// More calls are never made for one order: two upstreams are asked at most, or one of them twice,
/// and each call is made once more with other credentials.
const ATTEMPTS_MAX: usize = 4;

/// Who is asked to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signs {
    /// An upstream.
    Upstream(Arc<Place>),
    /// The emergency signer, in a break-glass session.
    EmergencySigner,
}

/// The calls of one order. Whoever makes one says so before, and what came of it after; a call that
/// nothing is said of after was not answered.
#[derive(Debug)]
pub struct Attempts {
    pub(crate) id: AttemptsId,
    made: Mutex<Vec<Attempt>>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) signs: Signs,
    request_id: Option<UpstreamRequestId>,
    answer: Answer,
}

/// What is known of the answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// There was none.
    None,
    /// It may be what was asked for.
    Some,
    /// Nothing came of the call.
    Failed(Fault),
}

impl Signs {
    /// What records call it: the provider's name in the configuration.
    pub(crate) fn upstream(&self) -> &str {
        match self {
            Self::Upstream(place) => place.provider,
            Self::EmergencySigner => EMERGENCY_SIGNER,
        }
    }

    /// The region, or what stands for it.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Upstream(place) => Some(&place.region),
            Self::EmergencySigner => None,
        }
    }
}

impl Attempts {
    /// None made yet.
    pub(crate) const fn new(id: AttemptsId) -> Self {
        Self { id, made: Mutex::new(Vec::new()) }
    }

    /// A call is about to be made; returns its id.
    pub fn begin(&self, signs: Signs) -> AttemptId {
        let mut made = self.lock();
        let number = u8::try_from(made.len() + 1).unwrap_or(u8::MAX);
        let id = self.id.number(number);
        debug_assert!(made.len() < ATTEMPTS_MAX, "{id} is one call too many");
        made.push(Attempt { id: id.to_string(), signs, request_id: None, answer: Answer::None });
        id
    }

    /// The call that was made last was answered: by what name the upstream knows it, and how it
    /// failed, if it did.
    pub fn answered(&self, request_id: Option<UpstreamRequestId>, fault: Option<Fault>) {
        if let Some(newest) = self.lock().last_mut() {
            newest.request_id = request_id;
            newest.answer = fault.map_or(Answer::Some, Answer::Failed);
        }
    }

    /// Nothing came of the call that was made last, whether it was answered or not.
    pub fn failed(&self, fault: Fault) {
        if let Some(newest) = self.lock().last_mut()
            && !matches!(newest.answer, Answer::Failed(_))
        {
            newest.answer = Answer::Failed(fault);
        }
    }

    /// The calls that were made.
    pub(crate) fn take(&self) -> Made {
        let mut made = std::mem::take(&mut *self.lock());
        Made { newest: made.pop(), earlier: made }
    }

    /// Nobody knows whether calls were made: the records have what the ids of all of them would begin with.
    pub(crate) fn unknown(&self, intended: Option<&Signs>) -> Made {
        let newest = intended.map(|signs| Attempt {
            id: self.id.to_string(),
            signs: signs.clone(),
            request_id: None,
            answer: Answer::None,
        });
        Made { newest, earlier: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attempt>> {
        // Nothing under this lock panics but for want of memory.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of one order, for the record of what became of it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) newest: Option<Attempt>,
    pub(crate) earlier: Vec<Attempt>,
}

impl Attempt {
    /// By what name the upstream knows it.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref().map(UpstreamRequestId::as_str)
    }

    /// What came of it, in a word.
    pub(crate) const fn outcome(&self) -> &'static str {
        match self.answer {
            Answer::None => Fault::Indeterminate.word(),
            Answer::Some => "answered",
            Answer::Failed(fault) => fault.word(),
        }
    }
}

impl Made {
    /// The id of the call that was made last.
    pub(crate) fn attempt(&self) -> Option<&str> {
        self.newest.as_ref().map(|newest| newest.id.as_str())
    }

    /// Who was asked last; `intended` if nobody was called.
    pub(crate) fn signs<'m>(&'m self, intended: Option<&'m Signs>) -> Option<&'m Signs> {
        self.newest.as_ref().map(|newest| &newest.signs).or(intended)
    }

    /// By what name the upstream knows the call that was made last.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.newest.as_ref()?.request_id()
    }

    /// The calls before that one.
    pub(crate) fn earlier(&self) -> Vec<EarlierAttempt<'_>> {
        let earlier = self.earlier.iter().map(|attempt| EarlierAttempt {
            attempt: &attempt.id,
            reason: attempt.outcome(),
            region: attempt.signs.region(),
            upstream: attempt.signs.upstream(),
            upstream_request_id: attempt.request_id(),
        });
        earlier.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_found_by_what_its_ids_begin_with() {
        let attempts = Attempts::new(AttemptsId::new([7; 16]));
        let lost = attempts.unknown(Some(&Signs::EmergencySigner));
        assert_eq!(lost.attempt(), Some("07".repeat(16).as_str()));
        assert!(attempts.id.number(1).to_string().starts_with(lost.attempt().unwrap_or_default()));
        assert_eq!(lost.signs(None), Some(&Signs::EmergencySigner));
        assert!(lost.earlier().is_empty());
        // A kept signature was given out again: nobody was called.
        assert_eq!(attempts.unknown(None).attempt(), None);
    }
}
