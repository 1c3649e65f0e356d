//! Three members, an agent beside each, and one PostgreSQL: one command stops all, and only a person's
//! signature starts them.

use system_tests::fleet::{FINANCE, People, SECURITY};
use system_tests::{World, eventually};

use super::{Fleet, who};

/// What somebody writes who has the database.
const FORGED: &str = "INSERT INTO signing_proxy.fleet_statements (id, kind, body, ends, signature) \
                      SELECT 'by-hand', 'unfreeze', '{}', array_agg(id), 'none' FROM signing_proxy.fleet_statements";
/// Who has judged that.
const JUDGED: &str = "SELECT count(*) FROM signing_proxy.fleet_members
                      WHERE status->'agent'->'refused' ? 'by-hand'";

#[tokio::test]
async fn one_command_freezes_three_members_and_only_a_signature_in_the_right_role_ends_it() {
    let (world, people) = (World::new(), People::new());
    let fleet = Fleet::start(&world, &people, &[""; 3]).await;
    assert_eq!(fleet.signed().await, [true; 3]);

    let id = fleet.freeze(&[], 3);
    assert_eq!(fleet.signed().await, [false; 3]);
    let by = fleet.records(0, "fleet_freeze")[0]["record"]["data"]["by"].clone();
    assert!(by.as_str().unwrap().starts_with("uid "), "each journal says who: {by}");

    // Whoever writes the database stops, and never starts.
    fleet.postgres.sql(FORGED);
    eventually("each member has judged the row that was written by hand", || async {
        (fleet.postgres.sql(JUDGED) == "3").then_some(())
    })
    .await;
    assert_eq!(fleet.signed().await, [false; 3]);
    let (code, refused) = fleet.unfreeze(&people, FINANCE, &[&id]);
    let why = who(&refused, "refused");
    assert!(code == 1 && why.len() == 3, "{refused}");
    for why in why {
        assert!(
            why.contains("finance@test (Finance)") && why.contains("the role Security"),
            "{why}"
        );
    }
    assert_eq!(fleet.signed().await, [false; 3]);
    // Nor does deleting the freeze help: those who obey it post it again.
    fleet.postgres.sql("DELETE FROM signing_proxy.fleet_statements");
    fleet.posted(&id).await;
    assert_eq!(fleet.signed().await, [false; 3]);

    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[&id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, 3), "{ended}");
    assert_eq!(fleet.signed().await, [true; 3]);
    fleet.all_sign().await;
    eventually("what all have ended is removed", || async {
        let left = "SELECT count(*) FROM signing_proxy.fleet_statements WHERE kind = 'freeze'";
        (fleet.postgres.sql(left) == "0").then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_freeze_of_some_labels_stops_those_members_and_a_restored_database_has_it_again() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[""; 2]).await;
    fleet.postgres.kill().await;
    fleet.postgres.back_up();
    fleet.postgres.up().await;
    fleet.all_sign().await;
    let id = fleet.freeze(&["--label", "at=1", "--label", "deployment=test"], 1);
    assert_eq!(fleet.signed().await, [true, false]);

    fleet.postgres.kill().await;
    let (code, said) = fleet.signctl(&["freeze", "--reason", "INC-43"]);
    assert_eq!(code, 1, "nobody heard of it: {said}");
    assert_eq!(fleet.signed().await, [true, false], "what was said before stands");
    fleet.postgres.restore();
    fleet.postgres.up().await;
    let posted = fleet.posted(&id).await;
    let labels = serde_json::json!(["at=1", "deployment=test"]);
    assert_eq!((&posted["reason"], &posted["labels"]), (&"INC-42".into(), &labels), "{posted}");
    fleet.all_are_heard().await;
    // Everybody has read the restored database since, and nobody took it for more than it is.
    let (code, refused) = fleet.unfreeze(&people, FINANCE, &[&id]);
    assert_eq!((code, who(&refused, "refused").len(), who(&refused, "ended").len()), (1, 1, 1));
    assert_eq!(fleet.signed().await, [true, false]);
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &[&id]);
    assert_eq!((code, who(&ended, "ended").len()), (0, 2), "{ended}");
    assert_eq!(fleet.signed().await, [true, true]);
    fleet.stop().await;
}

#[tokio::test]
async fn a_member_that_is_gone_for_good_is_waited_for_until_somebody_says_so() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[""; 2]).await;
    fleet.trails.pop().unwrap().kill().await;
    fleet.age(1);
    let (code, said) = fleet.signctl(&["freeze", "--reason", "INC-42"]);
    assert_eq!((code, who(&said, "frozen").len(), who(&said, "silent").len()), (1, 1, 1), "{said}");
    assert_eq!(fleet.signed().await, [false, true], "nobody told the second");
    let members = said["members"].as_array().unwrap();
    let silent = members.iter().find(|member| member["state"] == "silent").unwrap();
    let (code, said) = fleet.signctl(&["forget", silent["instance"].as_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = fleet.signctl(&["status"]);
    assert_eq!((code, said["members"].as_array().unwrap().len()), (1, 1), "{said}");
    let (code, said) = fleet.signctl(&["forget", "nobody"]);
    assert!(code == 1 && said.as_str().unwrap().contains("signctl fleet status"), "{said}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_member_that_cannot_hold_one_more_freeze_says_so_and_still_hears_what_ends_them() {
    let (world, people) = (World::new(), People::new());
    let fleet = Fleet::start(&world, &people, &[""]).await;
    let ids: Vec<_> = (0..16).map(|_| fleet.freeze(&[], 1)).collect();
    let (code, said) = fleet.signctl(&["freeze", "--reason", "one too many"]);
    let why = who(&said, "refused");
    assert!(code == 1 && why.len() == 1 && why[0].contains("16 freezes"), "{said}");
    let more = said["id"].as_str().unwrap().to_owned();
    let ids: Vec<_> = ids.iter().chain([&more]).map(String::as_str).collect();
    let (code, ended) = fleet.unfreeze(&people, SECURITY, &ids);
    assert_eq!((code, who(&ended, "ended").len()), (0, 1), "{ended}");
    eventually("it signs", || async { (fleet.signed().await == [true]).then_some(()) }).await;
    fleet.all_sign().await;
    fleet.stop().await;
}
