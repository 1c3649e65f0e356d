//! Roles on the admin socket: who may ask what, path by path.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use system_tests::{Kind, Proxy, World, programs};

use crate::ALICE;

const OBSERVER: u32 = 7001;
const OPERATOR: u32 = 7002;
const SECURITY: u32 = 7003;
const FLEET: u32 = 7004;
/// By their primary group: operator and security.
const BOTH: u32 = 7005;
const NOBODY: u32 = 7006;

/// Each path with a body that is refused or does nothing, and the users who may ask for it.
const TABLE: [(&str, &str, &[u32]); 21] = [
    ("/v1/status", "", &[OBSERVER, OPERATOR, SECURITY, FLEET, BOTH]),
    ("/v1/events", "", &[OBSERVER, OPERATOR, SECURITY, FLEET, BOTH]),
    ("/v1/breakglass", "", &[OBSERVER, OPERATOR, SECURITY, FLEET, BOTH]),
    ("/v1/doctor", "{}", &[OBSERVER, OPERATOR, SECURITY, BOTH]),
    ("/v1/freeze", "{\"reason\": \"\"}", &[OPERATOR, SECURITY, FLEET, BOTH]),
    (
        "/v1/fleet/freeze",
        "{\"id\": \"\", \"reason\": \"\", \"by\": \"\"}",
        &[OPERATOR, SECURITY, FLEET, BOTH],
    ),
    (
        "/v1/fleet/statement",
        "{\"statement_b64\": \"\", \"signature_b64\": \"\"}",
        &[OPERATOR, SECURITY, FLEET, BOTH],
    ),
    ("/v1/fleet/heartbeat", "{}", &[FLEET]),
    ("/v1/unfreeze", "{\"reason\": \"over\"}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/unseal", "{\"signer_kid\": \"ec\", \"reason\": \"x\"}", &[SECURITY, BOTH]),
    ("/v1/reload", "{}", &[OPERATOR, BOTH]),
    ("/v1/drill", "{\"seconds\": 0}", &[OPERATOR, BOTH]),
    ("/v1/breakglass/activate", "{}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/breakglass/end", "{\"reason\": \"x\"}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/breakglass/accept-signer", "{}", &[SECURITY, BOTH]),
    ("/v1/breakglass/destroy", "{}", &[SECURITY, BOTH]),
    ("/v1/incident", "", &[OBSERVER, OPERATOR, SECURITY, FLEET, BOTH]),
    ("/v1/incident/begin", "{}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/incident/captured", "{}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/incident/item", "{}", &[OPERATOR, SECURITY, BOTH]),
    ("/v1/incident/end", "{}", &[OPERATOR, SECURITY, BOTH]),
];

pub(crate) fn ask(proxy: &Proxy, uid: u32, path: &str, body: &str) -> Value {
    let mut curl = programs::system("setpriv");
    curl.args(["--reuid", &uid.to_string(), "--regid", &uid.to_string(), "--clear-groups"]);
    curl.args(["curl", "-s", "--unix-socket"]).arg(&proxy.socket);
    if !body.is_empty() {
        curl.args(["-d", body]);
    }
    let output = curl.arg(format!("http://admin{path}")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{uid} {path}: {output:?}"))
}

async fn with_roles(world: &World) -> Proxy<'_> {
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let builder = builder.admin(&format!(
        "observer_uids = [{OBSERVER}]\noperator_uids = [{OPERATOR}]\nsecurity_uids = [{SECURITY}]\n\
         fleet_uids = [{FLEET}]\noperator_gids = [{BOTH}]\nsecurity_gids = [{BOTH}]"
    ));
    let proxy = builder.start().await;
    open_to_all(world, &proxy);
    proxy
}

/// Lets anyone connect: then the roles alone decide.
pub(crate) fn open_to_all(world: &World, proxy: &Proxy<'_>) {
    for path in [world.scratch.dir(), &world.scratch.path("proxy")] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&proxy.socket, Permissions::from_mode(0o666)).unwrap();
}

#[tokio::test]
async fn each_role_may_ask_what_the_table_says_and_nothing_else() {
    let world = World::new();
    let proxy = with_roles(&world).await;
    for (path, body, may) in TABLE {
        for uid in [OBSERVER, OPERATOR, SECURITY, FLEET, BOTH, NOBODY] {
            let answer = ask(&proxy, uid, path, body);
            let refused = answer["reason"] == "caller_not_authorized";
            assert_eq!(!refused, may.contains(&uid), "uid {uid} {path}: {answer}");
            if refused {
                let detail = answer["detail"].as_str().unwrap();
                assert!(
                    detail.contains(&format!("uid {uid}")) && detail.contains("[admin]"),
                    "{detail}"
                );
            }
        }
    }
    assert_eq!(proxy.health().await.status, 200, "nothing was frozen");
}

#[tokio::test]
async fn the_fleet_freezes_and_ends_nothing_and_the_record_names_who_it_was() {
    let world = World::new();
    let proxy = with_roles(&world).await;
    let frozen = ask(&proxy, FLEET, "/v1/freeze", "{\"reason\": \"fleet 1\"}");
    assert_eq!(frozen["frozen"], true, "{frozen}");
    let refused = ask(&proxy, FLEET, "/v1/unfreeze", "{\"reason\": \"fleet 1\"}");
    assert_eq!(refused["reason"], "caller_not_authorized");
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("has the role fleet") && detail.contains("operator or security"),
        "{detail}"
    );
    let status = ask(&proxy, OBSERVER, "/v1/status", "");
    assert_eq!(status["freeze"]["by"], format!("uid {FLEET} (no name)"), "{status}");
    let unfrozen = ask(&proxy, SECURITY, "/v1/unfreeze", "{\"reason\": \"looked at it\"}");
    assert_eq!(unfrozen["frozen"], false, "{unfrozen}");
}
