//! The fault of a drill: a switch between the proxy and every upstream of one signer.
//!
//! While it is on, no call passes it. What passes all the same, or is released after the gate
//! refused, is counted: both have to be none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use signing_core::Moment;
use signing_core::evidence::Fault;

use super::UpstreamError;

/// One signer's switch, shared by its clients for callers and for canaries.
#[derive(Clone, Debug, Default)]
pub struct FaultSwitch(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    is_on: AtomicBool,
    /// Since when, in nanoseconds since boot.
    on_since: AtomicU64,
    /// Since when the gate is known to refuse.
    refused_since: AtomicU64,
    passed: AtomicU64,
    released: AtomicU64,
}

impl Default for Switch {
    fn default() -> Self {
        let never = || AtomicU64::new(u64::MAX);
        let none = AtomicU64::default;
        let (on_since, refused_since) = (never(), never());
        Self {
            is_on: AtomicBool::new(false),
            on_since,
            refused_since,
            passed: none(),
            released: none(),
        }
    }
}

/// A fault in force. It ends when this is dropped, however that comes.
#[derive(Debug)]
pub struct FaultInForce(FaultSwitch);

impl FaultSwitch {
    /// Switches the fault on; None if it is on already.
    #[must_use]
    pub fn switch_on(&self, now: impl Fn() -> Moment) -> Option<FaultInForce> {
        let off = self.0.is_on.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst);
        off.ok()?;
        for counter in [&self.0.passed, &self.0.released] {
            counter.store(0, Ordering::SeqCst);
        }
        // Read after it was switched on: a call that began later found it on.
        self.0.on_since.store(now().as_nanos(), Ordering::SeqCst);
        Some(FaultInForce(self.clone()))
    }

    /// Lets a call pass, or not.
    ///
    /// # Errors
    /// `unavailable` while the fault is on.
    pub(super) fn pass(&self) -> Result<(), UpstreamError> {
        if self.0.is_on.load(Ordering::SeqCst) {
            return Err(UpstreamError::failed(Fault::Unavailable, "a drill is under way"));
        }
        Ok(())
    }

    /// A call that began at `began` was answered with a signature.
    pub(super) fn answered(&self, began: Moment) {
        self.count(began, &self.0.on_since, &self.0.passed);
    }

    /// A signature was released by a look at the gate after `looked`.
    pub fn released(&self, looked: Moment) {
        self.count(looked, &self.0.refused_since, &self.0.released);
    }

    fn count(&self, at: Moment, since: &AtomicU64, counter: &AtomicU64) {
        if at.as_nanos() > since.load(Ordering::SeqCst) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl FaultInForce {
    /// The gate refuses, as was seen before `now`.
    pub fn refused(&self, now: Moment) {
        self.0.0.refused_since.store(now.as_nanos(), Ordering::SeqCst);
    }

    /// Calls that passed, and signatures that were released after the gate refused.
    #[must_use]
    pub fn slipped(&self) -> u64 {
        let Switch { passed, released, .. } = &*self.0.0;
        passed.load(Ordering::SeqCst) + released.load(Ordering::SeqCst)
    }
}

impl Drop for FaultInForce {
    fn drop(&mut self) {
        let Switch { is_on, on_since, refused_since, .. } = &*self.0.0;
        on_since.store(u64::MAX, Ordering::SeqCst);
        refused_since.store(u64::MAX, Ordering::SeqCst);
        is_on.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn nothing_passes_while_it_is_on_and_everything_after() {
        let switch = FaultSwitch::default();
        assert!(switch.pass().is_ok());
        let fault = switch.switch_on(|| at(10)).unwrap();
        assert!(switch.pass().is_err());
        assert!(switch.switch_on(|| at(11)).is_none(), "one at a time");
        drop(fault);
        assert!(switch.pass().is_ok());
        assert!(switch.switch_on(|| at(12)).is_some());
    }

    #[test]
    fn what_slips_is_counted_and_what_was_under_way_is_not() {
        let switch = FaultSwitch::default();
        let fault = switch.switch_on(|| at(10)).unwrap();
        switch.answered(at(9));
        switch.released(at(11));
        fault.refused(at(20));
        switch.released(at(19));
        assert_eq!(fault.slipped(), 0);
        switch.answered(at(11));
        switch.released(at(21));
        assert_eq!(fault.slipped(), 2);
        drop(fault);
        switch.released(at(30));
        assert_eq!(switch.switch_on(|| at(40)).unwrap().slipped(), 0);
    }
}
