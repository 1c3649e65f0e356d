//! One member in the simulation: the product's own decisions and gates, and around them what the
//! process does in the product's order: a stop is in force first and stored second, what loosens is
//! stored first and in force second. And the oracle, which knows who really signed what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use signing_core::evidence::{Evidence, Observation, Source};
use signing_core::fleet::{Ending, FreezeId, Joining, Member, Memory, Obeyed, OnLoss, Rules};
use signing_core::gate::{Freeze, Gates, Permit, Slots, Snapshot, Thresholds};
use signing_core::journal::Frozen;
use signing_core::policy::Rules as Granted;
use signing_core::{Algorithm, Caller, Kid, Moment, Policy, Registry, Rulebook};

use crate::people::{FLEET, NOW, Signature, judged, when};

pub(crate) const LEASE_MS: u64 = 20_000;

/// What is on its way to the disk, in order.
enum Write {
    Freeze(FreezeId, Memory),
    Ending(Ending),
    Joining(Joining),
    Again(Memory),
}

pub(crate) struct Node {
    pub(crate) is_up: bool,
    pub(crate) has_agent: bool,
    rules: Rules,
    member: Member,
    gates: Gates,
    snapshot: Snapshot,
    slots: Slots,
    disk: Memory,
    writes: VecDeque<Write>,
    in_flight: Vec<Permit>,
    /// Its boot-time clock, and how many percent of the time it counts.
    clock_ms: u64,
    pace: u64,
    /// How many seconds its calendar is behind.
    behind: i64,
    /// What it answered that it obeys, and what people ended since.
    acknowledged: BTreeSet<FreezeId>,
    ended: BTreeSet<FreezeId>,
    heard_ms: Option<u64>,
    has_joined: bool,
    pub(crate) released: u64,
    pub(crate) withheld: u64,
}

fn kid() -> Kid {
    Kid::parse("ledger").unwrap()
}

fn caller() -> Caller {
    Caller::parse("billing.example").unwrap()
}

fn rulebook(registry: &Registry) -> Arc<Rulebook> {
    let granted = BTreeMap::from([(kid(), vec![Algorithm::Ed25519Sha512])]);
    let rules = Granted { signers: granted, default_signer: None, ..Granted::default() };
    let policy = Policy::new(BTreeMap::from([(caller(), rules)]), BTreeMap::new());
    Arc::new(Rulebook::new(registry.clone(), policy))
}

fn gates(registry: &Registry, now: Moment) -> Gates {
    let year = Duration::from_secs(365 * 86_400);
    let thresholds = Thresholds {
        lease: year,
        successes_to_open: 1,
        recovery_min: Duration::ZERO,
        ..Thresholds::default()
    };
    let mut gates = Gates::new(thresholds, [kid()], rulebook(registry), now);
    let proof = Observation {
        source: Source::Canary,
        upstream: 0,
        started: now,
        at: now,
        count: 1,
        evidence: Evidence::Signed,
    };
    gates.observe(&kid(), &proof);
    gates
}

impl Node {
    pub(crate) fn new(on_loss: OnLoss, pace: u64, behind: i64, registry: &Registry) -> Self {
        let rules = Rules { on_loss, lease: Duration::from_millis(LEASE_MS) };
        let gates = gates(registry, Moment::default());
        let mut node = Self {
            is_up: true,
            has_agent: true,
            rules,
            member: Member::new(Some(rules), Memory::default()),
            snapshot: gates.snapshot(),
            gates,
            slots: Slots::new(64),
            disk: Memory::default(),
            writes: VecDeque::new(),
            in_flight: Vec::new(),
            clock_ms: 0,
            pace,
            behind,
            acknowledged: BTreeSet::new(),
            ended: BTreeSet::new(),
            heard_ms: None,
            has_joined: false,
            released: 0,
            withheld: 0,
        };
        node.settle();
        node
    }

    fn now(&self) -> Moment {
        Moment::default().after(Duration::from_millis(self.clock_ms))
    }

    fn calendar(&self) -> time::OffsetDateTime {
        when(NOW + i64::try_from(self.clock_ms / 1_000).unwrap() - self.behind)
    }

    pub(crate) fn time_passes(&mut self, ms: u64) {
        self.clock_ms += ms * self.pace / 100;
        self.settle();
    }

    /// Publishes what the member decides, as the product's writer does.
    fn settle(&mut self) {
        let now = self.now();
        let stop = self.member.stop(now).map(|stop| {
            let (reason, by) = stop.reason_and_author();
            Freeze { id: None, reason, by, at: self.calendar(), since: now }
        });
        self.gates.set_fleet_stop(stop);
        self.snapshot = self.gates.snapshot();
    }

    /// The process dies. What was on its way to the disk may have come there or not.
    pub(crate) fn crash(&mut self, writes_that_arrive: usize) {
        for _ in 0..writes_that_arrive {
            self.disk_writes(false);
        }
        (self.is_up, self.heard_ms) = (false, None);
        self.writes.clear();
        self.in_flight.clear();
    }

