//! The unix sockets through which operators and the proxy reach a process: their files are
//! removed or replaced, and nobody is locked out for long, or told nothing.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use serde_json::json;
use system_tests::{Kind, World, eventually};

/// Waits until a socket of mode 0660 is at `path`.
async fn is_bound(path: &Path) {
    eventually(&format!("{} is bound", path.display()), || {
        let found = std::fs::symlink_metadata(path).ok();
        let is_socket = |found: std::fs::Metadata| {
            (found.file_type().is_socket() && found.mode() & 0o777 == 0o660).then_some(())
        };
        std::future::ready(found.and_then(is_socket))
    })
    .await;
}

#[tokio::test]
async fn an_admin_socket_that_is_removed_is_bound_again_and_freezes() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for round in ["once", "again"] {
        std::fs::remove_file(&proxy.socket).unwrap();
        is_bound(&proxy.socket).await;
        let (code, _, said) = proxy.signctl(&["freeze", "--reason", round]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    }
    proxy.process.says("the admin socket was removed, and is bound again").await;
}

#[tokio::test]
async fn what_stands_in_place_of_the_admin_socket_is_left_alone_and_told_loudly() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    std::fs::remove_file(&proxy.socket).unwrap();
    std::fs::write(&proxy.socket, "not yours").unwrap();
    let series = "signing_proxy_component_ok{component=\"admin_socket\"}";
    eventually("health and the metric say that the admin socket is lost", || async {
        let health = proxy.health().await;
        let lost = health.body["conditions"] != json!([]);
        (lost && proxy.metric(series).await == Some(0.0)).then_some(health)
    })
    .await;
    proxy.process.says("not the socket that this process bound").await;
    assert_eq!(std::fs::read_to_string(&proxy.socket).unwrap(), "not yours");
    assert_eq!(proxy.health().await.status, 200, "signing goes on");
    // Out of the way, it is bound again.
    std::fs::remove_file(&proxy.socket).unwrap();
    is_bound(&proxy.socket).await;
    assert_eq!(proxy.signctl(&["freeze", "--reason", "back"]).0, 0);
    eventually("the metric says that all is well", || async {
        (proxy.metric(series).await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_sockets_of_the_emergency_signer_are_bound_again_in_a_session_too() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let signer = world.signer().replaces("payments", &key).start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    for name in ["signer.sock", "operator.sock"] {
        let path = world.scratch.path("signer").join(name);
        std::fs::remove_file(&path).unwrap();
        is_bound(&path).await;
        // Somebody answers there.
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "{name}");
    }
    signer.process.says("a socket was removed, and is bound again").await;
    // The connection that has the session never noticed.
    let signed = proxy.sign(&session, "payments", b"hello").await;
    assert!(signed["signed"].is_object(), "{signed}");
    // What is somebody else's stays, and is told.
    let path = world.scratch.path("signer").join("operator.sock");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not yours").unwrap();
    signer.process.says("nobody reaches this process through its path").await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not yours");
    std::fs::remove_file(&path).unwrap();
    is_bound(&path).await;
}
