//! Signers by reload: a new one signs without a restart, one that is taken out signs nothing more, and the
//! others notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use system_tests::proxy::batch_entry;
use system_tests::softhsm::workers_of;
use system_tests::{
    Fault, Kind, Operation, Proxy, ProxyBuilder, SoftHsm, World, eventually, journal, openssl,
};

use crate::ALICE;

/// Reloads what `next` writes; what the answer says.
async fn reload(proxy: &Proxy<'_>, next: &ProxyBuilder<'_>) -> Value {
    let _ = next.write();
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The mistakes for which what `next` writes is not put in force.
async fn refused(proxy: &Proxy<'_>, next: &ProxyBuilder<'_>) -> Vec<String> {
    let _ = next.write();
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{answer:?}");
    serde_json::from_value(answer.body["mistakes"].clone()).unwrap()
}

/// The kids of a status, in its order.
async fn kids(proxy: &Proxy<'_>) -> Vec<String> {
    let status = proxy.admin("GET", "/v1/status", Value::Null).await;
    let signers = status.body["signers"].as_array().unwrap().iter();
    signers.map(|signer| signer["signer_kid"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the counter says so: an answer may arrive before it is counted.
async fn counts(proxy: &Proxy<'_>, counter: &str, expected: f64) {
    eventually(counter, || async { (proxy.metric(counter).await == Some(expected)).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_signer_that_a_reload_adds_signs_once_its_own_canary_has_opened_its_gate() {
    let world = World::new();
    let (old, new) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let base = world.proxy().rare_canaries().signer("old", &old);
    let proxy = base.clone().caller(ALICE, &["old"]).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("new", b"hi").await.reason(), "signer_unknown");
    let asked = old.calls(Operation::Sign);

    // Its upstream does not sign: it is in force, and shut.
    new.break_with(Fault::Bare503);
    let next = base.clone().signer("new", &new).caller(ALICE, &["old", "new"]);
    let reloaded = reload(&proxy, &next).await;
    assert_eq!(reloaded["signers_touched"], json!(["new"]));
    assert_eq!(reloaded["generation"], 2);
    assert_eq!(kids(&proxy).await, ["new", "old"]);
    let answer = alice.sign_message("new", b"hi").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(alice.sign_message("old", b"hi").await.status, 200);
    let health = "signing_proxy_signer_health{signer_kid=\"new\"}";
    assert_eq!(proxy.metric(health).await, Some(0.0));

    new.mend();
    proxy.healthy().await;
    let answer = alice.sign_message("new", b"hi").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(openssl::verifies(&new, b"hi", &answer.signature()));
    assert_eq!(proxy.metric(health).await, Some(1.0));
    // The other one was asked for what its callers wanted, and for no canary.
    assert_eq!(old.calls(Operation::Sign), asked + 1);
    // The doctor looks at it too, and a drill knows it.
    let (code, said, _) = proxy.signctl(&["doctor", "--json"]);
    assert!(code == 0 && said.contains("\"new\""), "{said}");
}

#[tokio::test]
async fn a_signer_that_a_reload_takes_out_under_load_signs_nothing_more_and_the_other_loses_nothing()
 {
    let world = World::new();
    let (stays, goes) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let without = world
        .proxy()
        .rare_canaries()
        .kms("call_timeout_ms = 20000")
        .server("request_timeout_ms = 25000");
    let without = without.signer("stays", &stays);
    let with = without.clone().signer("goes", &goes).caller(ALICE, &["stays", "goes"]);
    let without = without.caller(ALICE, &["stays"]);
    let proxy = with.clone().start().await;

    let (stop, signed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for _ in 0..4 {
        let alice = proxy.client(ALICE).await;
        let (stop, signed) = (Arc::clone(&stop), Arc::clone(&signed));
        load.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = alice.sign_message("stays", b"hi").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                signed.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("goes", b"hi").await.status, 200);
    let counted = "signing_proxy_requests_total{result=\"signed\",reason=\"\",signer_kid=\"goes\",mode=\"normal\"}";
    counts(&proxy, counted, 1.0).await;
    let before = goes.calls(Operation::Sign);
    goes.break_with(Fault::Hold);
    let held = tokio::spawn(async move { alice.sign_message("goes", b"hi").await });
    eventually("its call is under way", || async {
        (goes.calls(Operation::Sign) > before).then_some(())
    })
    .await;

    let reloaded = reload(&proxy, &without).await;
    assert_eq!(reloaded["signers_touched"], json!(["goes"]));
    goes.mend();
    // What was under way is answered, and what it signed does not leave.
    let held = held.await.unwrap();
    assert_eq!((held.status, held.reason()), (503, "gate_closed_in_flight"), "{held:?}");
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("goes", b"hi").await.reason(), "signer_unknown");
    let asked = goes.calls(Operation::Sign);
    let so_far = signed.load(Ordering::Relaxed);
    eventually("the load goes on", || async {
        (signed.load(Ordering::Relaxed) > so_far + 100).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for load in load {
        load.await.unwrap();
    }
    assert_eq!(goes.calls(Operation::Sign), asked, "no canary either");
    assert_eq!(kids(&proxy).await, ["stays"]);
    proxy.healthy().await;
    assert!(!proxy.metrics().await.contains("signer_kid=\"goes\""));

    // It comes back, and its counters go on.
    reload(&proxy, &with).await;
    proxy.healthy().await;
    assert_eq!(alice.sign_message("goes", b"hi").await.status, 200);
    counts(&proxy, counted, 2.0).await;
}

#[tokio::test]
async fn a_mistake_beside_a_new_signer_changes_nothing_and_asks_nobody() {
    let world = World::new();
    let (old, new) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let base = world.proxy().signer("old", &old);
    let proxy = base.clone().caller(ALICE, &["old"]).start().await;
    let alice = proxy.client(ALICE).await;
    // Granted, and not registered.
    let mistaken = base.clone().signer("new", &new).caller(ALICE, &["old", "new"]);
    let _ = mistaken.write();
    let registry = world.scratch.path("proxy/signers.json");
    let text = std::fs::read_to_string(&registry).unwrap();
    std::fs::write(&registry, text.replace("\"new\"", "\"another\"")).unwrap();
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text.contains("\\\"new\\\" is not registered in"), "{answer:?}");
    // A restart is needed beside it.
    let restart = base
        .clone()
        .signer("new", &new)
        .caller(ALICE, &["old", "new"])
        .server("connections_max = 9");
    let mistakes = refused(&proxy, &restart).await;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("server.connections_max"), "{mistakes:?}");
    assert_eq!(kids(&proxy).await, ["old"]);
    assert_eq!(new.calls(Operation::Sign) + new.calls(Operation::GetPublicKey), 0);
    assert_eq!(proxy.metric("signing_proxy_config_last_reload_successful").await, Some(0.0));
    assert_eq!(alice.sign_message("old", b"hi").await.status, 200);
    eventually("the status says why", || async {
        proxy.signctl(&["status"]).1.contains("server.connections_max").then_some(())
    })
    .await;
}

#[tokio::test]
async fn signers_of_kms_of_a_token_and_of_batches_are_added_and_a_worker_ends_with_its_signer() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let first = world.kms.key(Kind::P256);
    let (kms, batch) = (world.kms.key(Kind::Rsa2048), world.kms.key(Kind::Ed25519));
    let held = hsm.key("token", Kind::P256);
    let environment = hsm.environment();
    let base =
        environment.iter().fold(world.proxy().signer("first", &first), |base, (key, value)| {
            base.environment(key, value)
        });
    let proxy = base.clone().caller(ALICE, &["first"]).start().await;
    assert!(workers_of(proxy.process.pid()).is_empty());
    let all = base.clone().signer("kms", &kms).token("token", &hsm, &held, "");
    let all = all.signer("batch", &batch).registered(batch_entry("batch", &batch));
    let all = all.caller(ALICE, &["first", "kms", "token", "batch"]);
    reload(&proxy, &all).await;
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    for (kid, key) in [("first", &first), ("kms", &kms), ("token", &held)] {
        let answer = alice.sign_message(kid, b"hi").await;
        assert_eq!(answer.status, 200, "{kid}: {answer:?}");
        assert!(openssl::verifies(key, b"hi", &answer.signature()), "{kid}");
    }
    let answer = alice.sign_message("batch", b"hi").await;
    assert_eq!(
        (answer.status, &answer.body["signature_format"]),
        (200, &json!("tlog-proof")),
        "{answer:?}"
    );
    assert_eq!(workers_of(proxy.process.pid()).len(), 1);
    let up = "pkcs11_worker_up{signer_kid=\"token\",upstream=\"pkcs11\",region=\"payments\"}";
    assert_eq!(proxy.metric(up).await, Some(1.0));

    // Only the first is left.
    let next = base.caller(ALICE, &["first"]);
    assert_eq!(reload(&proxy, &next).await["signers_touched"], json!(["batch", "kms", "token"]));
    eventually("its worker has ended", || async {
        workers_of(proxy.process.pid()).is_empty().then_some(())
    })
    .await;
    assert_eq!(proxy.metric(up).await, None);
    assert_eq!(alice.sign_message("batch", b"hi").await.reason(), "signer_unknown");
    assert_eq!(alice.sign_message("first", b"hi").await.status, 200);
}

#[tokio::test]
async fn rates_and_preferences_change_while_the_gate_stays_open() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let base = world.proxy().rare_canaries();
    let proxy = base.clone().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let asked = key.calls(Operation::Sign);
    for _ in 0..5 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    let headroom = "signing_proxy_upstream_quota_headroom_ratio{signer_kid=\"ec\",upstream=\"aws-kms\",region=\"eu-test-1\"}";
    assert_eq!(proxy.metric(headroom).await, None);
    // One call in a hundred seconds is as good as one: the next one is shed.
    let limited = base.clone().kms("requests_per_second_max = 1").signer("ec", &key);
    let limited = limited.of_signer("ec", "prefer = \"fastest\"").caller(ALICE, &["ec"]);
    assert_eq!(reload(&proxy, &limited).await["signers_touched"], json!([]));
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(alice.sign_message("ec", b"hi").await);
    }
    assert_eq!(answers[0].status, 200, "the gate was open throughout");
    assert!(answers.iter().any(|answer| answer.reason() == "upstream_throttled"), "{answers:?}");
    assert!(proxy.metric(headroom).await.is_some());
    let signed = answers.iter().filter(|answer| answer.status == 200).count() as u64;
    assert_eq!(key.calls(Operation::Sign), asked + 5 + signed, "no canary");
    // And back.
    let free = base.signer("ec", &key).caller(ALICE, &["ec"]);
    assert_eq!(reload(&proxy, &free).await["signers_touched"], json!([]));
    for _ in 0..20 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
}

#[tokio::test]
async fn i10_a_seal_outlives_other_upstreams_and_a_signer_that_was_gone() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let alias = world.kms.alias("alias/new-name", &key);
    let base = world.proxy().signer("other", &other);
    let with = |key| base.clone().signer("ec", key).caller(ALICE, &["other", "ec"]);
    let proxy = with(&key).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::WrongKey);
    proxy.unhealthy_for("sealed").await;
    key.mend();
    // Other upstreams: sealed still.
    assert_eq!(reload(&proxy, &with(&alias)).await["signers_touched"], json!(["ec"]));
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "sealed");
    // Gone, and there again: sealed still.
    reload(&proxy, &base.clone().caller(ALICE, &["other"])).await;
    proxy.healthy().await;
    reload(&proxy, &with(&key)).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "sealed");
    let (code, said, _) = proxy.signctl(&["unseal", "ec", "--reason", "looked into it"]);
    assert_eq!(code, 0, "{said}");
    proxy.healthy().await;
    // Other upstreams of the same key: shut until they have proved themselves, then open.
    assert_eq!(reload(&proxy, &with(&alias)).await["signers_touched"], json!(["ec"]));
    proxy.healthy().await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn the_journal_names_the_signers_of_a_reload_and_the_gates_that_it_shuts() {
    let world = World::new();
    let [stays, goes, comes] = [(); 3].map(|()| world.kms.key(Kind::P256));
    let moved = world.kms.alias("alias/new-name", &stays);
    let base = || world.proxy().rare_canaries();
    let before = base().signer("stays", &stays).signer("goes", &goes);
    let proxy = before.caller(ALICE, &["stays", "goes"]).start().await;
    let next = base().signer("stays", &moved).signer("comes", &comes);
    reload(&proxy, &next.caller(ALICE, &["stays", "comes"])).await;
    proxy.healthy().await;
    let directory = proxy.socket.with_file_name("journal");
    // Once it is stopped, all of it is on disk.
    proxy.stop().await;
    let data = |kind: &str| -> Vec<Value> {
        let records = journal::read(&directory, kind);
        records.into_iter().map(|line| line["record"]["data"].clone()).collect()
    };
    let reload = &data("reload")[0];
    let named = ["signers_added", "signers_changed", "signers_removed"].map(|name| &reload[name]);
    assert_eq!(named, [&json!(["comes"]), &json!(["stays"]), &json!(["goes"])], "{reload}");
    let shut: Vec<_> = data("gate").into_iter().filter(|gate| gate["from"] == "open").collect();
    assert_eq!(
        shut,
        [json!({
            "detail": "a reload gave the signer other upstreams", "from": "open", "to": "shut",
            "signer_kid": "stays",
        })]
    );
}

