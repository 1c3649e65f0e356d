//! What differs between the signers of two configurations.

use std::collections::BTreeSet;

use configuration::{Config, Signer};
use signing_core::Kid;
use signing_core::journal::SignersChanged;

/// Signers by what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Their upstreams are taken out: the signer is gone, or has other upstreams.
    pub gone: BTreeSet<Kid>,
    /// Their upstreams are made: the signer is new, or has other upstreams.
    pub new: BTreeSet<Kid>,
    /// They keep their upstreams, and are asked otherwise.
    pub adjusted: BTreeSet<Kid>,
}

impl Change {
    /// From `before` to `after`.
    #[must_use]
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut change = Self::default();
        for (kid, signer) in &before.signers {
            match after.signers.get(kid) {
                Some(same) if same == signer => {}
                Some(other) if has_its_upstreams(signer, other) => {
                    change.adjusted.insert(kid.clone());
                }
                Some(_) => {
                    change.gone.insert(kid.clone());
                    change.new.insert(kid.clone());
                }
                None => {
                    change.gone.insert(kid.clone());
                }
            }
        }
        let is_new = |kid: &&Kid| !before.signers.contains_key(*kid);
        change.new.extend(after.signers.keys().filter(is_new).cloned());
        change
    }

    /// As the record of a reload names them.
    #[must_use]
    pub fn recorded(&self) -> SignersChanged<'_> {
        let Self { gone, new, adjusted } = self;
        let mut changed: Vec<_> = gone.intersection(new).chain(adjusted).map(Kid::as_str).collect();
        changed.sort_unstable();
        let added = new.difference(gone).map(Kid::as_str).collect();
        let removed = gone.difference(new).map(Kid::as_str).collect();
        SignersChanged::list(added, changed, removed)
    }
}

/// The same upstreams in the same order, whatever may be asked of them. Every field is named, so that a new
/// one has to be thought of here.
fn has_its_upstreams(one: &Signer, other: &Signer) -> bool {
    let Signer { upstreams, prefer: _, batch: _ } = one;
    let upstreams = upstreams.iter().map(|reached| &reached.upstream);
    upstreams.eq(other.upstreams.iter().map(|reached| &reached.upstream))
}
