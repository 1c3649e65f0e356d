//! The proxy killed at each of its system calls that bring something to the disk: what was
//! received is in the journal, and the next start concludes what was left open.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::{Chance, Happens, Strace, Tail, When, is_campaign};

use super::{RENAME, Site};

/// Calls that make something durable, or are on the way to it; and how many of each a
/// sample is drawn from, which is about how many there are.
const CALLS: [(&str, Where, usize); 9] = [
    ("pwrite64", Where::Journal, 24),
    ("fdatasync", Where::Journal, 24),
    ("fsync", Where::Journal, 2),
    ("fallocate", Where::Journal, 1),
    (RENAME, Where::Anywhere, 1),
    ("fsync", Where::Anywhere, 6),
    ("write", Where::State, 2),
    ("rename", Where::Anywhere, 3),
    ("unlink", Where::Anywhere, 2),
];

/// On which files.
#[derive(Clone, Copy, Debug)]
enum Where {
    Anywhere,
    Journal,
    /// The file that the state is written into before it gets its name.
    State,
}

/// Kills a proxy at the `number`th `call` of a thread, whatever it is doing then; returns
/// whether there was one.
async fn killed_at(call: &str, place: Where, number: usize) -> bool {
    println!("killed at {call} {number} ({place:?})");
    let site = Site::new();
    site.fill_segment();
    let strace =
        Strace::inject(call, Happens::Kills, When::Only(number), &site.world.scratch.path("trace"));
    let strace = match place {
        Where::Anywhere => strace,
        Where::Journal => site.journal_paths().iter().fold(strace, |strace, path| strace.on(path)),
        Where::State => {
            strace.on(&site.world.scratch.path("proxy/state/freeze-and-seals.json.new"))
        }
    };
    let mut received = Vec::new();
    let was_killed = match site.proxy().try_start(Some(&strace)).await {
        Err(_) => true,
        Ok(mut proxy) => {
            received.push(site.first(&proxy).await);
            received.extend(site.load(&proxy).await);
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
    for (call, place, about) in CALLS {
        if is_campaign() {
            let mut number = 1;
            while killed_at(call, place, number).await {
                number += 1;
            }
            println!("{call} ({place:?}): {} calls", number - 1);
        } else {
            killed_at(call, place, 1 + chance.below(about)).await;
        }
    }
}

#[tokio::test]
async fn a_kill_takes_effect() {
    assert!(killed_at("pwrite64", Where::Journal, 2).await);
    assert!(killed_at("fdatasync", Where::Journal, 5).await);
    assert!(killed_at(RENAME, Where::Anywhere, 1).await);
}

#[tokio::test]
async fn a_kill_at_a_call_that_is_not_made_leaves_all_well() {
    assert!(!killed_at("fdatasync", Where::Journal, 60_000).await);
}
