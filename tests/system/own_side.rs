//! The proxy's own side in health, status, doctor and metric: each component is tried well, in
//! trouble and well again.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::client::plain;
use system_tests::programs::libfaketime;
use system_tests::{
    Certificate, Kind, Pki, Process, Profile, Proxy, World, breakglass, eventually,
};
use time::{Duration, OffsetDateTime};

use crate::ALICE;

/// What an operator and a monitoring system see of one component.
#[derive(Debug, PartialEq)]
struct Seen {
    health: (u16, Option<String>),
    ready: u16,
    status: Option<String>,
    doctor: Option<String>,
    metric: f64,
}

async fn see(proxy: &Proxy<'_>, component: &str) -> Seen {
    let state = |body: &Value| {
        let all = body["conditions"].as_array().cloned().unwrap_or_default();
        let of = all.into_iter().find(|condition| condition["component"] == component)?;
        of["state"].as_str().filter(|state| *state != "ok").map(str::to_owned)
    };
    let health = proxy.health().await;
    let ready = plain(&proxy.metrics, "/readyz").await;
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    let doctor = proxy.admin("POST", "/v1/doctor", json!({})).await;
    let series = format!("signing_proxy_component_ok{{component=\"{component}\"}}");
    Seen {
        health: (health.status, state(&health.body)),
        ready: ready.status,
        status: state(&status.body),
        doctor: state(&doctor.body),
        metric: proxy.metric(&series).await.unwrap_or(f64::NAN),
    }
}

/// Waits until all of them say so. `failed` also shuts health and readiness.
async fn shows(proxy: &Proxy<'_>, component: &str, state: &str) {
    let bad = (state != "ok").then(|| state.to_owned());
    let code = if state == "failed" { 503 } else { 200 };
    let expected = Seen {
        health: (code, bad.clone()),
        ready: code,
        status: bad.clone(),
        doctor: bad,
        metric: if state == "ok" { 1.0 } else { 0.0 },
    };
    eventually(&format!("{component} is {state} everywhere"), || async {
        (see(proxy, component).await == expected).then_some(())
    })
    .await;
    if state != "ok" {
        // What is wrong and what to do is said to people.
        let (_, said, _) = proxy.signctl(&["status"]);
        let headline = format!("{} {}", component.replace('_', " "), state.to_uppercase());
        let line = said.lines().find(|line| line.starts_with(&headline));
        assert!(line.is_some_and(|line| line.contains(": ")), "{said}");
        let (code, said, _) = proxy.signctl(&["doctor"]);
        assert!(code != 0 && said.contains(&headline), "{said}");
        let said = proxy.process.says(&format!("\"component\":\"{component}\"")).await;
        assert!(said.contains("\"target\":\"condition\""), "{said}");
    }
}

fn file(world: &World, name: &str) -> PathBuf {
    world.scratch.path("proxy").join(name)
}

fn put(path: &Path, certificate: &Certificate) {
    std::fs::write(path, &certificate.certificate_pem).unwrap();
    std::fs::write(path.with_extension("key"), &certificate.key_pem).unwrap();
}

fn reload(proxy: &Proxy<'_>) {
    let (code, _, said) = proxy.signctl(&["reload"]);
    assert_eq!(code, 0, "{said}");
}

fn server(world: &World, from: Duration, until: Duration) -> Certificate {
    world.pki.issue_with(&Profile::server(), |params| {
        params.not_before = OffsetDateTime::now_utc() + from;
        params.not_after = OffsetDateTime::now_utc() + until;
    })
}

#[tokio::test]
async fn a_server_certificate_that_expires_under_way_shuts_health_until_it_is_renewed() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let component = "server_certificate";
    shows(&proxy, component, "ok").await;
    let day = Duration::days(1);
    let path = file(&world, "server.pem");
    put(&path, &server(&world, -day, day));
    reload(&proxy);
    shows(&proxy, component, "degraded").await;
    put(&path, &server(&world, -day, Duration::seconds(3)));
    reload(&proxy);
    shows(&proxy, component, "failed").await;
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(0.0));
    assert_eq!(proxy.health().await.body["reason"], component);
    put(&path, &server(&world, -day, day * 60));
    reload(&proxy);
    shows(&proxy, component, "ok").await;
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(1.0));
}

