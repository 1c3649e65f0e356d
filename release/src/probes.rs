//! The calls that no caller asked for, such as those of canaries and of the doctor, on their way to
//! the journal: recorded together now and then. A process that is killed meanwhile loses their ids,
//! and nothing else: what they signed can be released to nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit::Journal;
use signing_core::journal::{self, ProbeCall, Record};
use signing_core::{AttemptsId, Kid, Moment};

use crate::attempts::{Attempt, Attempts, Made};

/// Calls in one record; they have to fit.
const CALLS_OF_RECORD_MAX: usize = 32;
/// Calls that are held while the journal takes none; of more only their number.
const CALLS_MAX: usize = 1024;

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To learn whether a signer works, for its gate.
    Canary,
    /// The same, for an operator.
    Doctor,
    /// To have credentials and a connection ready.
    Warmth,
}

/// What an upstream is asked for, in KMS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A signature.
    Sign,
    /// Which key it holds.
    GetPublicKey,
    /// In which state the key is.
    DescribeKey,
}

/// What was called and is not recorded yet. A clone counts to the same.
#[derive(Clone, Debug)]
pub struct Probes(Arc<Mutex<Tally>>);

#[derive(Debug)]
struct Tally {
    since: Moment,
    calls: Vec<Call>,
    left_out: u64,
}

#[derive(Debug)]
struct Call {
    signer_kid: Kid,
    asked: (Purpose, Operation),
    attempt: Attempt,
    outcome: &'static str,
}

/// The calls for one question to an upstream. They are counted when this is dropped, however that
/// comes: what nobody waits for any more was called, too.
#[derive(Debug)]
pub struct ProbeCalls {
    signer_kid: Kid,
    asked: (Purpose, Operation),
    attempts: Attempts,
    probes: Probes,
    /// What came of the last call, where more is known than whether it was answered.
    pub(crate) outcome: Option<&'static str>,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Doctor => "doctor",
            Self::Warmth => "warmth",
        }
    }
}

impl Operation {
    const fn word(self) -> &'static str {
        match self {
            Self::Sign => "Sign",
            Self::GetPublicKey => "GetPublicKey",
            Self::DescribeKey => "DescribeKey",
        }
    }
}

impl ProbeCalls {
    /// The calls: whoever makes one says so here first.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }
}

impl Drop for ProbeCalls {
    fn drop(&mut self) {
        self.probes.count(&self.signer_kid, self.asked, self.attempts.take(), self.outcome);
    }
}

impl Probes {
    /// Counts from `now` on.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self(Arc::new(Mutex::new(Tally { since: now, calls: Vec::new(), left_out: 0 })))
    }

    /// The calls for one question about the signer `kid`, which `attempts` names.
    #[must_use]
    pub fn calls(
        &self,
        kid: &Kid,
        asked: (Purpose, Operation),
        attempts: AttemptsId,
    ) -> ProbeCalls {
        let (signer_kid, attempts) = (kid.clone(), Attempts::new(attempts));
        ProbeCalls { signer_kid, asked, attempts, probes: self.clone(), outcome: None }
    }

    fn count(
        &self,
        kid: &Kid,
        asked: (Purpose, Operation),
        Made { newest, earlier }: Made,
        outcome: Option<&'static str>,
    ) {
        let mut tally = self.lock();
        let earlier = earlier.into_iter().map(|attempt| (attempt, None));
        for (attempt, outcome) in earlier.chain(newest.map(|newest| (newest, outcome))) {
            if tally.calls.len() < CALLS_MAX {
                let (signer_kid, outcome) = (kid.clone(), outcome.unwrap_or(attempt.outcome()));
                tally.calls.push(Call { signer_kid, asked, attempt, outcome });
            } else {
                tally.left_out += 1;
            }
        }
    }

    /// Records what was counted, in as many records as it takes. What the journal does not take is
    /// kept for the next time.
    pub fn record(&self, journal: &Journal, now: Moment) {
        loop {
            let mut tally = self.lock();
            if tally.calls.is_empty() {
                tally.since = now;
                return;
            }
            let count = tally.calls.len().min(CALLS_OF_RECORD_MAX);
            if journal.note(&tally.record(count, now)).is_err() {
                return;
            }
            tally.calls.drain(..count);
            tally.left_out = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        // Nothing under this lock panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn record(&self, count: usize, now: Moment) -> Record<'_> {
        Record::Probes(journal::Probes {
            calls: self.calls.iter().take(count).map(Call::recorded).collect(),
            left_out: Some(self.left_out).filter(|left_out| *left_out > 0),
            over_s: now.since(self.since).as_secs(),
        })
    }
}

