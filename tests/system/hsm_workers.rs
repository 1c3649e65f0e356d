//! Whether a token's worker is up, its restarts and the hangs that killed it, as metrics and
//! in `signctl status`.

use serde_json::{Value, json};
use system_tests::{World, eventually};

use crate::hsm_act::{Act, Fares};
use crate::metrics::promtool_accepts;

/// What `signctl --json status` says of the one worker.
fn shown(act: &Act<'_>) -> Value {
    let (_, said, _) = act.proxy.signctl(&["--json", "status"]);
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "{status:#}");
    status["workers"][0].clone()
}

#[tokio::test]
async fn a_kill_is_a_restart_and_a_hang_is_counted_as_one() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    assert_eq!(act.fares().await, Fares { up: 1.0, restarts: 0.0, hangs: 0.0 });
    let before = act.workers();
    act.kill_worker();
    act.recovers(&before).await;
    assert_eq!(act.fares().await, Fares { up: 1.0, restarts: 1.0, hangs: 0.0 });
    let before = act.workers();
    act.stop_worker().await;
    assert_eq!(act.ask().await.reason(), "indeterminate");
    act.recovers(&before).await;
    assert_eq!(act.fares().await, Fares { up: 1.0, restarts: 2.0, hangs: 1.0 });
    promtool_accepts(&act.proxy.metrics().await);
    let expected = json!({
        "signer_kid": "ec", "region": "payments", "up": true, "restarts": 2, "hangs_killed": 1,
    });
    assert_eq!(shown(&act), expected);
    let (code, said, _) = act.proxy.signctl(&["status"]);
    let line = "worker of ec at payments: up · restarts 2 · hangs killed 1\n";
    assert!(code == 0 && said.ends_with(line), "{said}");
}

#[tokio::test]
async fn a_worker_that_finds_no_token_is_down_and_started_again_and_again() {
    let world = World::new();
    let act = Act::watched(&world).await;
    act.hsm.remove();
    act.kill_worker();
    let fares = eventually("several restarts", || async {
        let fares = act.fares().await;
        (fares.restarts >= 3.0).then_some(fares)
    })
    .await;
    assert!(fares.up < 0.5 && fares.hangs < 0.5, "{fares:?}");
    let (_, said, _) = act.proxy.signctl(&["status"]);
    assert!(said.contains("worker of ec at payments: DOWN · restarts "), "{said}");
    act.hsm.put_back();
    act.signs().await;
    assert_eq!(shown(&act)["up"], true);
}

#[tokio::test]
async fn a_refused_pin_is_no_restart() {
    let world = World::new();
    let act = Act::shut_for(&world, "key_unavailable", |hsm| {
        std::fs::write(hsm.pin_file(), "0000").unwrap();
    })
    .await;
    assert_eq!(act.fares().await, Fares { up: 0.0, restarts: 0.0, hangs: 0.0 });
}

/// The soft and the hard limit of open files of a process.
fn files_of(pid: u32) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let numbers: Vec<_> = line.split_whitespace().map(|word| word.parse().ok()).collect();
    (numbers[0].unwrap(), numbers[1].unwrap())
}

#[tokio::test]
async fn the_library_gets_the_limit_of_open_files_from_before_the_proxy_raised_its_own() {
    let world = World::new();
    let act = Act::with_files(&world, 512, 4096).await;
    assert_eq!(files_of(act.proxy.process.pid()), (4096, 4096));
    let before = act.workers();
    assert_eq!(files_of(before[0]), (512, 4096));
    act.kill_worker();
    act.recovers(&before).await;
    assert_eq!(files_of(act.workers()[0]), (512, 4096));
}

#[tokio::test]
async fn where_there_is_no_token_there_is_no_worker() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    assert!(!proxy.metrics().await.contains("pkcs11_worker_"));
    let (_, said, _) = proxy.signctl(&["--json", "status"]);
    assert!(!said.contains("workers"), "{said}");
}
