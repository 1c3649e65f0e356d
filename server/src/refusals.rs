//! Refusals on their way to the journal: counted by reason and signer, with one request as
//! a sample, and recorded together now and then. So nobody fills the disk by being
//! refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use audit::Journal;
use host::clock::now;
use signing_core::journal::{self, Record, Refused, clip};
use signing_core::{Kid, Moment, Reason, Refusal};

/// Pairs of reason and signer in one record; it has to fit.
const KINDS_MAX: usize = 16;
/// Longest caller in a sample, in bytes.
const CALLER_MAX_BYTES: usize = 256;

/// Counts refusals.
#[derive(Debug)]
pub struct Refusals {
    tallies: Mutex<Tallies>,
}

#[derive(Debug)]
struct Tallies {
    since: Moment,
    by_kind: BTreeMap<Reason, BTreeMap<Option<Kid>, Tally>>,
}

#[derive(Debug)]
struct Tally {
    count: u64,
    caller: String,
    detail: String,
    request_id: String,
}

impl Default for Refusals {
    fn default() -> Self {
        let tallies = Tallies { since: now(), by_kind: BTreeMap::new() };
        Self { tallies: Mutex::new(tallies) }
    }
}

impl Refusals {
    /// Counts one.
    pub fn count(&self, refusal: &Refusal, caller: &str, request_id: &str) {
        let mut tallies = self.lock();
        let of_reason = tallies.by_kind.entry(refusal.reason).or_default();
        match of_reason.get_mut(&refusal.signer_kid) {
            Some(tally) => tally.count += 1,
            None => {
                let tally = Tally {
                    count: 1,
                    caller: caller.chars().take(CALLER_MAX_BYTES / 4).collect(),
                    detail: clip(&refusal.detail).to_owned(),
                    request_id: request_id.to_owned(),
                };
                of_reason.insert(refusal.signer_kid.clone(), tally);
            }
        }
    }

    /// Records what was counted, in as many records as it takes. What the journal does not
    /// take is counted on.
    pub fn record(&self, journal: &Journal) {
        let now = now();
        loop {
            let mut tallies = self.lock();
            if tallies.by_kind.is_empty() {
                tallies.since = now;
                return;
            }
            let refused: Vec<_> = tallies.kinds().take(KINDS_MAX).map(Tally::refused).collect();
            let over_s = now.since(tallies.since).as_secs();
            if journal.note(&Record::Refusals(journal::Refusals { over_s, refused })).is_err() {
                return;
            }
            tallies.forget(KINDS_MAX);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tallies> {
        // A panic under this lock leaves a count behind by one.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tallies {
    /// By reason, and then by signer.
    fn kinds(&self) -> impl Iterator<Item = (Reason, &Option<Kid>, &Tally)> {
        let all = self.by_kind.iter();
        all.flat_map(|(reason, of)| of.iter().map(move |(kid, tally)| (*reason, kid, tally)))
    }

    /// Forgets the first of these, so many.
    fn forget(&mut self, most: usize) {
        for _ in 0..most {
            let Some(mut first) = self.by_kind.first_entry() else { return };
            first.get_mut().pop_first();
            if first.get().is_empty() {
                first.remove();
            }
        }
    }
}

impl Tally {
    fn refused<'t>((reason, kid, tally): (Reason, &'t Option<Kid>, &'t Self)) -> Refused<'t> {
        Refused {
            caller: &tally.caller,
            count: tally.count,
            detail: &tally.detail,
            reason: reason.word(),
            request_id: &tally.request_id,
            signer_kid: kid.as_ref().map(Kid::as_str),
        }
    }
}
