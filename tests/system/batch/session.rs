//! A batch signer in a break-glass session: the emergency signer makes a tree of one leaf.

use serde_json::json;
use signing_core::Input;
use system_tests::breakglass::{EMERGENCY_KID, SOCKET, Signer};
use system_tests::{Fault, Key, Kind, Proxy, ProxyBuilder, World, eventually};

use super::{ALICE, KID, proof, proves, registered};
use crate::breakglass::{activated, connected};

/// Canaries notice the outage, so they are not rare here.
fn canaries<'w>(world: &'w World, key: &Key) -> ProxyBuilder<'w> {
    world.proxy().batch_signer(KID, key).caller(ALICE, &[KID])
}

async fn in_session<'w>(
    world: &'w World,
    key: &Key,
    emergency: system_tests::breakglass::SignerBuilder<'w>,
) -> (Signer<'w>, Proxy<'w>) {
    let signer = emergency.replaces(KID, key).min_outage_s(1).start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let entries = signer.builder.registry_entries().into_iter();
    let proxy = entries.fold(canaries(world, key), ProxyBuilder::registered);
    let proxy = proxy.breakglass(&lines).start().await;
    connected(&proxy).await;
    key.break_with(Fault::Bare503);
    eventually("an outage that is long enough", || async {
        let status = proxy.admin("GET", "/v1/breakglass", json!(null)).await.body;
        (status["outages"][0]["qualifies"] == true).then_some(())
    })
    .await;
    activated(&signer, &proxy, &signer.request()).await;
    (signer, proxy)
}

#[tokio::test]
async fn the_emergency_signer_makes_a_tree_of_one_leaf() {
    for is_p256 in [false, true] {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        let emergency = if is_p256 { world.signer().p256() } else { world.signer() };
        let (emergency, proxy) = in_session(&world, &key, emergency.batch()).await;
        let alice = proxy.client(ALICE).await;
        let answer = alice.sign_message(KID, b"pay 7").await;
        let said = [&answer.body["mode"], &answer.body["signer_kid"]];
        assert_eq!(said, [&json!("breakglass"), &json!(EMERGENCY_KID)], "{answer:?}");
        let registered = registered(&emergency.builder.registry_entries(), EMERGENCY_KID);
        proves(&registered, &Input::Message(b"pay 7".to_vec()), proof(&answer));
        assert!(proof(&answer).contains("\nindex 0\n"));
        let long = vec![b'x'; 100_000];
        let answer = alice.sign_message(KID, &long).await;
        proves(&registered, &Input::Message(long), proof(&answer));
        // The proxy says the same of it, and a client that names nobody finds it.
        let text = proof(&alice.sign_message(KID, b"pay 8").await).to_owned();
        let verify = json!({"message": "cGF5IDg=", "signature": text});
        let verified = alice.post("/v1/verify", &verify).await;
        assert_eq!(verified.body["verified"], true, "{verified:?}");
        assert_eq!(verified.body["signer_kid"], EMERGENCY_KID);
    }
}

#[tokio::test]
async fn an_emergency_key_of_the_other_mode_signs_nothing_for_it() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    // The emergency signer's own registry does not say that the signer is one of batches: else it begins no session.
    let (_emergency, proxy) = in_session(&world, &key, world.signer()).await;
    let refused = proxy.client(ALICE).await.sign_message(KID, b"pay 7").await;
    assert_eq!((refused.status, refused.reason()), (503, "breakglass_out_of_scope"), "{refused:?}");
    assert!(refused.body["detail"].as_str().unwrap().contains("no batch signer"), "{refused:?}");
}
