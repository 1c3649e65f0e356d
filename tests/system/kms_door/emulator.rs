//! The same calls to us and to an emulator of KMS that others wrote get the same answers, field by
//! field. What differs stands here, each with what AWS says of it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{Kind, Ministack, World};

use super::{ID, SECRET, Sdk, with_key_pair};

const MESSAGE: &[u8] = b"hello";
/// Names of keys: ours are kids. A kid of ours was made at no time that is known.
const NAMES: [&str; 4] = ["KeyId", "Arn", "KeyArn", "CreationDate"];
/// Only keys that encrypt have these ("EncryptionAlgorithms", `GetPublicKey` of the API reference).
/// The emulator says an empty list.
const THEIRS: [&str; 1] = ["EncryptionAlgorithms"];
/// AWS says the account and this old name of `KeySpec`. The emulator never says the first, and leaves
/// the second out of `GetPublicKey`.
const OURS: [&str; 2] = ["AWSAccountId", "CustomerMasterKeySpec"];
/// An algorithm that nobody here signs by.
const PREHASHED: &str = "ED25519_PH_SHA_512";

/// Compares two answers; `fixed`: whether the algorithm signs the same input the same way twice.
fn same(ours: &Value, theirs: &Value, fixed: bool, call: &Value) {
    let (Some(our_fields), Some(their_fields)) = (ours.as_object(), theirs.as_object()) else {
        return assert_eq!(ours, theirs, "{call}");
    };
    for name in their_fields.keys().filter(|name| !THEIRS.contains(&name.as_str())) {
        assert!(our_fields.contains_key(name), "{name} is missing: {ours:#} {theirs:#}, of {call}");
    }
    for (name, our) in our_fields {
        let Some(their) = their_fields.get(name) else {
            assert!(OURS.contains(&name.as_str()), "{name} is ours only: {ours:#}, of {call}");
            continue;
        };
        match name.as_str() {
            "Signature" if !fixed => assert!(our.is_string() && their.is_string()),
            "SigningAlgorithms" => {
                let listed = |of: &Value| {
                    let mut all = of.as_array().unwrap().clone();
                    all.retain(|algorithm| algorithm != PREHASHED);
                    all.sort_by_key(Value::to_string);
                    all
                };
                assert_eq!(listed(our), listed(their), "{call}");
            }
            "message" => {}
            known if NAMES.contains(&known) => assert!(our.is_string() && their.is_string()),
            _ => same(our, their, fixed, call),
        }
    }
}

