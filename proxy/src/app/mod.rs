//! The composition root: builds everything, spawns last.

mod admin_thread;
mod journal;
mod listeners;
mod local_doors;
mod recorder;
pub mod signals;
mod start_error;
mod stop;
pub mod upstreams;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use breakglass::Breakglass;
use breakglass::emergency::{Emergency, Settings};
use configuration::{Config, Environment};
use host::clock::{now, wall_now};
use host::socket::Bound;
use monitor::Monitor;
use release::Probes;
use server::traces::Traces;
use server::{CallerRates, Connections, DataPlane};
use sign::SigningRoom;
use sign::required::Required;
use signing_core::Rulebook;
use signing_core::gate::{Gates, Slots};
use telemetry::events::Events;
use telemetry::health::Health;
use telemetry::metrics::Metrics;
use telemetry::workers::Workers;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use crate::admin::Admin;
use crate::app::signals::Signals;
use crate::app::upstreams::{UpstreamMaker, Upstreams};
use crate::conditions::Sources;
use crate::doctor::Doctor;
use crate::drill::Drills;
use crate::handles::Handles;
use crate::log::Log;
use crate::materials::Materials;
use crate::observe::Observed;
use crate::reload::Reloader;
use crate::signers::{self, SignersInForce};
use admin_thread::AdminThread;
use journal::StateOnDisk;
use listeners::Listeners;
use recorder::Recorder;

pub use local_doors::LocalPlaces;
pub use start_error::StartError;

/// A proxy that serves.
#[derive(Debug)]
pub struct App {
    data: Runtime,
    room: Arc<SigningRoom>,
    recorder: Recorder,
    handles: Handles,
    reloader: Arc<Reloader>,
    drain: watch::Sender<bool>,
    drain_timeout: Duration,
    admin_socket: Arc<std::sync::Mutex<Bound>>,
    workers: Arc<Workers>,
    /// Taken by the one who waits.
    signals: Option<Signals>,
    /// Resolves if the admin thread ends; taken by the one who waits.
    admin_ended: Option<oneshot::Receiver<()>>,
    /// Where the data plane listens.
    pub listen: SocketAddr,
    /// Where the local doors stand.
    pub local: LocalPlaces,
    /// Where metrics and health are served.
    pub metrics_listen: SocketAddr,
}

