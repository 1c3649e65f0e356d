//! One member, and what may be said to it on its admin socket: the database and the agent are whoever
//! writes there.

use std::path::Path;

use serde_json::{Value, json};
use system_tests::fleet::{FINANCE, People, SECURITY, STRANGER};
use system_tests::journal::read;
use system_tests::{Answer, Client, Kind, Proxy, ProxyBuilder, World, eventually};

use crate::ALICE;

const ONE: &str = "01010101010101010101010101010101";
const TWO: &str = "02020202020202020202020202020202";

fn builder<'w>(world: &'w World, people: &People, lines: &str) -> ProxyBuilder<'w> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).sections(&people.section(lines))
}

fn records(journal: &Path, kind: &str) -> Vec<Value> {
    read(journal, kind).iter().map(|entry| entry["record"]["data"].clone()).collect()
}

async fn says(proxy: &Proxy<'_>, what: &str, body: Value) -> Answer {
    proxy.admin("POST", &format!("/v1/fleet/{what}"), body).await
}

async fn freezes(proxy: &Proxy<'_>, id: &str) -> Answer {
    says(proxy, "freeze", json!({"id": id, "reason": "INC-42", "by": "uid 0 (root)"})).await
}

async fn hears(proxy: &Proxy<'_>) -> Value {
    let answer = says(proxy, "heartbeat", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn signs(client: &Client) -> (u16, String) {
    let answer = client.sign_message("ec", b"hi").await;
    (answer.status, answer.body["detail"].as_str().unwrap_or_default().to_owned())
}

/// A member that has joined and signs.
async fn joined<'w>(builder: ProxyBuilder<'w>) -> (Proxy<'w>, Client) {
    let proxy = builder.start_shut().await;
    assert_eq!(hears(&proxy).await["joined"], json!(true));
    proxy.healthy().await;
    let client = proxy.client(ALICE).await;
    (proxy, client)
}

#[tokio::test]
async fn i2_a_member_that_never_read_its_fleet_signs_nothing_and_a_restart_remembers_that_it_has() {
    let (world, people) = (World::new(), People::new());
    let builder = builder(&world, &people, "");
    let proxy = builder.clone().start_shut().await;
    let health = proxy.unhealthy_for("frozen").await;
    assert!(!health.text.contains("never read"), "anonymous readers are told no more: {health:?}");
    let client = proxy.client(ALICE).await;
    let (status, detail) = signs(&client).await;
    assert!(status == 503 && detail.contains("never read"), "{status} {detail}");
    let (code, said, _) = proxy.signctl(&["status"]);
    assert!(code == 1 && said.contains("NEVER READ"), "{said}");
    assert_eq!(hears(&proxy).await["joined"], json!(true));
    proxy.healthy().await;
    assert_eq!(signs(&client).await.0, 200);
    proxy.stop().await;
    // With the setting "keep" the last word stands, though nothing is heard since the start.
    let proxy = builder.start().await;
    assert_eq!(proxy.metric("signing_proxy_component_ok{component=\"fleet\"}").await, Some(0.0));
    assert_eq!(signs(&proxy.client(ALICE).await).await.0, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn a_freeze_of_the_fleet_names_its_origin_survives_a_kill_and_is_in_the_journal() {
    let (world, people) = (World::new(), People::new());
    let builder = builder(&world, &people, "");
    let (mut proxy, client) = joined(builder.clone()).await;
    let frozen = freezes(&proxy, ONE).await;
    assert_eq!((frozen.status, &frozen.body["frozen"]), (200, &json!(true)), "{frozen:?}");
    let (status, detail) = signs(&client).await;
    assert!(status == 503 && detail == "stopped by its fleet: INC-42", "{status} {detail}");
    assert_eq!(freezes(&proxy, ONE).await.status, 200, "again is no other one");
    // Nobody who is only an operator ends it.
    let (code, said, error) = proxy.signctl(&["unfreeze", "--reason", "I think so"]);
    assert!(code == 1 && format!("{said}{error}").contains("signed statement"), "{said}{error}");
    proxy.process.signal(nix::sys::signal::Signal::SIGKILL);
    proxy.process.ended().await;
    let proxy = builder.clone().start_shut().await;
    let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
    assert_eq!(status["fleet"]["held"][0]["id"], json!(ONE), "{status}");
    assert_eq!(status["freeze"]["of_fleet"], json!(true), "{status}");
    let (_, said, _) = proxy.signctl(&["status"]);
    assert!(
        said.contains("FROZEN BY THE FLEET") && said.contains("uid 0 (root): INC-42"),
        "{said}"
    );
    proxy.stop().await;
    let freeze = records(&builder.journal(), "fleet_freeze");
    assert_eq!(freeze.len(), 1, "{freeze:?}");
    assert_eq!(freeze[0]["freeze_id"], json!(ONE));
    let starts = records(&builder.journal(), "start");
    assert_eq!(starts.last().unwrap()["fleet"][0]["freeze_id"], json!(ONE));
}

#[tokio::test]
async fn i3_only_a_statement_signed_in_the_right_role_ends_a_freeze_of_the_fleet() {
    let (world, people) = (World::new(), People::new());
    let builder = builder(&world, &people, "");
    let (proxy, client) = joined(builder.clone()).await;
    freezes(&proxy, ONE).await;
    freezes(&proxy, TWO).await;
    let both = people.statement(&[ONE, TWO], 0);
    let other = people.statement(&[ONE], 0);
    let mut swapped = people.presented(SECURITY, &other);
    swapped["statement_b64"] = people.presented(FINANCE, &both)["statement_b64"].clone();
    for (body, why) in [
        (people.presented(FINANCE, &both), "finance@test (Finance)"),
        (people.presented(STRANGER, &both), "not in the approvers file"),
        (people.presented(SECURITY, &people.statement(&[ONE, TWO], 601)), "expired"),
        (swapped, "does not verify over these bytes"),
        (json!({"statement_b64": "e30=", "signature_b64": ""}), "does not count"),
    ] {
        let refused = says(&proxy, "statement", body).await;
        let note = refused.body["note"].as_str().unwrap_or_default().to_owned();
        assert!(refused.status == 409 && note.contains(why), "{why}: {refused:?}");
        assert_eq!(signs(&client).await.0, 503, "{why}");
    }
    let wrong = says(&proxy, "statement", people.presented(FINANCE, &both)).await;
    assert!(wrong.body["note"].as_str().unwrap().contains("the role Security"), "{wrong:?}");
    // One of two freezes ends: the other holds.
    let one = says(&proxy, "statement", people.presented(SECURITY, &other)).await;
    assert_eq!((one.status, &one.body["frozen"]), (200, &json!(true)), "{one:?}");
    assert_eq!(signs(&client).await.0, 503);
    let (code, said, error) =
        proxy.signctl(&["unfreeze", "--statement", &people.files(SECURITY, &both)]);
    assert!(code == 0 && said.contains("not frozen"), "{said}{error}");
    assert_eq!(signs(&client).await.0, 200);
    // A database that was restored brings it again.
    let again = freezes(&proxy, ONE).await;
    assert!(again.status == 409 && again.text.contains("has ended this freeze"), "{again:?}");
    assert_eq!(signs(&client).await.0, 200);
    proxy.stop().await;
    let proxy = builder.clone().start().await;
    assert_eq!(freezes(&proxy, TWO).await.status, 409, "after a restart too");
    proxy.stop().await;
    let ended = records(&builder.journal(), "fleet_unfreeze");
    assert_eq!(ended.len(), 2, "{ended:?}");
    assert_eq!(ended[1]["approved"]["principal"], json!("security@test"));
}

#[tokio::test]
async fn an_approvers_file_that_changed_since_the_start_ends_nothing() {
    let (world, people) = (World::new(), People::new());
    let (proxy, client) = joined(builder(&world, &people, "")).await;
    freezes(&proxy, ONE).await;
    let file = std::fs::read_to_string(people.file()).unwrap();
    std::fs::write(people.file(), format!("{file}\n# somebody was here\n")).unwrap();
    let statement = people.presented(SECURITY, &people.statement(&[ONE], 0));
    let refused = says(&proxy, "statement", statement.clone()).await;
    assert!(refused.status == 409 && refused.text.contains("has changed"), "{refused:?}");
    std::fs::write(people.file(), file).unwrap();
    assert_eq!(says(&proxy, "statement", statement).await.status, 200);
    assert_eq!(signs(&client).await.0, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn without_a_word_of_the_fleet_a_member_keeps_or_stops_as_configured() {
    let (world, people) = (World::new(), People::new());
    for (lines, reason) in [
        ("lease_s = 5\non_loss = \"keep\"", None),
        ("lease_s = 5\non_loss = \"freeze\"", Some("frozen")),
    ] {
        let builder = builder(&world, &people, lines).directory(if reason.is_some() {
            "stops"
        } else {
            "keeps"
        });
        let (proxy, client) = joined(builder).await;
        eventually("the fleet is lost", || async {
            let gauge = proxy.metric("signing_proxy_component_ok{component=\"fleet\"}").await;
            (gauge == Some(0.0)).then_some(())
        })
        .await;
        // Whoever tells the gauge and whoever stops signing look at the same clock, each by itself.
        let refused = || async {
            let answer = client.sign_message("ec", b"hi").await;
            (answer.body["reason"].as_str() == reason).then_some(())
        };
        eventually(&format!("{lines}: {reason:?}"), refused).await;
        hears(&proxy).await;
        proxy.healthy().await;
        assert_eq!(signs(&client).await.0, 200, "it ends by itself");
        proxy.stop().await;
    }
}
