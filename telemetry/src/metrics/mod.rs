//! The metrics; their names stand in `metrics/names.rs`. Handles are made once; nothing here is read
//! back to decide anything, and no label takes a caller-chosen value.

mod activity;
mod audit;
mod breakglass;
mod doors;
mod key_ends;
mod make;
mod names;
mod resets;
mod signers;
mod tls;
mod traces;
mod workers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::{now, wall_now};
use host::process::Process;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use mtls::ServerTls;
use signing_core::evidence::Evidence;
use signing_core::gate::{Slots, Snapshot, State};
use signing_core::{Door, Kid, Moment, Reason};

use self::audit::AuditMetrics;
use self::breakglass::BreakglassMetrics;
use self::doors::DoorMetrics;
use self::make::{Make, recorder};
use self::names::*;
use self::signers::{PerReason, Signers, labels};
use crate::conditions::{self, Condition};
use crate::health::Health;
use crate::workers::Worker;
use ::audit::Journal;

pub use self::activity::Activity;
pub use self::audit::JournalObserver;
pub use self::breakglass::EmergencySigner;
pub use self::resets::{ResetReason, Resets};
pub use self::signers::Measured;
pub use self::traces::TraceSpans;

/// The stages of one request, as in `Server-Timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From the whole request to the upstream call.
    pub queue: Duration,
    /// The upstream call.
    pub upstream: Duration,
    /// Verification under the registered key.
    pub verify: Duration,
    /// The outcome's record.
    pub audit: Duration,
}

impl Stages {
    /// Each stage with its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 4] {
        [
            ("queue", self.queue),
            ("upstream", self.upstream),
            ("verify", self.verify),
            ("audit", self.audit),
        ]
    }
}

/// What became of a request to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestResult {
    /// A signature left.
    Signed,
    /// A refusal left; server errors count as `error`.
    Refused(Reason),
}

