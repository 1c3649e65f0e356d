//! When a prober has to learn something of its upstream: a canary when nothing else proves that
//! it works, a question for the state of its key now and then.

use std::time::Duration;

use super::probe::Probe;
use crate::gate::State;
use crate::moment::Moment;

/// What a prober has done so far, for one upstream and one registered key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// When the newest probe began. None: probe whatever else is known.
    newest_probe: Option<Moment>,
    /// Whether the upstream's key was found to be the registered one.
    compared: bool,
    /// When the state of the key was last asked for, or else when the first probe began: that
    /// says more than the first state, and after it both have their pace.
    newest_question: Option<Moment>,
    /// Whether that spoke against the key: then it is asked for again before each canary.
    in_trouble: bool,
}

/// What the prober does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStep {
    /// Probe now.
    Probe,
    /// Ask for the state of the key now: also while traffic makes canaries unnecessary.
    AskState,
    /// Nothing to learn before this long, unless the writer has news for probers.
    Wait(Duration),
}

impl Probing {
    /// What is next for an upstream whose part of the gate is in `state`, and whose newest call
    /// for a caller that succeeded began at `proven`. `random` is anew with each look: for the
    /// canary, and for the question.
    pub fn next(
        &mut self,
        probe: &Probe,
        state: Option<&State>,
        proven: Option<Moment>,
        random: [u8; 2],
        now: Moment,
    ) -> ProbeStep {
        let [random_canary, random_question] = random;
        let (interval, proven) = match state {
            Some(State::Sealed { .. }) => {
                // Nothing but an operator helps; after that the key is compared anew.
                self.compared = false;
                return ProbeStep::Wait(probe.interval);
            }
            // One failure: the next canary decides, and comes before the lease ends.
            Some(State::Open { failures: 1.., .. }) => (probe.recovery_interval, None),
            Some(State::Open { .. }) => (jittered(probe.interval, random_canary), proven),
            Some(State::Shut { .. } | State::Probing { .. }) | None => {
                (probe.recovery_interval, None)
            }
        };
        let Some(newest_probe) = self.newest_probe else { return ProbeStep::Probe };
        let due = proven.map_or(newest_probe, |proven| proven.max(newest_probe)).after(interval);
        let question = self.newest_question.unwrap_or(newest_probe);
        let question_interval = match self.in_trouble {
            // What spoke against the key may have been told too late to count.
            true => probe.key_state_interval.min(probe.interval),
            false => probe.key_state_interval,
        };
        let question_due = question.after(jittered(question_interval, random_question));
        if due <= now {
            ProbeStep::Probe
        } else if question_due <= now {
            ProbeStep::AskState
        } else {
            ProbeStep::Wait(due.min(question_due).since(now))
        }
    }

    /// A probe begins.
    pub fn begins(&mut self, now: Moment) {
        self.newest_probe = Some(now);
        // Not the newest one's time, or canaries would put the question off for ever.
        self.newest_question.get_or_insert(now);
    }

    /// Whether the upstream's key has to be compared with the registered one before a canary.
    #[must_use]
    pub fn has_to_compare(&self) -> bool {
        !self.compared
    }

    /// The upstream's key is the registered one.
    pub fn compared(&mut self) {
        self.compared = true;
    }

    /// Whether the state of the key is asked for before a canary: for a while KMS may still sign
    /// with a key that it says is disabled.
    #[must_use]
    pub fn asks_first(&self) -> bool {
        self.in_trouble
    }

    /// The state of the key is asked for.
    pub fn asks_state(&mut self, now: Moment) {
        self.newest_question = Some(now);
    }

    /// Whether the state speaks against the key. No answer does not.
    pub fn state_known(&mut self, speaks_against: bool) {
        self.in_trouble = speaks_against;
    }
}

/// Up to a tenth sooner, so that many proxies, or many signers of one, do not ask together.
fn jittered(interval: Duration, random: u8) -> Duration {
    interval.saturating_sub(interval / 10 * u32::from(random) / 255)
}

#[cfg(test)]
mod tests;