#[tokio::test]
async fn a_development_key_that_is_away_holds_up_no_reload_that_leaves_it_as_it_is() {
    let world = World::new();
    let (one, two) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let base = world.proxy().development("one", &one);
    let proxy = base.clone().caller(ALICE, &["one"]).start().await;
    let (file, away) = (world.scratch.path("keys/one.pem"), world.scratch.path("keys/one.away"));
    std::fs::rename(&file, &away).unwrap();
    proxy.unhealthy_for("upstream_unhealthy").await;
    let next = base.clone().development("two", &two).caller(ALICE, &["one", "two"]);
    assert_eq!(reload(&proxy, &next).await["signers_touched"], json!(["two"]));
    // A key that is not held yet is a mistake, and so is it at a start.
    let three = next.clone().development("three", &world.kms.key(Kind::P256));
    std::fs::remove_file(world.scratch.path("keys/three.pem")).unwrap();
    let mistakes = refused(&proxy, &three).await;
    assert!(mistakes.len() == 1 && mistakes[0].contains("\"three\": key_file"), "{mistakes:?}");
    let _ = next.write();
    let start = next.command().output().unwrap();
    assert!(!start.status.success());
    std::fs::rename(&away, &file).unwrap();
    let alice = proxy.client(ALICE).await;
    eventually("it signs again", || async {
        (alice.sign_message("one", b"hi").await.status == 200).then_some(())
    })
    .await;
}
