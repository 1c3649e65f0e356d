//! Many members in virtual time, with partitions, crashes, slow clocks, and a database that reorders,
//! repeats, restores and invents. Each schedule comes from one number, which `SIMULATION_SEED` plays
//! again. The decisions and the gates are the product's own.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the seed comes from the environment, and is said"
)]

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};

use signing_core::Registry;
use signing_core::fleet::{FreezeId, HELD_MAX, OnLoss, errands};

use crate::people::{NOW, Signature, draft, registry};
use crate::simulation_database::{Database, Row};
use crate::simulation_node::Node;

/// A step, in milliseconds, and how many of them have faults.
const STEP_MS: u64 = 500;
const STEPS: u64 = 400;
/// Steps without faults, after which everybody has heard of everything.
const CALM_STEPS: u64 = 80;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn id(&mut self) -> FreezeId {
        let halves = [self.next().to_be_bytes(), self.next().to_be_bytes()];
        FreezeId::new(halves.concat().try_into().unwrap())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    released: u64,
    withheld: u64,
    ended: u64,
    posted_again: u64,
    /// Members that sign at the end, and that do not.
    signs: u64,
    refuses: u64,
}

struct Simulation {
    random: Random,
    registry: Registry,
    nodes: Vec<Node>,
    /// Until which step each member is cut off from the database.
    cut_until: Vec<u64>,
    database: Database,
    /// Every freeze that there ever was.
    ids: Vec<FreezeId>,
    /// Whether there may be more of them than one member remembers.
    floods: bool,
    counts: Counts,
}

impl Simulation {
    fn new(seed: u64, members: usize) -> Self {
        let mut random = Random(seed);
        let registry = registry();
        let nodes = (0..members).map(|_| {
            let on_loss = [OnLoss::Keep, OnLoss::Freeze][random.index(2)];
            let pace = [100, 100, 60][random.index(3)];
            let behind = [0, 0, 30, 7_200][random.index(4)];
            Node::new(on_loss, pace, behind, &registry)
        });
        let nodes = nodes.collect();
        let floods = random.below(8) == 0;
        Self {
            random,
            registry,
            nodes,
            cut_until: vec![0; members],
            database: Database::default(),
            ids: Vec::new(),
            floods,
            counts: Counts::default(),
        }
    }

    fn run(mut self) -> Counts {
        for step in 0..STEPS {
            self.people(step);
            for at in 0..self.nodes.len() {
                self.faults(at, step);
                self.step(at, step, true);
            }
        }
        // Yesterday's database, and nobody lies any more.
        if let Some(oldest) = self.database.backups.first() {
            self.database.rows = oldest.clone();
        }
        self.cut_until.fill(0);
        for at in 0..self.nodes.len() {
            self.up(at);
        }
        let held_before: BTreeSet<_> = self.nodes.iter().flat_map(Node::held).collect();
        for step in STEPS..STEPS + CALM_STEPS {
            for at in 0..self.nodes.len() {
                self.step(at, step, false);
            }
        }
        self.nothing_is_forgotten(&held_before);
        for node in &self.nodes {
            self.counts.released += node.released;
            self.counts.withheld += node.withheld;
            if node.signs() { self.counts.signs += 1 } else { self.counts.refuses += 1 }
        }
        self.counts
    }

    /// What some member held when the faults ended is known to all: it is in force, or people ended it.
    fn nothing_is_forgotten(&self, held_before: &BTreeSet<FreezeId>) {
        if self.floods {
            return;
        }
        let rows = Database::freezes(&self.database.rows);
        for id in held_before {
            let holders = self.nodes.iter().filter(|node| node.held().contains(id)).count();
            let enders = self.nodes.iter().filter(|node| node.ended().contains(id)).count();
            assert!(holders == 0 || rows.contains(id), "{id} is held and not in the database");
            assert!(
                holders == 0 || holders + enders >= self.nodes.len(),
                "{id}: {holders}, {enders}"
            );
            assert!(holders + enders > 0, "{id} was forgotten by everybody");
        }
    }

    /// Somebody freezes; somebody who may, or may not, ends what there is; a backup is made, restored.
    fn people(&mut self, step: u64) {
        match self.random.below(60) {
            0 | 1 => {
                if let Some(id) = self.new_id() {
                    self.database.post(id);
                }
            }
            2..=4 if !self.ids.is_empty() => {
                let (by, role) = [("alice", "Security"), ("bob", "Finance")][self.random.index(2)];
                let some: BTreeSet<_> =
                    (0..6).map(|_| self.ids[self.random.index(self.ids.len())]).collect();
                let ends: Vec<_> = some.into_iter().collect();
                let issued = NOW + i64::try_from(step * STEP_MS / 1_000).unwrap();
                let lifetime = 1 + i64::try_from(self.random.below(60)).unwrap();
                let bytes = draft(&ends, issued, lifetime).to_bytes().unwrap();
                let signature = Signature::of(by, role, &bytes);
                self.database.rows.push(Row::Unfreeze { bytes, signature });
            }
            5 => self.database.backups.push(self.database.rows.clone()),
            6 => self.database.restore(&mut self.random),
            _ => {}
        }
    }

