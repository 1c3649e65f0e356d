//! What the monitor's writer may be told, and what it answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use signing_core::breakglass::ProxyEnd;
use signing_core::evidence::Observation;
use signing_core::fleet::{Ending, FreezeId, Joining, Verified};
use signing_core::gate::{Armed, Thresholds, Watched};
use signing_core::incident::IncidentId;
use signing_core::journal::{Frozen, OpenIncident, SealedFor};
use signing_core::monitor::Probe;
use signing_core::{Kid, Rulebook};
use tokio::sync::oneshot;

use super::Probed;

/// What the writer may be told.
#[derive(Debug)]
pub(super) enum Command {
    /// A probe's result.
    Observe { kid: Kid, made_in: u64, observation: Observation },
    /// An operator's stop.
    Freeze { reason: String, by: String, reply: oneshot::Sender<Outcome> },
    /// Its end.
    Unfreeze { reason: String, by: String, reply: oneshot::Sender<Outcome> },
    /// A freeze of the fleet.
    FleetFreeze {
        id: FreezeId,
        freeze: Frozen,
        presented_by: String,
        reply: oneshot::Sender<Outcome>,
    },
    /// A statement that was verified.
    FleetEnd { verified: Verified, presented: Presented, reply: oneshot::Sender<Outcome> },
    /// The agent has read the fleet.
    FleetHear { read: BTreeSet<FreezeId>, reply: oneshot::Sender<Outcome> },
    /// The end of a seal.
    Unseal { what: Sealed, reason: String, by: String, reply: oneshot::Sender<Outcome> },
    /// Another rulebook, other thresholds, another way of probing, other signers.
    Reload {
        rulebook: Arc<Rulebook>,
        thresholds: Thresholds,
        probe: Probe,
        signers: OtherSigners,
        reply: oneshot::Sender<BTreeSet<Kid>>,
    },
    /// An incident begins, is captured or ends.
    Incident { change: IncidentChange, by: String, reply: oneshot::Sender<Outcome> },
    /// A break-glass session that the emergency signer activated is to be put in force.
    Arm { armed: Armed, reply: oneshot::Sender<Result<(), String>> },
    /// The session of that name is over; the answer is whether it was in force.
    Disarm { session: String, why: SessionEnd, reply: oneshot::Sender<bool> },
    /// The signer whose outage, if of any, is a drill.
    Drill { kid: Option<Kid>, reply: oneshot::Sender<()> },
    /// The journal's newest record is to be stored.
    Witness { reply: oneshot::Sender<Outcome> },
    /// Is anybody there?
    Answer { reply: oneshot::Sender<()> },
    /// Ask no upstream any more.
    Quiet { reply: oneshot::Sender<()> },
    /// What an operator loosens is in the journal, or why not; from the writer to itself.
    Recorded { result: Result<(), String>, loosen: Loosen },
    /// What was stored, or why not; from the writer to itself.
    Stored { result: Result<(), String>, then: AfterSave },
}

/// Signers that are watched no more, and new ones; of those that have other upstreams both.
#[derive(Debug, Default)]
pub struct OtherSigners {
    /// Those that are gone.
    pub gone: BTreeSet<Kid>,
    /// For the gates.
    pub watched: Vec<Watched>,
    /// For the probers.
    pub probed: Vec<Probed>,
}

/// What waits until a state is on disk.
#[derive(Debug)]
pub(super) enum AfterSave {
    /// Nothing.
    Nothing,
    /// An answer.
    Tell { reply: oneshot::Sender<Outcome> },
    /// The answer to a freeze, or to what begins an incident, which is in force already.
    Frozen { unrecorded: Option<String>, reply: oneshot::Sender<Outcome> },
    /// The end of something.
    Loosen(Loosen),
}

