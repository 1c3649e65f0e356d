//! Messages of the admin socket: a word is written as it is said, what is written is read again, and no list
//! passes for an object.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use serde::Serialize;
use serde_json::{Value, json};
use signing_core::admin::breakglass::{Activated, Breakglass, NotDone, UndoneCommand};
use signing_core::admin::doctor::{Check, Report, State};
use signing_core::admin::{Health, Level, Problem, ProxyStatus, Readiness, Status};
use signing_core::breakglass::wire::{KeyState, Reason};
use signing_core::breakglass::{Clause, End, ProxyReason};
use signing_core::gate::Extent;
use signing_core::{Mode, json};

#[track_caller]
fn is_word(written: impl Serialize, word: &str) {
    assert_eq!(serde_json::to_value(written).unwrap(), json!(word));
}

#[test]
fn a_word_is_written_as_it_is_said() {
    for check in Check::ALL {
        is_word(check, check.word());
    }
    for state in [State::Ok, State::Failed, State::Warning, State::NotApplicable, State::Skipped] {
        is_word(state, state.word());
    }
    for level in [Level::Ok, Level::Degraded, Level::Failed] {
        is_word(level, level.word());
    }
    for state in [
        KeyState::Sealed,
        KeyState::Open,
        KeyState::Revoked,
        KeyState::Destroyed,
        KeyState::Missing,
    ] {
        is_word(state, state.word());
    }
    for mode in [Mode::Normal, Mode::Breakglass] {
        is_word(mode, mode.word());
    }
    for extent in [Extent::None, Extent::Partial, Extent::Full] {
        is_word(extent, extent.word());
    }
    for end in End::ALL {
        is_word(end, end.word());
    }
    let own = [
        ProxyReason::Frozen,
        ProxyReason::SignerUnknown,
        ProxyReason::SignerUnavailable,
        ProxyReason::NotInForce,
        ProxyReason::NotEnded,
        ProxyReason::NothingRefused,
        Reason::NoSession.into(),
    ];
    let clauses = Clause::ALL.iter().map(|clause| ProxyReason::from(*clause));
    for reason in own.into_iter().chain(clauses) {
        is_word(reason, reason.word());
    }
}

/// A status in which every object is there.
fn status() -> Value {
    let condition =
        json!({"component": "log", "state": "degraded", "since": "T", "detail": "stderr is full"});
    json!({
        "ok": true, "mode": "breakglass", "frozen": true, "outage": "partial",
        "signers": [{
            "signer_kid": "k", "state": "shut", "upstream_ok": false, "outage": "full", "for_s": 1,
            "upstreams": [{"upstream": "aws-kms", "region": "r", "ok": false, "state": "shut", "for_s": 1}],
            "replaced": true, "outage_s": 9, "outage_counts": true, "reason": "upstream_unhealthy",
        }],
        "conditions": [condition],
        "breakglass": {"emergency_kid": "e", "expires_at": "T", "session": "s", "incident": "i",
                       "replaces": ["k"], "expires_in_s": 7, "upstreams_back": []},
        "freeze": {"reason": "why", "by": "uid 0", "since": "T"},
        "deployment": "d", "version": "0", "config_generation": 1, "uptime_s": 2, "min_outage_s": 3,
        "requests_in_flight": 0, "connections": 0,
        "activity": {
            "signed": 4, "refused": [{"reason": "frozen", "count": 2}],
            "upstreams": [{"signer_kid": "k", "upstream": "aws-kms", "region": "r", "signed": 4, "failed": 3,
                           "throttled": 1, "quota_left_percent": 83}],
        },
        "audit": {"log": "l", "size": 1, "root": "00", "directory": "/j", "queued": 0, "set_aside_bytes": 0,
                  "older_segments": {"checked": 1, "of": 1, "waits": null}, "sealed": false},
        "workers": [{"signer_kid": "k", "region": "t", "up": true, "restarts": 0, "hangs_killed": 0}],
        "emergency_signer_connected": true,
        "emergency_keys": [{"kid": "e", "state": "open"}],
    })
}

