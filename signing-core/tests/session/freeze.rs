//! A session under a freeze: it signs for what it replaces, everything else stays frozen, and a new
//! freeze ends it (I1, I5).

use signing_core::Reason;
use signing_core::gate::Freeze;

use super::{FREEZE, OTHER, OTHER_FREEZE, Proxy, SIGNER};

/// Frozen, and a session in force that its approvers let sign under that freeze.
fn under_freeze() -> Proxy {
    let mut proxy = Proxy::new();
    assert!(proxy.freeze_as(Some(FREEZE)).is_none());
    proxy.arm_under("INC-1", Some(FREEZE)).unwrap();
    proxy
}

#[test]
fn i5_a_session_under_a_freeze_signs_for_what_it_replaces_and_nothing_else_is_signed() {
    let proxy = under_freeze();
    proxy.release(proxy.permit()).unwrap();
    let (now, wall) = (super::moment(proxy.now_ms), proxy.wall);
    let gates = proxy.gates.snapshot();
    assert!(gates.is_replaced(&super::kid(SIGNER), now, wall));
    assert!(!gates.is_replaced(&super::kid(OTHER), now, wall));
    // The signer's own gate is open, and frozen like every other.
    for signer in [SIGNER, OTHER] {
        assert_eq!(proxy.admit(signer).unwrap_err().reason, Reason::Frozen, "{signer}");
    }
    assert!(gates.freeze().is_some());
}

#[test]
fn i5_only_the_freeze_that_the_approvers_named_lets_a_session_begin() {
    for (in_force, named) in [
        (Some(FREEZE), None),
        (Some(FREEZE), Some(OTHER_FREEZE)),
        // A freeze without a name is named by nobody.
        (None, None),
        (None, Some(FREEZE)),
    ] {
        let mut proxy = Proxy::new();
        proxy.freeze_as(in_force);
        let why = proxy.arm_under("INC-1", named).unwrap_err();
        assert!(why.contains("unfreeze"), "{why}");
        proxy.refuses(Reason::Frozen);
    }
    // Where nothing is frozen, the name of a freeze loosens nothing and is in nobody's way.
    let mut proxy = Proxy::new();
    proxy.arm_under("INC-1", Some(FREEZE)).unwrap();
    proxy.release(proxy.permit()).unwrap();
    proxy.admit(OTHER).unwrap();
}

#[test]
fn i1_a_new_freeze_ends_a_session_that_signs_under_another_one() {
    for new in [Some(OTHER_FREEZE), None] {
        let mut proxy = under_freeze();
        let permit = proxy.permit();
        let ended = proxy.freeze_as(new).unwrap();
        assert_eq!(ended.session, "INC-1");
        proxy.withholds(permit);
        proxy.refuses(Reason::Frozen);
        assert!(proxy.gates.session().is_none());
        // It does not come back with the end of the freeze.
        proxy.gates.unfreeze().unwrap();
        proxy.refuses(Reason::BreakglassOutOfScope);
    }
    // What is over for its quota leaves nothing either.
    let mut proxy = under_freeze();
    let permit = proxy.permit();
    proxy.gates.spend(super::moment(proxy.now_ms + 2_000)).unwrap();
    assert!(proxy.freeze_as(Some(OTHER_FREEZE)).is_none());
    proxy.withholds(permit);
}

#[test]
fn i1_the_end_of_the_freeze_leaves_its_session_in_force_and_the_next_freeze_ends_it() {
    let mut proxy = under_freeze();
    proxy.gates.unfreeze().unwrap();
    proxy.release(proxy.permit()).unwrap();
    proxy.admit(OTHER).unwrap();
    assert!(proxy.freeze_as(Some(OTHER_FREEZE)).is_some());
    proxy.refuses(Reason::Frozen);
}

#[test]
fn i6_a_journal_that_records_nothing_stops_a_session_under_a_freeze_too() {
    let mut proxy = under_freeze();
    let permit = proxy.permit();
    let (detail, since) = ("full".to_owned(), super::moment(proxy.now_ms));
    proxy.gates.set_audit_stop(Some(signing_core::gate::AuditStop {
        sealed: false,
        detail,
        since,
    }));
    proxy.refuses(Reason::AuditUnavailable);
    proxy.withholds(permit);
    let (now, wall) = (super::moment(proxy.now_ms), proxy.wall);
    assert!(!proxy.gates.snapshot().is_replaced(&super::kid(SIGNER), now, wall));
}

#[test]
fn a_freeze_that_is_put_in_force_again_under_its_own_name_ends_no_session() {
    let mut proxy = under_freeze();
    let again = proxy.gates.freeze_in_force().cloned().unwrap();
    assert!(proxy.gates.freeze(Freeze { reason: "again".to_owned(), ..again }).is_none());
    proxy.release(proxy.permit()).unwrap();
}

#[test]
fn i1_what_the_fleet_stops_stops_a_session_under_a_freeze_too_and_does_not_end_it() {
    let mut proxy = under_freeze();
    let permit = proxy.permit();
    assert!(proxy.gates.set_fleet_stop(Some(fleet_stop(&proxy))));
    proxy.withholds(permit);
    proxy.refuses(Reason::Frozen);
    let (now, wall) = (super::moment(proxy.now_ms), proxy.wall);
    assert!(!proxy.gates.snapshot().is_replaced(&super::kid(SIGNER), now, wall));
    assert!(proxy.gates.set_fleet_stop(None));
    proxy.release(proxy.permit()).unwrap();
    // And none begins.
    let mut proxy = Proxy::new();
    proxy.freeze_as(Some(FREEZE));
    proxy.gates.set_fleet_stop(Some(fleet_stop(&proxy)));
    let why = proxy.arm_under("INC-1", Some(FREEZE)).unwrap_err();
    assert!(why.contains("stopped by its fleet"), "{why}");
}

/// A stop of the fleet, as the proxy gives it to the gates.
fn fleet_stop(proxy: &Proxy) -> Freeze {
    let (reason, by) = ("INC-42".to_owned(), "the fleet".to_owned());
    Freeze { id: None, reason, by, at: proxy.wall, since: super::moment(proxy.now_ms) }
}

/// Admission refuses them, so whoever asks whether they are signed for has to hear no.
#[test]
fn i4_a_signer_that_is_revoked_or_has_ended_is_not_replaced() {
    for (kid, key, is_replaced) in [
        (SIGNER, "description", true),
        (SIGNER, "revokedAt", false),
        (SIGNER, "notAfter", false),
        (OTHER, "revokedAt", true),
        (super::EMERGENCY, "revokedAt", false),
        (super::EMERGENCY, "notAfter", false),
    ] {
        let mut proxy = Proxy::armed();
        let mut entries = super::entries();
        let named = |entry: &&mut serde_json::Value| entry["signer_kid"] == kid;
        entries.iter_mut().find(named).unwrap()[key] = "2024-01-01T00:00:00Z".into();
        proxy.reload(&entries, &[]);
        let (now, wall) = (super::moment(proxy.now_ms), proxy.wall);
        let gates = proxy.gates.snapshot();
        assert!(gates.armed(now, wall).is_some());
        assert_eq!(gates.is_replaced(&super::kid(SIGNER), now, wall), is_replaced, "{kid} {key}");
    }
}
