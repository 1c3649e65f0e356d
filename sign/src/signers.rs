//! The signers that callers are served with: their upstreams and their batches. A reload takes signers out
//! and others in; a call under way keeps what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use configuration::BatchLimits;
use monitor::{OfOwner, calls_for_warmth};
use release::Probes;
use signing_core::Kid;
use tokio::runtime::Handle;
use upstream::Served;

use crate::batch::Batcher;

/// Those in force.
#[derive(Debug)]
pub(super) struct Signers {
    all: ArcSwap<BTreeMap<Kid, Arc<ServedSigner>>>,
    probes: Probes,
    runtime: Handle,
}

/// One of them. Its connections are kept ready until the last call is answered.
#[derive(Debug)]
pub(super) struct ServedSigner {
    pub(super) served: Served,
    /// Where its batches gather, if it is a batch signer.
    pub(super) batcher: Option<Arc<Batcher>>,
    _warm: Vec<OfOwner>,
}

impl Signers {
    /// None yet; what they need to be ready runs on `runtime`.
    pub(super) fn new(probes: Probes, runtime: Handle) -> Self {
        Self { all: ArcSwap::default(), probes, runtime }
    }

    /// The one of that name.
    pub(super) fn get(&self, kid: &Kid) -> Option<Arc<ServedSigner>> {
        self.all.load().get(kid).map(Arc::clone)
    }

    /// Takes all of them out.
    pub(super) fn clear(&self) {
        self.all.store(Arc::default());
    }

    /// Takes those out that are `gone`, and takes new ones in; returns the batchers that nobody makes calls for
    /// yet.
    pub(super) fn replace(
        &self,
        gone: &BTreeSet<Kid>,
        served: BTreeMap<Kid, Served>,
        batches: &BTreeMap<Kid, BatchLimits>,
    ) -> Vec<(Kid, Arc<Batcher>)> {
        let mut all = BTreeMap::clone(&self.all.load());
        all.retain(|kid, _| !gone.contains(kid));
        let mut new = Vec::new();
        for (kid, served) in served {
            let warm = served.iter().map(|reached| {
                let upstream = Arc::clone(&reached.upstream);
                let calls = calls_for_warmth(&self.probes, &kid);
                OfOwner(self.runtime.spawn(async move { upstream.keep_warm(calls).await }))
            });
            let _warm = warm.collect();
            let batcher = batches.get(&kid).map(|limits| Arc::new(Batcher::new(*limits)));
            new.extend(batcher.clone().map(|batcher| (kid.clone(), batcher)));
            all.insert(kid, Arc::new(ServedSigner { served, batcher, _warm }));
        }
        self.all.store(Arc::new(all));
        new
    }
}
