//! What may happen between an admission and its release, drawn at random.

use std::time::Duration;

use proptest::prelude::*;
use signing_core::evidence::{Evidence, Fault, Source};
use signing_core::gate::{Thresholds, WindowLimits};

use crate::{KIDS, UPSTREAMS};

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Grants, by the rulebook that is in force.
    Grant {
        signer: usize,
    },
    /// Admits a grant that was given, perhaps long ago; by a snapshot that may be old too.
    Admit {
        pick: usize,
        deadline: u64,
    },
    /// The upstream answered: the request asks to be released, by the snapshot in force.
    Release {
        pick: usize,
    },
    /// The client's request is given up.
    Drop {
        pick: usize,
    },
    /// A canary, or a caller's call, tells of an upstream.
    Heard {
        signer: usize,
        upstream: usize,
        source: Source,
        took: u64,
        evidence: Evidence,
    },
    Tick,
    Freeze,
    Unfreeze,
    Seal {
        signer: usize,
    },
    Unseal {
        signer: usize,
    },
    AuditStop,
    AuditGoesOn,
    /// Another rulebook, which decides otherwise about that signer, or about none.
    Reload {
        touches: Option<usize>,
        lease: u64,
    },
    Drill {
        signer: Option<usize>,
    },
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    (30..60_u64, 1..4_u32, 1..3_u32, 0..6_u64).prop_map(|(lease, fails, signs, recovery)| {
        Thresholds {
            lease: Duration::from_nanos(lease),
            failures_to_shut: fails,
            successes_to_open: signs,
            recovery_min: Duration::from_nanos(recovery),
            recovery_max: Duration::ZERO,
            flap_window: Duration::ZERO,
            window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
        }
    })
}

fn acts() -> impl Strategy<Value = Act> {
    let signer = 0..KIDS.len();
    let fault = proptest::sample::select(vec![
        Fault::Unavailable,
        Fault::Indeterminate,
        Fault::Throttled,
        Fault::KeyUnavailable,
    ]);
    let evidence = prop_oneof![
        60 => Just(Evidence::Signed),
        5 => fault.prop_map(|fault| Evidence::Failed { fault, detail: "detail".into() }),
        1 => Just(Evidence::Doubt { detail: "doubt".into() }),
    ];
    let source = prop_oneof![5 => Just(Source::Canary), 1 => Just(Source::Traffic)];
    let heard = (signer.clone(), 0..UPSTREAMS, source, 0..4_u64, evidence).prop_map(
        |(signer, upstream, source, took, evidence)| Act::Heard {
            signer,
            upstream,
            source,
            took,
            evidence,
        },
    );
    let touches = proptest::option::weighted(0.5, signer.clone());
    prop_oneof![
        90 => heard,
        30 => signer.clone().prop_map(|signer| Act::Grant { signer }),
        30 => (any::<usize>(), 0..50_u64).prop_map(|(pick, deadline)| Act::Admit { pick, deadline }),
        25 => any::<usize>().prop_map(|pick| Act::Release { pick }),
        2 => any::<usize>().prop_map(|pick| Act::Drop { pick }),
        6 => Just(Act::Tick),
        1 => Just(Act::Freeze),
        3 => Just(Act::Unfreeze),
        1 => signer.clone().prop_map(|signer| Act::Seal { signer }),
        5 => signer.clone().prop_map(|signer| Act::Unseal { signer }),
        1 => Just(Act::AuditStop),
        3 => Just(Act::AuditGoesOn),
        2 => (touches, 30..60_u64).prop_map(|(touches, lease)| Act::Reload { touches, lease }),
        1 => proptest::option::of(signer).prop_map(|signer| Act::Drill { signer }),
    ]
}

pub(crate) type Case = (Thresholds, Vec<(u64, Act)>);

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let waits = prop_oneof![6 => Just(0_u64), 12 => 1..4_u64, 1 => 4..30_u64];
    (thresholds(), proptest::collection::vec((waits, acts()), 1..300))
}
