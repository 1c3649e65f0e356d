//! `signctl audit used`: which credentials were used since an incident began, from the journals' files.

use std::path::Path;

use serde_json::{Value, json};
use system_tests::{Fault, World, journal};

use crate::ALICE;
use crate::audit_tools::audit;

const BOB: &str = "spiffe://test/bob";

/// The names of one kind, of what was used.
fn names(said: &Value, kind: &str) -> Vec<String> {
    let used = said["used"].as_array().unwrap().iter().filter(|one| one["kind"] == kind);
    used.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn used(journal: &Path, more: &[&str]) -> Value {
    let (code, said, errors) = audit(journal, &[&["used", "--json"], more].concat());
    assert_eq!(code, 0, "{said}{errors}");
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn what_was_used_since_an_incident_began_is_named_and_what_was_used_before_is_not() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key).caller(BOB, &["ec"]);
    let proxy = builder.start().await;
    let journal = proxy.socket.with_file_name("journal");
    assert_eq!(proxy.client(BOB).await.sign_message("ec", b"before").await.status, 200);
    let (code, said, errors) = audit(&journal, &["used"]);
    assert!(code == 1 && errors.contains("no beginning of an incident"), "{said}{errors}");

    let begin = json!({"incident": "INC-1", "reason": "it fails"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begin).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"since").await.status, 200);
    proxy.stop().await;

    let since = used(&journal, &[]);
    assert_eq!(names(&since, "caller"), [format!("{ALICE} (mtls)")], "{since}");
    let upstreams = names(&since, "upstream");
    assert!(upstreams.len() == 1 && upstreams[0].starts_with("aws-kms "), "{since}");
    assert!(upstreams[0].ends_with(" ec"), "{since}");
    let operators = names(&since, "operator");
    assert!(operators.len() == 1 && operators[0].starts_with("uid "), "{since}");
    assert_eq!(used(&journal, &["--incident", "INC-1"]), since);

    // For a person each column has a head.
    let (code, said, errors) = audit(&journal, &["used"]);
    let heads: Vec<_> = said.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((code, heads), (0, vec!["kind", "name", "uses", "first", "last"]), "{said}{errors}");

    // Since another moment, both are.
    let all = used(&journal, &["--since", "2026-01-01T00:00:00Z"]);
    assert_eq!(names(&all, "caller").len(), 2, "{all}");
    let (code, _, errors) = audit(&journal, &["used", "--incident", "INC-2"]);
    assert!(code == 1 && errors.contains("no beginning of INC-2"), "{errors}");
}

#[tokio::test]
async fn an_incident_began_with_its_outage_for_credentials_too() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let directory = proxy.socket.with_file_name("journal");
    key.break_with(Fault::Bare503);
    proxy.unhealthy_for("upstream_unhealthy").await;
    let begin = json!({"incident": "INC-1", "reason": "it fails"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begin).await.status, 200);
    proxy.stop().await;
    let shut = journal::read(&directory, "gate");
    let to = |record: &&Value| record["record"]["data"]["to"] == "shut";
    let shut = shut.iter().rev().find(to).unwrap();
    let since = used(&directory, &["--incident", "INC-1"]);
    assert_eq!(since["since"], shut["record"]["at"], "{since}");
}