impl Call {
    fn recorded(&self) -> ProbeCall<'_> {
        let Self { signer_kid, asked: (purpose, operation), attempt, outcome } = self;
        ProbeCall {
            attempt: &attempt.id,
            operation: operation.word(),
            outcome,
            purpose: purpose.word(),
            region: attempt.signs.region(),
            signer_kid: signer_kid.as_str(),
            upstream: attempt.signs.upstream(),
            upstream_request_id: attempt.request_id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signing_core::evidence::Fault;
    use signing_core::gate::Place;
    use signing_core::journal::{Kind, Outline};
    use signing_core::{AttemptsId, UpstreamRequestId};
    use time::OffsetDateTime;

    use super::*;
    use crate::attempts::Signs;

    /// Canaries, each of which was called twice.
    fn counted(canaries: usize) -> Probes {
        let probes = Probes::new(Moment::from_nanos(0));
        let kid = Kid::parse(&"k".repeat(128)).unwrap();
        let place = Arc::new(Place { provider: "development", region: "\u{1}".repeat(64) });
        for _ in 0..canaries {
            let (asked, id) = ((Purpose::Canary, Operation::Sign), AttemptsId::new([7; 16]));
            let mut calls = probes.calls(&kid, asked, id);
            for fault in [Some(Fault::KeyUnavailable), None] {
                calls.attempts().begin(Signs::Upstream(Arc::clone(&place)));
                calls.attempts().answered(UpstreamRequestId::read(&"r".repeat(64)), fault);
            }
            calls.outcome = Some("doubt");
        }
        probes
    }

    #[test]
    fn i8_the_longest_calls_fit_into_a_record_and_what_is_held_is_bounded() {
        let probes = counted(CALLS_MAX);
        let tally = probes.lock();
        assert_eq!((tally.calls.len(), tally.left_out), (CALLS_MAX, CALLS_MAX as u64));
        let record = tally.record(CALLS_OF_RECORD_MAX, Moment::from_nanos(u64::MAX));
        let body = record.encode(OffsetDateTime::UNIX_EPOCH).expect("it fits");
        let (outline, kind) = Outline::parse(&body).expect("it is canonical");
        assert_eq!(kind, Kind::Probes);
        assert_eq!(outline.data["calls"].as_array().unwrap().len(), CALLS_OF_RECORD_MAX);
        assert_eq!(outline.number("left_out"), Some(CALLS_MAX as u64));
    }

    #[test]
    fn each_call_of_a_canary_has_its_own_outcome() {
        let probes = counted(1);
        let tally = probes.lock();
        let outcomes: Vec<_> = tally.calls.iter().map(|call| call.outcome).collect();
        assert_eq!(outcomes, ["key_unavailable", "doubt"]);
        assert!(tally.calls[1].attempt.id.ends_with("-2"));
    }

    #[test]
    fn a_call_says_whether_it_was_answered() {
        let probes = Probes::new(Moment::from_nanos(0));
        let kid = Kid::parse("k").unwrap();
        for answers in [false, true] {
            let asked = (Purpose::Warmth, Operation::GetPublicKey);
            let calls = probes.calls(&kid, asked, AttemptsId::new([7; 16]));
            calls.attempts().begin(Signs::EmergencySigner);
            if answers {
                calls.attempts().answered(None, None);
            }
        }
        let tally = probes.lock();
        let outcomes: Vec<_> = tally.calls.iter().map(|call| call.outcome).collect();
        assert_eq!(outcomes, ["indeterminate", "answered"]);
    }
}
