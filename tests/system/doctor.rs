//! The doctor: for each upstream what is wrong, and what to do.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::softhsm::{signal, workers_of};
use system_tests::{Fault, Kind, Operation, Proxy, SoftHsm, World, eventually};

use crate::ALICE;
use crate::reload::edit_registry;

/// What it says of a check of the one upstream: state and detail.
pub(crate) fn of<'v>(report: &'v Value, check: &str) -> (&'v str, &'v str) {
    let checks = report["upstreams"][0]["checks"].as_array().unwrap();
    let found = checks.iter().find(|made| made["check"] == check).unwrap();
    (found["state"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

/// Exit code and report.
pub(crate) fn doctor(proxy: &Proxy<'_>) -> (i32, Value) {
    let (code, stdout, stderr) = proxy.signctl(&["--json", "doctor"]);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}")))
}

/// Whether the signer `ec` signs, of which the doctor's verdict and the next signature have to agree.
pub(crate) async fn agreed(proxy: &Proxy<'_>, what: &str) -> bool {
    let client = proxy.client(ALICE).await;
    let signs = || async { client.sign_message("ec", b"hi").await.status == 200 };
    eventually(&format!("{what} holds still while it is looked at"), || async {
        let before = signs().await;
        let (_, report) = doctor(proxy);
        if signs().await != before {
            return None;
        }
        let of_signer = report["signers"].as_array().unwrap().iter();
        let of_signer = of_signer.into_iter().find(|signer| signer["signer_kid"] == "ec").unwrap();
        assert_eq!(of_signer["signs"], before, "{what}: {report:#}");
        let upstreams = report["upstreams"].as_array().unwrap();
        if upstreams.len() == 1 {
            assert_eq!(upstreams[0]["ok"], before, "{what}: {report:#}");
        }
        Some(before)
    })
    .await
}

#[tokio::test]
async fn all_is_well_where_every_upstream_signs_a_canary() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let (kms, token) = (world.kms.key(Kind::P256), hsm.key("ec", Kind::Ed25519));
    let proxy = world
        .proxy()
        .signer("a", &kms)
        .token("b", &hsm, &token, "")
        .caller(ALICE, &["a", "b"])
        .start()
        .await;
    let (code, report) = doctor(&proxy);
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report:#}");
    let upstreams = report["upstreams"].as_array().unwrap();
    let named: Vec<_> = upstreams
        .iter()
        .map(|upstream| (upstream["signer_kid"].as_str(), upstream["provider"].as_str()))
        .collect();
    assert_eq!(named, [(Some("a"), Some("aws-kms")), (Some("b"), Some("pkcs11"))]);
    for check in ["tcp", "clock", "credentials", "key", "signature", "gate"] {
        assert_eq!(of(&report, check).0, "ok", "{check}: {report:#}");
    }
    for check in ["dns", "tls"] {
        assert_eq!(of(&report, check).0, "not_applicable", "{check}: {report:#}");
    }
    let (code, table, _) = proxy.signctl(&["doctor"]);
    assert_eq!(code, 0);
    assert!(table.contains("\n  signature     ok ") && table.ends_with("all is well\n"), "{table}");
    assert!(table.contains("\n  dns to clock  -   the proxy uses no network for it\n"), "{table}");
}

#[tokio::test]
async fn what_a_kms_does_not_give_is_named_with_what_to_do() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    for (operation, code, check, advice) in [
        (Operation::GetPublicKey, "AccessDeniedException", "key", "allow kms:GetPublicKey"),
        (Operation::GetPublicKey, "DisabledException", "key", "enable it"),
        (Operation::GetPublicKey, "NotFoundException", "key", "correct key_id"),
        (Operation::GetPublicKey, "ExpiredTokenException", "credentials", "renew the credentials"),
        (Operation::GetPublicKey, "UnrecognizedClientException", "credentials", "of this account"),
        (Operation::Sign, "AccessDeniedException", "signature", "allow kms:Sign"),
        (Operation::Sign, "ThrottlingException", "signature", "a higher quota"),
    ] {
        key.set(operation, Fault::Error(code, 400));
        let (exit, report) = doctor(&proxy);
        key.mend();
        assert_eq!((exit, &report["ok"]), (1, &json!(false)), "{code}: {report:#}");
        let (state, detail) = of(&report, check);
        assert!(state == "failed" && detail.contains(code), "{code}: {report:#}");
        assert!(detail.contains(advice), "{advice}: {detail}");
        assert_eq!(of(&report, "tcp").0, "ok");
    }
    // Looking is no evidence: nothing of this shut the gate.
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(doctor(&proxy).0, 0);
}

#[tokio::test]
async fn another_key_than_the_registered_one_is_named_and_not_asked() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer_registered_as("ec", &key, &other)
        .caller(ALICE, &["ec"])
        .start_shut()
        .await;
    proxy.unhealthy_for("sealed").await;
    let (code, report) = doctor(&proxy);
    assert_eq!(code, 1);
    let (state, detail) = of(&report, "key");
    assert!(state == "failed" && detail.contains("not the registered one"), "{report:#}");
    assert_eq!(of(&report, "signature").0, "skipped");
    assert_eq!(key.calls(Operation::Sign), 0);
}

