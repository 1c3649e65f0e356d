//! The monitor: probes and traffic become observations, observations become
//! gate snapshots. It lives on the admin runtime with upstream clients of its
//! own, so that load cannot starve it into an outage.
//!
//! It alone changes gates, freezes, seals and the session in force; whoever signs, serves or commands
//! holds a [`Monitor`] and asks. It knows no door, no pipeline and no configuration file: what it is to
//! hold to comes as values.

mod command;
mod disk;
mod evidence;
mod fleet;
mod incident;
mod operator;
mod owned;
mod prober;
mod probers;
mod stops;
mod store;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use audit::Journal;
use host::clock::{now, wall_now};
use host::environment::Environment;
use release::Probes;
use signing_core::fleet::{Member, Rules as FleetRules, Verified};
use signing_core::gate::{Armed, Freeze, Gates, Snapshot, Thresholds};
use signing_core::journal::{Frozen, InForce, OpenIncident, SealedFor, clock_behind};
use signing_core::monitor::Probe;
use signing_core::{FreezeId, Kid, Rulebook};
use telemetry::metrics::Metrics;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot, watch};
use upstream::{Latency, Quota, Upstream};

pub use command::{IncidentChange, OtherSigners, Outcome, Presented, Sealed, SessionEnd};
pub use evidence::TrafficEvidence;
pub use owned::OfOwner;
pub use prober::calls_for_warmth;
pub use stops::{FrozenAnew, Stops};
pub use store::{Store, StoreError, Stored, Witness};

use command::Command;
use disk::Disk;
use probers::Probers;
use writer::Writer;

/// How many commands and probe results may wait for the writer.
const COMMANDS_MAX: usize = 256;

/// What the rest of the process holds of the monitor.
#[derive(Clone, Debug)]
pub struct Monitor {
    gates: Arc<ArcSwap<Snapshot>>,
    fleet: Arc<ArcSwap<Member>>,
    evidence: Arc<TrafficEvidence>,
    incident: Arc<ArcSwapOption<OpenIncident>>,
    commands: mpsc::Sender<Command>,
    stops: watch::Receiver<Stops>,
    frozen_anew: watch::Receiver<Option<FrozenAnew>>,
    /// See [`Self::shuts_within`], in milliseconds.
    shuts_within_ms: Arc<AtomicU64>,
}

/// What the monitor needs to run; consumed by [`MonitorTasks::run`] on the
/// admin runtime.
#[derive(Debug)]
pub struct MonitorTasks {
    writer: Writer,
    upstreams: Vec<Probed>,
}

/// An upstream of a signer, to be probed with a client of the monitor's own.
#[derive(Debug)]
pub struct Probed {
    /// Which signer's.
    pub kid: Kid,
    /// Its place in the signer's configuration.
    pub at: usize,
    /// The generation of the configuration for which it was made.
    pub made_in: u64,
    /// The upstream.
    pub upstream: Upstream,
    /// What canaries are counted by.
    pub quota: Arc<Quota>,
    /// What canaries measure for whoever prefers the fastest.
    pub latency: Latency,
}

/// Why the writer did not answer: it is gone, and with it every lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the monitor has stopped; gates shut as their leases end")]
pub struct MonitorGone;