#[tokio::test]
async fn client_authorities_and_revocation_lists_that_expire_are_shown_until_they_are_renewed() {
    let (world, key) = World::one_signer();
    let list = |until| world.pki.revocation_list_until(&[], OffsetDateTime::now_utc() + until);
    world.scratch.write("proxy/clients.crl", list(Duration::days(3)));
    let builder = world.proxy_of(&key);
    let proxy = builder.tls("client_crl_files = [\"clients.crl\"]").start().await;
    shows(&proxy, "client_authorities", "ok").await;
    shows(&proxy, "revocation_lists", "ok").await;

    // One of two authorities expires, then it is gone.
    let short = |until: Duration| {
        let until = OffsetDateTime::now_utc() + until;
        Pki::made("short", |params| params.not_after = until).ca_pem
    };
    let both = format!("{}{}", world.pki.ca_pem, short(Duration::seconds(3)));
    std::fs::write(file(&world, "ca.pem"), both).unwrap();
    reload(&proxy);
    shows(&proxy, "client_authorities", "degraded").await;
    std::fs::write(file(&world, "ca.pem"), &world.pki.ca_pem).unwrap();
    reload(&proxy);
    shows(&proxy, "client_authorities", "ok").await;

    std::fs::write(file(&world, "clients.crl"), list(Duration::seconds(3))).unwrap();
    reload(&proxy);
    shows(&proxy, "revocation_lists", "degraded").await;
    std::fs::write(file(&world, "clients.crl"), list(Duration::days(3))).unwrap();
    reload(&proxy);
    shows(&proxy, "revocation_lists", "ok").await;
}

#[tokio::test]
async fn without_a_valid_client_authority_nobody_gets_in_and_health_says_so() {
    let (world, key) = World::one_signer();
    let until = OffsetDateTime::now_utc() + Duration::seconds(8);
    let short = Pki::made("short", |params| params.not_after = until);
    let builder = world.proxy_of(&key);
    let command = builder.command();
    world.scratch.write("proxy/ca.pem", &short.ca_pem);
    let proxy = builder.started(command).await;
    shows(&proxy, "client_authorities", "failed").await;
    std::fs::write(file(&world, "ca.pem"), &world.pki.ca_pem).unwrap();
    reload(&proxy);
    shows(&proxy, "client_authorities", "ok").await;
}

#[tokio::test]
async fn a_refused_reload_is_shown_until_one_succeeds() {
    let (world, key) = World::one_signer();
    let mut proxy = world.proxy_of(&key).start().await;
    let registry = file(&world, "signers.json");
    let good = std::fs::read_to_string(&registry).unwrap();
    for wrong in ["{", ""] {
        std::fs::write(&registry, wrong).unwrap();
        // By a signal nobody hears the answer.
        proxy.process.signal(Signal::SIGHUP);
        shows(&proxy, "reload", "degraded").await;
        let status = proxy.admin("GET", "/v1/status", json!(null)).await;
        assert!(status.text.contains("signal SIGHUP") && status.text.contains("registry.file"));
        std::fs::write(&registry, &good).unwrap();
        reload(&proxy);
        shows(&proxy, "reload", "ok").await;
    }
    std::fs::remove_file(&registry).unwrap();
    assert_ne!(proxy.signctl(&["reload"]).0, 0);
    shows(&proxy, "reload", "degraded").await;
    assert!(proxy.process.is_running());
}