    fn new_id(&mut self) -> Option<FreezeId> {
        (self.floods || self.ids.len() < HELD_MAX).then(|| {
            let id = self.random.id();
            self.ids.push(id);
            id
        })
    }

    fn faults(&mut self, at: usize, step: u64) {
        match self.random.below(200) {
            0 if self.nodes[at].is_up => {
                let arrive = self.random.index(3);
                self.nodes[at].crash(arrive);
            }
            1..=8 => self.up(at),
            9 => self.cut_until[at] = step + self.random.below(100),
            10 => self.nodes[at].has_agent = false,
            _ => {}
        }
    }

    fn up(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.has_agent = true;
        if !node.is_up {
            node.start(&self.registry);
        }
    }

    fn step(&mut self, at: usize, step: u64, is_faulty: bool) {
        self.nodes[at].time_passes(STEP_MS);
        if !self.nodes[at].is_up {
            return;
        }
        let is_cut = step < self.cut_until[at];
        if self.nodes[at].has_agent && !is_cut && self.random.below(4) == 0 {
            self.agent(at, is_faulty);
        }
        for _ in 0..4 {
            match self.random.below(4) {
                0 | 1 => self.nodes[at].disk_writes(true),
                2 => self.nodes[at].ask(),
                _ => self.nodes[at].release(),
            }
        }
    }

    /// One turn of the agent: it presents what it read, then says so, then posts again.
    fn agent(&mut self, at: usize, is_faulty: bool) {
        let lies = is_faulty && self.random.below(5) == 0;
        let shown = if lies {
            match self.new_id() {
                Some(invented) => self.database.lie(&mut self.random, invented),
                None => Vec::new(),
            }
        } else {
            self.database.rows.clone()
        };
        for row in &shown {
            let node = &mut self.nodes[at];
            match row {
                Row::Freeze(id) => node.freeze(*id),
                Row::Unfreeze { bytes, signature } => {
                    node.unfreeze(bytes, signature, &self.registry);
                }
            }
        }
        let node = &mut self.nodes[at];
        node.heartbeat();
        let (held, ended) = (node.held(), node.ended());
        let others = self.database.held_by_others(at);
        let todo = errands(&held, &ended, &Database::freezes(&shown), &others);
        for id in todo.post {
            self.database.post(id);
            self.counts.posted_again += 1;
        }
        self.database.remove(&todo.remove);
        self.counts.ended += todo.remove.len() as u64;
        self.database.held.insert(at, held);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays one schedule, and names its seed if it shows something.
fn play(seed: u64, members: usize) -> Counts {
    let played = std::panic::catch_unwind(|| Simulation::new(seed, members).run());
    played.unwrap_or_else(|shown| {
        println!("SIMULATION_SEED={seed} SIMULATION_MEMBERS={members} plays this schedule again");
        std::panic::resume_unwind(shown)
    })
}

#[test]
fn i2_i3_in_random_fleets_nothing_leaves_after_a_freeze_and_nothing_ends_it_but_a_signed_statement()
{
    let members = usize::try_from(number("SIMULATION_MEMBERS").unwrap_or(0)).unwrap();
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", play(seed, members.max(1)));
        return;
    }
    // The campaign has whole fleets, and many; a fast run has a sample of both.
    let is_campaign = number("CAMPAIGN") == Some(1);
    let (schedules, members) = if is_campaign { (300, 100) } else { (60, 8) };
    let first = number("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 1);
    println!("{schedules} schedules of {members} members from SIMULATION_SEED={first}");
    let mut sum = Counts::default();
    for seed in (first..).take(schedules) {
        let counts = play(seed, members);
        sum.released += counts.released;
        sum.withheld += counts.withheld;
        sum.ended += counts.ended;
        sum.posted_again += counts.posted_again;
        sum.signs += counts.signs;
        sum.refuses += counts.refuses;
    }
    println!("{sum:?}");
    let each = schedules as u64;
    // It says little of members that never sign, never withhold, or never hear that a freeze ended.
    assert!(sum.released > 20 * each && sum.withheld > each, "{sum:?}");
    assert!(sum.ended > each / 4 && sum.posted_again > each, "{sum:?}");
    assert!(sum.signs > each / 4 && sum.refuses > each / 4, "{sum:?}");
}

#[test]
fn a_schedule_of_a_fleet_plays_the_same_again() {
    let twice = [play(7, 5), play(7, 5)].map(|counts| format!("{counts:?}"));
    assert_eq!(twice[0], twice[1]);
}
