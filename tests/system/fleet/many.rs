//! Many members under load, and how long a freeze takes to reach all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use system_tests::fleet::{People, SECURITY};
use system_tests::journal::ask;
use system_tests::{Client, Exchange, World, is_campaign};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Fleet, who};

/// Members under load; in the campaign's measure there are more.
const MEMBERS: usize = 20;
const MEMBERS_MEASURED: usize = 50;
/// A member holds 16.
const FREEZES_MEASURED: usize = 10;
/// Requests of each caller after the freeze was acknowledged.
const ASKED_AFTER: usize = 10;
/// The pause of a caller: the machine is also that of all members.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks on until it has asked often enough after `is_frozen`, or the freeze cut its connection; how many of
/// those requests were signed.
async fn asks_on(client: Client, is_frozen: Arc<AtomicBool>) -> usize {
    let (mut asked, mut signed) = (0, 0);
    while asked < ASKED_AFTER {
        let was_frozen = is_frozen.load(Ordering::SeqCst);
        let exchange = ask(&client, "ec", "hi").await;
        if matches!(exchange, Exchange::Cut) {
            break;
        }
        if was_frozen {
            asked += 1;
            signed += usize::from(matches!(exchange, Exchange::Signed(_)));
        }
        // A pause: of a caller; the machine is also that of all members.
        tokio::time::sleep(PAUSE).await;
    }
    signed
}

// The command blocks one thread, and the callers go on in others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_twenty_members_under_load_release_nothing_once_a_freeze_is_acknowledged() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[""; MEMBERS]).await;
    let is_frozen = Arc::new(AtomicBool::new(false));
    let asks = |client| tokio::spawn(asks_on(client, Arc::clone(&is_frozen)));
    let callers: Vec<_> = std::mem::take(&mut fleet.clients).into_iter().map(asks).collect();
    let id = fleet.freeze(&[], MEMBERS);
    is_frozen.store(true, Ordering::SeqCst);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 0, "signed after all had said that they are frozen");
    }
    fleet.connect().await;
    // The database comes back, and with it the way to end it.
    fleet.postgres.kill().await;
    assert_eq!(fleet.signed().await, [false; MEMBERS]);
    fleet.postgres.up().await;
    fleet.all_are_heard().await;
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[&id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, MEMBERS), "{ended}");
    assert_eq!(fleet.signed().await, [true; MEMBERS]);
    fleet.stop().await;
}

/// Prints how long after the command began each member obeyed, by the time in its journal.
#[tokio::test]
async fn the_time_until_fifty_members_obey_a_freeze_is_measured() {
    if !is_campaign() {
        return;
    }
    let (world, people) = (World::new(), People::new());
    let fleet = Fleet::start(&world, &people, &[""; MEMBERS_MEASURED]).await;
    let (mut began, mut commands) = (Vec::new(), Vec::new());
    for _ in 0..FREEZES_MEASURED {
        let at = OffsetDateTime::now_utc();
        began.push((fleet.freeze(&[], MEMBERS_MEASURED), at));
        commands.push(seconds(OffsetDateTime::now_utc() - at));
    }
    let mut obeyed = Vec::new();
    for member in 0..MEMBERS_MEASURED {
        for entry in fleet.records(member, "fleet_freeze") {
            let record = &entry["record"];
            let at = OffsetDateTime::parse(record["at"].as_str().unwrap(), &Rfc3339).unwrap();
            let (_, began) =
                began.iter().find(|(id, _)| record["data"]["freeze_id"] == **id).unwrap();
            obeyed.push(seconds(at - *began));
        }
    }
    assert_eq!(obeyed.len(), MEMBERS_MEASURED * FREEZES_MEASURED);
    println!("{MEMBERS_MEASURED} members, {FREEZES_MEASURED} freezes: {}", quantiles(obeyed));
    println!("signctl fleet freeze, until all have said so: {}", quantiles(commands));
    fleet.stop().await;
}

fn seconds(duration: time::Duration) -> f64 {
    duration.as_seconds_f64()
}

fn quantiles(mut all: Vec<f64>) -> String {
    all.sort_by(f64::total_cmp);
    let at = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1];
    format!("p50 {:.3} s, p99 {:.3} s, longest {:.3} s", at(50), at(99), at(100))
}