#[tokio::test]
async fn our_answers_are_an_emulators_answers_field_by_field() {
    let world = World::new();
    let ministack = Ministack::start().await;
    let kinds = [
        ("p256", Kind::P256, &["ECDSA_SHA_256"][..]),
        ("p384", Kind::P384, &["ECDSA_SHA_384"]),
        ("ed", Kind::Ed25519, &["ED25519_SHA_512"]),
        ("rsa", Kind::Rsa2048, &["RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_256"]),
    ];
    let mut keys = Vec::new();
    for (kid, kind, algorithms) in kinds {
        keys.push((kid, ministack.key(kind).await, algorithms));
    }
    let builder = world.proxy().endpoint(&ministack.endpoint);
    let builder = keys.iter().fold(builder, |builder, (kid, key, _)| builder.signer(kid, key));
    let kids: Vec<_> = keys.iter().map(|(kid, ..)| *kid).collect();
    let proxy = with_key_pair(&world, builder.caller("local:sdk", &kids)).start().await;
    let theirs = ministack.endpoint.strip_prefix("http://").unwrap();
    let both = |calls: [&[Value]; 2]| {
        let [ours, of_theirs] = calls.map(|calls| json!(calls));
        let pair = (ID, SECRET);
        (Sdk::Boto3.ask(&proxy.local[0], pair, &ours), Sdk::Boto3.ask(theirs, pair, &of_theirs))
    };
    for (kid, key, algorithms) in &keys {
        let mut signing = Vec::new();
        for algorithm in *algorithms {
            let sign = |message: &[u8], kind: &str| {
                json!({"Message": {"b64": STANDARD.encode(message)}, "MessageType": kind,
                    "SigningAlgorithm": algorithm})
            };
            signing.push(sign(MESSAGE, "RAW"));
            if algorithm.ends_with("SHA_256") {
                signing.push(sign(digest(&SHA256, MESSAGE).as_ref(), "DIGEST"));
                // Not as long as a digest is.
                signing.push(sign(MESSAGE, "DIGEST"));
            }
        }
        // By the algorithm of another kind of key.
        let other = if *kid == "rsa" { "ECDSA_SHA_256" } else { "RSASSA_PSS_SHA_256" };
        signing.push(json!({"Message": {"b64": "aGk="}, "SigningAlgorithm": other}));
        let named = |id: &str, operation: &str, arguments: &Value| {
            let mut arguments = arguments.clone();
            arguments["KeyId"] = json!(id);
            json!([operation, arguments])
        };
        let calls = |id: &str| {
            let mut calls: Vec<_> =
                signing.iter().map(|arguments| named(id, "sign", arguments)).collect();
            calls.push(named(id, "get_public_key", &json!({})));
            calls.push(named(id, "describe_key", &json!({})));
            calls.push(named("none", "describe_key", &json!({})));
            calls
        };
        let (our_calls, their_calls) = (calls(kid), calls(&key.id));
        let (ours, of_theirs) = both([&our_calls, &their_calls]);
        for ((call, ours), of_theirs) in our_calls.iter().zip(&ours).zip(&of_theirs) {
            let algorithm = call[1]["SigningAlgorithm"].as_str().unwrap_or_default();
            let fixed = ["ED25519_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256"].contains(&algorithm);
            same(ours, of_theirs, fixed, call);
        }
        // What was signed verifies at both, and no longer once it is changed.
        let mut verifying = Vec::new();
        for (arguments, signed) in signing.iter().zip(&ours) {
            let Some(signature) = signed["ok"]["Signature"].as_str() else { continue };
            let mut changed = STANDARD.decode(signature).unwrap();
            *changed.last_mut().unwrap() ^= 1;
            for signature in [signature.to_owned(), STANDARD.encode(changed)] {
                let mut arguments = arguments.clone();
                arguments["Signature"] = json!({"b64": signature});
                verifying.push(arguments);
            }
        }
        let calls = |id: &str| -> Vec<_> {
            verifying.iter().map(|arguments| named(id, "verify", arguments)).collect()
        };
        let (our_calls, their_calls) = (calls(kid), calls(&key.id));
        let (ours, of_theirs) = both([&our_calls, &their_calls]);
        for ((call, ours), of_theirs) in our_calls.iter().zip(&ours).zip(&of_theirs) {
            same(ours, of_theirs, true, call);
        }
    }
    let lists = [json!(["list_keys", {}]), json!(["list_aliases", {}])];
    let (ours, of_theirs) = both([&lists, &lists]);
    for name in ["Keys", "Aliases"] {
        let at = usize::from(name == "Aliases");
        let (ours, of_theirs) = (&ours[at]["ok"], &of_theirs[at]["ok"]);
        assert_eq!(ours["Truncated"], of_theirs["Truncated"], "{name}");
        let lengths = [ours, of_theirs].map(|answer| answer[name].as_array().unwrap().len());
        assert_eq!(lengths[0], if name == "Keys" { keys.len() } else { 0 });
        assert_eq!(lengths[0], lengths[1], "{name}: {ours:#} {of_theirs:#}");
        for (our, their) in
            ours[name].as_array().unwrap().iter().zip(of_theirs[name].as_array().unwrap())
        {
            same(our, their, true, &json!(name));
        }
    }
}