impl App {
    /// Builds and starts everything. When it returns, the listeners accept; the
    /// gates open once their canaries have succeeded.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        config_file: PathBuf,
        materials: Materials,
        environment: &Environment,
        log: Log,
        signals: Signals,
    ) -> Result<Self, StartError> {
        let Materials {
            config,
            registry,
            policy,
            tls,
            local_doors,
            audit_key,
            fleet,
            development_keys,
            known_heads,
        } = materials;
        let (audit_key_id, signer) = (audit_key.key.id(), Settings::of(&config, &registry));

        // What can fail for good is claimed first, and the sockets before any thread.
        let on_disk = StateOnDisk::open(&config, audit_key, &registry, (environment, known_heads))?;
        let listeners = Listeners::bind(&config)?;
        let doors = local_doors::bind(&config.server.local, local_doors)?;
        let listen = listeners.data.local_addr()?;
        let metrics_listen = listeners.metrics.local_addr()?;
        let data = Builder::new_multi_thread().thread_name("data").enable_all().build()?;
        let mut maker = UpstreamMaker::default();
        let kids = config.signers.keys().cloned().collect();
        let making = maker.make(&config, &registry, development_keys, (&kids, 1));
        let Upstreams { data: served, monitor: probed, watched, measured, doctor_targets, workers } =
            data.block_on(making)?;

        // Handles on what all share.
        let slots = Slots::new(config.server.requests_in_flight_max)
            .per_caller(config.server.requests_in_flight_per_caller_max);
        let metrics = Arc::new(Metrics::new(measured, &workers, slots.clone()));
        metrics.loaded(wall_now().unix_timestamp(), &tls);
        let (journal_written, key_modes) = (on_disk.written, on_disk.key_modes());
        let batches = signers::batches(&config, &registry);
        let events = Events::default();
        let (journal, heads, stored) = on_disk.start(&config, &metrics, &events)?;
        journal.tell_outcomes_on(data.handle())?;
        let (probes, rulebook) = (Probes::new(now()), Rulebook::new(registry, policy));
        let (monitor, monitor_tasks) = Monitor::new(
            Gates::new(config.thresholds.clone(), watched, Arc::new(rulebook), now()),
            stored,
            fleet_rules(&config),
            journal.clone(),
            probed,
            (config.probe.clone(), config.thresholds.window.slow_call),
            (Arc::clone(&metrics), probes.clone()),
        )?;
        let traces = Traces::start(&config.traces, &config.deployment, &metrics.trace_spans)?;
        let told = (journal.clone(), heads.clone());
        let required = Required::start(config.trail.required(), told, data.handle());
        let (emergency, notices) = Emergency::start(signer, heads, data.handle());
        let (drain, draining) = watch::channel(false);
        let connections = Connections::new(&config.server, Arc::clone(&metrics));
        let conditions = Arc::default();
        let handles = Handles {
            monitor,
            journal,
            events,
            metrics,
            emergency,
            required,
            slots,
            connections,
            conditions,
            traces,
            draining,
        };

        // The rooms.
        let (tls, rates) = (
            Arc::new(ArcSwap::from_pointee(tls)),
            Arc::new(CallerRates::new(&config.caller_rates)),
        );
        let room = Arc::new(SigningRoom::new(
            handles.for_pipeline(),
            probes.clone(),
            data.handle().clone(),
        ));
        let drills = Arc::new(Drills::new(&handles, &served));
        let doctor = Arc::new(Doctor::new(&handles, doctor_targets, probes.clone()));
        let workers = Arc::new(Workers::new(workers));
        let rooms = SignersInForce::new(
            &handles,
            (maker, data.handle().clone()),
            Arc::clone(&room),
            (Arc::clone(&doctor), Arc::clone(&drills)),
            Arc::clone(&workers),
        );
        let source = (config_file, environment.clone(), config.clone());
        let reloader = Reloader::new(
            &handles,
            source,
            (audit_key_id, key_modes),
            (Arc::clone(&tls), Arc::clone(&rates)),
            Arc::new(rooms),
        );
        let reloader = Arc::new(reloader);
        let sources =
            Sources::new(&handles, Arc::clone(&tls), Arc::clone(&reloader), log, journal_written);
        let certificates = (Arc::clone(&tls), Arc::clone(&reloader));
        let plane =
            DataPlane::new(handles.for_data_plane(), &config.server, Arc::clone(&room), tls, rates);
        let breakglass = Arc::new(Breakglass::new(
            handles.emergency.clone(),
            handles.monitor.clone(),
            handles.journal.clone(),
            config.breakglass.min_outage,
        ));
        let admin = Admin::new(
            &handles,
            &config,
            Arc::clone(&reloader),
            (Arc::clone(&breakglass), fleet),
            doctor,
            drills,
            Arc::clone(&workers),
        );
        let recorder = Recorder::new(&handles, plane.refusals(), probes.clone());

        // Before anybody could reload: what a reload puts there is not taken back.
        room.replace(&BTreeSet::new(), served, &batches);
        // Whatever runs, runs from here on.
        let data_listener = {
            let _entered = data.enter();
            tokio::net::TcpListener::from_std(listeners.data)?
        };
        let admin_ended = AdminThread {
            monitor_tasks,
            admin_listener: (listeners.admin, Arc::clone(&listeners.admin_socket)),
            conditions: (Arc::clone(&handles.conditions), sources),
            admin: Arc::new(admin),
            metrics_listener: listeners.metrics,
            observed: Arc::new(Observed::new(&handles)),
            recorder: recorder.clone(),
            settling: (handles.connections.clone(), handles.monitor.stops()),
            certificates,
            keeping: notices.map(|notices| (breakglass, notices)),
        }
        .start()?;
        let plane = Arc::new(plane);
        let local = doors.serve(&data, &plane)?;
        data.spawn(server::accept(data_listener, plane));
        Ok(Self {
            data,
            room,
            recorder,
            handles,
            reloader,
            drain,
            drain_timeout: config.server.drain_timeout,
            admin_socket: listeners.admin_socket,
            local,
            workers,
            signals: Some(signals),
            admin_ended: Some(admin_ended),
            listen,
            metrics_listen,
        })
    }

    /// The client of the emergency signer.
    #[must_use]
    pub fn emergency(&self) -> &Emergency {
        &self.handles.emergency
    }

    /// Whether it was told to stop before anybody waits for that.
    pub fn is_stop_asked(&mut self) -> bool {
        self.signals.as_mut().is_some_and(Signals::is_stop_asked)
    }

    /// Waits until every gate has opened once, or until `patience` is over, or a stop is asked
    /// for. Returns whether all are open.
    #[must_use]
    pub fn wait_until_healthy(&mut self, patience: Duration) -> bool {
        let deadline = now().after(patience);
        loop {
            let (gates, conditions) = (self.handles.monitor.gates(), self.handles.conditions.all());
            let healthy = Health::of(&gates, &conditions, now(), wall_now()).ok;
            drop(gates);
            if healthy || now() >= deadline || self.is_stop_asked() {
                return healthy;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The fleet's name, empty if there is none, and what a configuration says of it.
fn fleet_rules(config: &Config) -> (String, Option<signing_core::fleet::Rules>) {
    let fleet = config.fleet.as_ref();
    (fleet.map(|fleet| fleet.name.clone()).unwrap_or_default(), fleet.map(|fleet| fleet.rules))
}