/// All metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    signers: Signers,
    /// Requests refused before a signer was known, or for one that is not configured.
    no_signer: PerReason,
    doors: DoorMetrics,
    stages: [(&'static str, Histogram); 5],
    health: Gauge,
    frozen: Gauge,
    inflight: Gauge,
    certificate_expiry: Gauge,
    /// Samples of the TLS material in force, as text.
    tls: ArcSwap<String>,
    reload_successful: Gauge,
    reload_success_at: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Failed handshakes.
    pub handshakes_failed: Counter,
    /// Connections over the limit.
    pub connections_refused: Counter,
    /// Connections that were reset.
    pub resets: Resets,
    /// The same in a form that the status shows.
    pub activity: Activity,
    /// Spans of requests.
    pub trace_spans: TraceSpans,
    slots: Slots,
    audit: AuditMetrics,
    breakglass: BreakglassMetrics,
    process: Process,
}

impl Metrics {
    /// Registers the metrics of `signers` and of the workers of their tokens.
    #[must_use]
    pub fn new(signers: Vec<Measured>, workers: &[Worker], slots: Slots) -> Self {
        let recorder = recorder();
        let handle = recorder.handle();
        let make = Make(&recorder);
        make.gauge(BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let stages = ["queue", "upstream", "verify", "audit", "total"]
            .map(|stage| (stage, make.histogram(REQUEST_DURATION, &[("stage", stage)])));
        let measured = signers.iter().map(|signer| (&signer.kid, signer.upstreams.as_slice()));
        let activity = Activity::new(measured);
        let signers = Signers::new(&make, signers, workers);
        Self {
            signers,
            no_signer: PerReason::new(),
            doors: DoorMetrics::new(&make),
            stages,
            health: make.gauge(HEALTH, &[]),
            frozen: make.gauge(FROZEN, &[]),
            inflight: make.gauge(INFLIGHT, &[]),
            certificate_expiry: make.gauge(CERTIFICATE_EXPIRY, &[]),
            tls: ArcSwap::default(),
            reload_successful: make.gauge(RELOAD_SUCCESSFUL, &[]),
            reload_success_at: make.gauge(RELOAD_SUCCESS_AT, &[]),
            connections: make.gauge(CONNECTIONS, &[]),
            handshakes_failed: make.counter(HANDSHAKES_FAILED, &[]),
            connections_refused: make.counter(CONNECTIONS_REFUSED, &[]),
            resets: Resets::new(&make),
            trace_spans: TraceSpans::new(&make),
            activity,
            slots,
            audit: AuditMetrics::new(&make),
            breakglass: BreakglassMetrics::new(&make),
            process: Process::started(),
            handle,
            recorder,
        }
    }

    /// The text that Prometheus reads. Gauges that follow the clock are set now.
    #[must_use]
    pub fn render(
        &self,
        gates: &Snapshot,
        conditions: &[Condition],
        journal: &Journal,
        emergency: Option<EmergencySigner<'_>>,
    ) -> String {
        self.gates(gates, conditions);
        self.breakglass.signer(&Make(&self.recorder), emergency, gates.armed(now(), wall_now()));
        self.audit.space(journal, now());
        self.signers.show_workers();
        #[expect(clippy::cast_precision_loss, reason = "a count of slots is far below 2^52")]
        self.inflight.set(self.slots.taken() as f64);
        let mut text = self.signers.without_retired(self.handle.render());
        text.push_str(&key_ends::samples(gates));
        text.push_str(&self.tls.load());
        text.push_str(&self.process.metrics());
        text
    }

    /// Measures `new` signers instead of those that are `gone`, and the workers of all tokens. Series of what is gone are
    /// not shown any more; of a signer that comes back they go on from where they were.
    pub fn replace(&self, gone: &BTreeSet<Kid>, new: Vec<Measured>, workers: &[Worker]) {
        let measured = new.iter().map(|signer| (&signer.kid, signer.upstreams.as_slice()));
        self.activity.replace(gone, measured);
        self.signers.replace(&Make(&self.recorder), gone, new, workers);
    }

    /// Folds samples, so that memory stays flat while nobody scrapes. Call it
    /// every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Shows whether a session is in force, and for which key requests count from here on.
    pub fn session(&self, gates: &Snapshot) {
        self.breakglass.session(&Make(&self.recorder), gates, now(), wall_now());
    }

    /// Shows the gates and the proxy's own side as they are at this moment.
    fn gates(&self, gates: &Snapshot, conditions: &[Condition]) {
        let now: Moment = now();
        let health = Health::of(gates, conditions, now, wall_now());
        for condition in conditions {
            let labels = [("component", condition.component.word())];
            let gauge = Make(&self.recorder).gauge(COMPONENT_OK, &labels);
            gauge.set(one_if(condition.level == conditions::Level::Ok));
        }
        // A session does not make it healthy.
        self.health.set(one_if(health.own));
        self.breakglass.session(&Make(&self.recorder), gates, now, wall_now());
        self.frozen.set(one_if(gates.freeze().is_some()));
        let sealed = gates.audit_stop().is_some_and(|stop| stop.sealed);
        self.audit.sealed.set(one_if(sealed));
        for signer in &health.signers {
            let Some(metrics) = self.signers.get(signer.kid) else { continue };
            metrics.health.set(one_if(signer.refusal.is_none()));
            metrics.outage.set(signer.outage.as_secs_f64());
            for (extent, gauge) in &metrics.extents {
                gauge.set(one_if(*extent == signer.extent));
            }
            for (metrics, upstream) in metrics.upstreams.iter().zip(&signer.upstreams) {
                metrics.health.set(one_if(upstream.ok));
                metrics.show_quota(&Make(&self.recorder), signer.kid, now);
            }
            for (word, gauge) in &metrics.states {
                gauge.set(one_if(*word == signer.state));
            }
        }
    }

    /// Counts a gate's transition.
    pub fn transition(&self, kid: &Kid, from: &State, to: &State) {
        let labels = [("signer_kid", kid.as_str()), ("from", from.word()), ("to", to.word())];
        Make(&self.recorder).counter(GATE_TRANSITIONS, &labels).increment(1);
    }

    /// Counts one call to a signer's upstream and what it said.
    pub fn observed_call(&self, kid: &Kid, upstream: usize, evidence: &Evidence, took: Duration) {
        if !evidence.is_about_the_upstream() {
            // No call was made.
            return;
        }
        self.activity.called(kid, upstream, evidence);
        let signer = self.signers.get(kid);
        let Some(upstream) = signer.as_deref().and_then(|signer| signer.upstreams.get(upstream))
        else {
            return;
        };
        let [provider, region] = labels(&upstream.place);
        let make = Make(&self.recorder);
        let latency =
            |outcome| make.histogram(KMS_LATENCY, &[provider, region, ("outcome", outcome)]);
        let kind = match evidence {
            Evidence::Signed => {
                upstream.call_signed.get_or_init(|| latency("signed")).record(took);
                return;
            }
            Evidence::Failed { fault, .. } => fault.word(),
            Evidence::Doubt { .. } => "bad_signature",
        };
        latency("failed").record(took);
        let signer = ("signer_kid", kid.as_str());
        make.counter(KMS_ERRORS, &[signer, provider, region, ("kind", kind)]).increment(1);
    }

    /// Counts one request to sign that came through `door`. `kid` is a registered signer's or none.
    pub fn request(&self, door: Door, kid: Option<&Kid>, result: RequestResult) {
        self.doors.request(door, result_word(result));
        match result {
            RequestResult::Signed => self.activity.signed(),
            RequestResult::Refused(reason) => self.activity.refused(reason),
        }
        let signer = kid.and_then(|kid| self.signers.get(kid));
        match (result, signer.as_deref()) {
            (RequestResult::Signed, Some(signer)) => signer.signed.increment(1),
            // With an emergency key, or not at all: the types of the pipeline say so.
            (RequestResult::Signed, None) => {
                if let Some(kid) = kid {
                    self.breakglass.signed(kid);
                }
            }
            (RequestResult::Refused(reason), None)
                if kid.is_some_and(|kid| {
                    self.breakglass.refused(&Make(&self.recorder), kid, reason)
                }) => {}
            (RequestResult::Refused(reason), signer) => {
                let (counters, kid) = match signer {
                    Some(signer) => (&signer.refused, signer.kid.as_str()),
                    None => (&self.no_signer, ""),
                };
                counters.count(reason, || {
                    Make(&self.recorder).counter(REQUESTS, &request_labels(Some(reason), kid))
                });
            }
        }
    }

    /// Records where a signed request spent its time.
    pub fn stages(&self, stages: &Stages, total: Duration) {
        let durations = stages.named().map(|(_, duration)| duration).into_iter().chain([total]);
        for ((_, histogram), duration) in self.stages.iter().zip(durations) {
            histogram.record(duration);
        }
    }

    /// Shows a configuration in force: when it was read, in seconds since 1970, and when its
    /// certificates and lists expire.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    pub fn loaded(&self, at: i64, tls: &ServerTls) {
        self.tls(tls);
        self.reload_successful.set(1.0);
        self.reload_success_at.set(at as f64);
    }

    /// Shows when the certificates and lists in force expire.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    pub fn tls(&self, tls: &ServerTls) {
        self.certificate_expiry.set(tls.certificate().ends.unix_timestamp() as f64);
        self.tls.store(Arc::new(tls::samples(tls)));
    }

    /// Shows that a reload was refused.
    pub fn reload_refused(&self) {
        self.reload_successful.set(0.0);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// `signed`, `refused` or `error`.
fn result_word(result: RequestResult) -> &'static str {
    match result {
        RequestResult::Signed => "signed",
        RequestResult::Refused(
            Reason::Internal | Reason::Indeterminate | Reason::SignatureRejected,
        ) => "error",
        RequestResult::Refused(_) => "refused",
    }
}

fn request_labels(reason: Option<Reason>, kid: &str) -> [(&'static str, &str); 4] {
    let result = result_word(reason.map_or(RequestResult::Signed, RequestResult::Refused));
    let word = reason.map_or("", Reason::word);
    [("result", result), ("reason", word), ("signer_kid", kid), ("mode", "normal")]
}

fn one_if(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}
