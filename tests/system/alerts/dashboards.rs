//! Every query of the shipped dashboards, as Grafana would ask it, has series from the proxies of
//! the alerts' situations.

use std::collections::BTreeSet;

use serde_json::Value;
use system_tests::Prometheus;
use system_tests::programs::repository;

/// What Grafana puts in place of its variables.
const VARIABLES: [(&str, &str); 2] = [("$instance", ".*"), ("$__rate_interval", "10s")];

fn dashboards() -> Vec<(String, Value)> {
    let directory = std::fs::read_dir(repository().join("config/grafana")).unwrap();
    let files = directory.map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let board = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.display().to_string(), board)
    };
    files.map(read).collect()
}

/// Title and expression of every query.
fn queries(board: &Value) -> Vec<(&str, &str)> {
    let panels = board["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().unwrap().iter();
            targets.map(move |target| (title, target["expr"].as_str().unwrap()))
        })
        .collect()
}

/// Asks all of them.
pub(super) async fn have_series(prometheus: &Prometheus) {
    for (file, board) in dashboards() {
        for (title, expression) in queries(&board) {
            let replaced = VARIABLES
                .iter()
                .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
            assert!(!replaced.contains('$'), "{file}: {title}: an unknown variable: {expression}");
            assert!(!prometheus.series(&replaced).await.is_empty(), "{file}: {title}: {replaced}");
        }
    }
}

#[test]
fn every_panel_has_its_place_a_title_and_says_what_it_shows() {
    let boards = dashboards();
    assert_eq!(boards.len(), 2);
    let mut uids = BTreeSet::new();
    for (file, board) in &boards {
        assert!(uids.insert(board["uid"].as_str().unwrap()), "{file}");
        let mut cells = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{file}: {title}");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{file}: {title} is too wide");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{file}: {title} lies on another panel");
                }
            }
        }
    }
}