/// Why a break-glass session is over.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// Who ended it.
    pub by: String,
    /// In a word.
    pub reason: ProxyEnd,
    /// For a person.
    pub detail: String,
    /// How far the emergency signer's journal went, as far as is known: `log:size:root`.
    pub signer_head: Option<String>,
    /// The emergency signer's own record of it, `log:seq:leaf`.
    pub signer_record: Option<String>,
}

impl SessionEnd {
    /// This proxy ends it, and asks nobody.
    #[must_use]
    pub fn by_this_proxy(reason: impl Into<ProxyEnd>, detail: impl Into<String>) -> Self {
        Self {
            by: "this proxy".to_owned(),
            reason: reason.into(),
            detail: detail.into(),
            signer_head: None,
            signer_record: None,
        }
    }
}

/// What can be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A signer.
    Signer(Kid),
    /// The journal.
    Journal,
}

/// A statement as it was presented, for its record.
#[derive(Clone, Debug)]
pub struct Presented {
    /// By a peer of the admin socket.
    pub by: String,
    /// Base64 of its bytes.
    pub statement_b64: String,
    /// Its signature, armored.
    pub signature: String,
}

/// What is to be loosened: recorded first, stored second, in force third.
#[derive(Debug)]
pub(super) enum Loosen {
    /// That freeze.
    Freeze { freeze: Frozen, by: String, reply: oneshot::Sender<Outcome> },
    /// Freezes of the fleet, by a statement.
    Fleet { ending: Box<Ending>, reply: oneshot::Sender<Outcome> },
    /// The stop of a member that has never read its fleet.
    Join { joining: Joining, reply: oneshot::Sender<Outcome> },
    /// That incident.
    Incident { open: OpenIncident, by: String, reply: oneshot::Sender<Outcome> },
    /// A line of the runbook counts as done, for that incident.
    Item { incident: IncidentId, section: String, reply: oneshot::Sender<Outcome> },
    /// That seal.
    Seal {
        what: Sealed,
        seal: SealedFor,
        reason: String,
        by: String,
        reply: oneshot::Sender<Outcome>,
    },
}

impl Loosen {
    /// Whom to tell what became of it.
    pub(super) fn into_reply(self) -> oneshot::Sender<Outcome> {
        match self {
            Self::Freeze { reply, .. }
            | Self::Fleet { reply, .. }
            | Self::Join { reply, .. }
            | Self::Incident { reply, .. }
            | Self::Item { reply, .. }
            | Self::Seal { reply, .. } => reply,
        }
    }
}

/// What an operator says of an incident.
#[derive(Debug)]
pub enum IncidentChange {
    /// It begins.
    Begin {
        /// Its name.
        incident: IncidentId,
        /// What was seen.
        reason: String,
    },
    /// The state was captured for it.
    Captured {
        /// For which.
        incident: IncidentId,
        /// SHA-256 of the bundle's list, in hex.
        sha256: String,
        /// The parts that it lacks.
        missing: Vec<String>,
    },
    /// Somebody says what was done for a line of the runbook.
    Item {
        /// Its section.
        section: String,
        /// What, and by whom.
        detail: String,
        /// Whether the line is done with it.
        done: bool,
    },
    /// It ends.
    End {
        /// What was done.
        reason: String,
        /// The sections of the runbook that are not done.
        left: Vec<String>,
    },
}

/// What became of an operator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force, recorded, and on disk.
    Done,
    /// There was nothing to do; the sentence says why.
    Nothing(String),
    /// In force now, but it would not survive a restart, or is in no record; the sentence
    /// says why.
    NotStored(String),
    /// Not in force; the sentence says why.
    Failed(String),
}

impl Sealed {
    /// Its name, for a sentence.
    pub(super) fn name(&self) -> String {
        self.kid().map_or_else(|| "the journal".to_owned(), |kid| format!("the signer {kid}"))
    }

    pub(super) fn kid(&self) -> Option<&Kid> {
        match self {
            Self::Signer(kid) => Some(kid),
            Self::Journal => None,
        }
    }
}
