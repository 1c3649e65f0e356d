//! The upstreams of all signers, built once: clients for callers, clients for canaries, and
//! what the gates and the metrics have to know of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use development::DevelopmentKey;
use signing_core::gate::{Place, Watched};
use signing_core::{Algorithm, Kid, Registry};

use crate::config::{self, Config};
use crate::metrics::Measured;
use crate::monitor::Probed;
use crate::upstream::{
    DevelopmentUpstream, FaultSwitch, KmsClients, Provider, Quota, Reached, Served, Upstream,
};

/// The upstreams of both runtimes.
#[derive(Debug)]
pub struct Upstreams {
    /// For callers' requests.
    pub data: BTreeMap<Kid, Served>,
    /// For canaries.
    pub monitor: Vec<Probed>,
    /// For the gates.
    pub watched: Vec<Watched>,
    /// For the metrics.
    pub measured: Vec<Measured>,
}

impl Upstreams {
    /// Prepares the clients of every configured signer. Nothing is sent yet.
    pub async fn new(
        config: &Config,
        registry: &Registry,
        mut development_keys: BTreeMap<Kid, DevelopmentKey>,
    ) -> Self {
        let (data, monitor) = (BTreeMap::new(), Vec::new());
        let mut all = Self { data, monitor, watched: Vec::new(), measured: Vec::new() };
        for (kid, signer) in &config.signers {
            // Materials hold a registered key for every configured signer; one without
            // would have no gate, and nothing would be signed with it.
            let Some(registered) = registry.get(kid.as_str()) else { continue };
            let (mut reached, mut places) = (Vec::new(), Vec::new());
            let switch = FaultSwitch::default();
            for config::Reached { upstream, requests_per_second_max } in &signer.upstreams {
                let pair = match upstream {
                    config::Upstream::AwsKms(kms) => {
                        Some(kms_pair(kms, registered.algorithm()).await)
                    }
                    config::Upstream::Development { .. } => {
                        development_keys.remove(kid).map(|key| development_pair(kid, key))
                    }
                };
                let Some((for_callers, for_canaries)) = pair else { continue };
                let quota = requests_per_second_max.map(|quota| Arc::new(Quota::new(quota)));
                let (provider, region) = upstream.place();
                let place = Arc::new(Place { provider, region: region.to_owned() });
                let at = places.len();
                let [for_callers, for_canaries] = [for_callers, for_canaries]
                    .map(|provider| Upstream::new(provider, switch.clone()));
                let for_callers = Reached::new(for_callers, quota.clone());
                let latency = for_callers.latency.clone();
                reached.push(for_callers);
                let (kid, upstream, quota_of) = (kid.clone(), for_canaries, quota.clone());
                all.monitor.push(Probed { kid, at, upstream, quota: quota_of, latency });
                places.push((place, quota));
            }
            let watched = places.iter().map(|(place, _)| Arc::clone(place)).collect();
            all.data.insert(kid.clone(), Served::new(reached, signer.prefer, switch));
            all.watched.push(Watched { kid: kid.clone(), upstreams: watched });
            all.measured.push(Measured { kid: kid.clone(), upstreams: places });
        }
        all
    }
}

async fn kms_pair(kms: &config::AwsKms, algorithm: Algorithm) -> (Provider, Provider) {
    let KmsClients { data, monitor } = KmsClients::new(kms, algorithm).await;
    (Provider::AwsKms(data), Provider::AwsKms(monitor))
}

fn development_pair(kid: &Kid, key: DevelopmentKey) -> (Provider, Provider) {
    tracing::warn!(signer_kid = %kid, "DEVELOPMENT PROVIDER: this key lies in a plain file");
    let upstream = |key| Provider::Development(DevelopmentUpstream::new(key));
    (upstream(key.clone()), upstream(key))
}
