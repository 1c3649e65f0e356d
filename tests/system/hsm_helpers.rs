//! A library that forks a helper, which holds the worker's end of the socket: it hides no death, and
//! nothing of it is left behind.

use std::path::PathBuf;

use system_tests::{World, eventually};

use crate::hsm_act::Act;

/// Whether that process runs; a zombie does not.
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{id}/stat")));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

/// The helper that the next signature leaves behind.
async fn helper(act: &Act<'_>) -> u32 {
    let before = act.hsm.who_said("helper").len();
    act.hsm.order("once fork");
    assert_eq!(act.ask().await.status, 200);
    eventually("a helper", || std::future::ready(act.hsm.who_said("helper").get(before).copied()))
        .await
}

async fn is_gone(id: u32) {
    eventually("no helper", || std::future::ready((!runs(id)).then_some(()))).await;
}

#[tokio::test]
async fn a_helper_hides_no_death_and_goes_with_its_worker() {
    let world = World::new();
    // So long that a death which only a deadline shows is not seen in this test.
    let act = Act::quiet_with(&world, "threads = 2\ncall_timeout_ms = 60000").await;
    let helper = helper(&act).await;
    assert!(runs(helper));
    let before = act.workers();
    act.kill_worker();
    // Without a call that would meet it.
    eventually("another worker", || async { (act.fares().await.restarts >= 1.0).then_some(()) })
        .await;
    is_gone(helper).await;
    act.recovers(&before).await;
}

#[tokio::test]
async fn no_helper_outlives_a_proxy_that_stops() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    let helper = helper(&act).await;
    act.proxy.stop().await;
    is_gone(helper).await;
}
