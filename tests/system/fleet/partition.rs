//! A part of the members is cut off from the database, and the database is put back to an older copy, while
//! all members sign. In a network namespace of its own, where packets to one address of the database vanish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use system_tests::fleet::{FINANCE, People, SECURITY};
use system_tests::journal::ask;
use system_tests::network::{inside, run};
use system_tests::{Client, Exchange, World, eventually, is_campaign};
use tokio::task::JoinHandle;

use super::{Fleet, who};

/// Half of the members reach the database at one address, and half at the other.
const MEMBERS: usize = 4;
const MEMBERS_CAMPAIGN: usize = 20;
/// PostgreSQL's own: nobody else is in this network.
const PORT: u16 = 5_432;
/// Of a step of an agent with the database: how soon it sees that it is cut off.
const STEP_MS: u64 = 1_000;
/// The last member stops when it is cut off, and the others keep to the last word.
const STOPS: &str = "lease_s = 5\non_loss = \"freeze\"";
/// The pause of a caller: the machine is also that of all members.
const PAUSE: Duration = Duration::from_millis(50);

/// A caller of a member, who asks on and on.
struct Caller {
    is_frozen: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    signed: Arc<AtomicUsize>,
    task: JoinHandle<usize>,
}

impl Caller {
    fn start(client: Client) -> Self {
        let [is_frozen, is_over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let signed = Arc::new(AtomicUsize::new(0));
        let (frozen, over, count) =
            (Arc::clone(&is_frozen), Arc::clone(&is_over), Arc::clone(&signed));
        let task = tokio::spawn(async move {
            let mut after = 0;
            while !over.load(Ordering::SeqCst) {
                let was_frozen = frozen.load(Ordering::SeqCst);
                match ask(&client, "ec", "hi").await {
                    Exchange::Signed(_) => {
                        count.fetch_add(1, Ordering::SeqCst);
                        after += usize::from(was_frozen);
                    }
                    Exchange::Cut => break,
                    _ => {}
                }
                // A pause: of a caller; the machine is also that of all members.
                tokio::time::sleep(PAUSE).await;
            }
            after
        });
        Self { is_frozen, is_over, signed, task }
    }

    /// From now on the member has said that it is frozen.
    fn is_frozen(&self) {
        self.is_frozen.store(true, Ordering::SeqCst);
    }

    /// Waits until it gets one more signature.
    async fn goes_on(&self) {
        let before = self.signed.load(Ordering::SeqCst);
        eventually("its member signs on", || async {
            (self.signed.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
    }

    /// How many signatures it got after its member had said that it is frozen.
    async fn ends(self) -> usize {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

fn callers(fleet: &mut Fleet<'_>) -> Vec<Caller> {
    std::mem::take(&mut fleet.clients).into_iter().map(Caller::start).collect()
}

/// Waits until these members say that they hold the freeze.
async fn hold(fleet: &Fleet<'_>, id: &str, count: usize) {
    eventually("so many members hold the freeze, and say so", || async {
        let (_, said) = fleet.signctl(&["status"]);
        let members = said["members"].as_array()?;
        let holds = members.iter().filter(|member| {
            member["silent_s"].is_null()
                && member["held"].as_array().is_some_and(|held| held.iter().any(|one| one == id))
        });
        (holds.count() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_members_that_are_cut_off_obey_once_they_hear_and_a_restored_database_forgets_nothing() {
    let me = "fleet::partition::i1_members_that_are_cut_off_obey_once_they_hear_and_a_restored_database_forgets_nothing";
    let count = if is_campaign() { MEMBERS_CAMPAIGN } else { MEMBERS };
    if !inside(me, if is_campaign() { 1800 } else { 300 }) {
        return;
    }
    run(&["nft", "add table inet cut"]);
    for chain in ["input", "output"] {
        let hook = format!("add chain inet cut {chain} {{ type filter hook {chain} priority 0; }}");
        run(&["nft", &hook]);
    }
    let (world, people) = (World::new(), People::new());
    let half = count / 2;
    let mut lines = vec![""; count];
    lines[count - 1] = STOPS;
    let settings = ["listen_addresses=127.0.0.1,::1"];
    let mut fleet = Fleet::start_with(&world, &people, &lines, &settings, |number, trail| {
        let host = if number < half { "127.0.0.1" } else { "[::1]" };
        let url = format!("postgres://postgres@{host}:{PORT}/postgres?sslmode=disable");
        trail.through(&url, STEP_MS)
    })
    .await;
    // The copy that comes back later: it is of before every freeze.
    fleet.postgres.kill().await;
    fleet.postgres.back_up();
    fleet.postgres.up().await;
    fleet.all_sign().await;

    // The second half is cut off, in both directions, and nobody is told: packets vanish.
    let all = callers(&mut fleet);
    for chain in ["input", "output"] {
        let rule = format!("add rule inet cut {chain} ip6 daddr ::1 tcp dport {PORT} counter drop");
        run(&["nft", &rule]);
    }
    for member in half..count {
        fleet.age(member);
    }
    let (code, said) = fleet.signctl(&["freeze", "--reason", "INC-42"]);
    let answers = (code, who(&said, "frozen").len(), who(&said, "silent").len());
    assert_eq!(answers, (1, half, count - half), "{said}");
    let id = said["id"].as_str().unwrap().to_owned();
    all[..half].iter().for_each(Caller::is_frozen);
    all[half].goes_on().await;
    // The one that stops without its fleet has stopped by itself.
    eventually("the last member has lost its fleet", || async {
        let series = "signing_proxy_component_ok{component=\"fleet\"}";
        (fleet.proxies[count - 1].metric(series).await == Some(0.0)).then_some(())
    })
    .await;
    fleet.proxies[count - 1].unhealthy_for("frozen").await;
    all[count - 1].is_frozen();

    // They hear of it once packets arrive again.
    for chain in ["input", "output"] {
        run(&["nft", &format!("flush chain inet cut {chain}")]);
    }
    hold(&fleet, &id, count).await;
    all.iter().for_each(Caller::is_frozen);
    fleet.connect().await;
    assert_eq!(fleet.signed().await, vec![false; count]);
    for caller in all {
        assert_eq!(caller.ends().await, 0, "signed after the member had said that it is frozen");
    }
    let (code, refused) = fleet.unfreeze(&people, FINANCE, &[&id]);
    assert_eq!((code, who(&refused, "refused").len()), (1, count), "{refused}");
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[&id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, count), "{ended}");
    fleet.all_sign().await;

    restored_under_load(&mut fleet, &people, count).await;
    fleet.stop().await;
}

/// One member is frozen, the others sign on: the database is put back to a copy that knows of no freeze.
async fn restored_under_load(fleet: &mut Fleet<'_>, people: &People, count: usize) {
    fleet.connect().await;
    let all = callers(fleet);
    let id = fleet.freeze(&["--label", "at=0"], 1);
    all[0].is_frozen();
    fleet.postgres.kill().await;
    fleet.postgres.restore();
    for caller in &all[1..count - 1] {
        caller.goes_on().await;
    }
    fleet.postgres.up().await;
    let posted = fleet.posted(&id).await;
    assert_eq!(posted["labels"], serde_json::json!(["at=0"]), "{posted}");
    fleet.all_are_heard().await;
    fleet.proxies[count - 1].healthy().await;
    for caller in &all[1..count - 1] {
        caller.goes_on().await;
    }
    // A statement of the wrong role ends it as little as the older database did.
    let (code, refused) = fleet.unfreeze(people, FINANCE, &[&id]);
    assert_eq!((code, who(&refused, "refused").len()), (1, 1), "{refused}");
    let mut all = all.into_iter();
    let frozen = all.next().unwrap();
    assert_eq!(frozen.ends().await, 0, "signed after the member had said that it is frozen");
    for caller in all {
        caller.ends().await;
    }
    let (code, ended) = fleet.unfreeze(people, SECURITY, &[&id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, count), "{ended}");
    fleet.connect().await;
    assert_eq!(fleet.signed().await, vec![true; count]);
}