#[tokio::test]
async fn an_admin_socket_that_is_replaced_is_shown_until_it_is_back() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let series = "signing_proxy_component_ok{component=\"admin_socket\"}";
    // Status and doctor cannot be asked without it: health and metric say so.
    for replace in [
        (|path| std::fs::write(path, "").unwrap()) as fn(&Path),
        |path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
        |path| std::fs::create_dir(path).unwrap(),
        |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
    ] {
        std::fs::remove_file(&proxy.socket).unwrap();
        replace(&proxy.socket);
        eventually("health and metric show that it is lost", || async {
            let health = proxy.health().await;
            let shown = health.body["conditions"][0]["component"] == "admin_socket";
            (shown && proxy.metric(series).await == Some(0.0)).then_some(())
        })
        .await;
        if std::fs::remove_file(&proxy.socket).is_err() {
            std::fs::remove_dir(&proxy.socket).unwrap();
        }
        eventually("the socket is bound again", || {
            std::future::ready(std::os::unix::net::UnixStream::connect(&proxy.socket).ok())
        })
        .await;
        shows(&proxy, "admin_socket", "ok").await;
    }
}

#[tokio::test]
async fn an_emergency_signer_that_is_gone_is_shown_until_it_is_back() {
    let (world, key) = World::one_signer();
    let signer = world.signer().replaces("ec", &key).start().await;
    let builder = world.proxy_of(&key);
    let builder = signer
        .builder
        .registry_entries()
        .into_iter()
        .filter(|entry| entry["signer_kid"] != "ec")
        .fold(builder, system_tests::ProxyBuilder::registered);
    let lines = format!("signer_socket = \"{}\"", breakglass::SOCKET);
    let proxy = builder.breakglass(&lines).start().await;
    shows(&proxy, "emergency_signer", "ok").await;
    let again = signer.builder.clone();
    signer.stop().await;
    shows(&proxy, "emergency_signer", "degraded").await;
    let _signer = again.start().await;
    shows(&proxy, "emergency_signer", "ok").await;
}

#[tokio::test]
async fn a_log_that_is_closed_full_or_stuck_is_shown() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    // Of bash, since it gives its own end of the pipe away. A pipe takes 65,536 bytes.
    for (name, stderr) in [
        ("closed", "exec 2> >(exec true)"),
        ("full", "exec 2> /dev/full"),
        ("stuck", "exec 2> >(exec sleep 60); head -c 65000 /dev/zero >&2"),
    ] {
        let builder = world.proxy().directory(name).signer("ec", &key).caller(ALICE, &["ec"]);
        let serve = builder.command();
        let metrics = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().to_string()
        };
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{stderr}; exec \"$0\" \"$@\"")]);
        shell.arg(serve.get_program()).args(serve.get_args()).env_clear();
        shell.envs(serve.get_envs().filter_map(|(key, value)| Some((key, value?))));
        shell.env("SIGNING_PROXY__METRICS__LISTEN", &metrics);
        shell.env("RUST_LOG", "trace");
        let mut process = Process::start(shell);
        eventually(&format!("a {name} log is shown"), || async {
            // It listens a moment after it starts.
            tokio::net::TcpStream::connect(&metrics).await.ok()?;
            let metrics = plain(&metrics, "/metrics").await.text;
            metrics.contains("signing_proxy_component_ok{component=\"log\"} 0").then_some(())
        })
        .await;
        let health = plain(&metrics, "/health").await;
        assert_eq!(health.body["conditions"][0]["component"], "log", "{health:?}");
        assert!(process.is_running());
        process.signal(Signal::SIGKILL);
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_is_shown_until_it_is_right() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let mut command = builder.command();
    let shift = world.scratch.write("shift", "+0s");
    command
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME_TIMESTAMP_FILE", &shift)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    let proxy = builder.started(command).await;
    shows(&proxy, "clock", "ok").await;
    for set in ["+2h", "-2h"] {
        std::fs::write(&shift, set).unwrap();
        shows(&proxy, "clock", "degraded").await;
        std::fs::write(&shift, "+0s").unwrap();
        shows(&proxy, "clock", "ok").await;
    }
}
