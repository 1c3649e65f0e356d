//! Clients that ask for RSA by name, as most of those of KMS do, in a session with an RSA key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::breakglass::{EMERGENCY_KID, SOCKET, Signer};
use system_tests::journal::check;
use system_tests::{Client, Exchange, Fault, Kind, Proxy, Tail, World, openssl};

use super::{KID, activated, connected, qualifies};
use crate::ALICE;

/// Granted one algorithm only.
const NARROW: &str = "spiffe://test/narrow";
const MESSAGE: &[u8] = b"a message";

/// A world whose RSA signer is out, with an RSA emergency key of that many bits in a session.
async fn in_session(world: &World, bits: u32) -> (Signer<'_>, Proxy<'_>) {
    let key = world.kms.key(Kind::Rsa2048);
    let signer = world.signer().rsa(bits).replaces(KID, &key).min_outage_s(1).start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let builder = builder.caller_with(NARROW, &[(KID, &["RSASSA_PKCS1_V1_5_SHA_256"])]);
    let registered = signer.builder.registry_entries().into_iter();
    let builder =
        registered.fold(builder.breakglass(&lines), system_tests::ProxyBuilder::registered);
    let proxy = builder.start().await;
    connected(&proxy).await;
    key.break_with(Fault::Bare503);
    qualifies(&proxy).await;
    let mut request = signer.request();
    request["callers"] = json!([ALICE, NARROW]);
    activated(&signer, &proxy, &request).await;
    (signer, proxy)
}

async fn sign(client: &Client, algorithm: Option<&str>) -> system_tests::Answer {
    let mut body = json!({"signer_kid": KID, "message": STANDARD.encode(MESSAGE)});
    if let Some(algorithm) = algorithm {
        body["algorithm"] = json!(algorithm);
    }
    client.post("/v1/sign", &body).await
}

/// OpenSSL verifies each, and a checker that shares no code with us both journals.
#[tokio::test]
async fn a_client_that_asks_for_rsa_by_name_signs_in_a_session() {
    let world = World::new();
    let (signer, proxy) = in_session(&world, 3072).await;
    let pem = std::fs::read_to_string(signer.builder.path("public.pem")).unwrap();
    let alice = proxy.client(ALICE).await;
    let mut exchanges = Vec::new();
    for algorithm in Kind::Rsa3072.algorithms() {
        let answer = sign(&alice, Some(algorithm)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let named = [&answer.body["mode"], &answer.body["signer_kid"], &answer.body["algorithm"]];
        assert_eq!(named, [&json!("breakglass"), &json!(EMERGENCY_KID), &json!(algorithm)]);
        assert!(openssl::verifies_under(&pem, algorithm, MESSAGE, &answer.signature()));
        assert!(!openssl::verifies_under(&pem, algorithm, b"another", &answer.signature()));
        let verified = json!({
            "message": STANDARD.encode(MESSAGE), "signer_kid": EMERGENCY_KID,
            "algorithm": algorithm, "signature": answer.body["signature"],
        });
        let verified = alice.post("/v1/verify", &verified).await;
        assert_eq!(verified.body["verified"], true, "{}", verified.text);
        // As clients do that never name a signer.
        let unnamed = json!({
            "payload_b64": STANDARD.encode(MESSAGE), "signature_b64": answer.body["signature"],
        });
        let unnamed = alice.post("/verify", &unnamed).await;
        let found = ["verified", "signer_kid", "purpose"].map(|name| &unnamed.body[name]);
        assert_eq!(found, [&json!(true), &json!(EMERGENCY_KID), &json!("breakglass")]);
        let got = |key: &str| answer.body[key].clone();
        exchanges.push(Exchange::Signed(json!({
            "request_id": got("request_id"), "signer_kid": EMERGENCY_KID, "algorithm": algorithm,
            "message_b64": STANDARD.encode(MESSAGE), "signature_b64": got("signature"),
            "receipt": got("audit"),
        })));
    }
    let unnamed = sign(&alice, None).await;
    assert_eq!(unnamed.body["algorithm"], "RSASSA_PKCS1_V1_5_SHA_256", "{}", unnamed.text);
    // As the marketplace's clients ask.
    let body =
        json!({"data": STANDARD.encode(MESSAGE), "algorithm": "RSA_PKCS1_SHA_256", "kid": KID});
    let dialect = alice.post("/sign", &body).await;
    assert_eq!(
        (dialect.status, &dialect.body["mode"]),
        (200, &json!("breakglass")),
        "{}",
        dialect.text
    );
    assert!(openssl::verifies_under(
        &pem,
        "RSASSA_PKCS1_V1_5_SHA_256",
        MESSAGE,
        &dialect.signature()
    ));
    let journal = world.scratch.path("proxy/journal");
    let registry = world.scratch.path("proxy/signers.json");
    proxy.stop().await;
    check(&journal, &registry, &exchanges, Tail::Whole).unwrap();
    let builder = signer.builder.clone();
    signer.stop().await;
    check(&builder.journal(), &builder.path("signers.json"), &[], Tail::Whole).unwrap();
}

#[tokio::test]
async fn i1_a_session_signs_no_more_algorithms_than_were_granted() {
    let world = World::new();
    let (_signer, proxy) = in_session(&world, 2048).await;
    let narrow = proxy.client(NARROW).await;
    assert_eq!(sign(&narrow, None).await.status, 200);
    assert_eq!(sign(&narrow, Some("RSASSA_PKCS1_V1_5_SHA_256")).await.status, 200);
    for (algorithm, status, reason) in [
        ("RSASSA_PSS_SHA_256", 403, "algorithm_not_allowed"),
        ("RSASSA_PKCS1_V1_5_SHA_512", 403, "algorithm_not_allowed"),
        ("ECDSA_SHA_256", 503, "breakglass_out_of_scope"),
    ] {
        let answer = sign(&narrow, Some(algorithm)).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{}", answer.text);
    }
}
