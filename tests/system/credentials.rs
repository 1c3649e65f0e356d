//! Credentials that are rotated, expire or are refused: read again without a restart, once for all
//! signers, and never in a storm.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::{Fault, Imds, Key, Kind, Operation, Proxy, ProxyBuilder, World, eventually};

use crate::ALICE;
use crate::doctor::{doctor, of};

/// What KMS says of credentials that it does not take.
const REFUSED: [&str; 8] = [
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "AccessDeniedException",
    "MissingAuthenticationToken",
];

/// A profile of the access key `key`.
fn profile(key: &str) -> String {
    format!(
        "[default]\naws_access_key_id = {key}\naws_secret_access_key = test\n\
         aws_session_token = test\n"
    )
}

/// Replaces a file as a rotation does: whole, by a rename.
fn replace(world: &World, name: &str, text: &str) -> PathBuf {
    let next = world.scratch.write(&format!("{name}.next"), text);
    let file = world.scratch.path(name);
    std::fs::rename(next, &file).unwrap();
    file
}

/// A proxy whose credentials are in a profile.
fn with_profile<'w>(world: &'w World, key: &Key) -> ProxyBuilder<'w> {
    let file = world.scratch.path("credentials").display().to_string();
    let builder = world.proxy().without_credentials().signer("ec", key).caller(ALICE, &["ec"]);
    builder.environment("AWS_SHARED_CREDENTIALS_FILE", &file)
}

/// A proxy with those signers whose credentials are of instance metadata.
fn with_metadata<'w>(world: &'w World, imds: &Imds, keys: &[Key]) -> ProxyBuilder<'w> {
    let builder = world
        .proxy()
        .without_credentials()
        .environment("AWS_EC2_METADATA_DISABLED", "false")
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint);
    let kids: Vec<_> = (0..keys.len()).map(|number| format!("s{number}")).collect();
    let builder =
        kids.iter().zip(keys).fold(builder, |builder, (kid, key)| builder.signer(kid, key));
    let kids: Vec<_> = kids.iter().map(String::as_str).collect();
    builder.caller(ALICE, &kids)
}

async fn signs(proxy: &Proxy<'_>, kid: &str) -> bool {
    proxy.client(ALICE).await.sign_message(kid, b"hi").await.status == 200
}

#[tokio::test]
async fn a_file_that_is_replaced_is_read_again_and_no_request_is_refused() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    replace(&world, "credentials", &profile("KEY0"));
    world.kms.let_in(&["KEY0"], REFUSED[0]);
    let proxy = with_profile(&world, &key).start().await;
    let client = proxy.client(ALICE).await;
    for (number, code) in REFUSED.into_iter().enumerate() {
        assert_eq!(client.sign_message("ec", b"hi").await.status, 200, "before {code}");
        let next = format!("KEY{}", number + 1);
        replace(&world, "credentials", &profile(&next));
        let refused = world.kms.refused();
        world.kms.let_in(&[next.as_str()], code);
        // The very next one is signed with the new credentials, whoever met the refusal first.
        let answer = client.sign_message("ec", b"hi").await;
        assert_eq!(answer.status, 200, "{code}: {answer:?}");
        assert!(world.kms.refused() > refused, "{code} was never met");
        assert_eq!(doctor(&proxy).0, 0, "{code}");
    }
    assert_eq!(proxy.health().await.status, 200);
}

