//! An activation, in the order of I5: everything is verified, the key opened and tested, the
//! nonce used up on disk by the record of the activation, and then the session is in force.
//! Until that record a refusal uses up nothing but the passphrase that was brought.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use approvers::sshsig;
use audit::{Durable, JournalError};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{now, rfc3339_seconds, wall_now};
use serde_json::json;
use signing_core::Kid;
use signing_core::breakglass::activation::{self, Approval, Evidence};
use signing_core::breakglass::wire::{
    Activate, Activated, JournalRecord, OutageClaim, Reason, Refused,
};
use signing_core::breakglass::{
    APPROVALS_MAX, Activation, Clause, NAMESPACE, NotActivated, REQUEST_MAX_BYTES, Request,
    RequestError, Session,
};
use signing_core::journal::{ACTOR, Approved, Claimed, Record, SessionActivated, SessionRefused};
use signing_core::tree::LogId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_local};
use zeroize::Zeroizing;

use super::{Active, Service, one_line, record_of, refused};
use crate::connection::Outgoing;
use crate::key::{EmergencyKey, Unproven};
use crate::keyfile::{self, KeyFileError};
use crate::materials::{Held, Materials};

/// Activations in a row, and how often one more may be asked for: each is recorded.
const BURST: u32 = 20;
const EVERY_S: u64 = 6;
/// Longest name of who asked.
const BY_MAX_BYTES: usize = 256;
/// Outages that a proxy may claim.
const CLAIMS_MAX: usize = 64;

/// What was asked, decoded.
struct Asked {
    request: Result<Request, RequestError>,
    bytes: Vec<u8>,
    approvals: Vec<Result<Approval, String>>,
    armored: Vec<String>,
    by: String,
    ask: Activate,
}

impl Service {
    /// Activates a session for the connection `owner`, or says which clause does not hold.
    ///
    /// # Errors
    /// [`Refused`]; it is recorded.
    pub async fn activate(
        self: &Rc<Self>,
        (owner, believed): (u64, Option<LogId>),
        out: &mpsc::Sender<Outgoing>,
        ask: Activate,
    ) -> Result<Activated, Refused> {
        let id = ask.id;
        let Some(proxy_log) = believed else {
            let why = "the proxy has not shown on this connection that its log goes on from the one that this signer knows";
            return Err(refused(id, Reason::LogRefused, why));
        };
        if ask.proxy_head.parse().is_none_or(|(log, _)| log != proxy_log) {
            return Err(refused(
                id,
                Reason::Invalid,
                "proxy_head is no head of the log that the proxy showed",
            ));
        }
        let is_claim = |claim: &OutageClaim| {
            Kid::parse(&claim.signer_kid).is_ok()
                && OffsetDateTime::parse(&claim.since, &Rfc3339).is_ok()
        };
        if ask.outages.len() > CLAIMS_MAX || !ask.outages.iter().all(is_claim) {
            let why =
                format!("outages are at most {CLAIMS_MAX}, each with a kid and an RFC 3339 time");
            return Err(refused(id, Reason::Invalid, why));
        }
        if !self.armory.borrow_mut().asked.take(now(), BURST, EVERY_S) {
            let why = format!("too many activations were asked for; one may be every {EVERY_S} s");
            return Err(refused(id, Reason::Overloaded, why));
        }
        self.served.borrow_mut().insert(owner);
        // One after the other: of two at once the first wins, and both are recorded. Whoever goes before its turn
        // leaves nothing behind.
        let turn = Arc::clone(&self.activating).lock_owned().await;
        let (service, out) = (Rc::clone(self), out.clone());
        // What began is finished, though its connection goes while a disk hangs.
        let activating = spawn_local(async move {
            let asked = service.decode(ask);
            let activated = service.begin((owner, proxy_log), &out, &asked).await;
            if !service.served.borrow().contains(&owner) {
                service.gone(owner).await;
            }
            let answer = match activated {
                Ok(activated) => Ok(activated),
                Err(no) => Err(service.no(&asked, no).await),
            };
            drop(turn);
            answer
        });
        let failed =
            |error: JoinError| Err(refused(id, Reason::AuditUnavailable, error.to_string()));
        activating.await.unwrap_or_else(failed)
    }

