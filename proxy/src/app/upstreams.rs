//! The upstreams of signers, built at the start and for a reload: clients for callers, clients for
//! canaries, and what the gates and the metrics have to know of each.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use configuration::Config;
use development::DevelopmentKey;
use monitor::Probed;
use signing_core::gate::Watched;
use signing_core::key::PublicKey;
use signing_core::{Kid, Registry};
use telemetry::metrics::Measured;
use telemetry::workers::Worker;
use tokio::runtime::Handle;
use upstream::settings::{AwsKms, Pkcs11};
use upstream::{
    CredentialChain, CredentialChains, DevelopmentUpstream, FaultSwitch, KmsClients, Ledger,
    Pkcs11Clients, Provider, Quota, Reached, Served, Upstream,
};

use crate::doctor::{self, DoctorTarget, ServedKms};

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
    /// For the doctor.
    pub doctor_targets: Vec<DoctorTarget>,
    /// For metrics and status.
    pub workers: Vec<Worker>,
}

/// Makes upstreams. What it remembers outlives a reload: wrong PINs, and who gives credentials.
#[derive(Debug, Default)]
pub struct UpstreamMaker {
    ledger: Arc<Ledger>,
    chains: CredentialChains,
}

impl UpstreamMaker {
    /// Prepares the clients of those configured signers that are among `kids`, for that generation of the
    /// configuration. Nothing is sent yet, but workers of tokens start; they end with their clients. To be called where
    /// callers' requests run.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub async fn make(
        &mut self,
        config: &Config,
        registry: &Registry,
        mut development_keys: BTreeMap<Kid, DevelopmentKey>,
        (kids, made_in): (&BTreeSet<Kid>, u64),
    ) -> io::Result<Upstreams> {
        let Self { ledger, chains } = self;
        let (data, monitor, workers) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (watched, measured, doctor_targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Upstreams { data, monitor, watched, measured, doctor_targets, workers };
        let wanted = config.signers.iter().filter(|(kid, _)| kids.contains(kid));
        for (kid, signer) in wanted {
            // Materials hold a registered key for every configured signer; one without
            // would have no gate, and nothing would be signed with it.
            let Some(registered) = registry.get(kid.as_str()) else { continue };
            let (mut reached, mut places) = (Vec::new(), Vec::new());
            let switch = FaultSwitch::default();
            for configuration::Reached { upstream, requests_per_second_max } in &signer.upstreams {
                let public_key = &registered.public_key;
                let made = match upstream {
                    configuration::Upstream::AwsKms(kms) => {
                        let chain = chains.of(kms);
                        Some(kms_pair(kms, public_key, &chain, config.probe.timeout).await)
                    }
                    configuration::Upstream::Pkcs11(token) => {
                        let (made, worker) = token_pair(kid, token, public_key, ledger)?;
                        all.workers.push(worker);
                        Some(made)
                    }
                    configuration::Upstream::Development { key_file } => {
                        let key = development_keys.remove(kid);
                        key.map(|key| development_pair(kid, key, key_file))
                    }
                };
                let Some((for_callers, for_canaries, reached_by)) = made else { continue };
                let at = places.len();
                all.doctor_targets.push(DoctorTarget { kid: kid.clone(), at, reached: reached_by });
                let quota = Arc::new(Quota::new(*requests_per_second_max));
                let [for_callers, for_canaries] = [for_callers, for_canaries]
                    .map(|provider| Upstream::new(provider, switch.clone()));
                let place = Arc::clone(for_callers.place());
                let for_callers = Reached::new(for_callers, Arc::clone(&quota));
                let latency = for_callers.latency.clone();
                reached.push(for_callers);
                let (kid, upstream, quota_of) = (kid.clone(), for_canaries, Arc::clone(&quota));
                all.monitor.push(Probed { kid, at, made_in, upstream, quota: quota_of, latency });
                places.push((place, quota));
            }
            let watched = places.iter().map(|(place, _)| Arc::clone(place)).collect();
            all.data.insert(kid.clone(), Served::new(reached, signer.prefer, switch, made_in));
            all.watched.push(Watched { kid: kid.clone(), upstreams: watched, made_in });
            all.measured.push(Measured { kid: kid.clone(), upstreams: places });
        }
        Ok(all)
    }
}

/// For callers, for canaries, for the doctor.
type Made = (Provider, Provider, doctor::Reached);

async fn kms_pair(
    kms: &AwsKms,
    public_key: &PublicKey,
    credentials: &CredentialChain,
    canary_max: Duration,
) -> Made {
    let KmsClients { data, monitor } =
        KmsClients::new(kms, &Arc::new(public_key.clone()), credentials).await;
    let served = ServedKms {
        config: kms.clone(),
        callers: Arc::new(looked_at(Provider::AwsKms(data.clone()))),
        canaries: looked_at(Provider::AwsKms(monitor.clone())),
        canary_max,
        // Upstreams are made where callers' requests will run.
        runtime: Handle::current(),
    };
    let looked_at = doctor::Reached::Kms(Box::new(served));
    (Provider::AwsKms(data), Provider::AwsKms(monitor), looked_at)
}

fn token_pair(
    kid: &Kid,
    token: &Pkcs11,
    public_key: &PublicKey,
    ledger: &Arc<Ledger>,
) -> io::Result<(Made, Worker)> {
    let Pkcs11Clients { data, monitor, life } =
        Pkcs11Clients::new(token, public_key.registry_name(), kid.as_str(), ledger)?;
    let looked_at = doctor::Reached::Here(Box::new(looked_at(Provider::Pkcs11(monitor.clone()))));
    let worker = Worker { kid: kid.clone(), token_label: token.token_label.clone(), life };
    Ok(((Provider::Pkcs11(data), Provider::Pkcs11(monitor), looked_at), worker))
}

fn development_pair(kid: &Kid, key: DevelopmentKey, file: &Path) -> Made {
    tracing::warn!(signer_kid = %kid, "DEVELOPMENT PROVIDER: this key lies in a plain file");
    let upstream = |key| Provider::Development(DevelopmentUpstream::new(key, file.to_owned()));
    let looked_at = doctor::Reached::Here(Box::new(looked_at(upstream(key.clone()))));
    (upstream(key.clone()), upstream(key), looked_at)
}

/// For the doctor, whom no drill disturbs.
fn looked_at(provider: Provider) -> Upstream {
    Upstream::new(provider, FaultSwitch::default())
}
