//! What the writer of the gates makes of what it hears: transitions, and whether probers have
//! to look at the gates again.

use std::time::Duration;

use super::traffic::{Folded, Traffic};
use crate::evidence::{Evidence, Observation};
use crate::gate::{Gates, Transition, UpstreamChange};
use crate::key::Kid;
use crate::moment::Moment;

/// How often successes of traffic are folded in and leases are looked at.
pub const FOLD_EVERY: Duration = Duration::from_millis(100);

/// What is to be told once the gates as they are now are published.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct News {
    /// Of gates.
    pub transitions: Vec<Transition>,
    /// Of single upstreams of a signer that has several.
    pub changes: Vec<UpstreamChange>,
    /// Whether probers look at the gates again at once: what they wait for may be due sooner.
    pub probers_look: bool,
}

impl News {
    /// What `transitions` and the upstreams' own changes come to.
    pub fn of(gates: &mut Gates, transitions: impl IntoIterator<Item = Transition>) -> Self {
        let transitions: Vec<_> = transitions.into_iter().collect();
        let changes = gates.take_changes();
        let probers_look = !transitions.is_empty() || !changes.is_empty();
        Self { transitions, changes, probers_look }
    }
}

/// Takes in what a prober observed.
pub fn hear(gates: &mut Gates, kid: &Kid, mut observation: Observation, now: Moment) -> News {
    // Known to the gates from now on: readers may have seen its lease over.
    observation.at = now;
    let transition = gates.observe(kid, &observation);
    let mut news = News::of(gates, transition);
    // After a canary that failed the next one comes sooner, and its prober may have looked
    // before that was known.
    news.probers_look |= observation.evidence != Evidence::Signed;
    news
}

/// Takes in what callers' requests showed until `now`, and that time passed.
pub fn fold(gates: &mut Gates, traffic: &Traffic, now: Moment) -> News {
    let mut transitions = Vec::new();
    for Folded { kid, upstream, observations, tally } in traffic.take(now) {
        for observation in observations {
            transitions.extend(gates.observe(&kid, &observation));
        }
        transitions.extend(gates.tally(&kid, upstream, tally, now));
    }
    transitions.extend(gates.tick(now));
    News::of(gates, transitions)
}
