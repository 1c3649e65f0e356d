//! The proxy killed at each of its system calls that bring something to the disk: what was
//! received is in the journal, and the next start concludes what was left open.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::{Chance, Happens, Strace, Tail, When, is_campaign};

use super::Site;

/// Calls that make something durable, or are on the way to it; and how many of each a
/// sample is drawn from, which is about how many there are.
const CALLS: [(&str, usize); 6] = [
    ("pwrite64", 24),
    ("fdatasync", 24),
    ("fsync", 6),
    ("rename", 3),
    ("fallocate", 2),
    ("unlink", 2),
];

/// Kills a proxy at the `number`th `call` of a thread, whatever it is doing then; returns
/// whether there was one.
async fn killed_at(call: &str, number: usize) -> bool {
    println!("killed at {call} {number}");
    let site = Site::new();
    site.fill_segment();
    let strace =
        Strace::inject(call, Happens::Kills, When::Only(number), &site.world.scratch.path("trace"));
    let mut received = Vec::new();
    let was_killed = match site.proxy().try_start(Some(&strace)).await {
        Err(_) => true,
        Ok(mut proxy) => {
            received = site.load(&proxy).await;
            if proxy.process.is_running() {
                proxy.process.signal(Signal::SIGTERM);
            }
            !proxy.process.ended().await.success()
        }
    };
    let tail = if was_killed { Tail::MayBeTorn } else { Tail::Whole };
    let left = site.check(&received, tail);
    if !was_killed {
        assert_eq!(left["open_intents"], json!([]), "{call} {number} was not made");
        assert!(received.iter().all(|exchange| exchange.seq().is_some()), "{received:?}");
    }
    site.signs_again(&mut received).await;
    was_killed
}

#[tokio::test]
async fn a_proxy_killed_at_any_call_lost_no_record_of_what_was_received() {
    let mut chance = Chance::of("kills");
    for (call, about) in CALLS {
        if is_campaign() {
            let mut number = 1;
            while killed_at(call, number).await {
                number += 1;
            }
            println!("{call}: {} calls", number - 1);
        } else {
            killed_at(call, 1 + chance.below(about)).await;
        }
    }
}

#[tokio::test]
async fn a_kill_takes_effect() {
    assert!(killed_at("pwrite64", 2).await);
    assert!(killed_at("fdatasync", 5).await);
}

#[tokio::test]
async fn a_kill_at_a_call_that_is_not_made_leaves_all_well() {
    assert!(!killed_at("fdatasync", 60_000).await);
}
