//! Keys on a PKCS#11 token: Debian's SoftHSM2 behind the worker, openssl behind the answers.

use nix::sys::signal::Signal;
use system_tests::softhsm::{PIN, is_worker, workers_of};
use system_tests::{Key, Kind, SoftHsm, World, eventually, openssl};

use crate::ALICE;
use crate::algorithms::openssl_verifies_every_algorithm;

#[tokio::test]
async fn i1_openssl_verifies_every_algorithm_of_every_kind_of_key_on_a_token() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let keys: Vec<(&str, Key)> = [
        ("ed", Kind::Ed25519),
        ("p256", Kind::P256),
        ("secp256k1", Kind::Secp256k1),
        ("p384", Kind::P384),
        ("p521", Kind::P521),
        ("rsa", Kind::Rsa2048),
    ]
    .map(|(kid, kind)| (kid, hsm.key(kid, kind)))
    .into();
    let kms = world.kms.key(Kind::P256);
    let builder = keys.iter().fold(world.proxy().signer("kms", &kms), |builder, (kid, key)| {
        builder.token(kid, &hsm, key, "threads = 2")
    });
    let proxy = builder
        .caller(ALICE, &["kms", "ed", "p256", "secp256k1", "p384", "p521", "rsa"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in &keys {
        openssl_verifies_every_algorithm(&alice, kid, key).await;
    }
    // A KMS beside them is none the worse for it.
    assert_eq!(alice.sign_message("kms", b"hi").await.status, 200);
    let text = proxy.metrics().await;
    for sample in [
        r#"kms_sign_latency_count{upstream="pkcs11",region="payments",outcome="signed"}"#,
        r#"kms_sign_latency_count{upstream="aws-kms",region="eu-test-1",outcome="signed"}"#,
    ] {
        assert!(text.contains(sample), "{sample} is missing in\n{text}");
    }
    assert_eq!(workers_of(proxy.process.pid()).len(), keys.len());
}

#[tokio::test]
async fn many_callers_at_once_get_signatures_of_their_own() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy =
        world.proxy().token("ec", &hsm, &key, "threads = 3").caller(ALICE, &["ec"]).start().await;
    let alice = proxy.http2_client(ALICE).await;
    let asked: Vec<_> = (0..60)
        .map(|number| {
            let alice = alice.clone();
            let message = format!("message {number}");
            tokio::spawn(async move {
                let answer = alice.sign_message("ec", message.as_bytes()).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                (message, answer.signature())
            })
        })
        .collect();
    for asked in asked {
        let (message, signature) = asked.await.unwrap();
        assert!(openssl::verifies(&key, message.as_bytes(), &signature), "{message}");
    }
}

#[tokio::test]
async fn the_worker_sees_neither_the_clouds_credentials_nor_has_the_pin_in_sight_of_others() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = world.proxy().token("ec", &hsm, &key, "").caller(ALICE, &["ec"]).start().await;
    let pid = proxy.process.pid();
    let workers = workers_of(pid);
    assert_eq!(workers.len(), 1);
    for id in workers.iter().chain([&pid]) {
        for file in ["environ", "cmdline"] {
            let text = std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap();
            assert!(!text.contains(PIN), "{file} of {id} holds the PIN");
            assert!(*id == pid || !text.contains("AWS_"), "{file} of the worker: {text}");
        }
        let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
        assert_eq!(maps.contains("libsofthsm2.so"), *id != pid, "only the worker loads it");
    }
    assert!(!proxy.process.output().contains(PIN));
}

#[tokio::test]
async fn the_worker_ends_with_the_proxy_however_that_ends_and_not_before() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    for (name, stop) in [("stopped", Signal::SIGTERM), ("killed", Signal::SIGKILL)] {
        let mut proxy = world
            .proxy()
            .directory(name)
            .token("ec", &hsm, &key, "")
            .caller(ALICE, &["ec"])
            .start()
            .await;
        let workers = workers_of(proxy.process.pid());
        assert_eq!(workers.len(), 1);
        let worker = workers[0];
        // What an orchestrator sends to every process at once does not end it before the drain.
        system_tests::softhsm::signal(worker, Signal::SIGTERM);
        system_tests::softhsm::signal(worker, Signal::SIGINT);
        let alice = proxy.client(ALICE).await;
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
        assert_eq!(workers_of(proxy.process.pid()), [worker]);
        proxy.process.signal(stop);
        proxy.process.ended().await;
        let gone = || std::future::ready((!is_worker(worker)).then_some(()));
        eventually(&format!("the end of the worker of a {name} proxy"), gone).await;
    }
}

#[tokio::test]
async fn i10_a_token_with_another_key_than_the_registered_one_seals_the_signer() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let (key, other) = (hsm.key("ec", Kind::P256), hsm.key("other", Kind::P256));
    let proxy = world
        .proxy()
        .token("ec", &hsm, &other, "")
        .registered(system_tests::proxy::entry("ec", &key))
        .caller(ALICE, &["ec"])
        .start_shut()
        .await;
    proxy.unhealthy_for("sealed").await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "sealed");
}

