//! What clients that know no proofs are told, and `/v1/verify`, `/verify` and `signctl`, which know them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use signing_core::{Input, ToBeSigned};
use system_tests::{Kind, World};

use super::{ALICE, KID, answers, ask, builder, by_hand, data, message, proof, signer};
use crate::caller_tool::Caller;

#[tokio::test]
async fn clients_that_could_not_verify_a_proof_are_refused_before_anything_is_signed() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = builder(&world, &key).start().await;
    let alice = proxy.client(ALICE).await;
    let digits = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for (path, body) in [
        ("/sign", json!({"hash": digits})),
        ("/sign", json!({"payload_b64": "aGk="})),
        ("/sign", json!({"data": "aGk=", "algorithm": "ECDSA_SHA_256"})),
        ("/sign", json!({"digest_hex": digits})),
        ("/sign", json!({"signerId": KID, "payload": "hi"})),
        ("/signData", json!({"signerId": KID, "data": "hi"})),
        ("/sign/hash", json!({"digest_hex": digits})),
        ("/sign/canonical", json!({"canonical": "{}"})),
        ("/v1/sign", json!({"message": "aGk=", "signature_format": "der"})),
        ("/v1/sign", json!({"message": "aGk=", "signature_format": "p1363"})),
    ] {
        let refused = alice.post(path, &body).await;
        assert_eq!((refused.status, refused.reason()), (400, "invalid_request"), "{path} {body}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("is a batch signer") && detail.contains("/v1/sign"), "{detail}");
    }
    for dry_run in [false, true] {
        let headers =
            [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.Sign")];
        let body = json!({"KeyId": KID, "Message": "aGk=", "SigningAlgorithm": "ECDSA_SHA_256", "DryRun": dry_run});
        let refused = alice.send(Method::POST, "/", &headers, body.to_string()).await.unwrap();
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.text.contains("is a batch signer"), "{refused:?}");
        assert!(refused.body["__type"].as_str().unwrap().contains("Validation"), "{refused:?}");
    }
    assert_eq!(data(&world, "intent").len(), 0);
    // The other way round, too: what is no batch signer makes no proofs.
    let plain = world.kms.key(Kind::P256);
    let other = World::new();
    let proxy = other.proxy().endpoint(&world.kms.endpoint).signer("ec", &plain);
    let proxy = proxy.caller(ALICE, &["ec"]).start().await;
    let body = json!({"message": "aGk=", "signature_format": "tlog-proof"});
    let refused = proxy.client(ALICE).await.post("/v1/sign", &body).await;
    assert_eq!((refused.status, refused.reason()), (400, "invalid_request"), "{refused:?}");
}

#[tokio::test]
async fn the_proxy_verifies_proofs_and_no_raw_signature_under_a_batch_key() {
    for kind in [Kind::Ed25519, Kind::P256] {
        let world = World::new();
        let (key, plain) = (world.kms.key(kind), world.kms.key(kind));
        let proxy = builder(&world, &key).signer("plain", &plain).start().await;
        let alice = proxy.client(ALICE).await;
        let answer = alice.sign_message(KID, b"hi").await;
        let text = proof(&answer).to_owned();
        let encoded = STANDARD.encode(&text);
        let is = |answer: &system_tests::Answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["verified"] == json!(true)
        };
        for signature in [&text, &encoded] {
            for signer in [json!(KID), Value::Null] {
                let mut body = json!({"message": "aGk=", "signature": signature});
                if !signer.is_null() {
                    body["signer_kid"] = signer;
                }
                let verified = alice.post("/v1/verify", &body).await;
                assert!(is(&verified) && verified.body["signer_kid"] == KID, "{verified:?}");
                body["message"] = json!("aG8=");
                assert!(!is(&alice.post("/v1/verify", &body).await));
            }
            let body = json!({"payload_b64": "aGk=", "signature_b64": signature, "signer_id": KID});
            assert!(is(&alice.post("/verify", &body).await));
            let other = json!({"message": "aGk=", "signature": signature, "signer_kid": "plain"});
            assert!(!is(&alice.post("/v1/verify", &other).await), "a proof under any other key");
        }
        let input = Input::Message(b"hi".to_vec());
        let input = ToBeSigned::prepare(&input, signer(&key).algorithm()).unwrap();
        let raw = STANDARD.encode(by_hand(&world, &key, &input));
        for body in [
            json!({"message": "aGk=", "signature": raw, "signer_kid": KID}),
            json!({"message": "aGk=", "signature": raw}),
        ] {
            assert!(
                !is(&alice.post("/v1/verify", &body).await),
                "a raw signature under a batch key"
            );
        }
        let of_other_deployment = text.replace("test/batch/", "other/batch/");
        let body = json!({"message": "aGk=", "signature": of_other_deployment, "signer_kid": KID});
        assert!(!is(&alice.post("/v1/verify", &body).await));
    }
}

