//! The admin socket and signctl: who may, and what they see.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::{Value, json};
use system_tests::{World, programs};

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group_only() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start_shut().await;
    let mode = std::fs::metadata(&proxy.socket).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o660);
}

#[tokio::test]
async fn a_peer_whose_uid_is_not_allowed_is_refused_by_the_kernels_word() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    // Let anyone connect: then SO_PEERCRED alone decides.
    for path in [world.scratch.dir(), &world.scratch.path("proxy")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&proxy.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let as_uid = |uid: &str| {
        let output = programs::system("setpriv")
            .args(["--reuid", uid, "--regid", uid, "--clear-groups", "curl", "-s", "--unix-socket"])
            .arg(&proxy.socket)
            .args(["-d", "{\"reason\":\"mine\"}", "http://admin/v1/freeze"])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let refused = as_uid("65534");
    assert_eq!(refused["reason"], "caller_not_authorized", "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("uid 65534"), "{refused}");
    assert_eq!(proxy.health().await.status, 200, "nothing was frozen");
    assert_eq!(as_uid("0")["frozen"], true);
}

#[tokio::test]
async fn a_state_change_is_logged_with_uid_and_user_name() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    assert_eq!(proxy.signctl(&["freeze", "--reason", "INC-7"]).0, 0);
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    assert_eq!(status.body["freeze"]["by"], "uid 0 (root)");
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    let log = proxy.process.says("\"unfrozen\"").await;
    for word in ["\"frozen\"", "\"unfrozen\"", "uid 0 (root)", "INC-7"] {
        assert!(log.contains(word), "{word} in\n{log}");
    }
}

#[tokio::test]
async fn bad_commands_change_nothing_and_say_what_to_do() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for (method, path, body, status, reason) in [
        ("POST", "/v1/freeze", json!({}), 400, "invalid_request"),
        ("POST", "/v1/freeze", json!({"reason": ""}), 400, "invalid_request"),
        ("POST", "/v1/freeze", json!({"reason": "two\nlines"}), 400, "invalid_request"),
        ("POST", "/v1/freeze", json!({"reason": "x", "force": true}), 400, "invalid_request"),
        ("GET", "/v1/freeze", json!(null), 405, "method_not_allowed"),
        ("POST", "/v1/unfreeze", json!({}), 400, "invalid_request"),
        ("POST", "/v1/unfreeze", json!({"reason": " "}), 400, "invalid_request"),
        ("POST", "/v1/unseal", json!({"signer_kid": "ec"}), 400, "invalid_request"),
        ("POST", "/v1/sign", json!({"message": "aGk="}), 404, "not_found"),
    ] {
        let answer = proxy.admin(method, path, body).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (status, reason),
            "{method} {path}: {answer:?}"
        );
    }
    for (path, body) in [
        ("/v1/unfreeze", json!({"reason": "over"})),
        ("/v1/unseal", json!({"signer_kid": "ec", "reason": "x"})),
    ] {
        let answer = proxy.admin("POST", path, body).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        assert!(answer.body["note"].is_string());
    }
    assert_eq!(proxy.health().await.status, 200);
}

#[tokio::test]
async fn signctl_says_the_same_to_people_and_programs_and_exits_0_only_when_all_is_well() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let url = format!("http://{}/health", proxy.metrics);
    let (code, said, _) = proxy.signctl(&["status"]);
    // A mistyped name would read as none.
    assert!(said.contains("\njournal: ") && !said.contains("journal: 0 records"), "{said}");
    assert_eq!(code, 0);
    assert!(said.contains("signing") && said.contains("ec") && said.contains("open"), "{said}");
    assert_eq!(proxy.signctl(&["health", "--url", &url]).0, 0);
    assert_eq!(proxy.signctl(&["freeze", "--reason", "INC-8"]).0, 0);
    let (code, said, _) = proxy.signctl(&["status"]);
    assert_eq!(code, 1);
    assert!(said.contains("NOT SIGNING (frozen)") && said.contains("INC-8"), "{said}");
    assert!(said.contains("signctl unfreeze"), "it says how to end it: {said}");
    let (code, said, _) = proxy.signctl(&["health", "--url", &url]);
    assert_eq!(code, 1);
    assert!(said.contains("frozen") && !said.contains("INC-8"), "{said}");
    let (code, said, _) = proxy.signctl(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &status["frozen"], &status["reason"]), (1, &json!(true), &json!("frozen")));
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over", "--json"]).0, 0);
    let (code, _, error) = proxy.signctl(&["unfreeze", "--reason", "over"]);
    assert_eq!(code, 1, "{error}");
}

#[tokio::test]
async fn signctl_without_a_proxy_says_what_to_look_at() {
    let scratch = system_tests::Scratch::new();
    let output = std::process::Command::new(programs::ours("signctl"))
        .arg("--socket")
        .arg(scratch.path("none.sock"))
        .arg("status")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("none.sock") && said.contains("--socket"), "{said}");
}

#[tokio::test]
async fn a_socket_left_by_a_dead_proxy_is_replaced_and_anything_else_is_not() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start_shut().await;
    let socket = proxy.socket.clone();
    drop(proxy); // kill -9 leaves its socket
    assert!(socket.exists());
    let proxy = builder.clone().start_shut().await;
    proxy.healthy().await;
    proxy.stop().await;
    assert!(!socket.exists(), "a stop removes it");
    for spoil in ["file", "symlink"] {
        if spoil == "file" {
            std::fs::write(&socket, "precious").unwrap();
        } else {
            std::os::unix::fs::symlink("/nowhere", &socket).unwrap();
        }
        let output = builder.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("admin.socket"), "{spoil}: {said}");
        std::fs::remove_file(&socket).unwrap();
    }
}

#[tokio::test]
async fn what_asks_by_its_path_alone_takes_no_body_but_an_empty_object() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for path in ["/v1/reload", "/v1/doctor"] {
        for body in [json!(["x"]), json!([]), json!("x"), json!({"reason": "x"})] {
            let answer = proxy.admin("POST", path, body.clone()).await;
            assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{path} {body}");
        }
    }
    for body in [Value::Null, json!({})] {
        let answer = proxy.admin("POST", "/v1/reload", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
