//! The monitor, the gate and the pipeline in virtual time: random schedules of faults, each
//! from one number, which `SIMULATION_SEED` plays again.
//!
//! The gates are the product's own, and so are the decisions of the monitor (`signing_core::monitor`):
//! when a prober asks for what, what the writer makes of canaries and traffic, what it folds in at
//! once, and when it has probers look again. Here are only their clock and their queues, and the
//! pipeline's steps (admit, ask, record, release). Upstreams fail, hang, are slow, or sign with a
//! key that they say is disabled, by a schedule that the oracle knows and the gates do not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the seed comes from the environment, and is said"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use signing_core::evidence::{Evidence, Fault, Observation};
use signing_core::gate::{Freeze, Gates, Permit, Place, Slots, Snapshot, Thresholds, Watched};
use signing_core::monitor::{self, FOLD_EVERY, Traffic, Urgency};
use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Kid, Moment, Policy, Registry, Rulebook};
use time::OffsetDateTime;

use simulation_prober::{PROBE_TIMEOUT, Prober, RECOVERY_INTERVAL, ms};
use simulation_schedule::{Mood, Random, moods};

mod simulation_monitor;
mod simulation_prober;
mod simulation_schedule;
mod support;

/// Milliseconds: of the defaults of a configuration that names none.
const CALL_TIMEOUT: u64 = 2_000;
const LEASE: u64 = 8_000;

/// How long the faults of one schedule last, all together.
const FAULTS_UNTIL: u64 = 120_000;
/// How long after the last fault a gate is open again: a canary that hangs, the canaries that
/// prove it, the longest back-off, and some for the monitor's own pace.
const REOPENS_WITHIN: u64 = PROBE_TIMEOUT + 60_000 + 5 * RECOVERY_INTERVAL + 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A prober looks at what is due, unless it has looked since it fell asleep.
    Look {
        upstream: usize,
        sleep: u64,
    },
    /// What a prober asked its upstream for is known to it.
    Learned {
        upstream: usize,
    },
    /// The writer hears what a prober observed.
    Hear(u64),
    /// The writer folds in traffic: every so often, or since something failed.
    Fold,
    FoldAtOnce,
    /// A caller asks.
    Request,
    /// The upstream's answer to a request is there.
    Answered {
        request: u64,
    },
    /// The record of a request's signature is on disk.
    Recorded {
        request: u64,
    },
    Freeze,
    Unfreeze,
}

struct Request {
    permit: Permit,
    upstream: usize,
    started: u64,
    mood: Mood,
}

struct Simulation {
    random: Random,
    gates: Gates,
    snapshot: Snapshot,
    slots: Slots,
    clock: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    /// Of each upstream: from when on it is in which mood.
    moods: Vec<BTreeMap<u64, Mood>>,
    /// When the monitor's thread gets no time at all.
    stalls: Vec<(u64, u64)>,
    /// When the newest of them was over.
    calm_since: u64,
    probers: Vec<Prober>,
    /// On their way to the writer.
    commands: BTreeMap<u64, Observation>,
    traffic: Traffic,
    /// Whether the writer was woken, and has not folded since.
    urgent: bool,
    in_flight: BTreeMap<u64, Request>,
    frozen: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    released: u64,
    refused: u64,
    withheld: u64,
    transitions: u64,
    canaries: u64,
    questions: u64,
    /// How often an upstream was looked at that had failed, or whose key's state had spoken
    /// against it, for so long that it had to be shut.
    had_to_be_shut: [u64; 2],
}

impl Counts {
    fn and(self, other: Self) -> Self {
        let [[failed, against], [its_failed, its_against]] =
            [self.had_to_be_shut, other.had_to_be_shut];
        Self {
            released: self.released + other.released,
            refused: self.refused + other.refused,
            withheld: self.withheld + other.withheld,
            transitions: self.transitions + other.transitions,
            canaries: self.canaries + other.canaries,
            questions: self.questions + other.questions,
            had_to_be_shut: [failed + its_failed, against + its_against],
        }
    }
}

fn kid() -> Kid {
    Kid::parse("ledger").unwrap()
}

fn caller() -> Caller {
    Caller::parse("billing.example").unwrap()
}

fn at(ms: u64) -> Moment {
    Moment::default().after(Duration::from_millis(ms))
}

