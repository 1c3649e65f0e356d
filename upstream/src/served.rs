//! The upstreams of one signer, as the data plane holds them: which is asked first, and how
//! much may be asked of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use signing_core::Moment;

use super::Upstream;
use super::fault::FaultSwitch;
use super::quota::Quota;
use crate::settings::Prefer;

/// How much a new time weighs against those before: one in so many.
const SMOOTHING: u64 = 8;

/// How long an upstream takes to sign, as callers' calls and canaries show: of one that is
/// not preferred, canaries alone do.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// Nanoseconds, smoothed; 0: it was not asked yet.
    nanos: Arc<AtomicU64>,
}

/// A call for which the quota was spent.
#[derive(Debug)]
pub struct Route {
    upstream: usize,
    /// Of which upstreams.
    made_in: u64,
}

/// Why no upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// The quota of each is used up.
    NoQuota,
    /// More calls wait for one of them than it serves in time.
    NoRoom,
}

/// One upstream with its quota and how fast it has answered lately.
#[derive(Debug)]
pub struct Reached {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// How much may be asked of it.
    pub quota: Arc<Quota>,
    /// How long it takes to sign.
    pub latency: Latency,
}

/// The upstreams of one signer, in the order of the configuration.
#[derive(Debug)]
pub struct Served {
    reached: Vec<Reached>,
    /// The generation of the configuration for which they were made.
    made_in: u64,
    /// [`Prefer::Fastest`], which may change at any time.
    prefers_fastest: AtomicBool,
    /// What a drill switches.
    pub switch: FaultSwitch,
}

impl Route {
    /// Which upstream, by its place in the configuration.
    #[must_use]
    pub fn upstream(&self) -> usize {
        self.upstream
    }

    /// The generation of the configuration for which that upstream was made.
    #[must_use]
    pub fn made_in(&self) -> u64 {
        self.made_in
    }
}

impl Latency {
    /// Takes in how long a call took that was answered with a signature.
    pub fn answered_in(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let smoothed = |before: u64| match before {
            0 => took,
            before => before - before / SMOOTHING + took / SMOOTHING,
        };
        // Of two at once one may be lost: it is an estimate.
        self.nanos.store(smoothed(self.nanos()), Ordering::Relaxed);
    }

    fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}

impl Reached {
    /// An upstream that was not asked yet.
    #[must_use]
    pub fn new(upstream: Upstream, quota: Arc<Quota>) -> Self {
        Self { upstream: Arc::new(upstream), quota, latency: Latency::default() }
    }
}

impl Served {
    /// Serves `reached`, which were made for that generation of the configuration.
    #[must_use]
    pub fn new(reached: Vec<Reached>, prefer: Prefer, switch: FaultSwitch, made_in: u64) -> Self {
        let served = Self { reached, made_in, prefers_fastest: AtomicBool::new(false), switch };
        served.set_prefer(prefer);
        served
    }

    /// From now on that one is asked first.
    pub fn set_prefer(&self, prefer: Prefer) {
        self.prefers_fastest.store(prefer == Prefer::Fastest, Ordering::Relaxed);
    }

    /// The generation of the configuration for which they were made.
    #[must_use]
    pub fn made_in(&self) -> u64 {
        self.made_in
    }

    /// Its upstreams, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Reached> {
        self.reached.iter()
    }

    /// The upstream of a route, if it is one of these.
    #[must_use]
    pub fn get(&self, route: &Route) -> Option<&Reached> {
        self.reached.get(route.upstream).filter(|_| route.made_in == self.made_in)
    }

    /// Chooses among the upstreams that are `open` the one that is preferred, serves a request in
    /// time for its `deadline` and has quota left, and spends it.
    ///
    /// # Errors
    /// [`NoRoute`]: all of them are at their limit.
    pub fn route(
        &self,
        open: impl Iterator<Item = usize>,
        deadline: Moment,
        now: Moment,
    ) -> Result<Route, NoRoute> {
        let open = open.filter_map(|at| Some((at, self.reached.get(at)?)));
        let upstream = if self.prefers_fastest.load(Ordering::Relaxed) {
            let mut open: Vec<_> = open.collect();
            // One that was not asked yet is asked: nothing else would measure it.
            open.sort_by_key(|(_, reached)| reached.latency.nanos());
            first_with_room(open.into_iter(), deadline, now)
        } else {
            first_with_room(open, deadline, now)
        };
        upstream.map(|upstream| Route { upstream, made_in: self.made_in })
    }
}

fn first_with_room<'r>(
    open: impl Iterator<Item = (usize, &'r Reached)>,
    deadline: Moment,
    now: Moment,
) -> Result<usize, NoRoute> {
    let mut no_route = NoRoute::NoQuota;
    for (upstream, reached) in open {
        if !reached.upstream.has_room(deadline, now) {
            no_route = NoRoute::NoRoom;
            continue;
        }
        if reached.quota.spend(now) {
            return Ok(upstream);
        }
    }
    Err(no_route)
}
