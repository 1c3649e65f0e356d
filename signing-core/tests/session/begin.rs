//! Whether a session may begin, as the proxy judges it before it asks the signer: one row for each
//! condition, at the moment where it begins or ends to hold.

use std::time::Duration;

use signing_core::breakglass::wire::Reason;
use signing_core::breakglass::{Clause, Draft, ProxyReason, Request, is_out, may_begin};
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{AuditStop, Freeze};
use time::format_description::well_known::Rfc3339;

use super::request::draft;
use super::{CALLER, EMERGENCY, FREEZE, OTHER, OTHER_FREEZE, Proxy, SIGNER, entries, kid, moment};

const MIN_OUTAGE: Duration = Duration::from_secs(600);

impl Proxy {
    /// The signer fails until its gate is shut; its outage runs from now on.
    fn goes_out(&mut self, name: &str, fault: Fault) {
        for _ in 0..3 {
            self.now_ms += 1;
            let at = moment(self.now_ms);
            let evidence = Evidence::Failed { fault, detail: "it hangs".to_owned() };
            let source = Source::Canary;
            let seen = Observation { upstream: 0, source, started: at, at, count: 1, evidence };
            self.gates.observe(&kid(name), &seen);
        }
    }

    fn begins(&self, request: &Request) -> Result<(), (ProxyReason, String)> {
        let (gates, now) = (self.gates.snapshot(), moment(self.now_ms));
        let begun = may_begin(&gates, request, MIN_OUTAGE, now, self.wall);
        let begun = begun.map(|signer| assert_eq!(signer.kid.as_str(), EMERGENCY));
        begun.map_err(|no| (no.reason, no.detail))
    }
}

/// A proxy whose signer was out for long enough, and a request about it.
fn ready() -> (Proxy, Draft) {
    let mut proxy = Proxy::new();
    proxy.goes_out(SIGNER, Fault::Unavailable);
    proxy.pass(600_000);
    let registered = proxy.gates.rulebook().registry().get(EMERGENCY).unwrap();
    let sha256 = registered.public_key.sha256_hex();
    let draft = draft(sha256, (SIGNER, CALLER), proxy.wall, 600);
    (proxy, draft)
}

fn request(draft: &Draft) -> Request {
    Request::parse(&draft.to_bytes().unwrap()).unwrap()
}

type Change = fn(&mut Proxy, &mut Draft);

#[test]
fn i5_a_session_begins_only_if_every_condition_holds() {
    let (proxy, draft) = ready();
    assert_eq!(proxy.begins(&request(&draft)), Ok(()));
    let rows: [(ProxyReason, &str, Change); 16] = [
        (ProxyReason::Frozen, "signctl unfreeze", |proxy, _| proxy.freeze()),
        (ProxyReason::Frozen, "stopped by its fleet", |proxy, draft| {
            proxy.freeze_as(Some(FREEZE));
            draft.under_freeze = Some(FREEZE.to_string());
            let (reason, by) = ("INC-42".to_owned(), "the fleet".to_owned());
            let since = moment(proxy.now_ms);
            let stop = Freeze { id: None, reason, by, at: proxy.wall, since };
            proxy.gates.set_fleet_stop(Some(stop));
        }),
        (ProxyReason::Frozen, "--under-freeze 01010101010101010101010101010101", |proxy, _| {
            proxy.freeze_as(Some(FREEZE));
        }),
        (
            ProxyReason::Frozen,
            "names another freeze, 02020202020202020202020202020202",
            |proxy, draft| {
                proxy.freeze_as(Some(FREEZE));
                draft.under_freeze = Some(OTHER_FREEZE.to_string());
            },
        ),
        (ProxyReason::Frozen, "names another freeze", |proxy, draft| {
            proxy.freeze();
            draft.under_freeze = Some(FREEZE.to_string());
        }),
        (Reason::AuditUnavailable.into(), "journal", |proxy, _| {
            let (detail, since) = ("the disk is gone".to_owned(), moment(proxy.now_ms));
            proxy.gates.set_audit_stop(Some(AuditStop { sealed: true, detail, since }));
        }),
        (Clause::SessionInForce.into(), "s-1", |proxy, _| proxy.arm("s-1").unwrap()),
        (Clause::NotYetValid.into(), "in 2 s", |_, draft| {
            let begins = time::OffsetDateTime::parse(&draft.not_before, &Rfc3339).unwrap();
            let later = begins + time::Duration::milliseconds(1_500);
            draft.not_before = later.format(&Rfc3339).unwrap();
        }),
        (ProxyReason::SignerUnknown, "nobody", |_, draft| {
            draft.replaces.push("nobody".to_owned());
        }),
        (Clause::OutageTooShort.into(), "is in no outage that counts", |_, draft| {
            draft.replaces.push(OTHER.to_owned());
        }),
        (Clause::OutageTooShort.into(), "is in no outage that counts", |proxy, draft| {
            proxy.goes_out(OTHER, Fault::KeyUnavailable);
            proxy.pass(3_600_000);
            draft.replaces = vec![OTHER.to_owned()];
        }),
        (Clause::OutageTooShort.into(), "out for 599 s", |proxy, draft| {
            proxy.goes_out(OTHER, Fault::Unavailable);
            proxy.pass(599_999);
            draft.replaces = vec![OTHER.to_owned()];
        }),
        (Clause::KeyNotRegistered.into(), "signctl signers add", |proxy, _| {
            proxy.reload(entries().get(..2).unwrap(), &[]);
        }),
        (Clause::KeyNotRegistered.into(), "signctl signers add", |_, draft| {
            draft.emergency_kid = "another".to_owned();
        }),
        (Clause::KeyNotUsable.into(), "revoked", |proxy, _| {
            let mut entries = entries();
            entries.last_mut().unwrap()["revokedAt"] = "2001-01-01T00:00:00Z".into();
            proxy.reload(&entries, &[]);
        }),
        (Clause::KeyMismatch.into(), "another public key", |_, draft| {
            draft.emergency_key_sha256 = "a".repeat(64);
        }),
    ];
    for (reason, says, change) in rows {
        let (mut proxy, mut draft) = ready();
        change(&mut proxy, &mut draft);
        let (found, detail) = proxy.begins(&request(&draft)).unwrap_err();
        assert_eq!(found, reason, "{detail}");
        assert!(detail.contains(says), "{detail}");
    }
}

#[test]
fn i5_a_session_begins_under_the_freeze_that_its_request_names_and_without_any() {
    let (mut proxy, mut draft) = ready();
    draft.under_freeze = Some(FREEZE.to_string());
    assert_eq!(proxy.begins(&request(&draft)), Ok(()));
    proxy.freeze_as(Some(FREEZE));
    assert_eq!(proxy.begins(&request(&draft)), Ok(()));
}

#[test]
fn an_outage_is_long_enough_at_its_minimum_and_not_a_moment_before() {
    let mut proxy = Proxy::new();
    proxy.goes_out(SIGNER, Fault::Unavailable);
    let is_long = |proxy: &Proxy| {
        is_out(&proxy.gates.snapshot(), &kid(SIGNER), MIN_OUTAGE, moment(proxy.now_ms)).is_ok()
    };
    let mut passed = 0;
    while !is_long(&proxy) {
        proxy.pass(1);
        passed += 1;
        assert!(passed <= 600_002, "it never is");
    }
    assert!(passed >= 599_998, "after {passed} ms");
}
