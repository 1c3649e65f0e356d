//! The database or the agent is gone: a member keeps to the last word, or stops, as it is configured.

use system_tests::fleet::{People, SECURITY};
use system_tests::{Proxy, World, eventually};

use super::{Fleet, who};

const KEEP: &str = "lease_s = 5\non_loss = \"keep\"";
const FREEZE: &str = "lease_s = 5\non_loss = \"freeze\"";

async fn is_lost(proxy: &Proxy<'_>, lost: bool) {
    let expected = Some(if lost { 0.0 } else { 1.0 });
    eventually(&format!("the fleet is lost: {lost}"), || async {
        let gauge = proxy.metric("signing_proxy_component_ok{component=\"fleet\"}").await;
        (gauge == expected).then_some(())
    })
    .await;
}

/// Both have lost their fleet: the first signs, the second does not.
async fn one_keeps_and_one_stops(fleet: &Fleet<'_>) {
    for proxy in &fleet.proxies {
        is_lost(proxy, true).await;
    }
    eventually("the last word stands at one, and the other stops", || async {
        (fleet.signed().await == [true, false]).then_some(())
    })
    .await;
    let (_, said, _) = fleet.proxies[1].signctl(&["status"]);
    assert!(said.contains("NOT HEARD"), "{said}");
}

#[tokio::test]
async fn without_its_database_or_its_agent_a_member_keeps_or_stops_as_configured() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[KEEP, FREEZE]).await;
    fleet.postgres.kill().await;
    one_keeps_and_one_stops(&fleet).await;
    fleet.postgres.up().await;
    for proxy in &fleet.proxies {
        is_lost(proxy, false).await;
        proxy.healthy().await;
    }
    for trail in &mut fleet.trails {
        trail.kill().await;
    }
    one_keeps_and_one_stops(&fleet).await;
    // What was said meanwhile is obeyed as soon as somebody says it.
    for member in 0..2 {
        fleet.age(member);
    }
    let (code, said) = fleet.signctl(&["freeze", "--reason", "INC-42"]);
    assert_eq!((code, who(&said, "silent").len()), (1, 2), "{said}");
    let id = said["id"].as_str().unwrap();
    for trail in &mut fleet.trails {
        trail.start();
    }
    eventually("both obey it", || async {
        let (_, said) = fleet.signctl(&["status"]);
        let members = said["members"].as_array()?;
        members.iter().all(|member| member["held"][0] == id).then_some(())
    })
    .await;
    assert_eq!(fleet.signed().await, [false, false]);
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, 2), "{ended}");
    eventually("both sign", || async { (fleet.signed().await == [true; 2]).then_some(()) }).await;
    fleet.stop().await;
}