#[tokio::test]
async fn a_kms_and_a_token_with_the_same_key_stand_in_for_each_other() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = world.kms.key(Kind::P256);
    let held = hsm.same_key("ec", &key);
    let proxy = world
        .proxy()
        .signer_with_token("ec", &key, &hsm, &held)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let signed_by = |upstream: &str| {
        let series = format!(r#"kms_sign_latency_count{{{upstream},outcome="signed"}}"#);
        let proxy = &proxy;
        async move { proxy.metric(&series).await.unwrap_or_default() }
    };
    let (of_kms, of_token) =
        (r#"upstream="aws-kms",region="eu-test-1""#, r#"upstream="pkcs11",region="payments""#);
    // Asks until that upstream has signed for the caller, whatever canaries do meanwhile.
    let serves = async |upstream: &str| {
        let before = signed_by(upstream).await;
        eventually(&format!("ten more signatures by {upstream}"), || async {
            let answer = alice.sign_message("ec", b"hi").await;
            assert!(answer.status != 200 || openssl::verifies(&key, b"hi", &answer.signature()));
            (answer.status == 200 && signed_by(upstream).await >= before + 10.0).then_some(())
        })
        .await;
    };
    serves(of_kms).await;
    key.break_with(system_tests::Fault::Error("KMSInternalException", 500));
    serves(of_token).await;
    let stopped = signed_by(of_kms).await;
    serves(of_token).await;
    assert!((signed_by(of_kms).await - stopped).abs() < 0.5, "a broken KMS signs nothing");
    key.mend();
    hsm.remove();
    system_tests::softhsm::signal(workers_of(proxy.process.pid())[0], Signal::SIGKILL);
    serves(of_kms).await;
    hsm.put_back();
    serves(of_kms).await;
    proxy.healthy().await;
}

#[tokio::test]
async fn two_slots_with_the_same_key_stand_in_for_each_other() {
    let world = World::new();
    let hsm = SoftHsm::new("first");
    let key = hsm.key("ec", Kind::P256);
    hsm.another_slot("second", &key);
    let proxy = world.proxy().tokens("ec", &hsm, &key, "second").caller(ALICE, &["ec"]);
    let proxy = proxy.start().await;
    let alice = proxy.client(ALICE).await;
    let is_up = async |slot: &str| {
        let labels = format!(r#"signer_kid="ec",upstream="pkcs11",region="{slot}""#);
        proxy.metric(&format!("signing_proxy_upstream_health{{{labels}}}")).await
    };
    let both = || async {
        (is_up("first").await.zip(is_up("second").await) == Some((1.0, 1.0))).then_some(())
    };
    eventually("both slots are healthy", both).await;
    hsm.delete("first");
    // A worker that has the token open holds it; anew it finds that it is gone.
    for worker in workers_of(proxy.process.pid()) {
        system_tests::softhsm::signal(worker, Signal::SIGKILL);
    }
    eventually("the second slot serves alone", || async {
        let health = proxy.health().await;
        let is_partial = health.status == 200 && health.body["outage"] == "partial";
        let answer = alice.sign_message("ec", b"hi").await;
        assert!(answer.status != 200 || openssl::verifies(&key, b"hi", &answer.signature()));
        let is_alone = is_up("first").await == Some(0.0) && is_up("second").await == Some(1.0);
        (is_partial && is_alone && answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_mistake_of_a_tokens_configuration_is_named_with_its_fix() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let check = |name: &str, lines: &str, from: &str, to: &str| {
        let proxy = world.proxy().directory(name).token("ec", &hsm, &key, lines);
        let config = proxy.caller(ALICE, &["ec"]).write();
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&config, text.replacen(from, to, 1)).unwrap();
        let output = world.proxy().verb("check", &config).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let pin = format!("pin_file = \"{}\"", hsm.pin_file().display());
    let module = format!("module = \"{}\"", hsm.module.display());
    for (number, (lines, from, to, expected)) in [
        ("", module.as_str(), "", "upstreams[0].module: is missing"),
        ("", "token_label = \"payments\"", "", "token_label: is missing"),
        ("", "\"payments\"", "\"a label of more than thirty-two bytes\"", "has at most 32"),
        ("", "key_label = \"ec\"", "", "key_label: is missing"),
        ("key_id = \"abc\"", "", "", "key_id: is \"abc\", expected an even number of hex digits"),
        ("", pin.as_str(), "", "pin_file: is missing"),
        ("pin_credential = \"pin\"", "", "", "pin_file: stands beside pin_credential"),
        ("", pin.as_str(), "pin_credential = \"pin\"", "CREDENTIALS_DIRECTORY is not set"),
        ("threads = 65", "", "", "threads: is 65, expected 1 to 64"),
        ("pin = \"5678\"", "", "", "pin: no such key"),
    ]
    .into_iter()
    .enumerate()
    {
        let (passed, said) = check(&format!("m{number}"), lines, from, to);
        assert!(!passed && said.contains(expected), "{expected}: {said}");
    }
    let (passed, said) = check("missing", "", &module, "module = \"/nowhere/vendor.so\"");
    assert!(passed && said.contains("module: there is no /nowhere/vendor.so"), "{said}");
    assert!(said.contains("pin_file: every user may read"), "{said}");
}