fn read(body: &Value) -> Result<Status, String> {
    let bytes = serde_json::to_vec(body).unwrap();
    let health: Health = json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let proxy: ProxyStatus = json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(Status { health, proxy })
}

/// The document with one of its objects written as a list of its values, for each of them.
fn positional(document: &Value) -> Vec<Value> {
    let inner: Vec<(Value, Vec<Value>)> = match document {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (json!(key), positional(value))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, item)| (json!(at), positional(item))).collect()
        }
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (at, changed) in inner {
        found.extend(changed.into_iter().map(|changed| {
            let mut outer = document.clone();
            match (&mut outer, at.as_u64()) {
                (Value::Array(items), Some(at)) => items[usize::try_from(at).unwrap()] = changed,
                (outer, _) => outer[at.as_str().unwrap()] = changed,
            }
            outer
        }));
    }
    found.extend(document.as_object().map(|members| members.values().cloned().collect()));
    found
}

#[test]
fn a_status_is_read_as_it_is_written_and_no_list_passes_for_an_object_in_it() {
    let body = status();
    assert_eq!(serde_json::to_value(read(&body).unwrap()).unwrap(), body);
    let wrong = positional(&body);
    assert_eq!(wrong.len(), 13);
    for wrong in wrong {
        let why = read(&wrong).unwrap_err();
        assert!(why.contains("a list in the place of an object"), "{why}: {wrong}");
    }
}

#[test]
fn a_status_of_a_proxy_that_counts_nothing_yet_is_read() {
    let mut body = status();
    body.as_object_mut().unwrap().remove("activity");
    body["audit"].as_object_mut().unwrap().remove("queued");
    let Status { proxy, .. } = read(&body).unwrap();
    assert_eq!((proxy.activity.signed, proxy.audit.queued), (0, 0));
}

#[test]
fn a_health_that_lacks_a_name_is_none_and_no_readiness() {
    for key in ["ok", "mode", "frozen", "outage", "signers", "conditions"] {
        let mut body = status();
        body.as_object_mut().unwrap().remove(key);
        assert!(read(&body).unwrap_err().contains(key));
        let bytes = serde_json::to_vec(&body).unwrap();
        assert!(json::from_slice::<Readiness>(&bytes).is_err(), "{key}");
    }
    assert!(json::from_str::<Readiness>(r#"{"ok": true}"#).unwrap().ok);
}

#[test]
fn what_is_not_carried_out_says_so_by_its_name() {
    let refused = |what, reason| NotDone { what, reason, detail: "why".to_owned() };
    for (what, reason, written) in [
        (
            UndoneCommand::Activated(false),
            Clause::Locked.into(),
            json!({"activated": false, "reason": "locked"}),
        ),
        (
            UndoneCommand::Ended(false),
            Reason::NoSession.into(),
            json!({"ended": false, "reason": "no_session"}),
        ),
        (
            UndoneCommand::Destroyed(false),
            ProxyReason::Frozen,
            json!({"destroyed": false, "reason": "frozen"}),
        ),
    ] {
        let mut written = written;
        written["detail"] = json!("why");
        let body = serde_json::to_value(refused(what, reason)).unwrap();
        assert_eq!(body, written);
        let problem: Problem = json::from_slice(&serde_json::to_vec(&body).unwrap()).unwrap();
        assert_eq!((problem.kind, problem.detail.as_str()), (None, "why"));
    }
}

#[test]
fn a_list_in_the_place_of_an_answer_is_none() {
    assert!(json::from_str::<Report>("[true, [], [], []]").is_err());
    assert!(json::from_str::<Breakglass>("[true, \"d\"]").is_err());
    assert!(json::from_str::<Activated>("[true, {}]").is_err());
    assert!(json::from_str::<Problem>("[null, \"frozen\", \"why\"]").is_err());
}
