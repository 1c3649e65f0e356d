//! The configured signers, in every room that holds something of one: what a reload takes out, takes in and
//! changes.

mod change;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use configuration::{BatchLimits, Config};
use development::DevelopmentKey;
use monitor::OtherSigners;
use sign::SigningRoom;
use signing_core::{Kid, Registry};
use telemetry::metrics::Metrics;
use telemetry::workers::Workers;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::app::upstreams::{UpstreamMaker, Upstreams};
use crate::doctor::Doctor;
use crate::drill::Drills;
use crate::handles::Handles;

pub use change::Change;

/// Every room that holds something of a signer, but the monitor, which decides by it.
#[derive(Debug)]
pub struct SignersInForce {
    maker: Mutex<UpstreamMaker>,
    /// Where callers' requests run.
    runtime: Handle,
    room: Arc<SigningRoom>,
    doctor: Arc<Doctor>,
    drills: Arc<Drills>,
    workers: Arc<Workers>,
    metrics: Arc<Metrics>,
}

/// New upstreams, which nobody uses yet. Dropped, they are gone, and so are their workers.
#[derive(Debug)]
pub struct Prepared {
    change: Change,
    new: Upstreams,
    batches: BTreeMap<Kid, BatchLimits>,
}

impl SignersInForce {
    /// Those rooms; `maker` made the upstreams that they hold.
    #[must_use]
    pub fn new(
        handles: &Handles,
        (maker, runtime): (UpstreamMaker, Handle),
        room: Arc<SigningRoom>,
        (doctor, drills): (Arc<Doctor>, Arc<Drills>),
        workers: Arc<Workers>,
    ) -> Self {
        let (maker, metrics) = (Mutex::new(maker), Arc::clone(&handles.metrics));
        Self { maker, runtime, room, doctor, drills, workers, metrics }
    }

    /// Makes what `change` needs of `config`, for that generation; nothing is changed yet.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub async fn prepare(
        self: &Arc<Self>,
        change: Change,
        config: Config,
        registry: Registry,
        (keys, generation): (BTreeMap<Kid, DevelopmentKey>, u64),
    ) -> io::Result<Prepared> {
        let own = Arc::clone(self);
        // Clients are made where callers' requests run.
        let making = self.runtime.spawn(async move {
            let mut maker = own.maker.lock().await;
            let new = maker.make(&config, &registry, keys, (&change.new, generation)).await?;
            let batches = batches(&config, &registry);
            Ok(Prepared { change, new, batches })
        });
        // A panic there changed nothing either.
        making.await.map_err(io::Error::other)?
    }

    /// Puts what was prepared in force, in every room but the monitor: until the monitor follows, a changed signer
    /// admits by its old gate and is asked nothing, since its upstreams are others. Returns what the monitor
    /// has to follow with.
    #[must_use]
    pub fn replace(&self, prepared: Prepared, config: &Config) -> OtherSigners {
        let Prepared { change: Change { gone, adjusted, .. }, new, batches } = prepared;
        let Upstreams { data, monitor, watched, measured, doctor_targets, workers } = new;
        for (kid, signer) in config.signers.iter().filter(|(kid, _)| adjusted.contains(kid)) {
            self.room.adjust(kid, signer);
        }
        if !gone.is_empty() || !watched.is_empty() {
            self.drills.replace(&gone, &data);
            self.room.replace(&gone, data, &batches);
            self.doctor.replace(&gone, doctor_targets);
            let workers = self.workers.replace(&gone, workers);
            self.metrics.replace(&gone, measured, &workers);
        }
        OtherSigners { gone, watched, probed: monitor }
    }
}

/// How batches gather, of the batch signers of a configuration.
#[must_use]
pub fn batches(config: &Config, registry: &Registry) -> BTreeMap<Kid, BatchLimits> {
    let is_batch =
        |kid: &Kid| registry.get(kid.as_str()).is_some_and(|signer| signer.batch.is_batch());
    let batches = config.signers.iter().filter(|(kid, _)| is_batch(kid));
    batches.map(|(kid, signer)| (kid.clone(), signer.batch)).collect()
}
