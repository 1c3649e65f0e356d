//! The session's keeper: within its time, and over as soon as the emergency signer, its
//! connection or a signature says so.

use std::sync::Arc;
use std::time::Duration;

use signing_core::Kid;
use tokio::sync::mpsc;

use super::Breakglass;
use crate::emergency::Notice;
use crate::time::{now, wall_now};

/// How often the session's time is looked at; requests look by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the signer is asked how it is.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Keeps a session within its time, hears what the signer says unasked, and ends it here.
pub async fn keep(breakglass: Arc<Breakglass>, mut notices: mpsc::Receiver<Notice>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut refresh = tokio::time::interval(REFRESH_EVERY);
    let mut told_of_recovery = false;
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => breakglass.heard(notice).await,
                // The client is gone with its runtime; sessions are over by their lease.
                None => return,
            },
            _ = look.tick() => told_of_recovery = breakglass.look(told_of_recovery).await,
            _ = refresh.tick() => {
                // What it knows of keys that are to be destroyed is shown by metrics.
                let _ = breakglass.emergency.refresh().await;
            }
        }
    }
}

impl Breakglass {
    async fn heard(&self, notice: Notice) {
        let in_force = self.monitor.gates().session_in_force().map(Arc::clone);
        let (session, over) = match notice {
            Notice::Ended(ended) => {
                let head = ended.record.map(|record| record.to_text());
                let mut over = self.over(&ended.reason, &ended.detail, "the emergency signer");
                over.signer_head = head.or(over.signer_head);
                (ended.session, over)
            }
            Notice::Doubt { session, detail } => {
                let detail = format!("an emergency signature did not verify: {detail}");
                (session, self.over("signature_rejected", &detail, "this proxy"))
            }
            Notice::Lost { detail } => {
                let Some(armed) = in_force else { return };
                let detail = format!("the connection to the emergency signer is gone: {detail}");
                (armed.session.clone(), self.over("signer_gone", &detail, "this proxy"))
            }
        };
        let is_doubt = over.reason == "signature_rejected";
        let ended = self.monitor.disarm(session, over).await;
        if is_doubt && ended == Ok(true) {
            let reason = "a signature did not verify under the registered key";
            let _ = self.tell_signer_to_end(reason, "this proxy").await;
        }
    }

    /// Ends a session whose time is over; says once that the upstream is back.
    async fn look(&self, told_of_recovery: bool) -> bool {
        let gates = self.monitor.gates();
        let Some(armed) = gates.session_in_force().map(Arc::clone) else { return false };
        let (now, wall) = (now(), wall_now());
        if !armed.lasts(now, wall) {
            drop(gates);
            let over = self.over("expired", "its time is over", "this proxy");
            let _ = self.monitor.disarm(armed.session.clone(), over).await;
            return false;
        }
        let is_open = |kid: &Kid| gates.gate(kid).is_some_and(|gate| gate.state.is_open(now));
        let recovered: Vec<_> = armed.replaces.iter().filter(|kid| is_open(kid)).collect();
        if !recovered.is_empty() && !told_of_recovery {
            let session = &armed.session;
            tracing::warn!(
                target: "breakglass", session, ?recovered,
                "the upstream is back while a session is in force; end it: signctl breakglass end"
            );
        }
        !recovered.is_empty()
    }
}
