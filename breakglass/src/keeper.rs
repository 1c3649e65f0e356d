//! The session's keeper: within its time, and over as soon as the emergency signer, its
//! connection or a signature says so.

use std::sync::Arc;
use std::time::Duration;

use host::clock::{now, wall_now};
use monitor::{FrozenAnew, SessionEnd};
use signing_core::Kid;
use signing_core::breakglass::{End, ProxyEnd};
use tokio::sync::mpsc;

use super::Breakglass;
use crate::emergency::{AskError, Notice};

/// How often the session's time is looked at; requests look by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the signer is asked how it is.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// How often the nodes of the tree are written.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// How often it may not say how it is before it counts as gone.
const SILENCES_MAX: u32 = 4;

/// Keeps a session within its time, hears what the signer says unasked, and ends it here.
pub async fn keep(breakglass: Arc<Breakglass>, mut notices: mpsc::Receiver<Notice>) {
    // A signer that does not answer keeps nobody from hearing what happened to the session.
    tokio::select! {
        () = watch(&breakglass) => {}
        () = hear(&breakglass, &mut notices) => {}
        () = keep_tree(&breakglass) => {}
    }
}

async fn hear(breakglass: &Breakglass, notices: &mut mpsc::Receiver<Notice>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut told_of_recovery = false;
    // Each is heard, also an end from before this task began.
    let mut frozen_anew = breakglass.monitor.frozen_anew();
    let mut to_end = None;
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => breakglass.heard(notice).await,
                // The client is gone with its runtime; sessions are over by their lease.
                None => return,
            },
            Ok(()) = frozen_anew.changed() => {
                to_end = frozen_anew.borrow_and_update().clone();
                to_end = breakglass.end_there(to_end);
            }
            _ = look.tick() => {
                to_end = breakglass.end_there(to_end);
                told_of_recovery = breakglass.check_session(told_of_recovery).await;
            }
        }
    }
}

/// Asks the signer how it is: metrics show it, and a session that it does not have is none.
async fn watch(breakglass: &Breakglass) {
    let mut refresh = tokio::time::interval(REFRESH_EVERY);
    let mut silences = 0;
    loop {
        refresh.tick().await;
        // Before it is asked: one that begins meanwhile is none of its answer.
        let in_force = breakglass.monitor.gates().session_in_force().map(Arc::clone);
        let why = match (breakglass.emergency.refresh().await, &in_force) {
            (Ok(known), Some(armed)) if !known.has(&armed.session) => {
                silences = 0;
                Some("the emergency signer has no such session any more")
            }
            (Err(AskError::TooSlow), _) => {
                silences += 1;
                (silences >= SILENCES_MAX).then_some("the emergency signer does not answer")
            }
            (Err(AskError::Nonsense), _) => Some("the emergency signer answers nonsense"),
            // What a lost connection means is heard.
            (Ok(_) | Err(_), _) => {
                silences = 0;
                None
            }
        };
        if let (Some(why), Some(armed)) = (why, in_force) {
            let end = breakglass.session_end(ProxyEnd::SignerGone, why, "this proxy");
            breakglass.end_here(armed.session.clone(), end).await;
        }
    }
}

/// Keeps what shows the signer that this proxy's log goes on. While its disk does not answer nothing is
/// shown, and so no new connection is believed.
async fn keep_tree(breakglass: &Breakglass) {
    let Some(heads) = breakglass.emergency.heads() else { return std::future::pending().await };
    let mut every = tokio::time::interval(KEPT_EVERY);
    let mut said = String::new();
    loop {
        every.tick().await;
        let heads = heads.clone();
        let kept = tokio::task::spawn_blocking(move || heads.keep()).await;
        let why = match kept {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if why != said && !why.is_empty() {
            tracing::error!(target: "breakglass", why, "state.dir: the nodes of the journal's tree cannot be kept");
        }
        said = why;
    }
}

impl Breakglass {
    async fn heard(&self, notice: Notice) {
        match notice {
            Notice::Ended(ended) => {
                let mut end = self.session_end(ended.reason, &ended.detail, "the emergency signer");
                end.signer_record = ended.record.map(|record| record.to_text());
                let _ = self.monitor.disarm(ended.session, end).await;
            }
            Notice::Lost { detail } => {
                let in_force = self.monitor.gates().session_in_force().map(Arc::clone);
                let Some(armed) = in_force else { return };
                let detail = format!("the connection to the emergency signer is gone: {detail}");
                let end = self.session_end(ProxyEnd::SignerGone, &detail, "this proxy");
                self.end_here(armed.session.clone(), end).await;
            }
        }
    }

    /// Ends a session here first, and has the signer end it too, should it still have it.
    async fn end_here(&self, session: String, end: SessionEnd) {
        let why = end.detail.clone();
        let own = match end.reason {
            ProxyEnd::KeyUnavailable => End::KeyUnavailable,
            ProxyEnd::SignerGone
            | ProxyEnd::SignatureRejected
            | ProxyEnd::Frozen
            | ProxyEnd::Signer(_) => End::Proxy,
        };
        // `Ok(false)`: the session was over, and whoever ended it told the signer. If the monitor is gone, nobody did.
        if self.monitor.disarm(session, end).await != Ok(false) {
            self.emergency.ends(own, &why);
        }
    }

    /// A new freeze ended that session here; the signer is told of it, so that its key is wiped. It is told once it is
    /// known to have the session, whatever became of the freeze: what it said last may be from before, and then the
    /// session is returned. Should the signer not hear it, its own expiry ends it.
    fn end_there(&self, to_end: Option<FrozenAnew>) -> Option<FrozenAnew> {
        let FrozenAnew { session, why } = to_end.as_ref()?;
        if !self.emergency.known().is_some_and(|known| known.has(session)) {
            return to_end;
        }
        self.emergency.ends(End::Proxy, why);
        None
    }

    /// Ends a session whose time is over; says once that the upstream is back.
    async fn check_session(&self, told_of_recovery: bool) -> bool {
        let gates = self.monitor.gates();
        let Some(armed) = gates.session_in_force().map(Arc::clone) else { return false };
        let (now, wall) = (now(), wall_now());
        if !armed.lasts(now, wall) {
            drop(gates);
            let end = SessionEnd::by_this_proxy(End::Expired, End::Expired.sentence());
            let _ = self.monitor.disarm(armed.session.clone(), end).await;
            return false;
        }
        if let Err(refusal) = gates.check_key(&armed.signer, wall) {
            drop(gates);
            let end = self.session_end(ProxyEnd::KeyUnavailable, &refusal.detail, "this proxy");
            self.end_here(armed.session.clone(), end).await;
            return false;
        }
        let is_open = |kid: &Kid| gates.gate(kid).is_some_and(|gate| gate.state.is_open(now));
        let recovered: Vec<_> = armed.replaces.iter().filter(|kid| is_open(kid)).collect();
        let is_any_open = !recovered.is_empty();
        if is_any_open && !told_of_recovery {
            let session = &armed.session;
            let kids: Vec<_> = recovered.iter().map(|kid| kid.as_str()).collect();
            let recovered = kids.join(", ");
            tracing::warn!(
                target: "breakglass", session, recovered,
                "the upstream is back while a session is in force; end it: signctl breakglass end"
            );
        }
        is_any_open
    }
}
