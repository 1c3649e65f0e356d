//! An RSA emergency key signs with the algorithm that a request names, if the caller was granted it.

use std::collections::BTreeMap;

use serde_json::json;
use signing_core::gate::{Admitted as _, EmergencyPermit};
use signing_core::key::Hash;
use signing_core::policy::Rules;
use signing_core::{Algorithm, Policy, Reason, Refusal};

use super::{CALLER, EMERGENCY, OTHER, PATIENCE_MS, Proxy, SIGNER, caller, kid, moment, support};

const PKCS1: Algorithm = Algorithm::RsaPkcs1(Hash::Sha256);
const PSS_256: Algorithm = Algorithm::RsaPss(Hash::Sha256);
const PSS_512: Algorithm = Algorithm::RsaPss(Hash::Sha512);

/// An RSA signer that an RSA emergency key replaces; the caller was granted two of six algorithms.
fn armed() -> Proxy {
    let entries = [
        json!({
            "signer_kid": SIGNER, "algorithm": "rsa-pss-sha256",
            "public_key_pem": include_str!("../rsa_2048_public.pem"),
        }),
        support::entry(OTHER, 2),
        json!({
            "signer_kid": EMERGENCY, "algorithm": "rsa-sha256", "purpose": "breakglass",
            "public_key_pem": include_str!("../rsa_2048_emergency_public.pem"),
        }),
    ];
    let signers = BTreeMap::from([(kid(SIGNER), vec![PSS_256, PSS_512])]);
    let rules = Rules { signers, default_signer: None, ..Rules::default() };
    let policy = Policy::new(BTreeMap::from([(caller(CALLER), rules)]), BTreeMap::new());
    let mut proxy = Proxy::of(&entries, policy);
    proxy.arm("INC-1").unwrap();
    proxy
}

/// As the pipeline asks: under a grant of the algorithm that is named, else of the signer's own.
fn ask(proxy: &Proxy, named: Option<Algorithm>) -> Result<EmergencyPermit, Refusal> {
    let gates = proxy.gates.snapshot();
    let caller = std::sync::Arc::new(caller(CALLER));
    let grant = |algorithm| gates.rulebook().authorize(&caller, None, algorithm, proxy.wall);
    let grant = grant(named).or_else(|_| grant(None)).unwrap();
    let (now, due) = (moment(proxy.now_ms), moment(proxy.now_ms + PATIENCE_MS));
    gates.admit_emergency(grant, named, &proxy.slots, (now, proxy.wall), due)
}

#[test]
fn an_rsa_emergency_key_signs_with_what_the_request_names() {
    let proxy = armed();
    for (named, signs_with) in [
        // The emergency key's own is part of what was approved.
        (None, PKCS1),
        (Some(PKCS1), PKCS1),
        (Some(PSS_256), PSS_256),
        (Some(PSS_512), PSS_512),
    ] {
        let permit = ask(&proxy, named).unwrap();
        assert_eq!((permit.algorithm(), permit.signer().kid.as_str()), (signs_with, EMERGENCY));
        assert!(proxy.release(permit).is_ok());
    }
}

#[test]
fn i1_an_algorithm_that_the_caller_was_not_granted_is_refused_in_a_session_too() {
    let proxy = armed();
    let refused = |named| ask(&proxy, Some(named)).unwrap_err().reason;
    assert_eq!(refused(Algorithm::RsaPss(Hash::Sha384)), Reason::AlgorithmNotAllowed);
    assert_eq!(refused(Algorithm::RsaPkcs1(Hash::Sha512)), Reason::AlgorithmNotAllowed);
    assert_eq!(refused(Algorithm::EcdsaSha256), Reason::BreakglassOutOfScope);
}
