//! The metrics of each signer, which a reload may take out or replace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, Histogram};
use signing_core::gate::{Extent, Place, State};
use signing_core::{Kid, Reason};
use upstream::Quota;

use super::make::Make;
use super::names::*;
use super::request_labels;
use super::workers::WorkerMetrics;
use crate::workers::Worker;

/// Those in force, and what the recorder still has of others.
pub(super) struct Signers {
    all: ArcSwap<BTreeMap<Kid, Arc<SignerSeries>>>,
    workers: ArcSwap<Vec<WorkerMetrics>>,
    /// What begins the labels of series that are shown no more. The recorder keeps every series that there
    /// ever was, and a signer that was taken out must not look as if it were unhealthy.
    retired: ArcSwap<BTreeSet<String>>,
}

/// One signer.
pub(super) struct SignerSeries {
    pub(super) signed: Counter,
    pub(super) refused: PerReason,
    pub(super) health: Gauge,
    pub(super) states: [(&'static str, Gauge); 4],
    pub(super) outage: Gauge,
    pub(super) extents: [(Extent, Gauge); 3],
    pub(super) upstreams: Vec<UpstreamSeries>,
    pub(super) kid: Kid,
}

/// One of its upstreams.
pub(super) struct UpstreamSeries {
    pub(super) place: Arc<Place>,
    /// Of calls that were answered with a signature; made with the first.
    pub(super) call_signed: OnceLock<Histogram>,
    pub(super) health: Gauge,
    /// Made once there is a quota.
    headroom: OnceLock<Gauge>,
    quota: Arc<Quota>,
}

/// A signer to be measured: its upstreams, with their quotas.
#[derive(Debug)]
pub struct Measured {
    /// The signer's kid: the label `signer_kid`.
    pub kid: Kid,
    /// In the order of the configuration.
    pub upstreams: Vec<(Arc<Place>, Arc<Quota>)>,
}

/// One counter per reason, made when it first counts.
#[derive(Default)]
pub(super) struct PerReason(BTreeMap<Reason, OnceLock<Counter>>);

impl Signers {
    pub(super) fn new(make: &Make<'_>, signers: Vec<Measured>, workers: &[Worker]) -> Self {
        let none = Self {
            all: ArcSwap::default(),
            workers: ArcSwap::default(),
            retired: ArcSwap::default(),
        };
        none.replace(make, &BTreeSet::new(), signers, workers);
        none
    }

    /// Takes those out that are `gone`, and takes `new` ones in; `workers` are those of all.
    pub(super) fn replace(
        &self,
        make: &Make<'_>,
        gone: &BTreeSet<Kid>,
        new: Vec<Measured>,
        workers: &[Worker],
    ) {
        let mut all = BTreeMap::clone(&self.all.load());
        let mut retired = BTreeSet::clone(&self.retired.load());
        for signer in gone.iter().filter_map(|kid| all.remove(kid)) {
            retired.insert(series_of(&signer.kid));
            retired.extend(signer.upstreams.iter().map(|one| series_at(&signer.kid, &one.place)));
        }
        let new: BTreeMap<_, _> = new.into_iter().map(|signer| make.signer(signer)).collect();
        for signer in new.values() {
            retired.remove(&series_of(&signer.kid));
            for one in &signer.upstreams {
                retired.remove(&series_at(&signer.kid, &one.place));
            }
        }
        all.extend(new);
        self.all.store(Arc::new(all));
        let workers = workers.iter().cloned().map(|worker| WorkerMetrics::new(make, worker));
        self.workers.store(Arc::new(workers.collect()));
        self.retired.store(Arc::new(retired));
    }

    pub(super) fn get(&self, kid: &Kid) -> Option<Arc<SignerSeries>> {
        self.all.load().get(kid).map(Arc::clone)
    }

    /// Shows how the workers of tokens fare at this moment.
    pub(super) fn show_workers(&self) {
        self.workers.load().iter().for_each(WorkerMetrics::show);
    }

    /// What is rendered, without series of what is configured no more.
    pub(super) fn without_retired(&self, rendered: String) -> String {
        let retired = self.retired.load();
        if retired.is_empty() {
            return rendered;
        }
        let is_shown = |line: &&str| {
            line.starts_with('#') || !retired.iter().any(|labels| line.contains(labels.as_str()))
        };
        rendered.lines().filter(is_shown).flat_map(|line| [line, "\n"]).collect()
    }
}

/// What all series of a signer have. A kid needs no escaping.
fn series_of(kid: &Kid) -> String {
    format!("signer_kid=\"{kid}\"")
}

/// What all series of one of its upstreams have, in the order in which the labels are made.
fn series_at(kid: &Kid, place: &Place) -> String {
    let [provider, region] = labels(place).map(|(_, value)| escaped(value));
    format!("{},upstream=\"{provider}\",region=\"{region}\"", series_of(kid))
}

/// As the text form of Prometheus has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl UpstreamSeries {
    /// Shows what is left of the quota, if there is one.
    pub(super) fn show_quota(&self, make: &Make<'_>, kid: &Kid, now: signing_core::Moment) {
        if self.quota.is_limited() || self.headroom.get().is_some() {
            let [provider, region] = labels(&self.place);
            let labels = [("signer_kid", kid.as_str()), provider, region];
            let gauge = self.headroom.get_or_init(|| make.gauge(QUOTA_HEADROOM, &labels));
            gauge.set(self.quota.headroom(now));
        }
    }
}

impl PerReason {
    pub(super) fn new() -> Self {
        Self(Reason::ALL.iter().map(|reason| (*reason, OnceLock::new())).collect())
    }

    pub(super) fn count(&self, reason: Reason, make: impl FnOnce() -> Counter) {
        if let Some(counter) = self.0.get(&reason) {
            counter.get_or_init(make).increment(1);
        }
    }
}

impl Make<'_> {
    fn signer(&self, Measured { kid, upstreams }: Measured) -> (Kid, Arc<SignerSeries>) {
        let label = ("signer_kid", kid.as_str());
        let upstream = |(place, quota): (Arc<Place>, Arc<Quota>)| {
            let [provider, region] = labels(&place);
            let labels = [label, provider, region];
            UpstreamSeries {
                call_signed: OnceLock::new(),
                health: self.gauge(UPSTREAM_HEALTH, &labels),
                headroom: OnceLock::new(),
                quota,
                place,
            }
        };
        let extent = |extent: Extent| {
            (extent, self.gauge(OUTAGE_EXTENT, &[label, ("extent", extent.word())]))
        };
        let signer = SignerSeries {
            signed: self.counter(REQUESTS, &request_labels(None, kid.as_str())),
            refused: PerReason::new(),
            health: self.gauge(SIGNER_HEALTH, &[label]),
            states: State::WORDS
                .map(|state| (state, self.gauge(GATE_STATE, &[label, ("state", state)]))),
            outage: self.gauge(OUTAGE, &[label]),
            extents: [Extent::None, Extent::Partial, Extent::Full].map(extent),
            upstreams: upstreams.into_iter().map(upstream).collect(),
            kid: kid.clone(),
        };
        (kid, Arc::new(signer))
    }
}

pub(super) fn labels(place: &Place) -> [(&'static str, &str); 2] {
    [("upstream", place.provider), ("region", &place.region)]
}
