//! How many requests may be in flight at once, of one caller and of all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::caller::Caller;
use crate::refusal::{Reason, Refusal};

/// A bounded number of slots. Whoever finds none is refused at once (I8).
#[derive(Clone, Debug)]
pub struct Slots {
    taken: Arc<Mutex<Taken>>,
    limit: usize,
    per_caller: usize,
}

/// One slot; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    taken: Arc<Mutex<Taken>>,
    caller: Arc<Caller>,
}

/// By caller, not by connection: work goes on when its client is gone, and so does its slot.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only callers that have one.
    of_callers: BTreeMap<Arc<Caller>, usize>,
}

impl Slots {
    /// `limit` free slots, which one caller can take.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit, per_caller: limit }
    }

    /// The same, of which one caller can take `per_caller`.
    #[must_use]
    pub fn per_caller(self, per_caller: usize) -> Self {
        Self { per_caller, ..self }
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        lock(&self.taken).all
    }

    /// Takes a slot for that caller, without waiting.
    ///
    /// # Errors
    /// `overloaded`, with the limit that is reached.
    pub(super) fn take(&self, caller: &Arc<Caller>) -> Result<Slot, Refusal> {
        let mut taken = lock(&self.taken);
        let of_caller = taken.of_callers.get(caller).copied().unwrap_or_default();
        let detail = if of_caller >= self.per_caller {
            format!("{of_caller} requests of the caller {caller} are in flight already")
        } else if taken.all >= self.limit {
            format!("{} requests are in flight already", taken.all)
        } else {
            taken.all += 1;
            taken.of_callers.insert(Arc::clone(caller), of_caller + 1);
            return Ok(Slot { taken: Arc::clone(&self.taken), caller: Arc::clone(caller) });
        };
        Err(Refusal::new(Reason::Overloaded, detail))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        match taken.of_callers.get_mut(&self.caller) {
            Some(of_caller) if *of_caller > 1 => *of_caller -= 1,
            Some(_) | None => {
                taken.of_callers.remove(&self.caller);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // Nothing under this lock panics but for want of memory.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Arc<Caller> {
        Arc::new(Caller::parse(name).unwrap())
    }

    #[test]
    fn no_more_slots_than_the_limit_and_each_comes_back() {
        let (slots, alice) = (Slots::new(2), caller("alice.example"));
        let first = slots.take(&alice);
        let second = slots.take(&alice);
        assert!(first.is_ok() && second.is_ok());
        assert!(slots.take(&alice).is_err());
        drop(first);
        assert!(slots.take(&alice).is_ok());
    }

    #[test]
    fn one_caller_leaves_slots_to_others_and_who_has_none_is_not_remembered() {
        let slots = Slots::new(4).per_caller(3);
        let (alice, bob) = (caller("alice.example"), caller("bob.example"));
        let mut held: Vec<_> = (0..3).map(|_| slots.take(&alice).unwrap()).collect();
        let refusal = slots.take(&alice).unwrap_err();
        assert_eq!(refusal.reason, Reason::Overloaded);
        assert!(refusal.detail.contains("alice.example"), "{refusal:?}");
        held.push(slots.take(&bob).unwrap());
        assert!(!slots.take(&bob).unwrap_err().detail.contains("bob"), "all are taken");
        assert_eq!(slots.taken(), 4);
        held.remove(0);
        assert!(slots.take(&alice).is_ok());
        drop(held);
        assert_eq!(slots.taken(), 0);
        assert!(lock(&slots.taken).of_callers.is_empty());
    }
}
