//! Every algorithm through the KMS: openssl verifies what comes back, for
//! messages and for digests, in both formats.

use std::process::Command;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::journal::read;
use system_tests::{Client, Fault, Key, Kind, Proxy, World, eventually, openssl, programs};

use crate::ALICE;

const MESSAGE: &[u8] = b"a message";

/// A proxy with a signer of each kind, named as the kind is. Large RSA keys take
/// long to make; the sizes between are like them.
async fn with_every_kind(world: &World) -> (Proxy<'_>, Vec<(&'static str, Key)>) {
    let keys: Vec<_> = [
        ("ed", Kind::Ed25519),
        ("p256", Kind::P256),
        ("secp256k1", Kind::Secp256k1),
        ("p384", Kind::P384),
        ("p521", Kind::P521),
        ("ml44", Kind::MlDsa44),
        ("ml65", Kind::MlDsa65),
        ("ml87", Kind::MlDsa87),
        ("rsa2048", Kind::Rsa2048),
        ("rsa4096", Kind::Rsa4096),
    ]
    .map(|(kid, kind)| (kid, world.kms.key(kind)))
    .into();
    let kids: Vec<_> = keys.iter().map(|(kid, _)| *kid).collect();
    // What a gate does beside ten signers on a machine that is busy is no matter here.
    let proxy = world.proxy().rare_canaries();
    let builder = keys.iter().fold(proxy, |builder, (kid, key)| builder.signer(kid, key));
    (builder.caller(ALICE, &kids).start().await, keys)
}

fn hash(name: &str, message: &[u8]) -> Vec<u8> {
    let algorithm = match name {
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        _ => &digest::SHA512,
    };
    digest::digest(algorithm, message).as_ref().to_vec()
}

/// The name of the hash whose digests an algorithm takes.
fn hash_of(algorithm: &str) -> &'static str {
    match algorithm.rsplit('_').next() {
        Some("384") => "sha384",
        Some("512") if algorithm != "ED25519_SHA_512" => "sha512",
        _ => "sha256",
    }
}

fn digest_request(kid: &str, algorithm: &str, hash_name: &str) -> Value {
    json!({
        "signer_kid": kid,
        "algorithm": algorithm,
        "digest": STANDARD.encode(hash(hash_name, MESSAGE)),
        "digest_algorithm": hash_name,
    })
}

async fn verified(alice: &Client, mut request: Value, signature: &Value) -> bool {
    request["signature"] = signature.clone();
    let answer = alice.post("/v1/verify", &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["verified"] == true
}

#[tokio::test]
async fn i1_openssl_verifies_every_algorithm_of_every_key_over_messages_and_digests() {
    let world = World::new();
    let (proxy, keys) = with_every_kind(&world).await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        openssl_verifies_every_algorithm(&alice, kid, key).await;
    }
}