impl Monitor {
    /// Prepares the monitor: gates shut, freeze and seals as the store has them.
    ///
    /// # Errors
    /// [`StoreError`] if the system gives no thread.
    pub fn new(
        mut gates: Gates,
        (store, state): (Store, Stored),
        (fleet_name, fleet_rules): (String, Option<FleetRules>),
        journal: Journal,
        upstreams: Vec<Probed>,
        (probe, slow_call): (Probe, Duration),
        (metrics, probes): (Arc<Metrics>, Probes),
    ) -> Result<(Self, MonitorTasks), StoreError> {
        if let Some(stored) = &state.in_force.freeze {
            gates.freeze(in_force(stored));
        }
        for (kid, seal) in &state.in_force.seals {
            gates.seal(kid, &seal.detail, now());
        }
        let member = Member::new(fleet_rules, state.fleet_memory());
        gates.set_fleet_stop(fleet::stop_of(&member));
        let shown_fleet = Arc::new(ArcSwap::from_pointee(member.clone()));
        gates.set_audit_stop(disk::audit_stop(&journal, state.audit_seal.as_ref()));
        let evidence = Arc::new(TrafficEvidence::new(gates.watched(), slow_call));
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let shuts_within_ms = AtomicU64::new(millis(probe.shuts_within(gates.thresholds())));
        let (change, pace) = watch::channel(probe);
        let (stopped, stops) = watch::channel(Stops::default());
        let (froze_anew, frozen_anew) = watch::channel(None);
        let published = Arc::new(ArcSwap::from_pointee(gates.snapshot()));
        let incident = Arc::new(ArcSwapOption::new(state.in_force.incident.clone().map(Arc::new)));
        let monitor = Self {
            gates: Arc::clone(&published),
            fleet: Arc::clone(&shown_fleet),
            evidence: Arc::clone(&evidence),
            incident: Arc::clone(&incident),
            commands: commands.clone(),
            stops,
            frozen_anew,
            shuts_within_ms: Arc::new(shuts_within_ms),
        };
        // Changing the pace, or only touching it, makes probers look.
        let probers = Probers::new(monitor.clone(), pace, Arc::clone(&metrics), probes);
        let saver = store.into_saver().map_err(StoreError::Thread)?;
        let writer = Writer {
            gates,
            published,
            evidence,
            inbox,
            pace: change,
            stopped,
            frozen_anew: froze_anew,
            incident,
            disk: Disk { saver, journal: journal.clone(), to_writer: commands },
            journal,
            state,
            retry_in: None,
            witness_in: 0,
            was_lost: member.is_lost(now()),
            fleet: member,
            fleet_name,
            shown_fleet,
            is_joining: false,
            metrics,
            probers,
        };
        Ok((monitor, MonitorTasks { writer, upstreams }))
    }

    /// The gates as they are now: one atomic load.
    #[must_use]
    pub fn gates(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.gates.load()
    }

    /// Where the pipeline reports what it saw.
    #[must_use]
    pub fn evidence(&self) -> &TrafficEvidence {
        &self.evidence
    }

    /// The incident that is open.
    #[must_use]
    pub fn incident(&self) -> Option<Arc<OpenIncident>> {
        self.incident.load_full()
    }

    /// Begins an incident, records what was captured for it, or ends it.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn change_incident(
        &self,
        change: IncidentChange,
        by: String,
    ) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::Incident { change, by, reply }).await
    }

    /// The stops so far: each change is one more.
    #[must_use]
    pub fn stops(&self) -> watch::Receiver<Stops> {
        self.stops.clone()
    }

    /// The newest session that a new freeze ended; None before the first. The older ones are over: the emergency signer
    /// begins no session while it has another one.
    #[must_use]
    pub fn frozen_anew(&self) -> watch::Receiver<Option<FrozenAnew>> {
        self.frozen_anew.clone()
    }

    /// Freezes, at once; the answer says whether the freeze is also on disk.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn freeze(&self, reason: String, by: String) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::Freeze { reason, by, reply }).await
    }

    /// Ends the freeze, once that is recorded and on disk.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn unfreeze(&self, reason: String, by: String) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::Unfreeze { reason, by, reply }).await
    }

    /// Obeys a freeze of the fleet, at once; the answer says whether it is also on disk.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn fleet_freeze(
        &self,
        id: FreezeId,
        freeze: Frozen,
        presented_by: String,
    ) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::FleetFreeze { id, freeze, presented_by, reply }).await
    }

    /// Ends freezes of the fleet by a statement that was verified, once that is recorded and on disk.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn fleet_end(
        &self,
        verified: Verified,
        presented: Presented,
    ) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::FleetEnd { verified, presented, reply }).await
    }

    /// The agent has read the fleet, and has presented all that it read: these freezes apply here.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn fleet_hear(&self, read: BTreeSet<FreezeId>) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::FleetHear { read, reply }).await
    }

    /// What this member knows of its fleet.
    #[must_use]
    pub fn fleet(&self) -> arc_swap::Guard<Arc<Member>> {
        self.fleet.load()
    }

    /// Unseals a signer or the journal, once that is recorded and on disk.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn unseal(
        &self,
        what: Sealed,
        reason: String,
        by: String,
    ) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::Unseal { what, reason, by, reply }).await
    }

    /// Puts a break-glass session in force that the emergency signer activated.
    ///
    /// # Errors
    /// [`MonitorGone`]; in the answer, one sentence why it is not in force.
    pub async fn arm(&self, armed: Armed) -> Result<Result<(), String>, MonitorGone> {
        self.ask(|reply| Command::Arm { armed, reply }).await
    }

    /// Ends that session; false if it was not in force.
    ///
    /// # Errors
    /// [`MonitorGone`]; its lease ends it.
    pub async fn disarm(&self, session: String, why: SessionEnd) -> Result<bool, MonitorGone> {
        self.ask(|reply| Command::Disarm { session, why, reply }).await
    }

    /// What happens to the gate of `kid` from now on is a drill, and no outage; None: none is.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn set_drill(&self, kid: Option<Kid>) -> Result<(), MonitorGone> {
        self.ask(|reply| Command::Drill { kid, reply }).await
    }

    /// Stores how far the journal has come.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn store_witness(&self) -> Result<Outcome, MonitorGone> {
        self.ask(|reply| Command::Witness { reply }).await
    }

    /// Returns when the monitor has answered: for a watchdog.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn answers(&self) -> Result<(), MonitorGone> {
        self.ask(|reply| Command::Answer { reply }).await
    }

    /// Ends all canaries, also one that is under way, so that what was asked can be recorded whole. Every lease
    /// runs out then: for a process that stops.
    ///
    /// # Errors
    /// [`MonitorGone`].
    pub async fn quiet(&self) -> Result<(), MonitorGone> {
        self.ask(|reply| Command::Quiet { reply }).await
    }

    /// Puts a rulebook, thresholds, a way of probing and other signers in force, all at once;
    /// returns the signers that are touched.
    ///
    /// # Errors
    /// [`MonitorGone`]; nothing changed then.
    pub async fn reload(
        &self,
        rulebook: Arc<Rulebook>,
        thresholds: Thresholds,
        probe: Probe,
        signers: OtherSigners,
    ) -> Result<BTreeSet<Kid>, MonitorGone> {
        let within = millis(probe.shuts_within(&thresholds));
        let command = |reply| Command::Reload { rulebook, thresholds, probe, signers, reply };
        let touched = self.ask(command).await?;
        self.shuts_within_ms.store(within, Ordering::Relaxed);
        Ok(touched)
    }

    /// How long a gate without traffic may stay open while all fails, as it is configured now.
    #[must_use]
    pub fn shuts_within(&self) -> Duration {
        Duration::from_millis(self.shuts_within_ms.load(Ordering::Relaxed))
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, MonitorGone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| MonitorGone)?;
        answer.await.map_err(|_| MonitorGone)
    }
}

