//! What calls came to lately: a sliding window of counts, and when they are too bad.

use std::time::Duration;

use crate::evidence::Fault;
use crate::moment::Moment;

/// Parts of a window; its age is known to one of them.
const PARTS: usize = 10;

/// When the calls of a window shut a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// How far back calls count.
    pub length: Duration,
    /// With fewer calls than this a ratio says nothing.
    pub calls_min: u32,
    /// So many of a hundred calls that failed shut the gate.
    pub error_percent_max: u32,
    /// A call that took longer is slow.
    pub slow_call: Duration,
    /// So many of a hundred calls that were slow shut the gate.
    pub slow_percent_max: u32,
}

/// What calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that were answered with a signature.
    pub signed: u32,
    /// Of these, the slow ones.
    pub slow: u32,
    /// Calls that failed, other than by what the upstream rejects of a caller.
    pub failed: u32,
    /// How the newest of them failed.
    pub newest_fault: Option<Fault>,
}

/// What is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Errors { fault: Fault, detail: String },
    Slow { detail: String },
}

/// The calls of the last while.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    parts: [Tally; PARTS],
    /// The number of the newest part, counted from boot.
    newest: u64,
    part_nanos: u64,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(10),
            calls_min: 20,
            error_percent_max: 50,
            slow_call: Duration::from_secs(1),
            slow_percent_max: 80,
        }
    }
}

impl Tally {
    /// One call that failed.
    #[must_use]
    pub fn one_failed(fault: Fault) -> Self {
        Self { failed: 1, newest_fault: Some(fault), ..Self::default() }
    }

    /// One call that was answered after `took`.
    #[must_use]
    pub fn one_signed(took: Duration, limits: &WindowLimits) -> Self {
        Self { signed: 1, slow: u32::from(took > limits.slow_call), ..Self::default() }
    }

    /// Both together; `later` is the newer one.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            signed: self.signed.saturating_add(later.signed),
            slow: self.slow.saturating_add(later.slow),
            failed: self.failed.saturating_add(later.failed),
            newest_fault: later.newest_fault.or(self.newest_fault),
        }
    }

    /// What of it is too much by `limits`.
    fn excess(&self, limits: &WindowLimits) -> Option<Excess> {
        let calls = u64::from(self.signed) + u64::from(self.failed);
        let reaches = |count: u32, percent: u32| {
            count > 0 && u64::from(count) * 100 >= u64::from(percent) * calls
        };
        if calls < u64::from(limits.calls_min) {
            return None;
        }
        let within = limits.length.as_secs_f64();
        if reaches(self.failed, limits.error_percent_max) {
            let fault = self.newest_fault.unwrap_or(Fault::Unavailable);
            let detail = format!("{} of {calls} calls within {within} s failed", self.failed);
            return Some(Excess::Errors { fault, detail });
        }
        reaches(self.slow, limits.slow_percent_max).then(|| {
            let slow_ms = limits.slow_call.as_millis();
            let count = self.slow;
            let detail =
                format!("{count} of {calls} calls within {within} s took more than {slow_ms} ms");
            Excess::Slow { detail }
        })
    }
}

impl Window {
    /// Takes in what calls came to until `now`, and says whether it is too much.
    pub(super) fn add(
        &mut self,
        tally: Tally,
        now: Moment,
        limits: &WindowLimits,
    ) -> Option<Excess> {
        self.move_to(now, limits.length);
        let index = usize::try_from(self.newest % PARTS as u64).unwrap_or(0);
        if let Some(part) = self.parts.get_mut(index) {
            *part = part.and(tally);
        }
        // Oldest first: how the newest failure failed says whether it is an outage (I11).
        let total = (1..=PARTS as u64).fold(Tally::default(), |sum, ahead| {
            let index = usize::try_from((self.newest + ahead) % PARTS as u64).unwrap_or(0);
            self.parts.get(index).map_or(sum, |part| sum.and(*part))
        });
        total.excess(limits)
    }

    /// Forgets all calls.
    pub(super) fn clear(&mut self) {
        self.parts = Default::default();
    }

    fn move_to(&mut self, now: Moment, length: Duration) {
        let part_nanos =
            u64::try_from(length.as_nanos() / PARTS as u128).unwrap_or(u64::MAX).max(1);
        if part_nanos != self.part_nanos {
            // Another length: what was counted by the old one has no place in it.
            *self = Self { part_nanos, ..Self::default() };
        }
        let number = now.as_nanos() / part_nanos;
        if number <= self.newest {
            return;
        }
        let passed = (number - self.newest).min(PARTS as u64);
        for part in 1..=passed {
            let index = usize::try_from((self.newest + part) % PARTS as u64).unwrap_or(0);
            if let Some(part) = self.parts.get_mut(index) {
                *part = Tally::default();
            }
        }
        if passed == PARTS as u64 {
            self.clear();
        }
        self.newest = number;
    }
}
