//! What is known of each emergency key: whether a session could use it, when it has to be destroyed, and which
//! copies of it are left.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::Signer;
use signing_core::breakglass::wire::{EmergencyKey as KeyAnswer, KeyState};
use time::OffsetDateTime;

use super::{Armory, Service};
use crate::arming::Unreadable;
use crate::materials::Held;

impl Service {
    /// Every key that the configuration names, and every other one that is due: taking an entry
    /// away destroys nothing.
    pub(super) fn keys(
        &self,
        armory: &Armory,
        unreadable: &Unreadable,
        wall: OffsetDateTime,
    ) -> Vec<KeyAnswer> {
        let held = self.materials.keys.iter().map(|(kid, held)| {
            let state = state_of(armory, held, unreadable, wall);
            answer(armory, kid.as_str(), Some(&held.signer), state, wall)
        });
        let orphans = armory.history.all_due().filter(|(kid, _)| !self.materials.holds(kid)).map(
            |(kid, _)| {
                let signer = self.materials.registry.get(kid);
                let is_gone = armory.history.copies.contains_key(kid);
                let state = if is_gone { KeyState::Destroyed } else { KeyState::Missing };
                answer(armory, kid, signer.map(AsRef::as_ref), state, wall)
            },
        );
        let keys = held.chain(orphans);
        keys.map(|key| KeyAnswer { copies_left: self.copies_left(armory, &key.kid), ..key })
            .collect()
    }

    /// The copies of a key of which nobody has attested that they are destroyed: all, before its own file is.
    pub(super) fn copies_left(&self, armory: &Armory, kid: &str) -> Vec<String> {
        let history = &armory.history;
        let is_gone = history.destroyed.contains(kid) && !history.due.contains_key(kid);
        match history.copies.get(kid) {
            Some(copies) => copies.left.iter().cloned().collect(),
            None if is_gone => Vec::new(),
            None => self.copies_of(armory, kid).into_iter().collect(),
        }
    }

    /// The copies that the configuration names, and those that it named when a session began to use the key: to
    /// take a copy out of the configuration destroys nothing.
    pub(super) fn copies_of(&self, armory: &Armory, kid: &str) -> BTreeSet<String> {
        let named = armory.history.named.get(kid).into_iter().flatten();
        self.configured_copies(kid).iter().chain(named).cloned().collect()
    }

    /// The copies that the configuration names.
    pub(super) fn configured_copies(&self, kid: &str) -> &[String] {
        let copies = &self.materials.config.copies;
        let found = copies.iter().find(|(held, _)| held.as_str() == kid);
        found.map_or(&[], |(_, copies)| copies.as_slice())
    }
}

/// How a key is, as far as its file is known to be.
pub(super) fn state_of(
    armory: &Armory,
    held: &Held,
    unreadable: &Unreadable,
    wall: OffsetDateTime,
) -> KeyState {
    let kid = &held.signer.kid;
    let is_open = armory
        .active
        .as_ref()
        .is_some_and(|active| active.session.request().emergency_kid() == kid);
    let refused = &armory.history.destroyed;
    let is_refused =
        refused.contains(kid.as_str()) || refused.contains(&held.signer.public_key.sha256_hex());
    // It is destroyed once it is gone and that is recorded, and not when somebody tries.
    let is_due = armory.history.due.contains_key(kid.as_str());
    if is_refused && !is_due {
        KeyState::Destroyed
    } else if is_refused || held.signer.usable_at(wall).is_err() {
        KeyState::Revoked
    } else if is_open {
        KeyState::Open
    } else if unreadable.contains_key(kid) {
        KeyState::Missing
    } else {
        KeyState::Sealed
    }
}

fn answer(
    armory: &Armory,
    kid: &str,
    signer: Option<&Signer>,
    state: KeyState,
    wall: OffsetDateTime,
) -> KeyAnswer {
    let due = armory.history.due_of(kid);
    // Empty: not even the registry knows it any more.
    let text = |of: fn(&Signer) -> String| signer.map(of).unwrap_or_default();
    KeyAnswer {
        kid: kid.to_owned(),
        algorithm: text(|signer| signer.algorithm().name().to_owned()),
        public_key: text(|signer| STANDARD.encode(signer.public_key.spki_der())),
        sha256: text(|signer| signer.public_key.sha256_hex()),
        state,
        destruction_due: due.map(|due| due.at.clone()),
        destruction_overdue: due.is_some_and(|due| due.is_over(wall)),
        copies_left: Vec::new(),
    }
}
