//! `signctl status` in a session: the first thing it says is that an emergency key signs.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;

use super::{KID, Site, end, metric_is, over};
use crate::ALICE;

#[tokio::test]
async fn a_status_says_first_that_an_emergency_key_signs_and_what_is_to_be_done() {
    let site = Site::new();
    let (_signer, proxy, session) = site.in_session().await;
    let name = session["session"].as_str().unwrap();
    // It signs, so the exit status is good: `signctl gate` is what refuses an emergency key.
    let (code, said, errors) = proxy.signctl(&["status"]);
    assert_eq!(code, 0, "{said}{errors}");
    let first = said.lines().next().unwrap();
    let begins = format!(
        "BREAK-GLASS SESSION {name} (INC-7): {EMERGENCY_KID} signs in place of {KID}, until "
    );
    assert!(first.starts_with(&begins), "{said}");
    assert!(first.ends_with("1000 of 1000 signatures left"), "{said}");
    assert!(!said.contains("is BACK"), "{said}");
    let (_, said, _) = proxy.signctl(&["breakglass", "status"]);
    assert!(said.contains("1000 of 1000 signatures are left"), "{said}");
    site.key.mend();
    metric_is(&proxy, "breakglass_upstream_recovered", 1.0).await;
    let (code, said, _) = proxy.signctl(&["status"]);
    assert!(
        code == 0 && said.contains("the upstream of payments is BACK: end the session"),
        "{said}"
    );
    let (_, said, _) = proxy.signctl(&["status", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let told = &said["breakglass"];
    assert_eq!(
        (&told["replaces"], &told["upstreams_back"]),
        (&json!([KID]), &json!([KID])),
        "{said}"
    );
    assert_eq!(
        (&told["remaining"], &told["max_signatures"]),
        (&json!(1000), &json!(1000)),
        "{said}"
    );
    assert!(told["expires_in_s"].as_u64().unwrap() > 3000, "{said}");
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    let (code, said, _) = proxy.signctl(&["status"]);
    assert!(code == 0 && !said.contains("BREAK-GLASS"), "{said}");
    let due = format!("emergency key {EMERGENCY_KID} has to be destroyed by ");
    assert!(said.contains(&due), "{said}");
}

#[tokio::test]
async fn what_a_session_has_left_is_said_as_of_the_newest_signature() {
    let site = Site::new();
    let (_signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    // Sooner than the signer is asked again how it is.
    for number in 1..=20_u64 {
        assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
        let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
        assert_eq!(status["breakglass"]["remaining"], 1000 - number, "{status}");
        assert_eq!(status["breakglass"]["max_signatures"], 1000);
    }
    let (_, said, _) = proxy.signctl(&["status"]);
    assert!(said.lines().next().unwrap().ends_with("980 of 1000 signatures left"), "{said}");
}

#[tokio::test]
async fn health_says_first_that_an_emergency_key_signs() {
    let site = Site::new();
    let (_signer, proxy, _) = site.in_session().await;
    let url = format!("http://{}/health", proxy.metrics);
    let (_, said, _) = proxy.signctl(&["health", "--url", &url]);
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("BREAK-GLASS SESSION") && first.contains(EMERGENCY_KID), "{said}");
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    let (_, said, _) = proxy.signctl(&["health", "--url", &url]);
    assert!(!said.contains("BREAK-GLASS"), "{said}");
}