    pub(crate) fn start(&mut self, registry: &Registry) {
        self.is_up = true;
        self.member = Member::new(Some(self.rules), self.disk.clone());
        self.gates = gates(registry, self.now());
        self.slots = Slots::new(64);
        self.settle();
    }

    /// A freeze is presented.
    pub(crate) fn freeze(&mut self, id: FreezeId) {
        let (at, by) = (self.calendar(), "somebody".to_owned());
        let freeze = Frozen { at, by, id: None, reason: "stop".into() };
        match self.member.obey(id, freeze) {
            Obeyed::Now => self.settle(),
            Obeyed::Already => {}
            Obeyed::Ended => {
                assert!(self.ended.contains(&id), "{id} was refused, and nobody ended it");
                return;
            }
            Obeyed::TooMany => return,
        }
        self.writes.push_back(Write::Freeze(id, self.member.memory().clone()));
    }

    /// A statement is presented. The oracle knows whether it counts.
    pub(crate) fn unfreeze(&mut self, bytes: &[u8], signature: &Signature, registry: &Registry) {
        let verified = judged(bytes, signature, registry, self.calendar());
        let counts = signature.over == bytes && signature.role == "Security";
        match verified {
            Ok(verified) => {
                assert!(counts, "{} ({}) ended a freeze", signature.by, signature.role);
                assert_eq!(verified.statement().fleet(), FLEET);
                assert!(self.calendar() < verified.statement().expires_at(), "it expired");
                if let Some(ending) = self.member.ending(verified) {
                    self.writes.push_back(Write::Ending(ending));
                }
            }
            Err(no) => {
                use signing_core::fleet::Clause;
                let by_time = matches!(no.clause, Clause::Expired | Clause::NotYetValid);
                assert!(!counts || by_time, "a good statement was refused: {no}");
            }
        }
    }

    /// The agent says that it has read the fleet.
    pub(crate) fn heartbeat(&mut self) {
        let joining = self.member.hear(self.now());
        self.heard_ms = Some(self.clock_ms);
        if let Some(joining) = joining {
            self.writes.push_back(Write::Joining(joining));
        }
        self.settle();
    }

    /// The oldest write comes to the disk; `and_lives`: the process hears of it.
    pub(crate) fn disk_writes(&mut self, and_lives: bool) {
        let Some(write) = self.writes.pop_front() else { return };
        match write {
            Write::Freeze(id, memory) => {
                self.disk = memory;
                if and_lives {
                    // This is the answer.
                    self.acknowledged.insert(id);
                }
            }
            Write::Again(memory) => self.disk = memory,
            Write::Ending(ending) => {
                self.disk = ending.applied_to(self.member.memory());
                self.ended.extend(ending.statement().statement().ends());
                if and_lives {
                    self.member.end(&ending);
                    self.writes.push_back(Write::Again(self.member.memory().clone()));
                }
            }
            Write::Joining(joining) => {
                self.disk = joining.applied_to(self.member.memory());
                self.has_joined = true;
                if and_lives {
                    self.member.join(joining);
                }
            }
        }
        self.settle();
    }

    pub(crate) fn ask(&mut self) {
        let (now, book) = (self.now(), self.snapshot.rulebook());
        let grant = book.authorize(&Arc::new(caller()), Some("ledger"), None, self.calendar());
        let deadline = now.after(Duration::from_secs(60));
        if let Ok(permit) = self.snapshot.admit(grant.unwrap(), &self.slots, now, deadline) {
            self.in_flight.push(permit);
        }
    }

    /// A request that was admitted before is signed and recorded: may it leave?
    pub(crate) fn release(&mut self) {
        let Some(permit) = self.in_flight.pop() else { return };
        if self.snapshot.release(permit, self.now()).is_err() {
            self.withheld += 1;
            return;
        }
        self.released += 1;
        let in_force: Vec<_> = self.acknowledged.difference(&self.ended).collect();
        assert!(in_force.is_empty(), "released though {in_force:?} were acknowledged");
        assert!(self.has_joined, "released by a member that never read the fleet");
        if self.rules.on_loss == OnLoss::Freeze {
            let silent = self.heard_ms.map(|heard| self.clock_ms - heard);
            assert!(silent.is_some_and(|silent| silent < LEASE_MS), "released after {silent:?} ms");
        }
    }

    pub(crate) fn held(&self) -> BTreeSet<FreezeId> {
        self.member.memory().held.keys().copied().collect()
    }

    pub(crate) fn ended(&self) -> BTreeSet<FreezeId> {
        self.member.memory().ended.iter().copied().collect()
    }

    pub(crate) fn signs(&self) -> bool {
        self.snapshot.check(&kid(), self.now()).is_ok()
    }
}
