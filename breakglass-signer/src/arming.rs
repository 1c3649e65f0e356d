//! Why no session could ever begin here, though every file can be read: approvers whose approval never
//! counts, roles that nobody is left to fill, no key to open. Found when there is time to mend it, and
//! not by two people in an outage.

use std::collections::BTreeMap;

use approvers::quorum;
use signing_core::Kid;
use signing_core::key::Purpose;
use time::OffsetDateTime;

use crate::history::History;
use crate::keyfile;
use crate::materials::{Held, Materials};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Why there can be no session.
    pub mistakes: Vec<String>,
    /// What is not in the way now.
    pub notes: Vec<String>,
}

/// Why the file of a key cannot be opened, by kid; a key that is not in it can be opened.
pub type Unreadable = BTreeMap<Kid, String>;

/// Looks at the keys' files. It waits for their disks.
#[must_use]
pub fn probe(keys: &BTreeMap<Kid, Held>) -> Unreadable {
    let probed = keys.iter().map(|(kid, held)| (kid, keyfile::probe(&held.file)));
    probed.filter_map(|(kid, probed)| Some((kid.clone(), probed.err()?.to_string()))).collect()
}

/// Looks, at that time, with what is known of keys that were destroyed, and of keys' files.
#[must_use]
pub fn inspect(
    materials: &Materials,
    history: &History,
    unreadable: &Unreadable,
    now: OffsetDateTime,
) -> Found {
    let quorum::Found { mistakes, notes } =
        quorum::inspect(&materials.approvers, &materials.config.rules, now);
    let mut found = Found { mistakes, notes };
    keys(materials, history, (unreadable, now), &mut found);
    replaceable(materials, &mut found);
    proxy(materials, &mut found);
    found
}

/// No key that a session could open.
fn keys(
    materials: &Materials,
    history: &History,
    (unreadable, now): (&Unreadable, OffsetDateTime),
    found: &mut Found,
) {
    let trouble: Vec<_> = materials
        .keys
        .values()
        .filter_map(|held| {
            let why = unusable(held, history, (unreadable, now))?;
            Some(format!("{} {why}", held.signer.kid))
        })
        .collect();
    if trouble.len() == materials.keys.len() {
        found.mistakes.push(format!(
            "emergency_keys: none can be opened by a session: {}; make one: breakglass-signer keygen",
            trouble.join("; ")
        ));
    }
}

fn unusable(
    held: &Held,
    history: &History,
    (unreadable, now): (&Unreadable, OffsetDateTime),
) -> Option<String> {
    let Held { file, signer } = held;
    let sha256 = signer.public_key.sha256_hex();
    if history.destroyed.contains(signer.kid.as_str()) || history.destroyed.contains(&sha256) {
        return Some("is destroyed".to_owned());
    }
    if let Err(refusal) = signer.usable_at(now) {
        return Some(format!("cannot be used: {}", refusal.detail));
    }
    let why = unreadable.get(&signer.kid)?;
    Some(format!("cannot be read from {}: {why}", file.display()))
}

/// No signer that an emergency key could stand in for.
fn replaceable(materials: &Materials, found: &mut Found) {
    if !materials.registry.iter().any(|signer| signer.purpose == Purpose::Signing) {
        found.mistakes.push(format!(
            "registry.file: {} has no signing key, and a session stands in for one at least; use the \
             proxy's registry",
            materials.config.registry_file.display()
        ));
    }
}

/// No proxy whose log could be believed.
fn proxy(materials: &Materials, found: &mut Found) {
    let mut audit = materials.registry.iter().filter(|key| key.purpose == Purpose::Audit);
    if audit.all(|key| key.kid == materials.audit_kid) {
        found.mistakes.push(format!(
            "registry.file: {} has no audit key of a proxy, so each proxy is refused for its log; copy the entry with \
             \"purpose\": \"audit\" from the proxy's registry",
            materials.config.registry_file.display()
        ));
    }
}
