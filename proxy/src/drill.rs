//! A drill: the upstreams of one signer are made to fail inside the proxy, to see that it
//! refuses, how fast, that nothing slips, and how it recovers.
//!
//! It asks nobody to sign: canaries and callers' own requests meet the fault. Its time never
//! counts as an outage (I11). It ends by itself: after its time, when nobody waits for its
//! report any more, when the proxy stops, and with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::Journal;
use host::clock::now;
use monitor::Monitor;
use signing_core::admin;
use signing_core::breakglass::{APPROVALS_MAX, Clause, Refused};
use signing_core::gate::{Extent, State};
use signing_core::journal::{self, Record};
use signing_core::{Kid, Moment, Reason, Refusal};
use tokio::sync::{Mutex, oneshot, watch};
use upstream::{FaultSwitch, Served};

use crate::handles::Handles;

/// The whole of it, recovery included: less than an admin connection lives.
const WHOLE_MAX: Duration = Duration::from_secs(55);
/// How long the fault lasts, unless asked otherwise, and at most.
const FAULT_DEFAULT_S: u64 = 10;
const FAULT_MAX_S: u64 = 40;
/// How closely the gate is watched.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How much later than it shuts a gate is seen to be shut, on a busy machine too.
const SEEN_WITHIN: Duration = Duration::from_millis(400);
/// How long its first record may take.
const RECORD_MAX: Duration = Duration::from_secs(5);
/// Longest text of a rehearsal, in bytes.
const SAID_MAX_BYTES: usize = 512;

/// What can be drilled, and whether something is.
#[derive(Debug)]
pub struct Drills {
    monitor: Monitor,
    /// Each signer's switch, and whether all its keys are of the development provider.
    signers: ArcSwap<BTreeMap<Kid, (FaultSwitch, bool)>>,
    journal: Journal,
    /// Becomes true when the proxy stops.
    draining: watch::Receiver<bool>,
    /// Held by the drill that is under way.
    under_way: Arc<Mutex<()>>,
}

/// What a drill came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    slipped: u64,
    time_to_refuse: Option<Duration>,
    time_to_recover: Option<Duration>,
}

/// Why a drill did not begin.
#[derive(Debug)]
pub enum NotDrilled {
    /// What was asked cannot be done here, or not now.
    Refused(Refusal),
    /// A break-glass session is in force, and that has a word of its own.
    InSession(Refused),
}

impl From<Refusal> for NotDrilled {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Refused> for NotDrilled {
    fn from(refused: Refused) -> Self {
        Self::InSession(refused)
    }
}

impl Drills {
    /// What can be drilled: what callers are served with.
    #[must_use]
    pub fn new(handles: &Handles, served: &BTreeMap<Kid, Served>) -> Self {
        let signers = ArcSwap::from_pointee(switches(served).collect());
        Self {
            monitor: handles.monitor.clone(),
            signers,
            journal: handles.journal.clone(),
            draining: handles.draining.clone(),
            under_way: Arc::default(),
        }
    }

    /// What can be drilled from now on. A drill of a signer that is `gone` ends in its time, and says that the
    /// signer did not recover.
    pub fn replace(&self, gone: &BTreeSet<Kid>, new: &BTreeMap<Kid, Served>) {
        let mut signers = BTreeMap::clone(&self.signers.load());
        signers.retain(|kid, _| !gone.contains(kid));
        signers.extend(switches(new));
        self.signers.store(Arc::new(signers));
    }

