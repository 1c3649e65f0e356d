//! Whatever happens in whatever order: nothing leaves that a model without epochs would withhold.

use std::time::Duration;

use proptest::prelude::*;
use signing_core::FreezeId;
use signing_core::gate::{EmergencyPermit, Permit};
use time::OffsetDateTime;

use super::{CALLER, FREEZE, LEASE_MS, OTHER_FREEZE, Proxy, SIGNER, entries, moment};

/// What may happen between an admission and a release.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Arm,
    ArmUnder(FreezeId),
    Disarm,
    Spend,
    Freeze(Option<FreezeId>),
    Unfreeze,
    Revoke,
    Restore,
    Pass(u64),
    SetBack(u64),
    Admit,
    AdmitNormal,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => Just(Happens::Arm),
        3 => named().prop_map(Happens::ArmUnder),
        2 => Just(Happens::Disarm),
        1 => Just(Happens::Spend),
        2 => prop::option::weighted(0.9, named()).prop_map(Happens::Freeze),
        2 => Just(Happens::Unfreeze),
        1 => Just(Happens::Revoke),
        1 => Just(Happens::Restore),
        3 => (0..LEASE_MS).prop_map(Happens::Pass),
        1 => (0..LEASE_MS).prop_map(Happens::SetBack),
        6 => Just(Happens::Admit),
        3 => Just(Happens::AdmitNormal),
    ]
}

/// One of two freezes, so that a session is now under the one in force, now under another.
fn named() -> impl Strategy<Value = FreezeId> {
    prop_oneof![Just(FREEZE), Just(OTHER_FREEZE)]
}

/// What a model without epochs knows of a permit: which session, and what happened when.
struct Held<P> {
    permit: P,
    /// How many things had happened that withhold it.
    stops: usize,
    until_ms: u64,
    until_wall: OffsetDateTime,
}

/// Whether a session whose approvers named that freeze signs while this is in force.
fn lets(frozen: Option<Option<FreezeId>>, named: Option<FreezeId>) -> bool {
    match frozen {
        None => true,
        Some(in_force) => named.is_some() && in_force == named,
    }
}

proptest! {
    #[test]
    fn i1_nothing_leaves_that_a_model_without_epochs_would_withhold(
        steps in prop::collection::vec(happens(), 1..60)
    ) {
        let mut proxy = Proxy::new();
        let (mut stops, mut ends) = (0, (0, proxy.wall));
        // The freeze in force, if any, and its name, if any; and what the session's approvers named.
        let mut frozen: Option<Option<FreezeId>> = None;
        let mut under: Option<FreezeId> = None;
        let mut revoked = false;
        let mut spent_until = None;
        let mut emergency: Vec<Held<EmergencyPermit>> = Vec::new();
        let mut normal: Vec<Held<Permit>> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Happens::Arm | Happens::ArmUnder(_) => {
                    let named = match *step {
                        Happens::ArmUnder(id) => Some(id),
                        _ => None,
                    };
                    if !revoked && proxy.arm_under(&format!("INC-{number}"), named).is_ok() {
                        prop_assert!(lets(frozen, named));
                        under = named;
                        stops += 1;
                        spent_until = None;
                        ends = (
                            proxy.now_ms + LEASE_MS,
                            proxy.wall + Duration::from_millis(LEASE_MS),
                        );
                    }
                }
                Happens::Disarm => stops += usize::from(proxy.gates.disarm().is_some()),
                Happens::Spend => {
                    let until = proxy.now_ms + 2_000;
                    if proxy.gates.spend(moment(until)).is_some() {
                        spent_until = Some(until);
                    }
                }
                Happens::Freeze(id) => {
                    let had_one = proxy.gates.session().is_some();
                    let ended = proxy.freeze_as(id);
                    // A session under a freeze does not outlast another one; others wait.
                    let ends = had_one && under.is_some() && under != id;
                    prop_assert_eq!(ended.is_some(), ends);
                    (frozen, stops) = (Some(id), stops + 1);
                }
                Happens::Unfreeze => {
                    stops += usize::from(proxy.gates.unfreeze().is_some());
                    frozen = None;
                }
                Happens::Revoke | Happens::Restore => {
                    let mut next = entries();
                    let revokes = matches!(step, Happens::Revoke);
                    if revokes {
                        next[2]["revokedAt"] = "2020-01-01T00:00:00Z".into();
                    }
                    proxy.reload(&next, &[]);
                    revoked = revokes;
                }
                Happens::Pass(ms) => proxy.pass(ms),
                Happens::SetBack(ms) => proxy.wall -= Duration::from_millis(ms),
                Happens::Admit => {
                    if let Ok(permit) = proxy.ask(CALLER, SIGNER, None) {
                        prop_assert!(lets(frozen, under) && !revoked && spent_until.is_none());
                        prop_assert!(proxy.now_ms < ends.0 && proxy.wall < ends.1);
                        emergency.push(Held { permit, stops, until_ms: ends.0, until_wall: ends.1 });
                    }
                }
                Happens::AdmitNormal => {
                    if let Ok(permit) = proxy.admit(SIGNER) {
                        prop_assert!(frozen.is_none());
                        let (until_ms, until_wall) = (u64::MAX, proxy.wall);
                        normal.push(Held { permit, stops, until_ms, until_wall });
                    }
                }
            }
            // Now and then something is about to leave.
            if number % 3 == 0 {
                if let Some(held) = emergency.pop() {
                    let until_ms = spent_until.map_or(held.until_ms, |spent| spent.min(held.until_ms));
                    if proxy.release(held.permit).is_ok() {
                        prop_assert_eq!(held.stops, stops, "something stopped it meanwhile");
                        prop_assert!(lets(frozen, under) && !revoked);
                        prop_assert!(proxy.now_ms < until_ms && proxy.wall < held.until_wall);
                    }
                }
                if let Some(held) = normal.pop()
                    && proxy.release(held.permit).is_ok()
                {
                    prop_assert_eq!(held.stops, stops, "a session or a freeze came in between");
                }
            }
        }
        drop((emergency, normal));
        prop_assert_eq!(proxy.slots.taken(), 0);
    }
}
