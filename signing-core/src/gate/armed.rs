//! A break-glass session as the data plane sees it: which requests it takes instead of their
//! own signer's gate, and until when. What it may sign is judged again by the emergency
//! signer itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use time::OffsetDateTime;

use super::epoch::Epoch;
use super::freeze::Freeze;
use crate::caller::Caller;
use crate::freeze_id::FreezeId;
use crate::key::{Kid, Signer};
use crate::moment::Moment;

/// A session that the emergency signer has activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// Its name.
    pub session: String,
    /// The incident.
    pub incident: String,
    /// The justification in the approved request.
    pub justification: String,
    /// The emergency key, as the registry has it.
    pub signer: Arc<Signer>,
    /// The signers that it stands in for.
    pub replaces: BTreeSet<Kid>,
    /// Whom it signs for.
    pub callers: BTreeSet<Caller>,
    /// The freeze under which it signs all the same, which its approvers named.
    pub under_freeze: Option<FreezeId>,
    /// When it began.
    pub since: Moment,
    /// Until when, by the boot-time clock.
    pub lease_until: Moment,
    /// Until when, by the calendar: the earlier of both ends it.
    pub expires_at: OffsetDateTime,
}

impl Armed {
    /// Whether it still lasts.
    #[must_use]
    pub fn lasts(&self, now: Moment, wall: OffsetDateTime) -> bool {
        now < self.lease_until && wall < self.expires_at
    }

    /// Whether `freeze` lets it sign: it is the one that its approvers saw and named. A freeze that
    /// has no name stops every session.
    #[must_use]
    pub fn signs_under(&self, freeze: &Freeze) -> bool {
        self.under_freeze.is_some() && self.under_freeze == freeze.id
    }
}

/// A session in force, and the epoch that it began.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) armed: Arc<Armed>,
    pub(super) epoch: Epoch,
    /// Its quota is used up: it admits nothing more, and what it signed within the quota may
    /// leave until this.
    pub(super) spent_until: Option<Moment>,
}
