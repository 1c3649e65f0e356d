//! What `check` says of local doors: mistakes, notes, and no door under `REQUIRE_MTLS`.

use std::fmt::Write as _;

use system_tests::{Kind, World};

use super::SECRET;
use crate::config_files::{check, said};

/// What `check` says of these doors.
fn said_of(doors: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let mut text = std::fs::read_to_string(&config).unwrap();
    write!(text, "\n{doors}").unwrap();
    std::fs::write(&config, text).unwrap();
    let output = check(&config, environment);
    (output.status.success(), said(&output))
}

fn door(listen: &str, callers: &[(&str, &str)]) -> String {
    let caller = |(name, proof): &(&str, &str)| {
        format!("[[server.local.callers]]\nname = \"{name}\"\n{proof}\n")
    };
    let callers: String = callers.iter().map(caller).collect();
    format!("[[server.local]]\nlisten = \"{listen}\"\n{callers}")
}

#[test]
fn i3_require_mtls_refuses_every_local_door() {
    for listen in ["127.0.0.1:8444", "unix:/run/x/door.sock"] {
        let door = door(listen, &[("a", "uid = 1000")]);
        for value in ["1", "true", "YES", "on", "what"] {
            let (ok, said) = said_of(&door, &[("REQUIRE_MTLS", value)]);
            assert!(!ok, "{value}: {said}");
            let mistake = "server.local[0].listen: is a door without client certificates, but \
                           REQUIRE_MTLS asks for mTLS";
            assert!(said.contains(mistake), "{value}: {said}");
        }
        for environment in [&[][..], &[("REQUIRE_MTLS", "0")], &[("REQUIRE_MTLS", "")]] {
            let (ok, said) = said_of(&door, environment);
            assert!(ok, "{environment:?}: {said}");
        }
    }
}

#[test]
fn every_mistake_of_a_door_is_named() {
    let a = ("a", "uid = 1000");
    for (doors, wanted) in [
        (
            door("0.0.0.0:8444", &[a]),
            "local[0].listen: is \"0.0.0.0:8444\", expected a loopback address",
        ),
        (door("10.0.0.1:1", &[a]), "local[0].listen: is \"10.0.0.1:1\", expected a loopback"),
        (door("[::]:1", &[a]), "local[0].listen: is \"[::]:1\", expected a loopback"),
        (door("localhost:1", &[a]), "local[0].listen: is \"localhost:1\", expected a loopback"),
        (door("unix:", &[a]), "local[0].listen: is \"unix:\", expected a loopback"),
        (door(&format!("unix:/{}", "x".repeat(107)), &[a]), "expected at most 107"),
        (
            format!("{}{}", door("127.0.0.1:7", &[a]), door("127.0.0.1:7", &[a])),
            "local[1].listen: is 127.0.0.1:7, where another listener stands",
        ),
        (
            format!("{}{}", door("unix:/a", &[a]), door("unix:/a", &[a])),
            "local[1].listen: is unix:/a, where another listener stands",
        ),
        (door("127.0.0.1:1", &[]), "local[0].callers: is missing"),
        ("[[server.local]]\n".to_owned() + &door("", &[])[17..], "local[0].listen: is missing"),
        (door("127.0.0.1:1", &[("A", "uid = 1")]), "callers[0].name: \"local:A\" is not a caller"),
        (door("127.0.0.1:1", &[("", "uid = 1")]), "callers[0].name: is missing"),
        (door("127.0.0.1:1", &[("a", "")]), "callers[0].name: proves nothing; give exactly one"),
        (door("127.0.0.1:1", &[("a", "uid = 1\nanyone = true")]), "name: has several proofs"),
        (door("127.0.0.1:1", &[("a", "uid = 65534")]), "uid: 65534 is the user that the kernel"),
        (door("127.0.0.1:1", &[("a", "uid = 4294967295")]), "expected 0 to 4294967294"),
        (
            door("127.0.0.1:1", &[("a", "token_sha256 = \"hunter2\"")]),
            "token_sha256: has 7 characters that are not 64 hex digits",
        ),
        (door("127.0.0.1:1", &[a, ("b", "anyone = true")]), "anyone: makes everybody this caller"),
        (door("127.0.0.1:1", &[a, ("b", "uid = 1000")]), "callers[1].name: has the same proof"),
        (door("127.0.0.1:1", &[a, ("b", "user = 1")]), "user: no such key; known here"),
    ] {
        let (ok, said) = said_of(&doors, &[]);
        assert!(!ok && said.contains(wanted), "{doors}\nwanted: {wanted}\n{said}");
        assert!(!said.contains("hunter2"), "it may be the token itself: {said}");
    }
}

#[test]
fn each_door_deserves_attention() {
    let doors = door("127.0.0.1:1", &[("a", "uid = 1"), ("a", SECRET), ("b", "uid = 2")])
        + &door("unix:door.sock", &[("pod", "anyone = true")]);
    let (ok, said) = said_of(&doors, &[]);
    assert!(ok, "{said}");
    for note in [
        "server.local[0]: 127.0.0.1:1 is a door without client certificates, where a proof of its own \
         names local:a, local:b;",
        "server.local[0]: the caller \"local:b\" was granted nothing",
        "door.sock is a door without client certificates, where whoever reaches it is local:pod;",
    ] {
        assert!(said.contains(note), "{note}\n{said}");
    }
}

#[tokio::test]
async fn a_door_takes_a_restart_and_its_socket_goes_with_the_proxy() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).local("unix:door.sock", &[("a", SECRET)]);
    let proxy = builder.caller("local:a", &["ec"]).start().await;
    let file = world.scratch.path("proxy/signing-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("25b\"", "25c\"")).unwrap();
    let refused = proxy.admin("POST", "/v1/reload", serde_json::Value::Null).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text.contains("server.local: another door, caller or proof"), "{refused:?}");
    assert!(!refused.text.contains("25c"), "{refused:?}");
    let socket = world.scratch.path("proxy/door.sock");
    assert!(socket.exists());
    let mut process = proxy.process;
    process.signal(nix::sys::signal::Signal::SIGTERM);
    process.ended().await;
    assert!(!socket.exists(), "it is removed at the end");
}