fn rulebook() -> Arc<Rulebook> {
    let json = support::signers_json(&[support::entry("ledger", 1)]);
    let granted = BTreeMap::from([(kid(), vec![Algorithm::Ed25519Sha512])]);
    let rules = Rules { signers: granted, default_signer: None, ..Rules::default() };
    let policy = Policy::new(BTreeMap::from([(caller(), rules)]), BTreeMap::new());
    Arc::new(Rulebook::new(Registry::from_json(&json).unwrap(), policy))
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let upstreams = 1 + usize::try_from(random.below(3)).unwrap();
        let place = |at| Arc::new(Place { provider: "aws-kms", region: format!("r-{at}") });
        let watched =
            Watched { kid: kid(), upstreams: (0..upstreams).map(place).collect(), made_in: 1 };
        let gates = Gates::new(Thresholds::default(), [watched], rulebook(), at(0));
        let traffic = Traffic::new(gates.watched(), Thresholds::default().window.slow_call);
        let moods = (0..upstreams).map(|_| moods(&mut random, FAULTS_UNTIL)).collect();
        let stall = |random: &mut Random| {
            let from = random.below(FAULTS_UNTIL);
            (from, (from + random.below(20_000)).min(FAULTS_UNTIL))
        };
        let stalls = (0..random.below(3)).map(|_| stall(&mut random)).collect();
        let mut simulation = Self {
            snapshot: gates.snapshot(),
            gates,
            random,
            slots: Slots::new(64),
            clock: 0,
            queue: BinaryHeap::new(),
            number: 0,
            moods,
            stalls,
            calm_since: 0,
            probers: (0..upstreams).map(|_| Prober::default()).collect(),
            commands: BTreeMap::new(),
            traffic,
            urgent: false,
            in_flight: BTreeMap::new(),
            frozen: false,
            counts: Counts::default(),
        };
        simulation.at(0, Event::Fold);
        for upstream in 0..upstreams {
            simulation.at(0, Event::Look { upstream, sleep: 0 });
        }
        let mut request = simulation.random.below(5_000);
        while request < FAULTS_UNTIL + REOPENS_WITHIN {
            simulation.at(request, Event::Request);
            // Quiet times and busy ones.
            let most = [20, 300, 4_000][usize::try_from(simulation.random.below(3)).unwrap()];
            request += 1 + simulation.random.below(most);
        }
        for _ in 0..simulation.random.below(3) {
            let from = simulation.random.below(FAULTS_UNTIL);
            simulation.at(from, Event::Freeze);
            let until = (from + simulation.random.below(30_000)).min(FAULTS_UNTIL);
            simulation.at(until, Event::Unfreeze);
        }
        // The last word: faults and freezes are over.
        simulation.at(FAULTS_UNTIL + 1, Event::Unfreeze);
        simulation
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((time, self.number, event)));
    }

    fn run(mut self) -> Counts {
        while let Some(Reverse((time, _, event))) = self.queue.pop() {
            if time >= FAULTS_UNTIL + REOPENS_WITHIN {
                break;
            }
            // The monitor's own events wait while its thread gets no time; requests do not.
            let of_monitor =
                !matches!(event, Event::Request | Event::Answered { .. } | Event::Recorded { .. });
            let stalled = self.stalls.iter().find(|(from, until)| (*from..*until).contains(&time));
            if let (true, Some((_, until))) = (of_monitor, stalled) {
                let until = *until;
                self.calm_since = self.calm_since.max(until);
                self.at(until, event);
                continue;
            }
            self.clock = time;
            self.happen(event);
        }
        let open = self.snapshot.check(&kid(), at(self.clock));
        assert!(open.is_ok(), "not open {REOPENS_WITHIN} ms after the last fault: {open:?}");
        self.counts
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Look { upstream, sleep } if self.probers[upstream].sleeps(sleep) => {
                self.look(upstream);
            }
            Event::Look { .. } => {}
            Event::Learned { upstream } => {
                // The writer and the prober go on in either order.
                if let Some(observation) = self.probers[upstream].learned(self.clock) {
                    self.number += 1;
                    let command = self.number;
                    self.commands.insert(command, observation);
                    let heard = self.clock + self.random.below(3);
                    self.at(heard, Event::Hear(command));
                }
                let looks = self.clock + self.random.below(3);
                let sleep = self.probers[upstream].sleep;
                self.at(looks, Event::Look { upstream, sleep });
            }
            Event::Hear(command) => {
                let observation = self.commands.remove(&command).unwrap();
                self.probers[observation.upstream].heard(&observation, self.clock);
                let news = monitor::hear(&mut self.gates, &kid(), observation, at(self.clock));
                self.publish(news);
            }
            Event::Fold => {
                self.fold();
                self.paces_are_kept();
                self.at(self.clock + ms(FOLD_EVERY), Event::Fold);
            }
            Event::FoldAtOnce => self.fold(),
            Event::Request => self.request(),
            Event::Answered { request } => self.answered(request),
            Event::Recorded { request } => self.recorded(request),
            Event::Freeze => {
                let (reason, by) = ("stop".to_owned(), "uid 1000".to_owned());
                let since = at(self.clock);
                self.gates.freeze(Freeze {
                    id: None,
                    reason,
                    by,
                    at: OffsetDateTime::UNIX_EPOCH,
                    since,
                });
                self.frozen = true;
                self.publish_gates();
            }
            Event::Unfreeze => {
                self.gates.unfreeze();
                self.frozen = false;
                self.publish_gates();
            }
        }
    }

    fn mood(&self, upstream: usize, time: u64) -> Mood {
        self.moods[upstream].range(..=time).next_back().map_or(Mood::Well, |(_, mood)| *mood)
    }

    fn request(&mut self) {
        let (now, book) = (at(self.clock), self.snapshot.rulebook());
        let time = OffsetDateTime::UNIX_EPOCH;
        let grant = book.authorize(&Arc::new(caller()), Some("ledger"), None, time).unwrap();
        let deadline = at(self.clock + 10_000);
        let Ok(permit) = self.snapshot.admit(grant, &self.slots, now, deadline) else {
            self.counts.refused += 1;
            return;
        };
        let upstream = self.snapshot.gate(&kid()).unwrap().serving(now).next().unwrap();
        let (took, _) = self.call(upstream, self.clock, CALL_TIMEOUT);
        let mood = self.mood(upstream, self.clock);
        self.number += 1;
        let request = self.number;
        let started = self.clock;
        self.in_flight.insert(request, Request { permit, upstream, started, mood });
        self.at(started + took, Event::Answered { request });
    }

    fn answered(&mut self, request: u64) {
        let Request { upstream, started, mood, .. } = self.in_flight[&request];
        let (signed, now) = (mood.signs(), at(self.clock));
        let took = (at(started), Duration::from_millis(self.clock - started));
        let urgency = self.traffic.report(&kid(), upstream, took, now, evidence(mood, signed));
        if signed {
            self.probers[upstream].proven(started);
        }
        match urgency {
            Urgency::AtOnce if !self.urgent => {
                self.urgent = true;
                self.at(self.clock, Event::FoldAtOnce);
            }
            Urgency::AtOnce | Urgency::NextFold => {}
        }
        if signed {
            let most = if self.random.below(50) == 0 { 5_000 } else { 20 };
            let record = 1 + self.random.below(most);
            self.at(self.clock + record, Event::Recorded { request });
        } else {
            self.in_flight.remove(&request);
        }
    }

    fn recorded(&mut self, request: u64) {
        let Request { permit, .. } = self.in_flight.remove(&request).unwrap();
        let released = self.snapshot.release(permit, at(self.clock)).is_ok();
        if !released {
            self.counts.withheld += 1;
            return;
        }
        self.counts.released += 1;
        assert!(!self.frozen, "released at {} while frozen", self.clock);
        // Within the lease some upstream was well: nothing else can have proven it.
        let since = self.clock.saturating_sub(LEASE);
        let was_well = (0..self.moods.len()).any(|upstream| {
            let at_all = self.moods[upstream].range(since..=self.clock).map(|(_, mood)| *mood);
            at_all.chain([self.mood(upstream, since)]).any(Mood::signs)
        });
        assert!(was_well, "released at {} though all failed for a whole lease", self.clock);
    }
}