#[tokio::test]
async fn credentials_that_expired_serve_again_once_their_file_is_whole() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let file = replace(&world, "credentials", &profile("OLD"));
    world.kms.let_in(&["OLD"], "ExpiredTokenException");
    let proxy = with_profile(&world, &key).start().await;
    world.kms.let_in(&["NEW"], "ExpiredTokenException");
    proxy.unhealthy_for("key_unavailable").await;
    // The doctor sees what callers see, and whose credentials those are.
    let (code, report) = doctor(&proxy);
    let (state, detail) = of(&report, "credentials");
    assert_eq!((code, state), (1, "failed"), "{report:#}");
    for words in
        ["ExpiredTokenException; renew the credentials", "access key ...OLD of profile file"]
    {
        assert!(detail.contains(words), "{words}: {report:#}");
    }
    assert!(!detail.contains("test"), "{detail}");
    // Written in place and halfway: what is no profile is not served with, and not the last word.
    let whole = profile("NEW");
    for torn in ["", "[default]\naws_access_key", &whole[..whole.len() / 2]] {
        let refused = world.kms.refused();
        std::fs::write(&file, torn).unwrap();
        eventually("it was looked at", || async {
            (world.kms.refused() > refused + 1).then_some(())
        })
        .await;
        assert!(!signs(&proxy, "ec").await, "{torn:?}");
    }
    std::fs::write(&file, whole).unwrap();
    proxy.healthy().await;
    assert!(signs(&proxy, "ec").await);
    let (code, report) = doctor(&proxy);
    assert_eq!(code, 0, "{report:#}");
    assert!(of(&report, "credentials").1.contains("access key ...NEW"), "{report:#}");
    let said = proxy.process.output();
    assert!(said.contains(r#""code":"ExpiredTokenException""#), "{said}");
    assert!(!said.contains("aws_secret"), "{said}");
}

#[tokio::test]
async fn sixty_signers_ask_instance_metadata_once_and_once_more_when_it_is_refused() {
    let world = World::new();
    let imds = Imds::start("FIRST");
    world.kms.let_in(&["FIRST"], "ExpiredTokenException");
    let keys: Vec<_> = (0..60).map(|_| world.kms.key(Kind::P256)).collect();
    let proxy = with_metadata(&world, &imds, &keys).start().await;
    assert_eq!(imds.fetched(), 1);
    assert!(of(&doctor(&proxy).1, "credentials").1.contains("of instance metadata, loaded "));
    imds.gives("SECOND", time::Duration::HOUR);
    world.kms.let_in(&["SECOND"], "ExpiredTokenException");
    eventually("the new ones", || async {
        let kids = ["s0", "s59"];
        let signed = [signs(&proxy, kids[0]).await, signs(&proxy, kids[1]).await];
        (signed == [true; 2]).then_some(())
    })
    .await;
    proxy.healthy().await;
    assert_eq!(imds.fetched(), 2, "each of 60 signers was refused, and one looked for others");
}

#[tokio::test]
async fn credentials_that_are_denied_are_loaded_again_rarely_however_many_ask() {
    let world = World::new();
    let imds = Imds::start("DENIED");
    let keys: Vec<_> = (0..20).map(|_| world.kms.key(Kind::P256)).collect();
    let proxy = with_metadata(&world, &imds, &keys).start().await;
    let before = imds.fetched();
    let began = Instant::now();
    world.kms.let_in(&[], "AccessDeniedException");
    eventually("many refusals", || async { (world.kms.refused() > 1_000).then_some(()) }).await;
    proxy.unhealthy_for("key_unavailable").await;
    let (loads, took) = (imds.fetched() - before, began.elapsed());
    assert!(loads >= 1, "never looked again");
    assert!(loads <= loads_within(took), "{loads} loads within {took:?}");
    imds.gives("LET IN", time::Duration::HOUR);
    world.kms.let_in(&["LET IN"], "AccessDeniedException");
    proxy.healthy().await;
    assert!(signs(&proxy, "s0").await);
}

/// The most loads that the back-off lets begin in that time: a quarter sooner than 0.25 s, and
/// twice that each time.
fn loads_within(took: Duration) -> u64 {
    let (mut loads, mut next) = (1, Duration::ZERO);
    let mut step = Duration::from_millis(187);
    while next < took {
        next += step;
        step *= 2;
        loads += 1;
    }
    loads
}

#[tokio::test]
async fn the_environments_own_credentials_are_not_looked_for_again() {
    let world = World::new();
    let imds = Imds::start("NEVER");
    let key = world.kms.key(Kind::P256);
    let builder = world
        .proxy()
        .environment("AWS_EC2_METADATA_DISABLED", "false")
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint);
    let proxy = builder.signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    world.kms.let_in(&["NEVER"], "UnrecognizedClientException");
    proxy.unhealthy_for("key_unavailable").await;
    eventually("many refusals", || async { (world.kms.refused() > 20).then_some(()) }).await;
    assert_eq!(imds.fetched(), 0);
    let (_, report) = doctor(&proxy);
    let detail = of(&report, "credentials").1;
    for words in ["of environment variables", "a restart alone reads others"] {
        assert!(detail.contains(words), "{report:#}");
    }
}

#[tokio::test]
async fn one_key_that_is_denied_takes_no_credentials_from_the_others() {
    let world = World::new();
    let imds = Imds::start("FIRST");
    let keys = [world.kms.key(Kind::P256), world.kms.key(Kind::P256)];
    let proxy = with_metadata(&world, &imds, &keys).start().await;
    keys[0].break_with(Fault::Error("AccessDeniedException", 400));
    // While the metadata service is away there are no others, and those that are held go on.
    imds.breaks();
    let denied = || async { (keys[0].calls(Operation::Sign) > 20).then_some(()) };
    let asking = async {
        for _ in 0..50 {
            assert!(signs(&proxy, "s1").await);
        }
    };
    tokio::join!(asking, eventually("the denied key is asked", denied));
    let state = |health: &Value, kid: &str| {
        let signers = health["signers"].as_array().unwrap().iter();
        signers.into_iter().find(|signer| signer["signer_kid"] == kid).unwrap()["state"].clone()
    };
    let health = proxy.health().await.body;
    assert_eq!(state(&health, "s1"), "open", "{health:#}");
    assert_ne!(state(&health, "s0"), "open", "{health:#}");
    keys[0].mend();
    proxy.healthy().await;
}
