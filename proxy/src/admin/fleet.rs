//! The fleet on the admin socket: an agent presents freezes, statements, and that it has read the fleet.
//! It can stop. What ends a freeze is a person's signature, which is verified here.

use std::collections::BTreeSet;

use approvers::{Approvers, sshsig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use host::clock::{now, rfc3339_seconds, wall_now};
use http::{Request, Response, StatusCode};
use monitor::{Outcome, Presented};
use server::{Answer, json_answer};
use signing_core::admin::{
    FleetEnded, FleetFreeze, FleetHeartbeat, FleetMember, FleetStatement, Frozen, HeldFreeze,
};
use signing_core::breakglass::activation::ApprovalRules;
use signing_core::fleet::{self, FreezeId, NAMESPACE, OnLoss, Statement, Verified};
use signing_core::journal;
use signing_core::{Reason, Refusal};

use super::peer::Peer;
use super::{Admin, answer, gone, one_line, read, settled, still_frozen};

/// The fleet that this proxy is a member of.
#[derive(Debug)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// Whose signatures end freezes.
    pub approvers: Approvers,
    /// In which role, with which keys.
    pub rules: ApprovalRules,
}

pub(super) async fn freeze(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let FleetFreeze { id, reason, by } = read(request)?;
    let invalid = |why: &str| Refusal::new(Reason::InvalidRequest, why);
    let id = FreezeId::parse(&id).map_err(|error| invalid(&format!("id: {error}")))?;
    let (reason, by) = (one_line(&reason)?, one_line(&by)?);
    let frozen = journal::Frozen { at: wall_now(), by, id: None, reason };
    let presented_by = peer.name_soon().await;
    let (outcome, cut) =
        settled(admin, admin.monitor.fleet_freeze(id, frozen, presented_by)).await?;
    let (frozen, id) = still_frozen(admin);
    answer(outcome, |note| Frozen { frozen, id, connections_cut: Some(cut), note })
}

pub(super) async fn statement(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let FleetStatement { statement_b64, signature_b64 } = read(request)?;
    let decoded = |key: &str, text: &str| {
        let why = format!("{key} is no base64");
        STANDARD.decode(text).map_err(|_| Refusal::new(Reason::InvalidRequest, why))
    };
    let bytes = decoded("statement_b64", &statement_b64)?;
    let armored = decoded("signature_b64", &signature_b64)?;
    let verified = match verified(admin, &bytes, &armored) {
        Ok(verified) => verified,
        Err(why) => {
            let (frozen, _) = still_frozen(admin);
            let body =
                FleetEnded { frozen, note: Some(format!("the statement does not count: {why}")) };
            return Ok(json_answer(StatusCode::CONFLICT, &body));
        }
    };
    let presented = Presented {
        by: peer.name().await,
        statement_b64: STANDARD.encode(&bytes),
        signature: String::from_utf8(armored).unwrap_or_default(),
    };
    let outcome = admin.monitor.fleet_end(verified, presented).await.map_err(gone)?;
    let (frozen, _) = still_frozen(admin);
    answer(outcome, |note| FleetEnded { frozen, note })
}

/// Judges a statement: nothing of how it came here is believed.
fn verified(admin: &Admin, bytes: &[u8], armored: &[u8]) -> Result<Verified, String> {
    let Some(Fleet { name, approvers, rules }) = &admin.fleet else {
        return Err(
            "this proxy is of no fleet, so nobody's signature counts here; add [fleet] to its \
                    configuration and restart it"
                .to_owned(),
        );
    };
    let (statement, now) = (Statement::parse(bytes), wall_now());
    let signed = sshsig::verify(armored, bytes, NAMESPACE, approvers, now);
    let gates = admin.monitor.gates();
    let verified = fleet::judge(&fleet::Evidence {
        statement: statement.as_ref(),
        signed: signed.as_ref().map_err(String::as_str),
        approvers_unchanged: approvers.unchanged(),
        rules,
        fleet: name,
        registry: gates.rulebook().registry(),
        now,
    });
    verified.map_err(|no| no.sentence)
}

pub(super) async fn heartbeat(
    admin: &Admin,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let FleetHeartbeat { read: ids } = read(request)?;
    let read: Result<BTreeSet<_>, _> = ids.iter().map(|id| FreezeId::parse(id)).collect();
    let read =
        read.map_err(|error| Refusal::new(Reason::InvalidRequest, format!("read: {error}")))?;
    match admin.monitor.fleet_hear(read).await.map_err(gone)? {
        Outcome::Done => {}
        Outcome::Nothing(why) | Outcome::NotStored(why) | Outcome::Failed(why) => {
            return Err(Refusal::new(Reason::Internal, format!("not heard: {why}")));
        }
    }
    Ok(json_answer(StatusCode::OK, &member(admin)))
}

/// How this member is in its fleet.
pub(super) fn member(admin: &Admin) -> FleetMember {
    let member = admin.monitor.fleet();
    let (memory, now) = (member.memory(), now());
    let held = memory.held.iter().map(|(id, journal::Frozen { at, by, reason, .. })| HeldFreeze {
        id: id.to_string(),
        reason: reason.clone(),
        by: by.clone(),
        since: rfc3339_seconds(*at),
    });
    FleetMember {
        fleet: admin.fleet.as_ref().map(|fleet| fleet.name.clone()),
        joined: memory.has_read,
        lost: member.is_lost(now),
        heard_s_ago: member.silent_for(now).map(|silent| silent.as_secs()),
        on_loss: member.rules().map(|rules| match rules.on_loss {
            OnLoss::Keep => "keep".to_owned(),
            OnLoss::Freeze => "freeze".to_owned(),
        }),
        held: held.collect(),
        ended: memory.ended.iter().map(FreezeId::to_string).collect(),
    }
}

/// The same for the status; none: there is nothing to say.
pub(super) fn in_status(admin: &Admin) -> Option<FleetMember> {
    let member = member(admin);
    (member.fleet.is_some() || !member.held.is_empty()).then_some(member)
}