fn evidence(mood: Mood, signed: bool) -> Evidence {
    let failed = |fault| Evidence::Failed { fault, detail: "simulated".into() };
    match mood {
        _ if signed => Evidence::Signed,
        Mood::Fails(fault) => failed(fault),
        Mood::Well | Mood::Slow | Mood::Disabled | Mood::Hangs => failed(Fault::Indeterminate),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays one schedule, and names its seed if it shows something.
fn play(seed: u64) -> Counts {
    let played = std::panic::catch_unwind(|| Simulation::new(seed).run());
    played.unwrap_or_else(|shown| {
        println!("SIMULATION_SEED={seed} plays this schedule again");
        std::panic::resume_unwind(shown)
    })
}

#[test]
fn i2_in_thousands_of_random_schedules_nothing_leaves_without_proof_and_every_gate_opens_again() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", play(seed));
        return;
    }
    let is_campaign = number("CAMPAIGN") == Some(1);
    let schedules = if is_campaign { 30_000 } else { 1_000 };
    let first = number("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{schedules} schedules from SIMULATION_SEED={first}");
    let sum = (first..).take(schedules).map(play).fold(Counts::default(), Counts::and);
    println!("{sum:?}");
    let each = schedules as u64;
    // It says little of gates that never shut, or that never withhold anything.
    assert!(sum.released > 100 * each && sum.refused > 10 * each, "{sum:?}");
    assert!(sum.withheld > each / 10 && sum.transitions > 5 * each, "{sum:?}");
    // Nor of probers that had nothing to do.
    assert!(sum.canaries > 20 * each && sum.questions > each, "{sum:?}");
    assert!(sum.had_to_be_shut.iter().all(|looks| *looks > 5 * each), "{sum:?}");
}

#[test]
fn a_schedule_plays_the_same_again() {
    let twice = [play(7), play(7)].map(|counts| format!("{counts:?}"));
    assert_eq!(twice[0], twice[1]);
}
