//! What one member of a fleet knows, and what that stops: the freezes that it holds, those that were
//! ended, whether it has ever read the fleet, and when it last did. Evidence and time come in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::judge::Verified;
use crate::freeze_id::FreezeId;
use crate::journal::Frozen;
use crate::moment::Moment;

/// Freezes that a member holds at once: all of them fit one record of its journal.
pub const HELD_MAX: usize = 16;
/// Ended freezes that a member remembers. One that it forgot and that comes again freezes it again.
pub const ENDED_MAX: usize = 512;

/// What applies while nothing is heard of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// The last word stands.
    Keep,
    /// Signing stops after the lease.
    Freeze,
}

/// What a configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// While nothing is heard.
    pub on_loss: OnLoss,
    /// How long a word of the fleet counts.
    pub lease: Duration,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Whether this member has ever read the fleet.
    pub has_read: bool,
    /// The freezes in force, by their ids. `Frozen::id` is the name of an operator's freeze, which a
    /// break-glass session can sign under; these have none there.
    pub held: BTreeMap<FreezeId, Frozen>,
    /// Those that a statement ended, the newest last.
    pub ended: VecDeque<FreezeId>,
}

/// What became of a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// It is in force from now on.
    Now,
    /// It is in force already.
    Already,
    /// A signed statement ended it.
    Ended,
    /// So many are in force that one more cannot be remembered. Signing is stopped, by those.
    TooMany,
}

/// What stops signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A freeze, the oldest.
    Frozen(FreezeId, Frozen),
    /// This member has never read the fleet: what it would have to obey is not known.
    NeverRead,
    /// The fleet was not heard within the lease.
    Lost,
}

/// Freezes that a statement ends at this member, once that is recorded and stored. It is not `Clone`,
/// and only [`Member::ending`] makes one, of a statement that was verified.
#[derive(Debug)]
pub struct Ending {
    statement: Verified,
    new: BTreeSet<FreezeId>,
}

/// A first reading of the fleet, once that is stored. Only [`Member::hear`] makes one.
#[derive(Debug)]
pub struct Joining(());

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    rules: Option<Rules>,
    memory: Memory,
    heard: Option<Moment>,
}

impl Ending {
    /// Who signed what.
    #[must_use]
    pub fn statement(&self) -> &Verified {
        &self.statement
    }

    /// What survives a restart once it has ended.
    #[must_use]
    pub fn applied_to(&self, memory: &Memory) -> Memory {
        let mut memory = memory.clone();
        memory.held.retain(|id, _| !self.new.contains(id));
        memory.ended.extend(
            self.new.iter().filter(|id| !memory.ended.contains(id)).copied().collect::<Vec<_>>(),
        );
        while memory.ended.len() > ENDED_MAX {
            memory.ended.pop_front();
        }
        memory
    }
}

impl Memory {
    /// With what a journal tells: it may add a freeze, and takes none away.
    #[must_use]
    pub fn with(mut self, told: BTreeMap<FreezeId, Frozen>) -> Self {
        for (id, freeze) in told {
            self.held.entry(id).or_insert(freeze);
        }
        self
    }
}

impl Member {
    /// A member that starts with what it remembers. Nothing is heard yet (I2). Without rules it is of no
    /// fleet, and what it held before still holds.
    #[must_use]
    pub fn new(rules: Option<Rules>, memory: Memory) -> Self {
        Self { rules, memory, heard: None }
    }

    /// What has to survive a restart.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes a freeze, from anybody and of any age. In force when this returns.
    pub fn obey(&mut self, id: FreezeId, freeze: Frozen) -> Obeyed {
        if self.memory.held.contains_key(&id) {
            return Obeyed::Already;
        }
        if self.memory.ended.contains(&id) {
            return Obeyed::Ended;
        }
        if self.memory.held.len() >= HELD_MAX {
            return Obeyed::TooMany;
        }
        self.memory.held.insert(id, freeze);
        Obeyed::Now
    }

