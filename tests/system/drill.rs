//! `signctl drill`: the upstreams fail inside the proxy, it refuses, nothing slips, and it
//! recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::{Answer, Key, Kind, Operation, Proxy, Scratch, World, eventually, programs};

use crate::ALICE;
use crate::dev::dev;

fn drilled(seconds: u64) -> Value {
    json!({"seconds": seconds, "i_understand": true})
}

async fn drill(proxy: &Proxy<'_>, seconds: u64) -> Answer {
    proxy.admin("POST", "/v1/drill", drilled(seconds)).await
}

fn world() -> (World, Key) {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    (world, key)
}

/// Clients that ask for signatures and never pause: each is signed, or refused as a drill has
/// it refused.
struct Traffic {
    stop: Arc<AtomicBool>,
    signed: Arc<AtomicU64>,
    clients: tokio::task::JoinSet<()>,
}

impl Traffic {
    async fn begin(proxy: &Proxy<'_>) -> Self {
        let (stop, signed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (client, stop, signed) =
                (proxy.client(ALICE).await, Arc::clone(&stop), Arc::clone(&signed));
            clients.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.sign_message("ec", b"hi").await;
                    let expected = answer.status == 200
                        || ["upstream_unhealthy", "gate_closed_in_flight"]
                            .contains(&answer.reason());
                    assert!(expected, "{answer:?}");
                    signed.fetch_add(u64::from(answer.status == 200), Ordering::SeqCst);
                }
            });
        }
        Self { stop, signed, clients }
    }

    fn signed(&self) -> u64 {
        self.signed.load(Ordering::SeqCst)
    }

    /// Waits until some more are signed.
    async fn is_signed(&self) {
        let before = self.signed();
        eventually("it signs", || async { (self.signed() > before + 10).then_some(()) }).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

async fn outage_seconds(proxy: &Proxy<'_>) -> f64 {
    proxy.metric("signing_proxy_outage_seconds{signer_kid=\"ec\"}").await.unwrap()
}

/// The `drill` records of a proxy's journal: phase and data.
fn recorded(proxy: &Proxy<'_>, journal: &std::path::Path) -> Vec<Value> {
    let journal = journal.to_str().unwrap();
    let (code, lines, errors) = proxy.signctl(&[
        "audit",
        "tail",
        "-n",
        "1000",
        "--type",
        "drill",
        "--json",
        "--journal",
        journal,
    ]);
    assert_eq!(code, 0, "{errors}");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn i11_under_load_it_refuses_nothing_slips_it_recovers_and_it_is_no_outage() {
    let (world, key) = world();
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let journal = builder.journal();
    let proxy = builder.start().await;
    let traffic = Traffic::begin(&proxy).await;
    let watched = async {
        // It took effect, as everyone sees it, and the outage clock does not.
        let health = proxy.unhealthy_for("upstream_unhealthy").await;
        assert_eq!(health.body["outage"], "full");
        assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
        let (calls, before) = (key.calls(Operation::Sign), traffic.signed());
        for _ in 0..50 {
            assert_eq!(proxy.health().await.status, 503);
        }
        assert_eq!(key.calls(Operation::Sign), calls, "nothing reaches KMS");
        assert_eq!(traffic.signed(), before, "nothing is signed");
        assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    };
    let (report, ()) = tokio::join!(drill(&proxy, 3), watched);
    assert_eq!(report.status, 200, "{report:?}");
    assert_eq!(
        (&report.body["ok"], &report.body["slipped"]),
        (&json!(true), &json!(0)),
        "{report:?}"
    );
    assert!(report.body["time_to_refuse_ms"].as_u64().unwrap() < 3_000, "{report:?}");
    assert!(report.body["time_to_recover_ms"].as_u64().is_some(), "{report:?}");
    // It did not stay.
    proxy.healthy().await;
    assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    traffic.is_signed().await;
    traffic.end().await;
    let records = recorded(&proxy, &journal);
    assert_eq!(records.len(), 2, "{records:?}");
    let says = |at: usize, word: &str| records[at].to_string().contains(word);
    assert!(says(0, "\"begin\"") && says(1, "\"end\"") && says(1, "\"slipped\":0"), "{records:?}");
    proxy.stop().await;
    // A reader that shares no code with the product knows these records too.
    let registry = journal.with_file_name("signers.json");
    system_tests::journal::check(&journal, &registry, &[], system_tests::Tail::Whole).unwrap();
}

#[tokio::test]
async fn it_does_not_begin_where_it_is_not_meant_or_can_show_nothing() {
    let (world, key) = world();
    let other = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .signer("other", &other)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let refused = |body: Value, status: u16, word: &'static str| {
        let proxy = &proxy;
        async move {
            let answer = proxy.admin("POST", "/v1/drill", body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            assert!(answer.text.contains(word), "{body}: {answer:?}");
        }
    };
    refused(json!({"signer_kid": "ec"}), 400, "i-understand").await;
    refused(drilled(1), 400, "several signers: name one: --signer ec | other").await;
    let named = |kid, seconds| json!({"signer_kid": kid, "seconds": seconds, "i_understand": true});
    refused(named("nobody", 1), 404, "signer_unknown").await;
    refused(named("ec", 0), 400, "1 to 40").await;
    refused(named("ec", 41), 400, "1 to 40").await;
    let answer = proxy.admin("GET", "/v1/drill", Value::Null).await;
    assert_eq!(answer.status, 405, "{answer:?}");

    assert_eq!(proxy.signctl(&["freeze", "--reason", "stop"]).0, 0);
    refused(named("ec", 1), 503, "frozen").await;
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    // One at a time, whichever signer; the other goes on signing.
    let second = async {
        eventually("the first is under way", || async {
            (proxy.health().await.status == 503).then_some(())
        })
        .await;
        refused(named("other", 1), 503, "another drill").await;
        refused(named("ec", 1), 503, "another drill").await;
        let health = proxy.health().await;
        let signers = health.body["signers"].as_array().unwrap().clone();
        assert!(
            signers.iter().any(|s| s["signer_kid"] == "other" && s["state"] == "open"),
            "{health:?}"
        );
    };
    let (first, ()) = tokio::join!(proxy.admin("POST", "/v1/drill", named("ec", 3)), second);
    assert_eq!(first.body["ok"], true, "{first:?}");
    proxy.healthy().await;
    key.break_with(system_tests::Fault::WrongKey);
    proxy.unhealthy_for("sealed").await;
    refused(named("ec", 1), 503, "sealed").await;
}

#[tokio::test]
async fn a_drill_that_is_too_short_to_show_anything_is_refused_with_the_time_that_is_needed() {
    let (world, key) = world();
    let proxy = recovering_fast(&world, &key).await;
    // Up to five seconds to the first canary that fails, and two more half a second apart each.
    let (code, _, said) = proxy.signctl(&["drill", "--seconds", "6", "--i-understand"]);
    assert!(code == 1 && said.contains("takes up to 6000 ms"), "{said}");
    assert!(said.trim_end().ends_with("take --seconds 7"), "{said}");
    assert_eq!(proxy.health().await.status, 200);
    let (code, said, errors) = proxy.signctl(&["drill", "--seconds", "7", "--i-understand"]);
    assert!(code == 0 && said.contains("held"), "{said}{errors}");
}

#[tokio::test]
async fn no_drill_is_long_enough_for_canaries_that_hardly_come() {
    let (world, key) = world();
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.rare_canaries().start().await;
    let answer = drill(&proxy, 40).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text.contains("have canaries come more often"), "{answer:?}");
}

#[tokio::test]
async fn it_ends_by_itself_when_signctl_dies_and_when_the_proxy_stops() {
    let (world, key) = world();
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let signctl = || {
        std::process::Command::new(programs::ours("signctl"))
            .arg("--socket")
            .arg(&proxy.socket)
            .args(["drill", "--seconds", "40", "--i-understand"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut first = signctl();
    proxy.unhealthy_for("upstream_unhealthy").await;
    let killed = Instant::now();
    first.kill().unwrap();
    first.wait().unwrap();
    proxy.healthy().await;
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    let mut second = signctl();
    proxy.unhealthy_for("upstream_unhealthy").await;
    let stopped = Instant::now();
    proxy.stop().await;
    assert!(stopped.elapsed() < Duration::from_secs(20), "{:?}", stopped.elapsed());
    second.wait().unwrap();
}

#[tokio::test]
async fn a_new_user_drills_the_development_signer_and_reads_how_it_went() {
    let scratch = Scratch::new();
    let (mut process, ready) = dev(&scratch).await;
    let signctl = |arguments: &[&str]| {
        let output = std::process::Command::new(programs::ours("signctl"))
            .args(["--socket", "dev/run/admin.sock"])
            .args(arguments)
            .current_dir(scratch.dir())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (_, status, _) = signctl(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let kid = status["signers"][0]["signer_kid"].as_str().unwrap();
    let (code, said, errors) = signctl(&["drill", "--signer", kid]);
    assert_eq!(code, 0, "{ready}\n{said}{errors}");
    for words in ["time to refuse", "slipped          0", "time to recover", "held"] {
        assert!(said.contains(words), "{said}");
    }
    let (code, said, _) = signctl(&["drill", "--signer", kid, "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["slipped"]), (0, &json!(0)), "{said}");
    assert!(
        report["time_to_refuse_ms"].is_u64() && report["time_to_recover_ms"].is_u64(),
        "{said}"
    );
    process.signal(nix::sys::signal::Signal::SIGINT);
    process.ended().await;
}

/// The lease of a configuration that names none: the limit, whatever canaries and traffic do.
const LEASE_S: u64 = 8;
/// How much later than it shuts a gate may be seen to be shut.
const SEEN_WITHIN_MS: u64 = 200;

/// A proxy with the defaults of a configuration that names none, but for recovery.
async fn recovering_fast<'w>(world: &'w World, key: &Key) -> Proxy<'w> {
    world
        .proxy()
        .gate("flap_window_ms = 0\nrecovery_min_ms = 0")
        .signer("ec", key)
        .caller(ALICE, &["ec"])
        .start()
        .await
}

/// Drills that last longer than a lease: how long each took to refuse, in milliseconds, from
/// the fastest on.
async fn refusing(proxy: &Proxy<'_>, times: usize, traffic: Option<&Traffic>) -> Vec<u64> {
    let mut refusing = Vec::new();
    for _ in 0..times {
        if let Some(traffic) = traffic {
            traffic.is_signed().await;
        }
        let report = drill(proxy, LEASE_S + 1).await;
        let held = (&report.body["ok"], &report.body["slipped"]);
        assert_eq!(held, (&json!(true), &json!(0)), "{report:?}");
        refusing.push(report.body["time_to_refuse_ms"].as_u64().unwrap());
        proxy.healthy().await;
    }
    refusing.sort_unstable();
    refusing
}

/// How fast a gate refuses whose upstreams all fail, over many drills, with and without
/// traffic: the figures of docs/internals/reliability.md.
#[tokio::test]
async fn many_drills_show_how_fast_it_refuses() {
    let (quiet_world, quiet_key) = world();
    let quiet = recovering_fast(&quiet_world, &quiet_key).await;
    let (busy_world, busy_key) = world();
    let busy = recovering_fast(&busy_world, &busy_key).await;
    let traffic = Traffic::begin(&busy).await;
    let times = if system_tests::is_campaign() { 50 } else { 1 };
    let (without, with) =
        tokio::join!(refusing(&quiet, times, None), refusing(&busy, times, Some(&traffic)));
    traffic.end().await;
    for (of, times_ms) in [("without", without), ("under", with)] {
        let at = |percent: usize| times_ms[(times_ms.len() - 1) * percent / 100];
        let (p50, p99, most) = (at(50), at(99), at(100));
        println!(
            "{times} drills {of} traffic: time to refuse p50 {p50} ms, p99 {p99} ms, at most \
             {most} ms, slipped 0"
        );
        assert!(most <= LEASE_S * 1_000 + SEEN_WITHIN_MS, "{of} traffic: {times_ms:?}");
    }
}
