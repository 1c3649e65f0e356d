//! The records of break-glass.

use signing_core::journal::{
    ACTOR, Activation, Approved, BreakglassEnded, Claimed, CopyDestroyed, DestructionOverdue,
    EmergencyRefusals, EmergencySigned, KeyDestroyed, ProxyLogRecord, Record, Refused,
    SessionActivated, SessionEnded, SessionRefused, SignerLogRecord, Unlock,
};

use super::FREEZE;

fn approved(principal: &'static str) -> Approved<'static> {
    Approved {
        algorithm: "sk-ssh-ed25519@openssh.com",
        counter: Some(7),
        fingerprint: "SHA256:x",
        principal,
        roles: vec!["Security"],
        touched: Some(true),
        verified: Some(false),
    }
}

const APPROVED: &str = r#"{"algorithm":"sk-ssh-ed25519@openssh.com","counter":7,"fingerprint":"SHA256:x","principal":"a","roles":["Security"],"touched":true,"verified":false}"#;

/// What each has to say, with `APPROVED` in its place.
pub(crate) fn one_of_each() -> Vec<(Record<'static>, &'static str)> {
    let (actor, by, session, incident) = (ACTOR, "uid 0", "s-1", "INC-1");
    let (justification, emergency_kid, proxy_head) = ("why", "e", "c:1:h");
    let records = vec![
        (
            Record::SessionActivated(SessionActivated {
                actor,
                approvals: vec!["armored"],
                approved: vec![approved("a")],
                approvers_sha256: "00",
                by,
                callers: vec!["spiffe://x/a"],
                claimed: vec![Claimed { seconds: 60, signer_kid: "k", since: "t" }],
                copies: vec!["safe"],
                emergency_key_sha256: "01",
                emergency_kid,
                expires_at: "t",
                incident,
                justification,
                max_signatures: 9,
                nonce: "02",
                outage_since: "t",
                proxy_freeze: Some(FREEZE),
                proxy_head,
                replaces: vec!["k"],
                request_b64: "AA==",
                request_sha256: "03",
                session,
                under_freeze: Some(FREEZE),
            }),
            r#"{"actor":"service:signing-breakglass","approvals":["armored"],"approved":[APPROVED],"approvers_sha256":"00","by":"uid 0","callers":["spiffe://x/a"],"claimed":[{"seconds":60,"signer_kid":"k","since":"t"}],"copies":["safe"],"emergency_key_sha256":"01","emergency_kid":"e","expires_at":"t","incident":"INC-1","justification":"why","max_signatures":9,"nonce":"02","outage_since":"t","proxy_freeze":"0102030405060708090a0b0c0d0e0f10","proxy_head":"c:1:h","replaces":["k"],"request_b64":"AA==","request_sha256":"03","session":"s-1","under_freeze":"0102030405060708090a0b0c0d0e0f10"}"#,
        ),
        (
            Record::SessionRefused(SessionRefused {
                actor,
                approved: vec![approved("a")],
                by,
                clause: "expired",
                detail: "late",
                emergency_kid: Some(emergency_kid),
                incident: Some(incident),
                justification: Some(justification),
                proxy_head,
                request_sha256: "03",
                session: Some(session),
            }),
            r#"{"actor":"service:signing-breakglass","approved":[APPROVED],"by":"uid 0","clause":"expired","detail":"late","emergency_kid":"e","incident":"INC-1","justification":"why","proxy_head":"c:1:h","request_sha256":"03","session":"s-1"}"#,
        ),
        (
            Record::EmergencySigned(EmergencySigned {
                actor,
                algorithm: "ECDSA_SHA_256",
                batch: None,
                caller: "spiffe://x/a",
                incident,
                input_digest: "sha256:00",
                justification: Some("mine"),
                mode: "breakglass",
                proxy_head,
                remaining: 8,
                replaces: "k",
                request_id: "r1",
                session,
                session_justification: justification,
                signature: "AA==",
                signer_kid: emergency_kid,
            }),
            r#"{"actor":"service:signing-breakglass","algorithm":"ECDSA_SHA_256","caller":"spiffe://x/a","incident":"INC-1","input_digest":"sha256:00","justification":"mine","mode":"breakglass","proxy_head":"c:1:h","remaining":8,"replaces":"k","request_id":"r1","session":"s-1","session_justification":"why","signature":"AA==","signer_kid":"e"}"#,
        ),
        (
            Record::EmergencyRefusals(EmergencyRefusals {
                actor,
                incident: Some(incident),
                justification: Some(justification),
                over_s: 10,
                refused: vec![Refused {
                    caller: "spiffe://x/a",
                    count: 2,
                    detail: "no",
                    reason: "out_of_scope",
                    request_id: "r1",
                    signer_kid: Some("k"),
                }],
                session: Some(session),
            }),
            r#"{"actor":"service:signing-breakglass","incident":"INC-1","justification":"why","over_s":10,"refused":[{"caller":"spiffe://x/a","count":2,"detail":"no","reason":"out_of_scope","request_id":"r1","signer_kid":"k"}],"session":"s-1"}"#,
        ),
        (
            Record::SessionEnded(SessionEnded {
                actor,
                by,
                destruction_due: "t",
                detail: "over",
                emergency_kid,
                incident,
                justification,
                reason: "expired",
                session,
                signatures: 1,
            }),
            r#"{"actor":"service:signing-breakglass","by":"uid 0","destruction_due":"t","detail":"over","emergency_kid":"e","incident":"INC-1","justification":"why","reason":"expired","session":"s-1","signatures":1}"#,
        ),
        (
            Record::DestructionOverdue(DestructionOverdue {
                actor,
                destruction_due: "t",
                emergency_kid,
            }),
            r#"{"actor":"service:signing-breakglass","destruction_due":"t","emergency_kid":"e"}"#,
        ),
        (
            Record::KeyDestroyed(KeyDestroyed {
                actor,
                by,
                copies: Vec::new(),
                emergency_key_sha256: "01",
                emergency_kid,
                overwritten: true,
                reason: "over",
            }),
            r#"{"actor":"service:signing-breakglass","by":"uid 0","emergency_key_sha256":"01","emergency_kid":"e","overwritten":true,"reason":"over"}"#,
        ),
        (
            Record::KeyDestroyed(KeyDestroyed {
                actor,
                by,
                copies: vec!["laptop"],
                emergency_key_sha256: "01",
                emergency_kid,
                overwritten: true,
                reason: "over",
            }),
            r#"{"actor":"service:signing-breakglass","by":"uid 0","copies":["laptop"],"emergency_key_sha256":"01","emergency_kid":"e","overwritten":true,"reason":"over"}"#,
        ),
        (
            Record::CopyDestroyed(CopyDestroyed {
                actor,
                attested_by: "alice",
                by,
                copy: "laptop",
                emergency_kid,
                reason: "over",
            }),
            r#"{"actor":"service:signing-breakglass","attested_by":"alice","by":"uid 0","copy":"laptop","emergency_kid":"e","reason":"over"}"#,
        ),
        (
            Record::Unlock(Unlock { actor, by, outcome: "used" }),
            r#"{"actor":"service:signing-breakglass","by":"uid 0","outcome":"used"}"#,
        ),
        (
            Record::Activation(Activation {
                activated: true,
                by,
                detail: "until t",
                emergency_kid: Some(emergency_kid),
                incident: Some(incident),
                reason: "activated",
                session: Some(session),
                signer_head: Some("l:2:r"),
                signer_record: Some("l:2:h"),
                signer_instance: Some("04"),
                under_freeze: Some(FREEZE),
            }),
            r#"{"activated":true,"by":"uid 0","detail":"until t","emergency_kid":"e","incident":"INC-1","reason":"activated","session":"s-1","signer_head":"l:2:r","signer_instance":"04","signer_record":"l:2:h","under_freeze":"0102030405060708090a0b0c0d0e0f10"}"#,
        ),
        (
            Record::BreakglassEnded(BreakglassEnded {
                by,
                detail: "over",
                emergency_kid,
                incident,
                reason: "expired",
                session,
                signer_head: Some("l:3:r"),
                signer_record: Some("l:3:h"),
            }),
            r#"{"by":"uid 0","detail":"over","emergency_kid":"e","incident":"INC-1","reason":"expired","session":"s-1","signer_head":"l:3:r","signer_record":"l:3:h"}"#,
        ),
        (
            Record::SignerLog(SignerLogRecord {
                by,
                how: "accepted",
                known: Some("l:2:r"),
                reason: Some("restored"),
                signer_head: "l:3:r",
                signer_instance: "04",
            }),
            r#"{"by":"uid 0","how":"accepted","known":"l:2:r","reason":"restored","signer_head":"l:3:r","signer_instance":"04"}"#,
        ),
        (
            Record::ProxyLog(ProxyLogRecord {
                by,
                how: "accepted",
                known: Some("l:2:r"),
                proxy_head: "l:3:r",
                proxy_instance: "04",
                reason: Some("restored"),
            }),
            r#"{"by":"uid 0","how":"accepted","known":"l:2:r","proxy_head":"l:3:r","proxy_instance":"04","reason":"restored"}"#,
        ),
    ];
    let whole = |data: &'static str| -> &'static str { data.replace("APPROVED", APPROVED).leak() };
    records.into_iter().map(|(record, data)| (record, whole(data))).collect()
}