    /// What a verified statement ends here. None: all of it has ended already.
    ///
    /// A freeze that it names and that has not come yet is ended too: it comes later, by another way.
    #[must_use]
    pub fn ending(&self, statement: Verified) -> Option<Ending> {
        let is_new = |id: &&FreezeId| {
            // A journal may tell of a freeze that was ended: what is held can always be ended.
            self.memory.held.contains_key(id) || !self.memory.ended.contains(id)
        };
        let new: BTreeSet<_> =
            statement.statement().ends().iter().filter(is_new).copied().collect();
        (!new.is_empty()).then_some(Ending { statement, new })
    }

    /// Ends what a statement ends. Those that ended, with what they were; a freeze that came meanwhile
    /// has another id and holds.
    pub fn end(&mut self, ending: &Ending) -> Vec<(FreezeId, Frozen)> {
        let after = ending.applied_to(&self.memory);
        let before = std::mem::replace(&mut self.memory, after);
        before.held.into_iter().filter(|(id, _)| ending.new.contains(id)).collect()
    }

    /// Whether it obeys that freeze, or knows that it was ended.
    #[must_use]
    pub fn knows(&self, id: &FreezeId) -> bool {
        self.memory.held.contains_key(id) || self.memory.ended.contains(id)
    }

    /// The agent has read the fleet, and has presented all that it read. The first time this has to be
    /// stored before it counts.
    pub fn hear(&mut self, now: Moment) -> Option<Joining> {
        // A later word never counts for less: two agents may overtake each other.
        self.heard = self.heard.max(Some(now));
        (!self.memory.has_read).then_some(Joining(()))
    }

    /// The first reading is stored: from now on this member is one of the fleet.
    pub fn join(&mut self, Joining(()): Joining) {
        self.memory.has_read = true;
    }

    /// What stops signing at `now`.
    #[must_use]
    pub fn stop(&self, now: Moment) -> Option<Stop> {
        if let Some((id, freeze)) = self.memory.held.iter().min_by_key(|(_, freeze)| freeze.at) {
            return Some(Stop::Frozen(*id, freeze.clone()));
        }
        let rules = self.rules?;
        if !self.memory.has_read {
            return Some(Stop::NeverRead);
        }
        match rules.on_loss {
            OnLoss::Keep => None,
            OnLoss::Freeze => self.is_lost(now).then_some(Stop::Lost),
        }
    }

    /// Whether nothing was heard within the lease. Never of what is of no fleet.
    #[must_use]
    pub fn is_lost(&self, now: Moment) -> bool {
        let over = |rules: Rules| self.heard.is_none_or(|heard| now >= heard.after(rules.lease));
        self.rules.is_some_and(over)
    }

    /// How long nothing was heard; none: not since the start.
    #[must_use]
    pub fn silent_for(&self, now: Moment) -> Option<Duration> {
        self.heard.map(|heard| now.since(heard))
    }

    /// What a configuration says; none: it is of no fleet.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.rules
    }
}

impl Stop {
    /// Why, and by whom, for a person.
    #[must_use]
    pub fn reason_and_author(&self) -> (String, String) {
        match self {
            Self::Frozen(id, freeze) => {
                (freeze.reason.clone(), format!("the fleet, freeze {id}: {}", freeze.by))
            }
            Self::NeverRead => (
                "this member has never read its fleet, so what it would have to obey is not known; \
                 is signing-trail running here?"
                    .to_owned(),
                "fleet.name in its configuration".to_owned(),
            ),
            Self::Lost => (
                "its fleet was not heard within fleet.lease_s; is signing-trail running here, and \
                 its database reached?"
                    .to_owned(),
                "fleet.on_loss in its configuration".to_owned(),
            ),
        }
    }
}

impl Joining {
    /// What survives a restart once it counts.
    #[must_use]
    pub fn applied_to(&self, memory: &Memory) -> Memory {
        Memory { has_read: true, ..memory.clone() }
    }
}