impl MonitorTasks {
    /// Runs the writer and one prober per upstream on the current runtime. None of
    /// them ends by itself; when one does, by a panic, this returns, and the process has to.
    pub async fn run(self) {
        let Self { mut writer, upstreams } = self;
        writer.probers.replace(&BTreeSet::new(), upstreams);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(writer.run());
        tasks.join_next().await;
    }
}

impl Stored {
    /// With what the journal tells: a file may add to it, and take nothing away.
    #[must_use]
    pub fn with(self, journal: &InForce) -> Self {
        Self { in_force: self.in_force.and(journal.clone()), ..self }
    }

    /// With the environment's freeze, which is stored like any other, unless one is in force
    /// already: that one keeps its reason.
    #[must_use]
    pub fn frozen_by(mut self, environment: &Environment) -> Self {
        if let (None, Some((reason, variable))) = (&self.in_force.freeze, environment.freeze()) {
            let by = format!("environment variable {variable}");
            self.in_force.freeze = Some(Frozen { at: wall_now(), by, id: freeze_id(), reason });
        }
        self
    }

    /// With the journal's seal, if the clock is behind its newest record, which was written at
    /// `newest`: certificates, requests and keys that expired would be valid again.
    #[must_use]
    pub fn sealed_by_clock(mut self, newest: &str, now: OffsetDateTime) -> Self {
        let Ok(latest) = OffsetDateTime::parse(newest, &Rfc3339) else { return self };
        if let (None, Some(behind)) = (&self.audit_seal, clock_behind(now, latest)) {
            let detail = format!(
                "clock: at the start it was {behind} s behind the journal's newest record, of {newest}; \
                 set the clock, then `signctl unseal --audit --reason WHY`"
            );
            self.audit_seal = Some(SealedFor { at: now, detail });
        }
        self
    }
}

/// A name for a freeze that begins. A system that gives no randomness stops no freeze: nothing names it then.
#[must_use]
pub fn freeze_id() -> Option<FreezeId> {
    let mut random = [0; FreezeId::BYTES];
    aws_lc_rs::rand::fill(&mut random).ok().map(|()| FreezeId::new(random))
}

/// A stored freeze as one in force: its age by the calendar, laid on the
/// boot-time clock.
fn in_force(stored: &Frozen) -> Freeze {
    let age = (wall_now() - stored.at).unsigned_abs();
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Freeze {
        id: stored.id,
        reason: stored.reason.clone(),
        by: stored.by.clone(),
        at: stored.at,
        since: signing_core::Moment::from_nanos(now().as_nanos().saturating_sub(age)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
