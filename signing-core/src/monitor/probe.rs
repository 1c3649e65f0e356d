//! How the monitor probes: the times that a configuration names, and what follows from them.

use std::time::Duration;

use crate::gate::Thresholds;

/// Of a canary's time-out, the part that a question for the key's state may take; and at most
/// so long: less than what a lease has to spare, so that no silent question ends one.
const STATE_PART: u32 = 4;
const STATE_MAX: Duration = Duration::from_millis(500);

/// How the monitor probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Between canaries of an open gate that no traffic proves.
    pub interval: Duration,
    /// Between canaries of a gate that is not open.
    pub recovery_interval: Duration,
    /// One canary, from start to verified.
    pub timeout: Duration,
    /// Between questions for the state of a key.
    pub key_state_interval: Duration,
}

impl Default for Probe {
    /// That of a configuration that names none.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            recovery_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            key_state_interval: Duration::from_secs(60),
        }
    }
}

impl Probe {
    /// How long a gate without traffic may stay open when every call fails at once: until its lease
    /// ends, or as many canaries have failed as shut it, of which the first one comes within an
    /// interval and the others at the pace of recovery.
    #[must_use]
    pub fn shuts_within(&self, thresholds: &Thresholds) -> Duration {
        let others = thresholds.failures_to_shut.saturating_sub(1);
        let failing = self.interval.saturating_add(self.recovery_interval.saturating_mul(others));
        failing.min(thresholds.lease)
    }

    /// How long a question for the key's state may take.
    #[must_use]
    pub fn state_timeout(&self) -> Duration {
        (self.timeout / STATE_PART).min(STATE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_gate_shuts_by_its_canaries_or_by_its_lease() {
        let (probe, thresholds) = (Probe::default(), Thresholds::default());
        assert_eq!(probe.shuts_within(&thresholds), Duration::from_secs(6));
        let thresholds = Thresholds { failures_to_shut: 100, ..thresholds };
        assert_eq!(probe.shuts_within(&thresholds), thresholds.lease);
    }
}
