//! The monitor in virtual time: does what the product decides, and is held against the schedule.

use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::State;
use signing_core::monitor::{self, News, ProbeStep};

use super::simulation_prober::{
    KEY_STATE_INTERVAL, PROBE_INTERVAL, PROBE_TIMEOUT, RECOVERY_INTERVAL, ms, probe,
};
use super::simulation_schedule::Mood;
use super::{Event, Simulation, at, evidence, kid};

/// How long an upstream that fails every call, each at once, may still be open: until a canary
/// is due, two more that hurry, and some for calls and for the monitor's own pace.
const REFUSES_WITHIN: u64 = PROBE_INTERVAL + 2 * RECOVERY_INTERVAL + 500;
/// How long one may be open that signs, and says that its key is disabled: until it is asked,
/// and once more, since a gate that opens meanwhile does not count what began before.
const NOTICES_THE_STATE_WITHIN: u64 = KEY_STATE_INTERVAL + PROBE_INTERVAL + PROBE_TIMEOUT;

impl Simulation {
    /// How long a call that begins at `time` takes, and whether it ends with a signature.
    pub(super) fn call(&mut self, upstream: usize, time: u64, timeout: u64) -> (u64, bool) {
        let mood = self.mood(upstream, time);
        let took = match mood {
            Mood::Well | Mood::Disabled => 1 + self.random.below(50),
            Mood::Slow => 1_100 + self.random.below(800),
            Mood::Fails(_) => 1 + self.random.below(20),
            Mood::Hangs => timeout,
        };
        (took, mood.signs())
    }

    /// A prober does what its decisions say.
    pub(super) fn look(&mut self, upstream: usize) {
        let now = at(self.clock);
        let state = self.snapshot.gate(&kid()).unwrap().upstreams[upstream].state.clone();
        let proven = self.traffic.newest_success(&kid(), upstream);
        let random = [(); 2].map(|()| u8::try_from(self.random.below(256)).unwrap());
        let prober = &mut self.probers[upstream];
        match prober.probing.next(&probe(), Some(&state), proven, random, now) {
            ProbeStep::Wait(pause) => {
                let (sleep, until) = prober.falls_asleep(self.clock, pause);
                self.at(until, Event::Look { upstream, sleep });
            }
            ProbeStep::Probe => {
                self.counts.canaries += 1;
                prober.begins(&state, self.clock);
                let (took, evidence) = self.canary(upstream);
                self.learns(upstream, took, Some(evidence));
            }
            ProbeStep::AskState => {
                self.counts.questions += 1;
                let (took, trouble) = self.ask_state(upstream, self.clock);
                self.learns(upstream, took, trouble);
            }
        }
    }

    fn learns(&mut self, upstream: usize, took: u64, evidence: Option<Evidence>) {
        let (source, started, count) = (Source::Canary, at(self.clock), 1);
        let observation = |evidence| {
            let at = at(self.clock + took);
            Observation { upstream, source, started, at, count, evidence }
        };
        self.probers[upstream].asks(evidence.map(observation));
        self.at(self.clock + took, Event::Learned { upstream });
    }

    /// A canary's steps: how long they take, and what they show.
    fn canary(&mut self, upstream: usize) -> (u64, Evidence) {
        let mut took = 0;
        let mut shown = None;
        // The comparison of keys, then the canary itself.
        for is_comparison in [true, false] {
            let probing = &mut self.probers[upstream].probing;
            if is_comparison && !probing.has_to_compare() {
                continue;
            }
            if !is_comparison && probing.asks_first() {
                let (asking, trouble) = self.ask_state(upstream, self.clock + took);
                took += asking;
                if trouble.is_some() {
                    shown = trouble;
                    break;
                }
            }
            let begins = self.clock + took;
            let (calling, ok) = self.call(upstream, begins, PROBE_TIMEOUT);
            took += calling;
            let evidence = evidence(self.mood(upstream, begins), ok);
            if evidence.is_denial() {
                let (asking, trouble) = self.ask_state(upstream, self.clock + took);
                took += asking;
                shown = Some(trouble.unwrap_or(evidence));
                break;
            }
            if is_comparison && ok {
                self.probers[upstream].probing.compared();
                continue;
            }
            shown = Some(evidence);
            break;
        }
        match shown {
            Some(shown) if took < PROBE_TIMEOUT => (took, shown),
            _ => (PROBE_TIMEOUT, evidence(Mood::Hangs, false)),
        }
    }

    /// A question for the key's state: how long it takes, and what speaks against the key.
    fn ask_state(&mut self, upstream: usize, time: u64) -> (u64, Option<Evidence>) {
        self.probers[upstream].probing.asks_state(at(time));
        let within = ms(probe().state_timeout());
        let (took, _) = self.call(upstream, time, within);
        let mood = self.mood(upstream, time);
        let speaks_against = mood.is_against_the_key() && took < within;
        self.probers[upstream].probing.state_known(speaks_against);
        let disabled = || evidence(Mood::Fails(Fault::KeyUnavailable), false);
        (took.min(within), speaks_against.then(disabled))
    }

    pub(super) fn fold(&mut self) {
        self.urgent = false;
        let news = monitor::fold(&mut self.gates, &self.traffic, at(self.clock));
        self.publish(news);
    }

    pub(super) fn publish_gates(&mut self) {
        let news = News::of(&mut self.gates, None);
        self.publish(news);
    }

    pub(super) fn publish(&mut self, News { transitions, changes, probers_look }: News) {
        self.counts.transitions += (transitions.len() + changes.len()) as u64;
        self.snapshot = self.gates.snapshot();
        if probers_look {
            for upstream in 0..self.probers.len() {
                let sleep = self.probers[upstream].sleep;
                self.at(self.clock, Event::Look { upstream, sleep });
            }
        }
    }

    /// Holds what probers did and what the gates are against the schedule.
    pub(super) fn paces_are_kept(&mut self) {
        for upstream in 0..self.probers.len() {
            let state = &self.snapshot.gate(&kid()).unwrap().upstreams[upstream].state;
            self.probers[upstream].keeps_its_pace(state, self.calm_since, self.clock);
            let is_open = matches!(state, State::Open { .. });
            let all_were = |within: u64, is: fn(Mood) -> bool| {
                let since = self.clock.saturating_sub(within);
                let moods = self.moods[upstream].range(since..=self.clock).map(|(_, mood)| *mood);
                let at_first = self.mood(upstream, since);
                self.calm_since <= since && self.clock >= within && moods.chain([at_first]).all(is)
            };
            let had_to_be_shut = [
                all_were(REFUSES_WITHIN, |mood| matches!(mood, Mood::Fails(_))),
                all_were(NOTICES_THE_STATE_WITHIN, Mood::is_against_the_key),
            ];
            for (count, had_to_be) in self.counts.had_to_be_shut.iter_mut().zip(had_to_be_shut) {
                assert!(
                    !(had_to_be && is_open),
                    "upstream {upstream} at {}: {state:?}",
                    self.clock
                );
                *count += u64::from(had_to_be);
            }
        }
    }
}
