//! What asks for the whole fleet: a pipeline's gate, and the beginning of an incident.

use std::process::Command;

use serde_json::{Value, json};
use system_tests::World;
use system_tests::fleet::People;
use system_tests::programs::ours;

use super::{Fleet, who};

/// `signctl gate --fleet`: its exit status and what it says of the fleet.
pub(super) fn gate(fleet: &Fleet<'_>, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(ours("signctl"));
    command.args(["gate", "--json", "--fleet", "--database-url", &fleet.postgres.url()]).args(more);
    let output =
        command.env_remove("SIGNING_PROXY_URL").env_remove("KMS_ENDPOINT").output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], output.status.success(), "{said}");
    (output.status.code().unwrap(), said["fleet"].clone())
}

/// `signctl incident begin --fleet` at the first member: its exit status, what it says, and what its bundle
/// keeps of the fleet.
pub(super) fn begin(world: &World, fleet: &Fleet<'_>, out: &str) -> (i32, Value, Value) {
    let proxy = &fleet.proxies[0];
    let at = |name: &str| proxy.socket.with_file_name(name).display().to_string();
    let (out, url) = (world.scratch.path(out), fleet.postgres.url());
    let metrics = format!("http://{}/metrics", proxy.metrics);
    let (code, said, errors) = proxy.signctl(&[
        "incident",
        "begin",
        "--json",
        "--id",
        "INC-42",
        "--reason",
        "it fails",
        "--fleet",
        "--database-url",
        &url,
        "--config",
        &at("signing-proxy.toml"),
        "--signers",
        &at("signers.json"),
        "--metrics-url",
        &metrics,
        "--out",
        out.to_str().unwrap(),
    ]);
    let said: Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{code}: {said}{errors}"));
    let members = std::fs::read_to_string(out.join("fleet.json")).unwrap_or_default();
    (code, said, serde_json::from_str::<Value>(&members).unwrap_or_default())
}

#[track_caller]
pub(super) fn stops(gated: (i32, Value), reason: &str, words: &[&str]) {
    let (code, said) = gated;
    assert_eq!((code, &said["reason"]), (2, &json!(reason)), "{said}");
    let detail = said["detail"].as_str().unwrap();
    for word in words {
        assert!(detail.contains(word), "missing: {word}: {said}");
    }
}

#[tokio::test]
async fn a_gate_of_the_fleet_passes_only_if_every_member_is_heard_of_and_signs() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[""; 2]).await;
    let (code, said) = gate(&fleet, &[]);
    assert_eq!((code, &said["detail"]), (0, &json!("2 of 2 members sign")), "{said}");

    fleet.freeze(&["--label", "at=1"], 1);
    stops(gate(&fleet, &[]), "frozen", &["1 of 2 members", "refuses: frozen", "INC-42"]);
    // The other one, alone, passes.
    assert_eq!(gate(&fleet, &["--label", "at=0"]).0, 0);
    stops(gate(&fleet, &["--label", "at=7"]), "no_members", &["signing-trail"]);

    fleet.trails.pop().unwrap().kill().await;
    fleet.age(1);
    stops(gate(&fleet, &["--label", "at=1"]), "silent", &["its agent has said nothing"]);

    // An open incident is no state to go on in, though the member signs.
    let begun = json!({"incident": "INC-42", "reason": "a test"});
    assert_eq!(fleet.proxies[0].admin("POST", "/v1/incident/begin", begun).await.status, 200);
    let seen = "SELECT count(*) FROM signing_proxy.fleet_members WHERE status->>'open_incident' IS NOT NULL";
    system_tests::eventually("the agent says that an incident is open", || async {
        (fleet.postgres.sql(seen) == "1").then_some(())
    })
    .await;
    stops(gate(&fleet, &["--label", "at=0"]), "open_incident", &["INC-42", "signctl recover"]);

    fleet.postgres.kill().await;
    stops(gate(&fleet, &["--timeout", "3"]), "database", &[]);
    fleet.stop().await;
}

#[tokio::test]
async fn an_incident_of_the_fleet_freezes_every_member_and_keeps_how_each_is() {
    let (world, people) = (World::new(), People::new());
    let mut fleet = Fleet::start(&world, &people, &[""; 3]).await;
    let (code, said, members) = begin(&world, &fleet, "first");
    assert_eq!(code, 0, "{said}");
    assert!(
        said["fleet"].as_str().unwrap().starts_with("3 of 3 members frozen (freeze "),
        "{said}"
    );
    assert_eq!(fleet.signed().await, [false; 3]);
    assert_eq!(who(&members, "refuses").len(), 3, "{members}");
    assert_eq!(who(&members["freeze"], "frozen").len(), 3, "the bundle says who obeyed: {members}");
    for member in 0..3 {
        let freeze = &fleet.records(member, "fleet_freeze")[0]["record"]["data"];
        assert_eq!(freeze["reason"], "INC-42: it fails", "{freeze}");
    }

    // Whom nobody heard of is named, and the rest is done all the same.
    fleet.trails.pop().unwrap().kill().await;
    fleet.age(2);
    let (code, said, members) = begin(&world, &fleet, "second");
    let told = said["fleet"].as_str().unwrap();
    assert!(code == 1 && told.contains("2 of 3 members frozen"), "{said}");
    assert!(told.contains("silent: its agent has said nothing"), "{said}");
    assert_eq!(
        (said["recorded"].clone(), who(&members, "silent").len()),
        (json!(true), 1),
        "{said}"
    );
    let freeze = &said["fleet_freeze"];
    assert_eq!((who(freeze, "frozen").len(), who(freeze, "silent").len()), (2, 1), "{said}");
    assert_eq!(&members["freeze"], freeze);

    // Without a database this proxy is frozen still, and the evidence is captured.
    fleet.postgres.kill().await;
    let (code, said, members) = begin(&world, &fleet, "third");
    assert_eq!((code, &said["recorded"], &members), (1, &json!(true), &Value::Null), "{said}");
    assert!(said["fleet"].as_str().unwrap().starts_with("NOT FROZEN everywhere: "), "{said}");
    let missing = said["parts"].as_array().unwrap().iter().find(|part| part["part"] == "fleet");
    assert!(missing.unwrap()["missing"].is_string(), "{said}");
    fleet.stop().await;
}
