//! Reload: all or nothing, at once, and without anybody who is not concerned
//! noticing.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::audit_key::audit_entry;
use system_tests::proxy::entry;
use system_tests::{
    Client, Fault, Kind, Operation, Pki, Profile, Protocol, Proxy, World, eventually,
};

use crate::ALICE;

const BOB: &str = "bob.example";

fn file(world: &World, name: &str) -> PathBuf {
    world.scratch.path(&format!("proxy/{name}"))
}

/// Changes the config file's text; it has to change.
fn edit(world: &World, from: &str, to: &str) {
    let file = file(world, "signing-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} in\n{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
}

/// Changes an entry of the registry.
pub(crate) fn edit_registry(world: &World, kid: &str, key: &str, value: Value) {
    let file = file(world, "signers.json");
    let mut registry: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entries = registry["signers"].as_array_mut().unwrap();
    entries.iter_mut().find(|entry| entry["signer_kid"] == kid).unwrap()[key] = value;
    std::fs::write(&file, registry.to_string()).unwrap();
}

async fn reload(proxy: &Proxy<'_>) -> Value {
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The mistakes that a reload was refused for.
async fn refused(proxy: &Proxy<'_>) -> Vec<String> {
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{answer:?}");
    serde_json::from_value(answer.body["mistakes"].clone()).unwrap()
}

#[tokio::test]
async fn a_caller_that_is_taken_out_of_the_policy_is_refused_at_once_on_its_open_connection() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).caller(BOB, &["ec"]).start().await;
    let (alice, bob) = (proxy.client(ALICE).await, proxy.client(BOB).await);
    assert_eq!(bob.sign_message("ec", b"hi").await.status, 200);
    edit(&world, BOB, "carol.example");
    let mut reloaded = reload(&proxy).await;
    let sha256 = reloaded.as_object_mut().unwrap().remove("registry_sha256").unwrap();
    assert_eq!(sha256.as_str().unwrap().len(), 64, "{sha256}");
    assert_eq!(
        reloaded,
        json!({"reloaded": true, "generation": 2, "signers_touched": ["ec"], "connections_cut": 0})
    );
    assert_eq!(bob.sign_message("ec", b"hi").await.reason(), "caller_not_authorized");
    let carol = proxy.client("carol.example").await;
    assert_eq!(carol.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    let status = proxy.admin("GET", "/v1/status", Value::Null).await;
    assert_eq!(status.body["config_generation"], 2);
}

#[tokio::test]
async fn i1_what_is_in_flight_with_a_touched_signer_is_withheld_and_with_another_it_leaves() {
    let world = World::new();
    let (one, two) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let proxy = world
        .proxy()
        .rare_canaries()
        .server("request_timeout_ms = 25000")
        .kms("call_timeout_ms = 20000")
        .signer("one", &one)
        .signer("two", &two)
        .caller(ALICE, &["one", "two"])
        .caller(BOB, &["one"])
        .start()
        .await;
    let before = (one.calls(Operation::Sign), two.calls(Operation::Sign));
    for key in [&one, &two] {
        key.break_with(Fault::Hold);
    }
    let ask = |alice: Client, kid: &'static str| {
        tokio::spawn(async move { alice.sign_message(kid, b"hi").await })
    };
    let touched = ask(proxy.client(ALICE).await, "one");
    let untouched = ask(proxy.client(ALICE).await, "two");
    eventually("both in flight", || async {
        let calls = (one.calls(Operation::Sign), two.calls(Operation::Sign));
        (calls.0 > before.0 && calls.1 > before.1).then_some(())
    })
    .await;
    edit(&world, BOB, "carol.example");
    assert_eq!(reload(&proxy).await["signers_touched"], json!(["one"]));
    one.mend();
    two.mend();
    let touched = touched.await.unwrap();
    assert_eq!((touched.status, touched.reason()), (503, "gate_closed_in_flight"), "{touched:?}");
    assert_eq!(untouched.await.unwrap().status, 200);
}

