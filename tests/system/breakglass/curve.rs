//! A client that names an algorithm with its curve, in a session with a key of another curve.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::breakglass::{EMERGENCY_KID, SOCKET};
use system_tests::{Fault, Kind, ProxyBuilder, World};

use super::{KID, activated, connected, qualifies, records};
use crate::ALICE;

/// `ECDSA_SHA_256` is the algorithm of both curves, so that the name of the algorithm alone does not tell them apart.
#[tokio::test]
async fn a_curve_that_a_request_names_is_not_answered_with_another_one_in_a_session() {
    let world = World::new();
    let key = world.kms.key(Kind::Secp256k1);
    let signer = world.signer().p256().replaces(KID, &key).min_outage_s(1).start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]).breakglass(&lines);
    let registered = signer.builder.registry_entries().into_iter();
    let proxy = registered.fold(builder, ProxyBuilder::registered).start().await;
    connected(&proxy).await;
    let alice = proxy.client(ALICE).await;
    let sign = async |algorithm: &str| {
        let message = STANDARD.encode(b"hi");
        let body = json!({"signer_kid": KID, "message": message, "algorithm": algorithm});
        alice.post("/v1/sign", &body).await
    };
    let refused = async |algorithm: &str| {
        let answer = sign(algorithm).await;
        let got = (answer.status, answer.reason());
        assert_eq!(got, (400, "algorithm_not_supported"), "{algorithm}: {}", answer.text);
    };
    assert_eq!(sign("ecdsa-secp256k1-sha256").await.status, 200);
    refused("ecdsa-p256-sha256").await;

    key.break_with(Fault::Bare503);
    qualifies(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    refused("ecdsa-secp256k1-sha256").await;
    for algorithm in ["ecdsa-p256-sha256", "ECDSA_SHA_256"] {
        let answer = sign(algorithm).await;
        let named = (answer.status, &answer.body["signer_kid"]);
        assert_eq!(named, (200, &json!(EMERGENCY_KID)), "{algorithm}: {}", answer.text);
    }
    assert_eq!(records(&signer.builder.journal(), "emergency_signed").len(), 2);
}