#[tokio::test]
async fn the_same_key_and_input_get_the_same_proof() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let alice = proxy.client(ALICE).await;
    let sign = |body: Value| {
        let alice = alice.clone();
        async move {
            let headers = [("content-type", "application/json"), ("idempotency-key", "order-1")];
            alice.send(Method::POST, "/v1/sign", &headers, body.to_string()).await.unwrap()
        }
    };
    let first = sign(json!({"message": "aGk="})).await;
    let again = sign(json!({"message": "aGk="})).await;
    assert_eq!(proof(&first), proof(&again));
    // The message's digest is another input here: its leaf says so.
    let digest = STANDARD.encode(signing_core::Hash::Sha256.of(b"hi").bytes());
    let conflict = sign(json!({"digest": digest, "digest_algorithm": "sha256"})).await;
    assert_eq!((conflict.status, conflict.reason()), (409, "idempotency_conflict"));
    let signed = data(&world, "signed");
    let replayed: Vec<_> = signed.iter().map(|it| it["replayed"] == json!(true)).collect();
    assert_eq!(replayed, [false, true]);
    assert_eq!(signed[0]["batch"], signed[1]["batch"]);
}

#[tokio::test]
async fn signctl_believes_a_proof_only_once_it_has_verified_it() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let caller = Caller::of(&world, &proxy);
    caller.write("message", b"hello");
    caller.write("other", b"else");
    caller.write("long", &vec![7; 3 << 20]);
    let registry = world.scratch.path("proxy/signers.json");
    let registry = registry.to_str().unwrap();
    for file in ["message", "long"] {
        let receipt = format!("{file}.receipt");
        let said = caller.json(&["sign", file, "--receipt", &receipt]);
        assert_eq!(
            (&said["verified"], &said["signature_format"]),
            (&json!(true), &json!("tlog-proof"))
        );
        let words = ["receipt", "verify", &receipt, "--input", file, "--signers", registry];
        let (fits, said) = caller.run(&words, b"");
        assert!(fits && said.contains("a proof over the input"), "{said}");
        let verified = caller.json(&["verify", file, "--answer", &receipt]);
        assert_eq!((&verified["ok"], &verified["signer_kid"]), (&json!(true), &json!(KID)));
        let words = ["verify", file, "--answer", &receipt, "--deployment", "test"];
        let (ok, said) = caller.run(&words, b"");
        assert!(ok && said.contains("test/batch/bulk"), "{said}");
        caller.refuses(&["verify", file, "--answer", &receipt, "--deployment", "x"], "it is not");
        for (deployment, fits) in [("test", true), ("x", false)] {
            let words = ["receipt", "verify", &receipt, "--input", file, "--signers", registry];
            let words = [&words[..], &["--deployment", deployment]].concat();
            let (ok, said) = caller.run(&words, b"");
            assert_eq!(ok, fits, "{said}");
            assert!(fits || said.contains("in the deployment x"), "{said}");
        }
        caller.refuses(&["verify", "other", "--answer", &receipt], "NOT VERIFIED");
        let words = ["receipt", "verify", &receipt, "--input", "other", "--signers", registry];
        caller.refuses(&words, "DIFFERS");
    }
    // For people the signature is one line, which is taken wherever the proof is.
    let (ok, said) = caller.run(&["sign", "message", "--deployment", "test"], b"");
    assert!(ok, "{said}");
    let line = said.lines().find_map(|line| line.strip_prefix("signature")).unwrap().trim();
    assert!(caller.run(&["verify", "message", "--signature", line], b"").0);
    caller.refuses(&["sign", "message", "--deployment", "x"], "NOT VERIFIED");
    // A registry without the mode has no batch signer.
    let plain = json!({"signers": [system_tests::proxy::entry(KID, &key)]});
    caller.write("plain.json", plain.to_string().as_bytes());
    caller.refuses(&["sign", "message", "--signers", "plain.json"], "NOT VERIFIED");
    // The proof of another leaf of the same batch is not this record's.
    let client = proxy.http2_client(ALICE).await;
    for (at, answer) in answers(ask(&client, 0..3)).await {
        let verify = json!({"message": STANDARD.encode(message(at)), "signature": proof(&answer)});
        assert_eq!(client.post("/v1/verify", &verify).await.body["verified"], true);
    }
}