    /// Runs one, for `by`, and reports.
    ///
    /// # Errors
    /// Why it did not begin: nothing happened then.
    pub async fn run(
        self: Arc<Self>,
        asked: admin::Drill,
        by: String,
    ) -> Result<admin::DrillReport, NotDrilled> {
        let admin::Drill { signer_kid, seconds, i_understand: understood, .. } = asked;
        let kid = self.which(signer_kid.as_deref())?;
        let seconds = seconds.unwrap_or(FAULT_DEFAULT_S);
        if !(1..=FAULT_MAX_S).contains(&seconds) {
            let detail = format!("\"seconds\" must be 1 to {FAULT_MAX_S}");
            return Err(Refusal::new(Reason::InvalidRequest, detail).into());
        }
        let signers = self.signers.load_full();
        let is_development = signers.get(&kid).is_some_and(|(_, development)| *development);
        if !is_development && !understood {
            let detail = "its provider is a real one: callers are refused while the drill lasts; \
                          if that is meant, say so with --i-understand";
            return Err(Refusal::new(Reason::InvalidRequest, detail).about(&kid).into());
        }
        let Ok(under_way) = Arc::clone(&self.under_way).try_lock_owned() else {
            return Err(Refusal::new(Reason::Overloaded, "another drill is under way").into());
        };
        // Frozen, sealed, shut: that is no time for a drill.
        let gates = self.monitor.gates().clone();
        gates.check(&kid, now())?;
        if let Some(armed) = gates.session_in_force() {
            let session = &armed.session;
            let detail = format!(
                "the break-glass session {session} is in force, and no drill runs beside it; drill once it has ended"
            );
            return Err(Refused::new(Clause::SessionInForce, detail).into());
        }
        self.is_long_enough(seconds).map_err(|refusal| refusal.about(&kid))?;
        self.begin(&kid, &by).await?;
        // Whoever waits for the report holds this; the drill notices when nobody does.
        let (waits, nobody_waits) = oneshot::channel::<()>();
        let drill = tokio::spawn(async move {
            let _under_way = under_way;
            let report = self.drill(&kid, Duration::from_secs(seconds), nobody_waits).await;
            self.end(&kid, &by, report);
            report.message(&kid)
        });
        let report = drill.await;
        drop(waits);
        Ok(report.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?)
    }

    /// A shorter one would say of a healthy gate that it never refused.
    fn is_long_enough(&self, seconds: u64) -> Result<(), Refusal> {
        let within = self.monitor.shuts_within();
        let needed = (within + SEEN_WITHIN).as_millis().div_ceil(1_000);
        if u128::from(seconds) >= needed {
            return Ok(());
        }
        let why = format!(
            "without traffic this configuration takes up to {} ms to shut a gate ([gate] \
             probe_interval_ms, recovery_probe_interval_ms, failures_to_shut, lease_ms), so a drill \
             of {seconds} s would show nothing",
            within.as_millis()
        );
        let then = if needed <= u128::from(FAULT_MAX_S) {
            format!("take --seconds {needed}")
        } else {
            format!("a drill lasts {FAULT_MAX_S} s at most: have canaries come more often first")
        };
        Err(Refusal::new(Reason::InvalidRequest, format!("{why}; {then}")))
    }

    fn which(&self, named: Option<&str>) -> Result<Kid, Refusal> {
        let signers = self.signers.load();
        let mut kids = signers.keys();
        let found = match (named, kids.next(), kids.next()) {
            (Some(named), _, _) => signers.keys().find(|kid| kid.as_str() == named),
            (None, Some(only), None) => Some(only),
            (None, _, _) => {
                let kids: Vec<_> = signers.keys().map(Kid::as_str).collect();
                let detail =
                    format!("there are several signers: name one: --signer {}", kids.join(" | "));
                return Err(Refusal::new(Reason::InvalidRequest, detail));
            }
        };
        let unknown = || Refusal::new(Reason::SignerUnknown, "no signer of that kid is configured");
        found.cloned().ok_or_else(unknown)
    }

    async fn drill(
        &self,
        kid: &Kid,
        lasts: Duration,
        nobody_waits: oneshot::Receiver<()>,
    ) -> Report {
        let ends_early = ends_early(nobody_waits, self.draining.clone());
        tokio::pin!(ends_early);
        let mut report = Report::default();
        let signers = self.signers.load_full();
        let Some((switch, _)) = signers.get(kid) else { return report };
        if self.monitor.set_drill(Some(kid.clone())).await.is_err() {
            return report;
        }
        let began = now();
        if let Some(fault) = switch.switch_on(now) {
            let lasting = async {
                if self.until(kid, false, began.after(lasts)).await {
                    let refused = now();
                    fault.refused(refused);
                    report.time_to_refuse = Some(refused.since(began));
                }
                // The rest of the time shows that nothing slips, and that it stays so.
                tokio::time::sleep(lasts.saturating_sub(now().since(began))).await;
            };
            tokio::select! {
                () = lasting => {}
                () = &mut ends_early => tracing::warn!(target: "admin", "the drill ends early"),
            }
            report.slipped = fault.slipped();
        }
        let ended = now();
        let stops = *self.draining.borrow();
        if !stops && self.until(kid, true, began.after(WHOLE_MAX)).await {
            report.time_to_recover = report.time_to_refuse.map(|_| now().since(ended));
        }
        // Only now: until it has recovered its gate is shut by the drill.
        let _ = self.monitor.set_drill(None).await;
        report
    }

