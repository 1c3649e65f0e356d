//! What one request pays for its proofs, each measured alone: authorize, admit
//! and release, verify.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up fails")]
#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use benches::alone::per_call;
use signing_core::evidence::{Evidence, Observation, Source};
use signing_core::gate::{Gates, Slots, Snapshot, Thresholds, WindowLimits};
use signing_core::policy::Rules;
use signing_core::{
    Algorithm, Caller, Grant, Input, Kid, Moment, Policy, Registry, Rulebook, ToBeSigned,
};
use time::OffsetDateTime;

/// An Ed25519 public key (RFC 8032 7.1, test 2) with its message and signature.
const PUBLIC_KEY: &str = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
const MESSAGE: &[u8] = &[0x72];
const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

struct Scene {
    rulebook: Arc<Rulebook>,
    caller: Arc<Caller>,
    gates: Snapshot,
    slots: Slots,
    now: Moment,
}

impl Scene {
    fn new() -> Self {
        let kid = Kid::parse("bench").unwrap();
        let json = format!(
            r#"{{"signers":[{{"signer_kid":"bench","algorithm":"ed25519","publicKey":"{PUBLIC_KEY}"}}]}}"#
        );
        let caller = Caller::parse("spiffe://bench/caller").unwrap();
        let mut rules = Rules::default();
        rules.signers.insert(kid.clone(), vec![Algorithm::Ed25519Sha512]);
        let policy = Policy::new(BTreeMap::from([(caller.clone(), rules)]), BTreeMap::new());
        let registry = Registry::from_json(&json).unwrap();
        let rulebook = Arc::new(Rulebook::new(registry, policy));
        let thresholds = Thresholds {
            lease: Duration::from_secs(8),
            failures_to_shut: 3,
            successes_to_open: 1,
            recovery_min: Duration::ZERO,
            recovery_max: Duration::ZERO,
            flap_window: Duration::ZERO,
            window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
        };
        let now = Moment::from_nanos(1_000_000_000);
        let mut gates = Gates::new(thresholds, [kid.clone()], Arc::clone(&rulebook), now);
        let evidence = Evidence::Signed;
        let observation = Observation {
            upstream: 0,
            source: Source::Canary,
            started: now,
            at: now,
            count: 1,
            evidence,
        };
        assert!(gates.observe(&kid, &observation).is_some());
        Self {
            rulebook,
            caller: Arc::new(caller),
            gates: gates.snapshot(),
            slots: Slots::new(16),
            now,
        }
    }

    fn grant(&self) -> Grant {
        let now = OffsetDateTime::UNIX_EPOCH;
        self.rulebook.authorize(&self.caller, Some("bench"), None, now).unwrap()
    }
}

fn main() {
    let scene = Scene::new();
    show("policy: authorize", || scene.grant());
    let deadline = scene.now.after(Duration::from_secs(1));
    show("policy + gate: authorize, admit, release", || {
        let permit = scene.gates.admit(scene.grant(), &scene.slots, scene.now, deadline).unwrap();
        scene.gates.release(permit, scene.now).unwrap()
    });
    let signer = scene.rulebook.registry().get("bench").unwrap();
    let input = Input::Message(MESSAGE.to_vec());
    let input = ToBeSigned::prepare(&input, Algorithm::Ed25519Sha512).unwrap();
    let signature: Vec<u8> = (0..64)
        .map(|at| u8::from_str_radix(SIGNATURE.get(at * 2..at * 2 + 2).unwrap(), 16).unwrap())
        .collect();
    show("key: verify Ed25519", || signer.verify(&input, signature.clone()).unwrap());
}

/// The least of several tries: whatever else runs only adds to it.
fn show<T>(what: &str, mut work: impl FnMut() -> T) {
    let tries = (0..5).map(|_| per_call(Duration::from_millis(200), &mut work).unwrap());
    println!("{what:<44} {:>9.3} us", tries.fold(f64::INFINITY, f64::min));
}
