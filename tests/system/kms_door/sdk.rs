//! `aws-sdk-kms` as its users have it. How often it asks is counted where its requests leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::{
    BehaviorVersion, Config, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
};
use aws_sdk_kms::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, MessageType, SigningAlgorithmSpec};
use aws_sdk_kms::{Client, operation::sign::builders::SignFluentBuilder};
use serde_json::json;
use system_tests::{Fault, Kind, World, openssl};

use super::{ID, REGION, SECRET, with_key_pair};

const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::EcdsaSha256;

/// How many requests left, also those that were sent again.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<AtomicUsize>);

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Sent {
    /// That this is such an exception, which took one request.
    #[track_caller]
    fn refused<T, E: ProvideErrorMetadata>(&self, result: Result<T, E>, code: &str, word: &str) {
        let Err(error) = result else { panic!("{code}: it is no refusal") };
        assert_eq!(error.code(), Some(code), "{:?}", error.meta());
        assert!(error.message().unwrap_or_default().starts_with(word), "{:?}", error.meta());
        assert_eq!(self.0.swap(0, Ordering::Relaxed), 1, "{code}");
    }
}

fn client(place: &str) -> Client {
    client_with(place, SECRET, Sent::default())
}

fn client_with(place: &str, secret: &str, sent: Sent) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(format!("http://{place}"))
        .credentials_provider(Credentials::new(ID, secret, None, None, "test"))
        .interceptor(sent)
        .build();
    Client::from_conf(config)
}

fn sign(kms: &Client, kid: &str) -> SignFluentBuilder {
    let sign = kms.sign().key_id(kid).message_type(MessageType::Raw).signing_algorithm(ALGORITHM);
    sign.message(Blob::new("hello"))
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

/// What the SDK knows of every curve and parameter set, the door says of its signers.
#[tokio::test]
async fn the_rust_sdk_signs_with_every_curve_and_parameter_set() {
    let world = World::new();
    let kinds = [Kind::Secp256k1, Kind::P521, Kind::MlDsa44, Kind::MlDsa65, Kind::MlDsa87];
    let keys = kinds.map(|kind| (kind.registry_algorithm(), world.kms.key(kind)));
    let kids = keys.each_ref().map(|(kid, _)| *kid);
    let builder = keys.iter().fold(world.proxy(), |builder, (kid, key)| builder.signer(kid, key));
    let builder = builder.caller("local:sdk", &kids);
    let proxy = with_key_pair(&world, builder).start().await;
    let kms = client(&proxy.local[0]);
    for (kid, key) in &keys {
        let algorithm = SigningAlgorithmSpec::from(key.kind.algorithm());
        let ask = |message: &[u8], kind| {
            let sign = kms.sign().key_id(*kid).message_type(kind).message(Blob::new(message));
            sign.signing_algorithm(algorithm.clone()).send()
        };
        let signed = ask(b"hello", MessageType::Raw).await.unwrap();
        let signature = signed.signature().unwrap();
        assert!(openssl::verifies(key, b"hello", signature.as_ref()), "{kid}");
        let verify = kms.verify().key_id(*kid).signing_algorithm(algorithm.clone());
        let verify = verify.message(Blob::new("hello")).signature(signature.clone());
        assert!(verify.send().await.unwrap().signature_valid(), "{kid}");
        let public = kms.get_public_key().key_id(*kid).send().await.unwrap();
        assert_eq!(public.key_spec().map(KeySpec::as_str), Some(key.kind.key_spec()));
        assert_eq!(public.signing_algorithms(), std::slice::from_ref(&algorithm));
        let described = kms.describe_key().key_id(*kid).send().await.unwrap();
        let described = described.key_metadata().unwrap();
        assert_eq!(described.key_spec().map(KeySpec::as_str), Some(key.kind.key_spec()));
        // Mu stands for a message that the proxy does not see, so that it could not verify.
        let error = ask(&[7; 64], MessageType::ExternalMu).await.unwrap_err();
        assert_eq!(error.code(), Some("ValidationException"), "{kid}: {error:?}");
        if key.kind.signs_messages() {
            let error = ask(&[7; 32], MessageType::Digest).await.unwrap_err();
            assert_eq!(error.code(), Some("ValidationException"), "{kid}: {error:?}");
        }
    }
}

#[tokio::test]
async fn the_rust_sdk_gets_each_refusal_at_once() {
    let world = World::new();
    let [key, other] = [world.kms.key(Kind::P256), world.kms.key(Kind::P256)];
    let builder = world.proxy().rare_canaries().signer("ec", &key).signer("other", &other);
    let builder = builder.caller("local:sdk", &["ec"]).caller("local:else", &["other"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let sent = Sent::default();
    let kms = client_with(&proxy.local[0], SECRET, sent.clone());
    let refused = |result: Result<_, _>, code: &str, word: &str| sent.refused(result, code, word);
    refused(sign(&kms, "none").send().await, "NotFoundException", "signer_unknown");
    let (denied, word) = ("AccessDeniedException", "caller_not_authorized");
    refused(sign(&kms, "other").send().await, denied, word);
    refused(sign(&kms, "other").dry_run(true).send().await, denied, word);
    let granted = "The request would have been granted";
    refused(sign(&kms, "ec").dry_run(true).send().await, "DryRunOperationException", granted);
    let (usage, word) = ("InvalidKeyUsageException", "algorithm_not_supported");
    for other in [SigningAlgorithmSpec::EcdsaSha384, SigningAlgorithmSpec::from("SM2DSA")] {
        refused(sign(&kms, "ec").signing_algorithm(other).send().await, usage, word);
    }
    let digest = sign(&kms, "ec").message_type(MessageType::Digest).send().await;
    refused(digest, "ValidationException", "invalid_digest");
    let unsupported = "UnsupportedOperationException";
    sent.refused(kms.create_key().send().await, unsupported, "not_found");
    let deletion = kms.schedule_key_deletion().key_id("ec").send().await;
    sent.refused(deletion, unsupported, "not_found");
    let public = kms.get_public_key().key_id("none").send().await;
    sent.refused(public, "NotFoundException", "signer_unknown");
    let liar = client_with(&proxy.local[0], "another secret", sent.clone());
    refused(sign(&liar, "ec").send().await, "InvalidSignatureException", "unauthenticated");
    key.break_with(Fault::Hang);
    refused(sign(&kms, "ec").send().await, "KMSInternalException", "indeterminate");
    key.mend();
    let freeze = proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
    assert_eq!(freeze.status, 200);
    refused(sign(&kms, "ec").send().await, "KMSInvalidStateException", "frozen");
    let unfreeze = proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    assert_eq!(unfreeze.status, 200);
    assert!(sign(&kms, "ec").send().await.is_ok());
}

#[tokio::test]
async fn the_rust_sdk_sends_again_what_is_throttled() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().rare_canaries().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder).start().await;
    key.break_with(Fault::Error("ThrottlingException", 400));
    let sent = Sent::default();
    let kms = client_with(&proxy.local[0], SECRET, sent.clone());
    let error = sign(&kms, "ec").send().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ThrottlingException"), "{error:?}");
    assert_eq!(sent.0.load(Ordering::Relaxed), 3, "as often as it tries by itself");
}