    fn decode(&self, ask: Activate) -> Asked {
        let too_long = ask.request_b64.len() > REQUEST_MAX_BYTES * 2;
        let bytes = if too_long { None } else { STANDARD.decode(&ask.request_b64).ok() };
        let request = match &bytes {
            Some(bytes) => Request::parse(bytes),
            None => Err(RequestError {
                mistakes: vec![
                    "request_b64 is not the base64 of a request, or too long".to_owned(),
                ],
            }),
        };
        let bytes = bytes.unwrap_or_default();
        let decoded: Vec<_> = ask
            .approvals_b64
            .iter()
            .map(|text| STANDARD.decode(text).unwrap_or_default())
            .collect();
        let approvals = decoded.iter().take(APPROVALS_MAX).map(|armored| {
            sshsig::verify(armored, &bytes, NAMESPACE, &self.materials.approvers, wall_now())
        });
        let mut approvals: Vec<_> = approvals.collect();
        if decoded.len() > APPROVALS_MAX {
            approvals.push(Err(format!("there are more than {APPROVALS_MAX} approvals")));
        }
        let armored = decoded.into_iter().map(|text| String::from_utf8(text).unwrap_or_default());
        let by = one_line(&ask.by, BY_MAX_BYTES);
        Asked { request, bytes, approvals, armored: armored.collect(), by, ask }
    }

    async fn begin(
        self: &Rc<Self>,
        (owner, proxy_log): (u64, LogId),
        out: &mpsc::Sender<Outgoing>,
        asked: &Asked,
    ) -> Result<Activated, NotActivated> {
        let approvers_unchanged = self.approvers_unchanged().await;
        let activation = self.decide(asked, approvers_unchanged)?;
        let key = self.open(activation.request()).await?;
        // From here on the nonce is used up, also if this process dies right behind it.
        let durable = self.record(asked, &activation).await.map_err(|error| {
            let why = format!("the activation cannot be recorded, so no session begins: {error}");
            NotActivated::new(Clause::NotRecorded, why)
        })?;
        let approved_by = activation.approvals().iter().map(Approval::who).collect();
        let (now, wall) = (now(), wall_now());
        let caps = &self.materials.config.caps;
        let session = Session::begin(activation, caps, now, wall);
        let state = {
            let mut armory = self.armory.borrow_mut();
            armory.history.nonces.insert(session.request().nonce());
            let kid = session.request().emergency_kid().as_str();
            armory.history.name_copies(kid, self.configured_copies(kid).iter().cloned());
            if let Some((log, head)) = asked.ask.proxy_head.parse() {
                armory.history.proxies.advance(log, head);
            }
            let active = Active {
                max_signatures: session.remaining(),
                session,
                key,
                owner,
                out: out.clone(),
                proxy_log,
                signatures: 0,
                activated_at: rfc3339_seconds(wall),
                approved_by,
                record: record_of(&durable),
            };
            let state = active.state(now);
            armory.active = Some(active);
            state
        };
        self.save();
        self.log.warn(
            "a break-glass session is in force",
            json!({"session": state.session, "incident": state.incident, "expires_at": state.expires_at,
                   "emergency_kid": state.emergency_kid, "by": asked.by}),
        );
        Ok(Activated { id: asked.ask.id, session: state })
    }

    fn decide(&self, asked: &Asked, approvers_unchanged: bool) -> Result<Activation, NotActivated> {
        let Materials { config, registry, keys, .. } = &self.materials;
        let armory = self.armory.borrow();
        let seal = self.seal.borrow();
        let held: BTreeSet<String> = keys.keys().map(ToString::to_string).collect();
        activation::decide(&Evidence {
            request: asked.request.as_ref(),
            approvals: &asked.approvals,
            approvers_unchanged,
            rules: &config.rules,
            audience: &config.deployment,
            instance: &self.instance,
            registry,
            held: &held,
            destroyed: &armory.history.destroyed,
            nonces_used: &armory.history.nonces,
            remembers_since: self.since,
            latest: self.latest.get(),
            sealed: seal.as_ref().map(|seal| seal.detail.as_str()),
            claims: &asked.ask.outages,
            freeze: asked.ask.freeze,
            min_outage: config.min_outage,
            caps: &config.caps,
            active: armory.active.as_ref().map(|active| active.session.id()),
            now: wall_now(),
        })
    }

    /// Opens the key with the passphrase that waits, which is used up.
    async fn open(&self, request: &Request) -> Result<EmergencyKey, NotActivated> {
        let kid = request.emergency_kid();
        let taken = self.armory.borrow_mut().unlock.take(now());
        let Some((passphrase, by)) = taken else {
            let why = "no passphrase waits to open the emergency key; bring it, on this machine: \
                       signctl breakglass unlock; then activate again within five minutes";
            return Err(NotActivated::new(Clause::Locked, why));
        };
        let opened = self.opened(kid, passphrase).await;
        let outcome = if opened.is_ok() { "used" } else { "failed" };
        self.note_unlock(&by, outcome);
        opened.map_err(|no| {
            let sentence =
                format!("{}; bring a passphrase again: signctl breakglass unlock", no.sentence);
            self.log.warn("an emergency key does not open", json!({"emergency_kid": kid.as_str()}));
            NotActivated::new(no.clause, sentence)
        })
    }

