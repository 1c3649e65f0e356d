//! Which proxy is believed (I7): one whose log goes on from what this signer knows of it, by a checkpoint of
//! the proxy's audit key and a proof. A proxy whose journal was put back to an older state is given no session,
//! until an operator accepts its log. What is known is in this signer's own journal, so that a restart forgets
//! nothing; dying before a record of it is on disk leaves what was known before, which is still a beginning
//! of the proxy's log.

use aws_lc_rs::digest;
use serde_json::json;
use signing_core::breakglass::wire::{
    AcceptedProxy, JournalHead, Reason, Refused, RefusedProxy, Show, Shown,
};
use signing_core::journal::{Acceptance, Head, PeerLog, ProxyLogRecord, Record, clip};
use signing_core::tree::LogId;

use super::{Service, record_of, refused};

/// Who records what no operator asked for.
const OURSELVES: &str = "breakglass-signer";

/// A proxy that is refused for its log.
#[derive(Clone, Debug)]
pub(super) struct RefusedLog {
    shown: PeerLog,
    known: Option<PeerLog>,
    why: String,
}

impl Service {
    /// How far the log is known to go; a proxy has to show that its own goes on from there.
    pub fn known_of(&self, log: LogId) -> Option<JournalHead> {
        let armory = self.armory.borrow();
        armory.history.proxies.of_log(log).map(|known| JournalHead::new(log, known.head))
    }

    /// Hears what a proxy shows of the log that it said it writes, and believes it or not.
    ///
    /// # Errors
    /// [`Refused`]: with `log_refused` no session begins on that connection. With `invalid` it says nothing: the
    /// proof is from another size than what is known by now.
    pub fn believe(&self, log: LogId, ask: &Show) -> Result<(), Refused> {
        let no = |why: String| refused(ask.id, Reason::LogRefused, why);
        let Shown { checkpoint, path } = ask.parse().ok_or_else(|| {
            no("what the proxy shows of its log is no checkpoint with a proof".to_owned())
        })?;
        let newest = *checkpoint.checkpoint();
        if newest.log != log {
            return Err(no(
                "the checkpoint that the proxy shows is of another log than it names".to_owned()
            ));
        }
        let signed = self.audit_keys.verify(&checkpoint).ok();
        let key = signed.and_then(|signed| self.audit_keys.get(signed.key));
        let key = key.filter(|key| key.spki_der() != self.materials.audit_public.spki_der());
        let key = key.ok_or_else(|| {
            no("the checkpoint of the proxy's log is signed by no audit key that this signer knows of a proxy; put \
                the proxy's audit public key into registry.file of breakglass-signer, with \"purpose\": \"audit\", \
                and start breakglass-signer again"
                .to_owned())
        })?;
        if self.known_of(log).map_or(0, |known| known.size) != ask.size {
            let why = "the proof is from another size than what is known by now; ask for the status, and show it again";
            return Err(refused(ask.id, Reason::Invalid, why));
        }
        let instance = hex::encode(digest::digest(&digest::SHA256, key.spki_der()));
        let shown = PeerLog { instance, log, head: Head::of(&newest) };
        let judged = self.armory.borrow().history.proxies.judge(&newest, path.as_deref());
        match judged {
            Ok(how) => {
                *self.refused_proxy.borrow_mut() = None;
                self.learn(shown, how);
                Ok(())
            }
            Err(why) => {
                let armory = self.armory.borrow();
                let known = armory.history.proxies.nearest(&shown.instance, log).cloned();
                drop(armory);
                let why = why.to_string();
                let was =
                    self.refused_proxy.replace(Some(RefusedLog { shown, known, why: why.clone() }));
                if was.is_none_or(|was| was.why != why) {
                    self.log.error("a proxy is refused for its log", json!({"error": why}));
                }
                Err(no(format!(
                    "{why}: the proxy's journal was put back to an older state, or is another one; bring its newest \
                     state and journal back, or, once it is clear how this came about: signctl breakglass \
                     accept-proxy --operator-socket PATH --reason WHY"
                )))
            }
        }
    }

