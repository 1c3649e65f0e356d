//! The log. `RUST_LOG` that is empty or misspelt: the default level applies, and one line says so, in
//! whatever logs. `docs/reference/logs.md` has every line and every target.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use system_tests::programs::{ours, repository};
use system_tests::{Process, Scratch, World};

use crate::tidy::{files, is_of_the_proxy, text};

const PAGE: &str = "docs/reference/logs.md";

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
    let (world, key) = World::one_signer();
    // Variables that are empty are taken out by the harness.
    for (setting, why) in [
        (" ", "is empty"),
        (",", "is empty"),
        ("inof", "is not one of the levels"),
        ("info,admin=debgu", "is not one of the levels"),
        ("signing_proxi=debug", "nothing logs as"),
    ] {
        let builder = world.proxy_of(&key);
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
    let builder = world.proxy_of(&key);
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

/// The sources of the programs that log, without their tests, as one text.
fn sources() -> String {
    let rooms = ["upstream/src", "breakglass-signer/src", "trail/src"];
    let rooms = rooms.map(|room| repository().join(room));
    let ours = files(".rs").into_iter().filter(|path| {
        let is_of_others = rooms.iter().any(|room| path.starts_with(room));
        (is_of_the_proxy(path) || is_of_others) && !path.ends_with("tests.rs")
    });
    let without_tests =
        |path: &std::path::Path| text(path).split("#[cfg(test)]").next().unwrap().to_owned();
    let all = ours.map(|path| without_tests(&path)).collect::<String>();
    all.replace("{SETTING}", "RUST_LOG").replace("\\\n", "")
}

/// What a message begins with, up to what follows a colon or a value.
fn beginning(message: &str) -> String {
    let plain = message.replace('`', "");
    plain.split([':', ';', '{']).next().unwrap().trim().to_owned()
}

/// The messages of all log lines.
fn messages(sources: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for level in ["info", "warn", "error"] {
        // What follows `field = ` or `target: ` is no message.
        for event in sources.split(&format!("tracing::{level}!(")).skip(1) {
            let event = event.split(");").next().unwrap();
            let pieces: Vec<_> = event.split('"').collect();
            let literals = pieces.windows(2).step_by(2).filter(|pair| {
                let before = pair[0].trim_end();
                !before.ends_with('=') && !before.ends_with("target:")
            });
            found.extend(literals.map(|pair| beginning(pair[1])));
        }
        for event in sources.split(&format!("log.{level}(")).skip(1) {
            let literal =
                event.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            found.extend(literal.map(beginning));
        }
    }
    found.remove("");
    found
}

#[test]
fn the_page_has_every_line_and_every_target_of_the_code_and_no_other() {
    let (page, sources) = (text(&repository().join(PAGE)), sources());
    let said = messages(&sources);
    assert!(said.len() > 80, "{said:?}");
    for message in &said {
        assert!(page.contains(&format!("`{message}")), "{PAGE} lacks: {message}");
    }
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let spans = |cell: &str| cell.split('`').skip(1).step_by(2).map(beginning).collect::<Vec<_>>();
    let lines = page.split_once("## Lines of signing-proxy").unwrap().1;
    for row in lines.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells = cells(row);
        // The last but one is the message: a table begins and ends with a bar.
        for span in spans(&cells[cells.len() - 3]).into_iter().filter(|span| span != "check") {
            assert!(said.contains(&span), "{PAGE} has a line that nothing logs: {span}");
        }
    }
    let targets = page.split_once("## Targets of the proxy").unwrap().1;
    let targets = targets.split("\n## ").next().unwrap();
    let rows = targets.lines().filter(|line| line.starts_with("| `"));
    let written: BTreeSet<_> = rows.flat_map(|row| spans(&cells(row)[1])).collect();
    let named = sources.split("target: \"").skip(1);
    let named = named.filter_map(|rest| Some(rest.split('"').next()?.to_owned()));
    assert_eq!(written, named.chain(["signing_proxy".to_owned()]).collect(), "{PAGE}");
}