#[tokio::test]
async fn what_the_registry_ended_is_said_with_the_time_and_what_to_do() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for (field, time, said, fix) in [
        (
            "notAfter",
            "2026-01-31T01:00:00+01:00",
            "ended at 2026-01-31T00:00:00Z",
            "later notAfter",
        ),
        ("revokedAt", "2026-01-01T00:00:00Z", "revoked at 2026-01-01T00:00:00Z", "another key"),
    ] {
        edit_registry(&world, "ec", field, json!(time));
        assert_eq!(proxy.signctl(&["reload"]).0, 0);
        proxy.unhealthy_for("key_unavailable").await;
        let (code, report) = doctor(&proxy);
        assert_eq!((code, &report["signers"][0]["signs"]), (1, &json!(false)), "{report:#}");
        for check in ["key", "gate"] {
            let (state, detail) = of(&report, check);
            assert_eq!(state, "failed", "{report:#}");
            for words in ["the registry says", said, fix, "`signctl reload`"] {
                assert!(detail.contains(words), "{words}: {report:#}");
            }
        }
        assert_eq!(of(&report, "signature").0, "skipped", "{report:#}");
        edit_registry(&world, "ec", field, Value::Null);
        assert_eq!(proxy.signctl(&["reload"]).0, 0);
    }
    proxy.healthy().await;
    assert!(agreed(&proxy, "a key that the registry lets sign again").await);
}

#[tokio::test]
async fn the_way_to_an_endpoint_is_followed_as_far_as_it_goes() {
    let (world, key) = World::one_signer();
    // A server that is really there, with a certificate of an authority that nobody trusts.
    let there = world.proxy_of(&key).start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let untrusted = format!("https://{}", there.listen.replace("127.0.0.1", "localhost"));
    let trusted = [("SSL_CERT_FILE", world.scratch.path("proxy/ca.pem").display().to_string())];
    for (name, endpoint, environment, check, words) in [
        ("tcp", format!("http://{nobody}"), &[][..], "tcp", "look at security groups"),
        ("dns", "https://nowhere.invalid".to_owned(), &[], "dns", "look at the resolver"),
        ("tls", untrusted.clone(), &[], "tls", "look at the platform's authorities"),
        ("trusted", untrusted, &trusted, "clock", "no answer to GET /"),
    ] {
        let builder = world.proxy().directory(name).endpoint(&endpoint).signer("ec", &key);
        let builder = environment
            .iter()
            .fold(builder, |builder, (variable, value)| builder.environment(variable, value));
        let proxy = builder.caller(ALICE, &["ec"]).start_shut().await;
        let (code, report) = doctor(&proxy);
        assert_eq!(code, 1, "{report:#}");
        let (state, detail) = of(&report, check);
        assert!(state == "failed" && detail.contains(words), "{name}: {report:#}");
        if name == "trusted" {
            assert_eq!(of(&report, "tls").0, "ok", "{report:#}");
            assert!(of(&report, "tls").1.contains("ends at"), "{report:#}");
        } else {
            assert_eq!(of(&report, "signature").0, "skipped");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_named_with_what_to_do() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    std::fs::write(hsm.pin_file(), "0000").unwrap();
    let proxy = world.proxy().token("ec", &hsm, &key, "").caller(ALICE, &["ec"]).start_shut().await;
    proxy.process.says("CKR_PIN_INCORRECT").await;
    let report = eventually("a refused PIN", || async {
        let (_, report) = doctor(&proxy);
        (of(&report, "credentials").0 == "failed").then_some(report)
    })
    .await;
    for words in ["C_Login: CKR_PIN_INCORRECT", "write the right PIN there"] {
        assert!(of(&report, "credentials").1.contains(words), "{report:#}");
    }
    assert_eq!(of(&report, "tcp").0, "not_applicable");
    assert_eq!(of(&report, "key").0, "skipped");
    let (_, table, _) = proxy.signctl(&["doctor"]);
    assert!(table.ends_with("something is wrong; fix ec at payments: credentials\n"), "{table}");
    assert_eq!(hsm.said("C_Login"), 1, "looking tries no PIN");
    std::fs::write(hsm.pin_file(), system_tests::softhsm::PIN).unwrap();
    proxy.healthy().await;
    assert_eq!(doctor(&proxy).0, 0);
    hsm.remove();
    for worker in workers_of(proxy.process.pid()) {
        signal(worker, Signal::SIGKILL);
    }
    eventually("the token is missed", || async {
        let (_, report) = doctor(&proxy);
        let (state, detail) = of(&report, "key");
        let words = ["insert it or correct the label", "look at the token, at the configuration"];
        let is_said = words.iter().all(|words| detail.contains(words));
        (state == "failed" && is_said).then_some(())
    })
    .await;
}