    /// Knows more from now on, and notes it.
    fn learn(&self, shown: PeerLog, how: Acceptance) {
        let mut armory = self.armory.borrow_mut();
        let known = armory.history.proxies.of_log(shown.log).cloned();
        if known.as_ref() == Some(&shown) {
            return;
        }
        let known = known.filter(|known| known.head != shown.head).map(|known| known.to_text());
        let noted = self.journal.note(&record(
            &shown,
            &shown.to_text(),
            known.as_deref(),
            how,
            (OURSELVES, None),
        ));
        // In force here even so, and stored with the state.
        if let Err(error) = noted {
            self.log.error(
                "what is known of a proxy's log is not recorded",
                json!({"error": error.to_string()}),
            );
        }
        armory.history.proxies.learn(shown, how);
    }

    /// The proxy that is refused now for its log.
    pub(super) fn refused_proxy(&self) -> Option<RefusedProxy> {
        self.refused_proxy.borrow().as_ref().map(RefusedLog::message)
    }

    /// Accepts the proxy that is refused, once the record of that is on disk: its log is the one that has to go
    /// on from now on, and what was known of its instance or its log counts no more. Dying before the record
    /// is on disk leaves it refused.
    ///
    /// # Errors
    /// [`Refused`]; it stays refused.
    pub async fn accept_proxy(
        &self,
        id: u64,
        reason: &str,
        by: &str,
    ) -> Result<AcceptedProxy, Refused> {
        let Some(accepted) = self.refused_proxy.borrow().clone() else {
            let why = "no proxy is refused for its log; look at signctl breakglass status --operator-socket PATH";
            return Err(refused(id, Reason::Invalid, why));
        };
        let unrecorded = |error: audit::JournalError| {
            refused(id, Reason::AuditUnavailable, format!("it stays refused: {error}"))
        };
        let (shown, known) =
            (accepted.shown.to_text(), accepted.known.as_ref().map(PeerLog::to_text));
        let by = (by, Some(clip(reason)));
        let record = record(&accepted.shown, &shown, known.as_deref(), Acceptance::Accepted, by);
        let appending = self.journal.begin_append(&record).map_err(unrecorded)?;
        let durable = appending.durable().await.map_err(unrecorded)?;
        self.armory
            .borrow_mut()
            .history
            .proxies
            .learn(accepted.shown.clone(), Acceptance::Accepted);
        self.refused_proxy
            .borrow_mut()
            .take_if(|now| now.shown.instance == accepted.shown.instance);
        self.save();
        let message = accepted.message();
        self.log.warn(
            "an operator accepted a proxy's log",
            json!({"by": by.0, "reason": reason, "head": message.head, "known": message.known}),
        );
        Ok(AcceptedProxy { id, proxy: message, record: record_of(&durable) })
    }
}

impl RefusedLog {
    fn message(&self) -> RefusedProxy {
        RefusedProxy {
            instance: self.shown.instance.clone(),
            head: self.shown.to_text(),
            known: self.known.as_ref().map(PeerLog::to_text),
            why: self.why.clone(),
        }
    }

    /// Why no session could begin on that proxy's connection.
    pub(super) fn sentence(&self) -> String {
        format!(
            "a proxy is refused for its log: {}; signctl breakglass accept-proxy --operator-socket PATH --reason WHY, \
             once it is clear how this came about",
            self.why
        )
    }
}

fn record<'r>(
    shown: &'r PeerLog,
    head: &'r str,
    known: Option<&'r str>,
    how: Acceptance,
    (by, reason): (&'r str, Option<&'r str>),
) -> Record<'r> {
    Record::ProxyLog(ProxyLogRecord {
        by,
        how: how.word(),
        known,
        proxy_head: head,
        proxy_instance: &shown.instance,
        reason,
    })
}