#[tokio::test]
async fn all_or_nothing_every_mistake_is_listed_and_the_old_configuration_stays() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy =
        world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).caller(BOB, &["ec"]).start().await;
    let bob = proxy.client(BOB).await;
    let good: Vec<_> = ["signing-proxy.toml", "signers.json", "server.pem"]
        .iter()
        .map(|name| (file(&world, name), std::fs::read(file(&world, name)).unwrap()))
        .collect();
    let certificate = world.pki.issue(&Profile::server()).certificate_pem;

    // A policy that would take effect, beside a mistake in each file.
    edit(&world, BOB, "carol.example");
    edit(&world, "lease_ms = 4000", "lease_ms = 10");
    std::fs::write(file(&world, "server.pem"), &certificate).unwrap();
    edit_registry(&world, "ec", "notAfter", json!("tomorrow"));
    let mistakes = refused(&proxy).await;
    for expected in
        ["gate.lease_ms: is 10", "server.tls.private_key_file:", "notAfter \"tomorrow\""]
    {
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(expected)),
            "{expected}: {mistakes:#?}"
        );
    }
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
    // What takes a restart is told with them, once.
    edit(&world, "[server]\n", "[server]\nconnections_max = 9\n");
    edit(&world, "probe_timeout_ms = 2500", "probe_timeout_ms = 0");
    let more = refused(&proxy).await;
    let restart = "server.connections_max: would change from 1024 to 9, which takes a restart";
    assert!(more.iter().any(|mistake| mistake.contains(restart)), "{more:#?}");
    assert_eq!(more.iter().filter(|mistake| mistake.contains("restart")).count(), 1, "{more:#?}");
    assert_eq!(bob.sign_message("ec", b"hi").await.status, 200, "the old policy is in force");
    let (code, _, said) = proxy.signctl(&["reload"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("nothing changed.") && said.contains("  - gate.lease_ms: is 10"),
        "{said}"
    );
    let successful = "signing_proxy_config_last_reload_successful";
    assert_eq!(proxy.metric(successful).await, Some(0.0));

    // What only a start takes, and a key that would change under its kid.
    for (file, bytes) in &good {
        std::fs::write(file, bytes).unwrap();
    }
    edit(&world, BOB, "carol.example");
    edit(
        &world,
        "[server]\nlisten = \"127.0.0.1:0\"",
        "[server]\nlisten = \"127.0.0.1:1\"\nconnections_max = 9",
    );
    edit_registry(&world, "ec", "public_key_pem", json!(other.public_key_pem));
    let mistakes = refused(&proxy).await;
    for expected in [
        "server.listen: would change from 127.0.0.1:0 to 127.0.0.1:1, which takes a restart",
        "server.connections_max: would change from 1024 to 9, which takes a restart",
        "signer \"ec\": its public key would change",
    ] {
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(expected)),
            "{expected}: {mistakes:#?}"
        );
    }
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
    assert_eq!(bob.sign_message("ec", b"hi").await.status, 200);

    for (file, bytes) in &good {
        std::fs::write(file, bytes).unwrap();
    }
    assert_eq!(reload(&proxy).await["signers_touched"], json!([]));
    assert_eq!(proxy.metric(successful).await, Some(1.0));
    let (code, said, _) = proxy.signctl(&["reload"]);
    assert_eq!(code, 0);
    assert!(said.contains("configuration 3 since the start"), "{said}");
}

#[tokio::test]
async fn a_signer_that_the_registry_revokes_signs_nothing_more_and_health_says_so() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    // Canaries alone would find it late.
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    edit_registry(&world, "ec", "revokedAt", json!("2026-01-01T00:00:00Z"));
    reload(&proxy).await;
    let calls = key.calls(Operation::Sign);
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "key_unavailable");
    proxy.unhealthy_for("key_unavailable").await;
    assert_eq!(key.calls(Operation::Sign), calls, "not even a canary");
    edit_registry(&world, "ec", "revokedAt", Value::Null);
    reload(&proxy).await;
    proxy.healthy().await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn thresholds_and_aliases_count_from_the_reload_on() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let by_alias = json!({"signer_kid": "main", "message": "aGk="});
    assert_eq!(alice.post("/v1/sign", &by_alias).await.reason(), "signer_unknown");
    edit(&world, "failures_to_shut = 100", "failures_to_shut = 1\n[aliases]\nmain = \"ec\"");
    assert_eq!(reload(&proxy).await["signers_touched"], json!(["ec"]));
    assert_eq!(alice.post("/v1/sign", &by_alias).await.body["signer_kid"], "ec");
    key.break_with(Fault::Bare503);
    alice.sign_message("ec", b"hi").await;
    proxy.unhealthy_for("upstream_unhealthy").await;
}