    /// Waits until the gate is open, or until it is not; false if that took too long.
    async fn until(&self, kid: &Kid, open: bool, deadline: Moment) -> bool {
        loop {
            let is_open = self.monitor.gates().gate(kid).is_some_and(|gate| {
                matches!(gate.state, State::Open { .. }) && gate.extent(now()) != Extent::Full
            });
            if is_open == open || now() >= deadline {
                return is_open == open;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Records that a break-glass ceremony is rehearsed, for `by`. Nothing else comes of it: no gate hears of it.
    ///
    /// # Errors
    /// If it is too long, or cannot be recorded.
    pub async fn rehearsed(&self, asked: &admin::Rehearsal, by: &str) -> Result<(), Refusal> {
        let admin::Rehearsal { ok, detail, approved_by } = asked;
        let is_odd = |text: &str| text.len() > SAID_MAX_BYTES || text.contains(char::is_control);
        if approved_by.len() > APPROVALS_MAX
            || is_odd(detail)
            || approved_by.iter().any(|who| is_odd(who))
        {
            let why = format!(
                "\"detail\" and each of \"approved_by\", at most {APPROVALS_MAX}, are one line of at most {SAID_MAX_BYTES} bytes"
            );
            return Err(Refusal::new(Reason::InvalidRequest, why));
        }
        let record = Record::Rehearsal(journal::Rehearsal {
            approved_by: approved_by.iter().map(String::as_str).collect(),
            by,
            detail,
            ok: *ok,
            phase: if ok.is_some() { "end" } else { "begin" },
        });
        self.recorded(&record).await.map_err(|why| Refusal::new(Reason::AuditUnavailable, why))?;
        tracing::warn!(target: "admin", detail, ok, by, "a rehearsal of break-glass");
        Ok(())
    }

    /// Waits until it is on disk.
    async fn recorded(&self, record: &Record<'_>) -> Result<(), String> {
        let appending = self.journal.begin_append(record).map_err(|error| error.to_string())?;
        match tokio::time::timeout(RECORD_MAX, appending.durable()).await {
            Ok(durable) => durable.map(|_| ()).map_err(|error| error.to_string()),
            Err(_) => Err("the disk did not answer".to_owned()),
        }
    }

    /// Has its begin recorded first: what fails from now on has its explanation.
    async fn begin(&self, kid: &Kid, by: &str) -> Result<(), Refusal> {
        let record = Record::Drill(journal::Drill {
            by,
            phase: "begin",
            signer_kid: kid.as_str(),
            slipped: None,
            time_to_recover_ms: None,
            time_to_refuse_ms: None,
        });
        let refused = |why: String| Refusal::new(Reason::AuditUnavailable, why).about(kid);
        self.recorded(&record).await.map_err(refused)?;
        tracing::warn!(target: "admin", signer_kid = %kid, by, "a drill begins");
        Ok(())
    }

    fn end(&self, kid: &Kid, by: &str, report: Report) {
        let slipped = report.slipped;
        let time_to_recover_ms = report.time_to_recover.map(millis);
        let time_to_refuse_ms = report.time_to_refuse.map(millis);
        let record = Record::Drill(journal::Drill {
            by,
            phase: "end",
            signer_kid: kid.as_str(),
            slipped: Some(slipped),
            time_to_recover_ms,
            time_to_refuse_ms,
        });
        // The report is told in any case; a journal that does not take it stops all signing.
        let _ = self.journal.note(&record);
        tracing::warn!(
            target: "admin", signer_kid = %kid, by, slipped, time_to_refuse_ms, time_to_recover_ms,
            "the drill ended"
        );
    }
}

/// Each signer's switch, and whether all its keys are of the development provider.
fn switches(served: &BTreeMap<Kid, Served>) -> impl Iterator<Item = (Kid, (FaultSwitch, bool))> {
    served.iter().map(|(kid, served)| {
        let is_development =
            served.iter().all(|one| one.upstream.place().provider == "development");
        (kid.clone(), (served.switch.clone(), is_development))
    })
}

impl Report {
    fn message(self, kid: &Kid) -> admin::DrillReport {
        let passed =
            self.slipped == 0 && self.time_to_refuse.is_some() && self.time_to_recover.is_some();
        admin::DrillReport {
            ok: passed,
            signer_kid: kid.to_string(),
            slipped: self.slipped,
            time_to_refuse_ms: self.time_to_refuse.map(millis),
            time_to_recover_ms: self.time_to_recover.map(millis),
        }
    }
}

/// Resolves when nobody waits for the report any more, or the proxy stops.
async fn ends_early(nobody_waits: oneshot::Receiver<()>, mut draining: watch::Receiver<bool>) {
    tokio::select! {
        _ = nobody_waits => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
