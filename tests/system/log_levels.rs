//! `RUST_LOG` that is empty or misspelt: the default level applies, and one line says so, in
//! whatever logs.

use std::process::Command;

use serde_json::{Value, json};
use system_tests::programs::ours;
use system_tests::{Kind, Process, Scratch, World};

use crate::ALICE;

/// What a log says of the setting, line by line.
fn said_of_it(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("RUST_LOG")))
        .map(|line| line.to_string())
        .collect()
}

#[tokio::test]
async fn what_cannot_be_read_silences_nothing() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    // Variables that are empty are taken out by the harness.
    for (setting, why) in [
        (" ", "is empty"),
        (",", "is empty"),
        ("inof", "is none of the levels"),
        ("info,admin=debgu", "is none of the levels"),
        ("signing_proxi=debug", "nothing logs as"),
    ] {
        let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
        let proxy = builder.environment("RUST_LOG", setting).start().await;
        let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "seen"})).await;
        assert_eq!(frozen.status, 200);
        let log = proxy.process.says("\"frozen\"").await;
        let said = said_of_it(&log);
        let [only] = said.as_slice() else { panic!("{setting:?}: {said:?}\n{log}") };
        assert!(only.contains(why) && only.contains("the default applies: info"), "{only}");
        assert_eq!(
            proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status,
            200
        );
        proxy.stop().await;
    }
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.environment("RUST_LOG", "gate=debug").start().await;
    let log = proxy.process.says("\"serving\"").await;
    assert_eq!(said_of_it(&log), Vec::<String>::new());
    proxy.stop().await;
}

#[tokio::test]
async fn an_empty_one_silences_neither_dev_nor_its_emergency_signer() {
    for setting in ["", "inof"] {
        let scratch = Scratch::new();
        let mut dev = Command::new(ours("signing-proxy"));
        dev.args(["dev", "--dir", "dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
        let process = Process::start({
            dev.current_dir(scratch.dir()).env("RUST_LOG", setting);
            dev
        });
        process.says("ready {").await;
        let log = process.output();
        assert_eq!(said_of_it(&log).len(), 1, "{log}");
        assert!(log.contains("\"signer_socket\""), "the emergency signer says nothing: {log}");
        assert!(log.contains("DEVELOPMENT PROVIDER"), "{log}");
    }
}