#[tokio::test]
async fn sighup_reloads_too_and_a_mistake_ends_nothing() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    edit(&world, "lease_ms = 4000", "lease_ms = 10");
    proxy.process.signal(Signal::SIGHUP);
    let log = proxy.process.says("\"not reloaded\"").await;
    assert!(log.contains("signal SIGHUP") && log.contains("gate.lease_ms: is 10"), "{log}");
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    edit(&world, "lease_ms = 10", "lease_ms = 9000");
    proxy.process.signal(Signal::SIGHUP);
    proxy.process.says("\"reloaded\"").await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn certificates_rotate_under_load_without_one_failed_request() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let (stop, signed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Http1, Protocol::Http2] {
        let certificate = world.pki.issue(&Profile::client(ALICE));
        let (address, ca) = (proxy.listen.clone(), world.pki.ca_pem.clone());
        let (stop, signed) = (Arc::clone(&stop), Arc::clone(&signed));
        clients.push(tokio::spawn(async move {
            let connect =
                async || Client::connect(&address, &ca, &certificate, protocol).await.unwrap();
            let mut client = connect().await;
            let mut requests = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.sign_message("ed", b"hi").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                signed.fetch_add(1, Ordering::Relaxed);
                requests += 1;
                // New handshakes all the time, and connections that last as well.
                if protocol == Protocol::Http2 || requests.is_multiple_of(10) {
                    client = connect().await;
                }
            }
        }));
    }
    let expiry = "signing_proxy_tls_certificate_expiry_timestamp_seconds";
    for round in 1..=8_i64 {
        let before = signed.load(Ordering::Relaxed);
        let days = (-1, 30 + round);
        let server = world.pki.issue(&Profile { days, ..Profile::server() });
        world.scratch.write("proxy/server.pem", &server.certificate_pem);
        world.scratch.write("proxy/server.key", &server.key_pem);
        let expected = proxy.metric(expiry).await;
        let reloaded = reload(&proxy).await;
        assert_eq!(reloaded["connections_cut"], 0);
        assert_eq!(reloaded["signers_touched"], json!([]), "TLS touches no signer");
        assert!(proxy.metric(expiry).await > expected, "the new certificate is in force");
        eventually("more signatures", || {
            std::future::ready((signed.load(Ordering::Relaxed) > before + 40).then_some(()))
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_is_not_let_in_any_more_is_cut_and_others_stay() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).caller(BOB, &["ec"]).start().await;
    let (alices, bobs) =
        (world.pki.issue(&Profile::client(ALICE)), world.pki.issue(&Profile::client(BOB)));
    let alice = proxy.client_with(&alices, Protocol::Http2).await;
    let bob = proxy.client_with(&bobs, Protocol::Http1).await;
    assert_eq!(bob.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);

    world.scratch.write("proxy/revoked.crl", world.pki.revocation_list(&[&bobs], 7));
    edit(
        &world,
        "client_ca_file = \"ca.pem\"",
        "client_ca_file = \"ca.pem\"\nclient_crl_files = [\"revoked.crl\"]",
    );
    assert_eq!(reload(&proxy).await["connections_cut"], 1);
    let body = json!({"message": "aGk="}).to_string();
    let headers = [("content-type", "application/json")];
    let cut = bob.send(http::Method::POST, "/v1/sign", &headers, body).await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200, "on the connection it had");

    // Another authority: whoever comes from the old one goes.
    let other = Pki::named("another authority");
    world.scratch.write("proxy/ca.pem", &other.ca_pem);
    edit(&world, "\nclient_crl_files = [\"revoked.crl\"]", "");
    assert_eq!(reload(&proxy).await["connections_cut"], 1);
    let newcomer = other.issue(&Profile::client(ALICE));
    let newcomer = proxy.client_with(&newcomer, Protocol::Http1).await;
    assert_eq!(newcomer.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn a_kid_that_comes_back_comes_back_with_its_key() {
    let world = World::new();
    let [key, gone, other] = [(); 3].map(|()| world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .registered(entry("old", &gone))
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let audit = audit_entry(&file(&world, "audit.key"));
    let write = |entries: &[Value]| {
        let entries = [entries, std::slice::from_ref(&audit)].concat();
        std::fs::write(file(&world, "signers.json"), json!({"signers": entries}).to_string())
            .unwrap();
    };
    write(&[entry("ec", &key)]);
    assert_eq!(reload(&proxy).await["signers_touched"], json!(["old"]));
    write(&[entry("ec", &key), entry("old", &other)]);
    let mistakes = refused(&proxy).await;
    assert!(mistakes.iter().all(|mistake| mistake.contains("\"old\"")), "{mistakes:?}");
    write(&[entry("ec", &key), entry("old", &gone)]);
    reload(&proxy).await;
}

#[tokio::test]
async fn a_reload_that_leaves_a_signer_as_it_is_asks_nothing_of_its_upstream() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    // Signing works; reading the public key was denied since the start.
    key.set(Operation::GetPublicKey, Fault::Error("AccessDeniedException", 400));
    let calls = key.calls(Operation::Sign);
    let server = world.pki.issue(&Profile::server());
    world.scratch.write("proxy/server.pem", &server.certificate_pem);
    world.scratch.write("proxy/server.key", &server.key_pem);
    assert_eq!(reload(&proxy).await["signers_touched"], json!([]));
    edit_registry(&world, "ec", "description", json!("for people only"));
    assert_eq!(reload(&proxy).await["signers_touched"], json!([]));
    let alice = proxy.client(ALICE).await;
    for _ in 0..20 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    assert_eq!(key.calls(Operation::Sign), calls + 20, "no canary");
    // One that touches it is looked into at once.
    edit_registry(&world, "ec", "notAfter", json!("2099-01-01T00:00:00Z"));
    assert_eq!(reload(&proxy).await["signers_touched"], json!(["ec"]));
    proxy.unhealthy_for("key_unavailable").await;
}

#[tokio::test]
async fn tls_1_2_that_is_switched_off_ends_the_connections_that_use_it() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().tls("tls12 = true").signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let certificate_file = world.scratch.write("alice.pem", &certificate.certificate_pem);
    let key_file = world.scratch.write("alice.key", &certificate.key_pem);
    let new = proxy.client(ALICE).await;
    let mut old = system_tests::programs::system("openssl");
    old.args(["s_client", "-quiet", "-tls1_2", "-connect", &proxy.listen, "-cert"]);
    old.arg(certificate_file).arg("-key").arg(key_file);
    old.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut old = old.spawn().unwrap();
    let mut stdin = old.stdin.take().unwrap();
    stdin.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    old.stdout.take().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    edit(&world, "tls12 = true", "tls12 = false");
    assert_eq!(reload(&proxy).await["connections_cut"], 1);
    old.wait().unwrap();
    assert_eq!(new.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_none_is_a_mistake_and_nothing_to_wait_for() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let registry = file(&world, "signers.json");
    std::fs::remove_file(&registry).unwrap();
    nix::unistd::mkfifo(&registry, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mistakes = refused(&proxy).await;
    assert!(mistakes.iter().all(|mistake| mistake.contains("is no regular file")), "{mistakes:?}");
    std::fs::remove_file(&registry).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &registry).unwrap();
    let mistakes = refused(&proxy).await;
    assert!(mistakes.iter().all(|mistake| mistake.contains("is no regular file")), "{mistakes:?}");
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}