/// Asks for a signature by each of the key's algorithms, over a message and over its
/// digest, and has openssl look at it.
pub(crate) async fn openssl_verifies_every_algorithm(alice: &Client, kid: &str, key: &Key) {
    for algorithm in key.kind.algorithms() {
        let message = json!({
            "signer_kid": kid,
            "algorithm": algorithm,
            "message": STANDARD.encode(MESSAGE),
        });
        let digest = digest_request(kid, algorithm, hash_of(algorithm));
        // Ed25519 and ML-DSA sign the bytes of a digest; everything else signs the digest itself.
        let signed_as_message = key.kind.signs_messages();
        let sha256 = hash("sha256", MESSAGE);
        let over_digest = if signed_as_message { sha256.as_slice() } else { MESSAGE };
        for (request, signed) in [(message, MESSAGE), (digest, over_digest)] {
            let answer = alice.post("/v1/sign", &request).await;
            assert_eq!(answer.status, 200, "{kid} {algorithm}: {answer:?}");
            assert_eq!(answer.body["algorithm"], *algorithm);
            assert_eq!(answer.body["signer_kid"], *kid);
            let signature = answer.signature();
            assert!(openssl::verifies_as(key, algorithm, signed, &signature), "{algorithm}");
            assert!(!openssl::verifies_as(key, algorithm, b"another", &signature));
            assert!(verified(alice, request, &answer.body["signature"]).await, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn an_unnamed_algorithm_is_the_one_that_the_key_is_registered_for() {
    let world = World::new();
    let (proxy, keys) = with_every_kind(&world).await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        let answer = alice.sign_message(kid, MESSAGE).await;
        assert_eq!(answer.body["algorithm"], key.kind.algorithm(), "{answer:?}");
        assert!(openssl::verifies(key, MESSAGE, &answer.signature()), "{kid}");
    }
}

#[tokio::test]
async fn a_digest_of_another_hash_or_length_never_reaches_the_upstream() {
    let world = World::new();
    let key = world.kms.key(Kind::Rsa2048);
    let ec = world.kms.key(Kind::P384);
    let proxy = world
        .proxy()
        .rare_canaries()
        .signer("rsa", &key)
        .signer("ec", &ec)
        .caller(ALICE, &["rsa", "ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let mut short = digest_request("rsa", "RSASSA_PSS_SHA_512", "sha512");
    short["digest"] = json!(STANDARD.encode([7; 63]));
    let mut mislabelled = digest_request("rsa", "RSASSA_PSS_SHA_512", "sha512");
    mislabelled["digest_algorithm"] = json!("sha256");
    for (case, request, reason) in [
        ("SHA-256 for P-384", digest_request("ec", "ECDSA_SHA_384", "sha256"), "invalid_digest"),
        (
            "SHA-384 for SHA-256",
            digest_request("rsa", "RSASSA_PKCS1_V1_5_SHA_256", "sha384"),
            "invalid_digest",
        ),
        ("63 bytes", short, "invalid_digest"),
        ("64 bytes called sha256", mislabelled, "invalid_digest"),
        ("md5", digest_request("rsa", "RSASSA_PSS_SHA_256", "md5"), "invalid_digest"),
        ("P-521", digest_request("ec", "ECDSA_SHA_512", "sha512"), "algorithm_not_supported"),
        (
            "another kind of key",
            digest_request("ec", "RSASSA_PSS_SHA_256", "sha256"),
            "algorithm_not_supported",
        ),
    ] {
        let answer = alice.post("/v1/sign", &request).await;
        assert_eq!((answer.status, answer.reason()), (400, reason), "{case}: {answer:?}");
    }
    assert_eq!(proxy.health().await.status, 200, "a caller's mistakes are no evidence");
    proxy.stop().await;
    // Who is asked for a caller is announced first.
    assert_eq!(read(&world.scratch.path("proxy/journal"), "intent"), Vec::<Value>::new());
}

#[tokio::test]
async fn aliases_of_the_field_name_the_same_algorithms() {
    let world = World::new();
    let (rsa, ed) = (world.kms.key(Kind::Rsa2048), world.kms.key(Kind::Ed25519));
    let proxy = world
        .proxy()
        .signer("rsa", &rsa)
        .signer("ed", &ed)
        .caller(ALICE, &["rsa", "ed"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    for (kid, alias, name) in [
        ("rsa", "RSA_PKCS1_SHA_256", "RSASSA_PKCS1_V1_5_SHA_256"),
        ("rsa", "rsa-sha256", "RSASSA_PKCS1_V1_5_SHA_256"),
        ("rsa", "RSA_PSS_SHA_256", "RSASSA_PSS_SHA_256"),
        ("ed", "ed25519", "ED25519_SHA_512"),
    ] {
        let request = json!({"signer_kid": kid, "algorithm": alias, "message": "aGk="});
        let answer = alice.post("/v1/sign", &request).await;
        assert_eq!((answer.status, &answer.body["algorithm"]), (200, &json!(name)), "{answer:?}");
    }
}

#[tokio::test]
async fn p1363_is_the_same_pair_in_fixed_width_and_verify_takes_both() {
    let world = World::new();
    let (proxy, keys) = with_every_kind(&world).await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        let request = |format: &str| {
            json!({
                "signer_kid": kid,
                "message": STANDARD.encode(MESSAGE),
                "signature_format": format,
            })
        };
        let der = alice.post("/v1/sign", &request("der")).await;
        assert!(openssl::verifies(key, MESSAGE, &der.signature()), "{kid}");
        let fixed = alice.post("/v1/sign", &request("p1363")).await;
        let half = match key.kind {
            Kind::P256 | Kind::Secp256k1 => 32,
            Kind::P384 => 48,
            Kind::P521 => 66,
            Kind::Ed25519
            | Kind::Rsa2048
            | Kind::Rsa3072
            | Kind::Rsa4096
            | Kind::MlDsa44
            | Kind::MlDsa65
            | Kind::MlDsa87 => {
                assert_eq!((fixed.status, fixed.reason()), (400, "invalid_request"), "{kid}");
                continue;
            }
        };
        assert_eq!(fixed.signature().len(), half * 2, "{fixed:?}");
        assert!(verified(&alice, request("p1363"), &fixed.body["signature"]).await);
        assert!(verified(&alice, request("der"), &der.body["signature"]).await);
        assert!(!verified(&alice, request("der"), &fixed.body["signature"]).await);
        assert!(!verified(&alice, request("p1363"), &der.body["signature"]).await);
        assert!(openssl::verifies(key, MESSAGE, &der_of(&fixed.signature())), "{kid}");
    }
}

/// DER of a pair in P1363, by hand: the test's own reading of RFC 3279 2.2.3.
fn der_of(fixed: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut bytes = number[zeros..].to_vec();
        if bytes[0] & 0x80 != 0 {
            bytes.insert(0, 0);
        }
        [&[0x02, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let pair = [integer(r), integer(s)].concat();
    let length = u8::try_from(pair.len()).unwrap();
    // The long form from 128 bytes on, which a pair of P-521 has.
    let head = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [head, pair].concat()
}

/// KMS takes at most 4096 bytes as they are; of ML-DSA the proxy then sends what stands for them.
/// What comes back is verified over the message.
#[tokio::test]
async fn i1_ml_dsa_signs_a_message_that_kms_does_not_take_as_it_is() {
    let world = World::new();
    let (proxy, keys) = with_every_kind(&world).await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        for length in [4096, 4097, 100_000] {
            let message = vec![7_u8; length];
            let answer = alice.sign_message(kid, &message).await;
            if key.kind == Kind::Ed25519 && length > 4096 {
                assert_eq!((answer.status, answer.reason()), (400, "message_too_large"), "{kid}");
                continue;
            }
            assert_eq!(answer.status, 200, "{kid} {length}: {answer:?}");
            assert!(openssl::verifies(key, &message, &answer.signature()), "{kid} {length}");
        }
        let empty = alice.sign_message(kid, b"").await;
        if key.kind.signs_messages() {
            assert_eq!((empty.status, empty.reason()), (400, "invalid_request"), "{kid}");
        } else {
            assert!(openssl::verifies(key, b"", &empty.signature()), "{kid}");
        }
    }
    // An auditor finds nothing wrong with the records of any of them.
    let (journal, registry) = ("proxy/journal", "proxy/signers.json");
    let [journal, registry] = [journal, registry].map(|path| world.scratch.path(path));
    proxy.stop().await;
    let mut verify = Command::new(programs::ours("signctl"));
    verify.args(["audit", "verify", "--journal"]).arg(journal).arg("--signers").arg(registry);
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whatever the kind of key: what does not verify is never given out, and seals.
#[tokio::test]
async fn i1_a_bad_signature_of_a_new_curve_or_of_ml_dsa_seals_its_signer() {
    let world = World::new();
    let kinds = [
        ("secp256k1", Kind::Secp256k1, Fault::PaddedSignature),
        ("p521", Kind::P521, Fault::WrongKey),
        ("ml44", Kind::MlDsa44, Fault::ShortSignature),
        ("ml65", Kind::MlDsa65, Fault::CorruptSignature),
        ("ml87", Kind::MlDsa87, Fault::WrongKey),
    ];
    let keys = kinds.map(|(kid, kind, fault)| (kid, world.kms.key(kind), fault));
    let kids = keys.each_ref().map(|(kid, ..)| *kid);
    let builder =
        keys.iter().fold(world.proxy(), |builder, (kid, key, _)| builder.signer(kid, key));
    let proxy = builder.rare_canaries().caller(ALICE, &kids).start().await;
    let alice = proxy.client(ALICE).await;
    for (kid, key, fault) in &keys {
        assert_eq!(alice.sign_message(kid, MESSAGE).await.status, 200, "{kid}");
        key.break_with(fault.clone());
        let answer = alice.sign_message(kid, MESSAGE).await;
        // A canary that was still under way may have met the fault first, and sealed.
        let is_withheld = ["signature_rejected", "sealed"].contains(&answer.reason());
        assert!(answer.status == 503 && is_withheld, "{kid}: {answer:?}");
        key.mend();
        eventually("a sealed signer", || async {
            let answer = alice.sign_message(kid, MESSAGE).await;
            assert_eq!(answer.status, 503, "{kid}: {answer:?}");
            (answer.reason() == "sealed").then_some(())
        })
        .await;
    }
}

/// `ECDSA_SHA_256` is of two curves, so a name with a curve in it has to name the key's own.
#[tokio::test]
async fn a_name_that_says_another_curve_or_parameter_set_than_the_keys_is_refused() {
    let world = World::new();
    let (proxy, keys) = with_every_kind(&world).await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        for word in ["ecdsa-p256-sha256", "ecdsa-secp256k1-sha256", "ml-dsa-44", "ml-dsa-87"] {
            let request = json!({"signer_kid": kid, "algorithm": word, "message": "aGk="});
            let answer = alice.post("/v1/sign", &request).await;
            if word == key.kind.registry_algorithm() {
                assert_eq!(answer.status, 200, "{kid} {word}: {answer:?}");
                let mut request = request;
                request["signature"] = answer.body["signature"].clone();
                assert_eq!(alice.post("/v1/verify", &request).await.body["verified"], true);
            } else {
                let refused = (answer.status, answer.reason());
                assert_eq!(refused, (400, "algorithm_not_supported"), "{kid} {word}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_caller_uses_the_algorithms_it_was_granted_and_no_others_of_the_same_key() {
    let world = World::new();
    let key = world.kms.key(Kind::Rsa2048);
    let proxy = world
        .proxy()
        .signer("rsa", &key)
        .caller_with(ALICE, &[("rsa", &["RSASSA_PSS_SHA_256"])])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let request = |algorithm: Value| json!({"message": "aGk=", "algorithm": algorithm});
    for (algorithm, status, reason) in [
        (json!("RSASSA_PSS_SHA_256"), 200, ""),
        (json!("RSASSA_PSS_SHA_384"), 403, "algorithm_not_allowed"),
        (json!("RSASSA_PKCS1_V1_5_SHA_256"), 403, "algorithm_not_allowed"),
        // The signer's own, which was not granted.
        (Value::Null, 403, "algorithm_not_allowed"),
    ] {
        let answer = alice.post("/v1/sign", &request(algorithm.clone())).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{algorithm}: {answer:?}");
    }
}

#[tokio::test]
async fn an_algorithm_that_is_denied_is_no_evidence_against_the_registered_one() {
    let world = World::new();
    let key = world.kms.key(Kind::Rsa2048);
    let proxy =
        world.proxy().rare_canaries().signer("rsa", &key).caller(ALICE, &["rsa"]).start().await;
    let alice = proxy.client(ALICE).await;
    key.deny_all_but("RSASSA_PKCS1_V1_5_SHA_256");
    let other = json!({"message": "aGk=", "algorithm": "RSASSA_PSS_SHA_256"});
    let own = json!({"message": "aGk="});
    for _ in 0..5 {
        let answer = alice.post("/v1/sign", &other).await;
        assert_eq!((answer.status, answer.reason()), (503, "key_unavailable"), "{answer:?}");
        assert_eq!(alice.post("/v1/sign", &own).await.status, 200);
    }
    assert_eq!(proxy.health().await.status, 200);
    // The registered one denied is what it always was.
    key.break_with(Fault::Error("AccessDeniedException", 400));
    alice.post("/v1/sign", &own).await;
    proxy.unhealthy_for("key_unavailable").await;
}