    /// Opens the key, and has it prove that it is the registered one, on another thread: that takes as
    /// long as the key's file says. The passphrase is wiped after it.
    pub(super) async fn opened(
        &self,
        kid: &Kid,
        passphrase: Zeroizing<Vec<u8>>,
    ) -> Result<EmergencyKey, NotActivated> {
        let held = self.materials.keys.get(kid).cloned();
        let held = held.ok_or_else(|| failed(format!("there is no file for {kid}")))?;
        let opening = self.opener.run(move || opened(&held, &passphrase));
        opening.await.map_err(|busy| failed(format!("{kid} is not opened: {busy}")))?
    }

    async fn record(
        &self,
        asked: &Asked,
        activation: &Activation,
    ) -> Result<Durable, JournalError> {
        let request = activation.request();
        let (expires_at, outage_since) =
            (rfc3339_seconds(request.expires_at()), rfc3339_seconds(request.outage_since()));
        let (nonce, session) = (request.nonce(), request.session());
        let (proxy_head, request_b64) =
            (asked.ask.proxy_head.to_text(), STANDARD.encode(&asked.bytes));
        let in_scope = |claim: &&OutageClaim| {
            request.replaces().iter().any(|kid| kid.as_str() == claim.signer_kid)
        };
        let claimed = asked.ask.outages.iter().filter(in_scope).map(|claim| Claimed {
            seconds: claim.seconds,
            signer_kid: &claim.signer_kid,
            since: &claim.since,
        });
        let record = Record::SessionActivated(SessionActivated {
            actor: ACTOR,
            approvals: asked.armored.iter().map(String::as_str).collect(),
            approved: activation.approvals().iter().map(Approved::from).collect(),
            approvers_sha256: self.materials.approvers.sha256(),
            by: &asked.by,
            callers: request.callers().iter().map(signing_core::Caller::as_str).collect(),
            claimed: claimed.take(request.replaces().len()).collect(),
            copies: self
                .configured_copies(request.emergency_kid().as_str())
                .iter()
                .map(String::as_str)
                .collect(),
            emergency_key_sha256: request.emergency_key_sha256(),
            emergency_kid: request.emergency_kid().as_str(),
            expires_at: &expires_at,
            incident: request.incident(),
            justification: request.justification(),
            max_signatures: request.max_signatures(),
            nonce: &nonce,
            outage_since: &outage_since,
            proxy_freeze: asked.ask.freeze,
            proxy_head: &proxy_head,
            replaces: request.replaces().iter().map(Kid::as_str).collect(),
            request_b64: &request_b64,
            request_sha256: request.sha256(),
            session: &session,
            under_freeze: request.under_freeze(),
        });
        self.journal.begin_append(&record)?.durable().await
    }

    /// Records a refusal, and says it.
    async fn no(&self, asked: &Asked, no: NotActivated) -> Refused {
        let request = asked.request.as_ref().ok();
        let session = request.map(Request::session);
        let sha256 = hex::encode(digest::digest(&digest::SHA256, &asked.bytes));
        let proxy_head = asked.ask.proxy_head.to_text();
        let detail = one_line(&no.sentence, 4096);
        let record = Record::SessionRefused(SessionRefused {
            actor: ACTOR,
            approved: asked.approvals.iter().flatten().map(Approved::from).collect(),
            by: &asked.by,
            clause: no.clause.word(),
            detail: &detail,
            emergency_kid: request.map(|request| request.emergency_kid().as_str()),
            incident: request.map(Request::incident),
            justification: request.map(Request::justification),
            proxy_head: &proxy_head,
            request_sha256: &sha256,
            session: session.as_deref(),
        });
        self.log.warn(
            "a break-glass session is refused",
            json!({"clause": no.clause.word(), "detail": detail}),
        );
        let recorded: Option<JournalRecord> = match self.journal.begin_append(&record) {
            Ok(appending) => appending.durable().await.ok().map(|durable| record_of(&durable)),
            // Refused all the same; that it is not recorded is in the log.
            Err(error) => {
                self.log.error("a refusal is not recorded", json!({"error": error.to_string()}));
                None
            }
        };
        let reason = Reason::Activation(no.clause);
        Refused { record: recorded, ..refused(asked.ask.id, reason, detail) }
    }
}

fn opened(held: &Held, passphrase: &[u8]) -> Result<EmergencyKey, NotActivated> {
    let sealed = keyfile::load(&held.file).map_err(|error| failed(error.to_string()))?;
    let der = sealed.open(passphrase).map_err(|error| match error {
        KeyFileError::Passphrase(_) => {
            NotActivated::new(Clause::PassphraseWrong, error.to_string())
        }
        other => failed(other.to_string()),
    })?;
    let unproven = Unproven::from_der(&der);
    drop(der);
    let proven = unproven.and_then(|key| key.prove(&held.signer));
    proven.map_err(|error| failed(format!("the key in {}: {error}", held.file.display())))
}

fn failed(why: String) -> NotActivated {
    NotActivated::new(Clause::SelfTestFailed, why)
}
