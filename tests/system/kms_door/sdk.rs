//! `aws-sdk-kms` as its users have it. How often it asks is what the door counts.

use aws_sdk_kms::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kms::error::ProvideErrorMetadata as _;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, MessageType, SigningAlgorithmSpec};
use aws_sdk_kms::{Client, operation::sign::builders::SignFluentBuilder};
use serde_json::json;
use system_tests::{Fault, Kind, Proxy, World, openssl};

use super::{ID, REGION, SECRET, with_key_pair};

const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::EcdsaSha256;

fn client(place: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(format!("http://{place}"))
        .credentials_provider(Credentials::new(ID, SECRET, None, None, "test"))
        .build();
    Client::from_conf(config)
}

fn sign(kms: &Client, kid: &str) -> SignFluentBuilder {
    let sign = kms.sign().key_id(kid).message_type(MessageType::Raw).signing_algorithm(ALGORITHM);
    sign.message(Blob::new("hello"))
}

/// How many requests to sign the door has refused, whatever for.
async fn refused(proxy: &Proxy<'_>) -> f64 {
    let mut all = 0.0;
    for result in ["refused", "error"] {
        let series =
            format!("signing_proxy_door_requests_total{{door=\"local\",result=\"{result}\"}}");
        all += proxy.metric(&series).await.unwrap_or_default();
    }
    all
}

#[tokio::test]
async fn the_rust_sdk_signs_verifies_fetches_and_describes() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let kms = client(&proxy.local[0]);
    let signed = sign(&kms, "ec").send().await.unwrap();
    let signature = signed.signature().unwrap();
    assert!(openssl::verifies(&key, b"hello", signature.as_ref()));
    let verify = |message: &str| {
        let verify = kms.verify().key_id("ec").signing_algorithm(ALGORITHM);
        verify.message(Blob::new(message)).signature(signature.clone()).send()
    };
    assert!(verify("hello").await.unwrap().signature_valid());
    let error = verify("hellO").await.unwrap_err().into_service_error();
    assert!(error.is_kms_invalid_signature_exception(), "{error:?}");
    let public = kms.get_public_key().key_id("ec").send().await.unwrap();
    assert_eq!(public.key_spec(), Some(&KeySpec::EccNistP256));
    assert_eq!(public.signing_algorithms(), [ALGORITHM]);
    let described = kms.describe_key().key_id("ec").send().await.unwrap();
    assert!(described.key_metadata().unwrap().enabled());
    assert_eq!(kms.list_keys().send().await.unwrap().keys()[0].key_id(), Some("ec"));
    assert!(kms.list_aliases().send().await.unwrap().aliases().is_empty());
}

#[tokio::test]
async fn the_rust_sdk_gets_each_refusal_at_once() {
    let world = World::new();
    let [key, other] = [world.kms.key(Kind::P256), world.kms.key(Kind::P256)];
    let builder = world.proxy().rare_canaries().signer("ec", &key).signer("other", &other);
    let builder = builder.caller("local:sdk", &["ec"]).caller("local:else", &["other"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let kms = client(&proxy.local[0]);
    let each = async |kid: &str, code: &str, word: &str| {
        let before = refused(&proxy).await;
        let error = sign(&kms, kid).send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some(code), "{error:?}");
        assert!(error.message().unwrap_or_default().starts_with(word), "{error:?}");
        assert!((refused(&proxy).await - before - 1.0).abs() < 0.5, "{code}: one request");
    };
    each("none", "NotFoundException", "signer_unknown").await;
    each("other", "AccessDeniedException", "caller_not_authorized").await;
    key.break_with(Fault::Hang);
    each("ec", "KMSInternalException", "indeterminate").await;
    key.mend();
    let freeze = proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
    assert_eq!(freeze.status, 200);
    each("ec", "KMSInvalidStateException", "frozen").await;
}
