//! What proves who calls: each proof names its own caller, and nothing else names any.

use serde_json::{Value, json};
use system_tests::{Kind, World, journal, programs};

use super::{SECRET, USER, body, sign};

/// What a process of another user gets, by curl: the status and the answer.
fn sign_as(uid: u32, place: &str) -> (u16, Value) {
    let mut curl = programs::system("setpriv");
    curl.arg(format!("--reuid={uid}"))
        .args(["--clear-groups", "curl", "-sS", "-w", "\n%{http_code}"])
        .args(["-H", "content-type: application/json", "--data", &body()]);
    match place.strip_prefix("unix:") {
        Some(path) => curl.args(["--unix-socket", path, "http://localhost/v1/sign"]),
        None => curl.arg(format!("http://{place}/v1/sign")),
    };
    let output = curl.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (answer, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    (status.parse().unwrap(), serde_json::from_str(answer).unwrap_or_default())
}

#[tokio::test]
async fn a_callers_user_is_proved_by_the_kernel_at_a_unix_socket_and_over_loopback() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let (mine, other) = (nix::unistd::geteuid(), format!("uid = {USER}"));
    let mine = format!("uid = {mine}");
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .local("unix:door.sock", &[("me", &mine), ("other", &other)])
        .local("127.0.0.1:0", &[("me", &mine), ("other", &other)])
        .local("[::1]:0", &[("other", &other)])
        .caller("local:me", &["ec"])
        .caller("local:other", &["ec"])
        .start()
        .await;
    // The socket is for the proxy's user and group: others come in by the group that a
    // deployment gives it. Here everybody may try, and only a known user gets in.
    let socket = proxy.local[0].strip_prefix("unix:").unwrap();
    open_to_all(std::path::Path::new(socket));
    for place in &proxy.local[..2] {
        let answer = sign(place, &[]).await;
        assert_eq!(answer.status, 200, "{place}: {answer:?}");
        assert_eq!(caller_of(&world, &answer.body), "local:me", "{place}");
    }
    for place in &proxy.local {
        let (status, answer) = sign_as(USER, place);
        assert_eq!(status, 200, "{place}: {answer}");
        assert_eq!(caller_of(&world, &answer), "local:other", "{place}");
        let (status, answer) = sign_as(USER + 1, place);
        assert_eq!((status, &answer["reason"]), (401, &json!("unauthenticated")), "{place}");
    }
    // The test's own user is none of this door's.
    let answer = sign(&proxy.local[2], &[]).await;
    assert_eq!((answer.status, answer.reason()), (401, "unauthenticated"), "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("as a user whom this door knows"));
    let of_door = r#"signing_proxy_door_requests_total{door="local",result="#;
    let metrics = proxy.metrics().await;
    assert!(metrics.contains(&format!("{of_door}\"signed\"}} 5")), "{metrics}");
    assert!(metrics.contains(&format!("{of_door}\"refused\"}} 4")), "{metrics}");
}

fn open_to_all(socket: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(socket, 0o666);
    for above in socket.ancestors().skip(1).take_while(|path| path.starts_with("/tmp/")) {
        open(above, 0o755);
    }
}

/// Who signed, by the journal's record of the answer, which names the door too.
fn caller_of(world: &World, answer: &Value) -> String {
    let records = journal::read(&world.scratch.path("proxy/journal"), "signed");
    let record = records.iter().find(|record| record["seq"] == answer["audit"]["seq"]).unwrap();
    assert_eq!(record["record"]["data"]["door"], "local");
    record["record"]["data"]["caller"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_a_proof_and_a_wrong_one_is_not_overlooked() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mine = format!("uid = {}", nix::unistd::geteuid());
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("token", SECRET)])
        .local("127.0.0.1:0", &[("token", SECRET), ("me", &mine)])
        .caller("local:token", &["ec"])
        .caller("local:me", &["ec"])
        .start()
        .await;
    let [token, both] = &proxy.local[..] else { panic!("{:?}", proxy.local) };
    for (place, authorization, wanted) in [
        (token, Some("Bearer secret"), Some("local:token")),
        (token, Some("bearer secret"), Some("local:token")),
        (token, Some("Bearer wrong"), None),
        (token, Some("Bearer"), None),
        (token, Some("Basic secret"), None),
        (token, None, None),
        (both, Some("Bearer secret"), Some("local:token")),
        (both, Some("Bearer wrong"), None),
        (both, None, Some("local:me")),
    ] {
        let header = authorization.map(|value| ("authorization", value));
        let answer = sign(place, header.as_slice()).await;
        match wanted {
            Some(caller) => {
                assert_eq!(answer.status, 200, "{authorization:?}: {answer:?}");
                assert_eq!(caller_of(&world, &answer.body), caller, "{authorization:?}");
            }
            None => {
                let refused = (answer.status, answer.reason());
                assert_eq!(refused, (401, "unauthenticated"), "{authorization:?}");
            }
        }
    }
    // Whoever proves nothing sees whether signing works, and not why it does not.
    proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
    for (headers, tells) in [(&[][..], false), (&[("authorization", "Bearer secret")], true)] {
        let health = system_tests::client::local(token, "GET", "/health", headers, "").await;
        assert_eq!((health.status, health.reason()), (503, "frozen"));
        assert_eq!(health.text.contains("incident 7"), tells, "{health:?}");
    }
    // The same refusal as at every door.
    let answer = sign(token, &[("authorization", "Bearer secret")]).await;
    assert_eq!((answer.status, answer.reason()), (503, "frozen"));
    let nobody = system_tests::client::local(token, "GET", "/v1/signers", &[], "").await;
    assert_eq!((nobody.status, nobody.reason()), (401, "unauthenticated"));
}

#[tokio::test]
async fn a_certificate_never_makes_a_local_caller_nor_a_door_one_of_the_data_plane() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("alice", "anyone = true")])
        .caller("alice", &["ec"])
        .start()
        .await;
    // `alice` was granted the signer, `local:alice` was not, and neither is the other.
    let answer = sign(&proxy.local[0], &[]).await;
    assert_eq!((answer.status, answer.reason()), (403, "caller_not_authorized"), "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("local:alice"));
    assert_eq!(proxy.client("alice").await.sign_message("ec", b"hi").await.status, 200);
    let metrics = proxy.metrics().await;
    assert!(
        metrics.contains(r#"signing_proxy_door_requests_total{door="mtls",result="signed"} 1"#)
    );
}
