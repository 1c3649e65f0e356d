//! Metrics: the names that alerts use, in a form that promtool accepts, and in
//! flat memory. `docs/reference/metrics.md` has each of them, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use system_tests::{Fault, Kind, World, programs};

use crate::ALICE;
use crate::tidy::text as read;

const PAGE: &str = "docs/reference/metrics.md";

/// Every name of the contract that applies so far.
const NAMES: &[&str] = &[
    "signing_proxy_health",
    "kms_sign_latency",
    "kms_errors_total",
    "signing_proxy_requests_total",
    "signing_proxy_signer_health",
    "signing_proxy_upstream_health",
    "signing_proxy_gate_state",
    "signing_proxy_gate_transitions_total",
    "signing_proxy_request_duration_seconds",
    "signing_proxy_inflight_requests",
    "signing_proxy_frozen",
    "signing_proxy_build_info",
    "signing_proxy_tls_certificate_expiry_timestamp_seconds",
];

/// What every program on this kind of machine can say of its process.
const OF_PROCESS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
    "process_threads",
];

/// Each of these is shown, and is more than nothing.
pub(crate) fn show_the_process(text: &str) {
    for name in OF_PROCESS {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = value.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap();
        assert!(value > 0.0, "{name} is {value}");
    }
}

#[tokio::test]
async fn promtool_accepts_the_metrics_and_every_name_is_there() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(alice.sign_message("none", b"hi").await.status, 404);
    key.break_with(Fault::Error("ThrottlingException", 400));
    proxy.unhealthy_for("upstream_throttled").await;
    let text = proxy.metrics().await;
    for name in NAMES {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    for sample in [
        r#"signing_proxy_requests_total{result="refused",reason="signer_unknown",signer_kid="",mode="normal"} 1"#,
        r#"kms_sign_latency_count{upstream="aws-kms",region="eu-test-1",outcome="signed"}"#,
        r#"kms_errors_total{signer_kid="ec",upstream="aws-kms",region="eu-test-1",kind="throttled"}"#,
        r#"signing_proxy_gate_state{signer_kid="ec",state="shut"} 1"#,
        r#"signing_proxy_gate_state{signer_kid="ec",state="open"} 0"#,
    ] {
        assert!(text.contains(sample), "{sample} is missing in\n{text}");
    }
    show_the_process(&text);
    promtool_accepts(&text);
    are_as_the_page_says(&text);
}

/// A row of the page's tables of metrics.
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    /// The alerts that it links to.
    alerts: BTreeSet<String>,
}

/// The words of a cell that stand in backticks.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The cells of each row of the page's tables with so many columns.
fn table(columns: usize) -> Vec<Vec<String>> {
    let page = read(&programs::repository().join(PAGE));
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>()
    });
    cells.filter(|cells| cells.len() == columns).collect()
}

fn rows() -> BTreeMap<String, Row> {
    let row = |cells: Vec<String>| {
        let linked = cells[4].split("[").skip(1).filter_map(|link| {
            let (name, rest) = link.split_once("](../operating/alerts.md#")?;
            assert!(rest.starts_with(&name.to_lowercase()), "{PAGE}: {link}");
            Some(name.to_owned())
        });
        let (labels, alerts) = (words(&cells[2]), linked.collect());
        (cells[0].trim_matches('`').to_owned(), Row { kind: cells[1].clone(), labels, alerts })
    };
    table(5).into_iter().map(row).collect()
}

/// The values of each label, where the page lists them all.
fn closed_labels() -> BTreeMap<String, BTreeSet<String>> {
    let closed = table(2).into_iter().flat_map(|cells| {
        let values = words(&cells[1]);
        words(&cells[0]).into_iter().map(move |label| (label, values.clone()))
    });
    let is_closed = |label: &str| {
        let all = "result mode door state from to extent stage outcome kind component upstream";
        all.split(' ').any(|one| one == label)
    };
    closed.filter(|(label, _)| is_closed(label)).collect()
}

/// Type, labels and values of what a proxy shows.
fn are_as_the_page_says(shown: &str) {
    let (rows, closed) = (rows(), closed_labels());
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in shown.lines() {
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let row = rows.get(name).unwrap_or_else(|| panic!("{name} is not on {PAGE}"));
            assert_eq!(row.kind, kind, "{PAGE}: {name}");
        }
        let Some((name, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let row = family.and_then(|family| rows.get(family)).or_else(|| rows.get(name)).unwrap();
        let labels = labels.split_once('}').unwrap().0;
        let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(label, value)| (label, value.trim_end_matches('"')));
        let labels: Vec<_> = labels.filter(|(label, _)| *label != "le").collect();
        let names = labels.iter().map(|(label, _)| (*label).to_owned());
        assert_eq!(row.labels, names.collect(), "{PAGE}: {line}");
        for (label, value) in labels {
            if let Some(written) = closed.get(label) {
                assert!(written.contains(value), "{PAGE}: {label} is {value}");
                values.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
    }
    // Every value of these is there from the start.
    for label in ["door", "state", "extent", "stage", "component", "result"] {
        assert_eq!(values.get(label), closed.get(label), "{PAGE}: {label}");
    }
}

/// The names that the programs' sources give their metrics.
pub(crate) fn named_in_the_code() -> BTreeSet<String> {
    let source = |path: &str| read(&programs::repository().join(path));
    let proxy = source("telemetry/src/metrics/names.rs");
    let proxy = proxy.split("/// Name, unit and help").next().unwrap().to_owned();
    let trail = ["metrics.rs", "fleet/gauges.rs", "replica/gauges.rs", "notify/metrics.rs"];
    let trail: String = trail.iter().map(|file| source(&format!("trail/src/{file}"))).collect();
    let is_name = |word: &&str| {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.contains('_') && word.chars().all(is_part)
    };
    let proxy = proxy.split('"').filter(is_name).map(str::to_owned);
    let trail = trail.split('"').filter(|word| word.starts_with("audit_trail_"));
    // Both of them show these.
    let process = source("host/src/process.rs");
    let process = process.split('"').filter(|word| word.starts_with("process_"));
    proxy.chain(trail.chain(process).map(str::to_owned)).collect()
}

#[test]
fn the_page_has_every_metric_of_the_code_and_no_other() {
    let named = named_in_the_code();
    assert!(named.len() > 45, "{named:?}");
    assert_eq!(rows().into_keys().collect::<BTreeSet<_>>(), named, "{PAGE}");
}

/// The rules of a file by name, each with the words of its expression.
fn rules(file: &str, begin: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&programs::repository().join("config/prometheus").join(file));
    let rules = text.split(begin).skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').unwrap();
        let expr = rest.split_once("expr:").unwrap().1.split("\n      - ").next().unwrap();
        let expr = expr.split("labels: {").next().unwrap();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let words = expr.split(|c| !is_part(c)).map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
        });
        (name.to_owned(), words.collect())
    });
    rules.collect()
}

#[test]
fn the_page_says_which_alerts_use_a_metric_and_what_prometheus_records() {
    let (alerts, records) =
        (rules("alerts.yml", "- alert: "), rules("recording.yml", "- record: "));
    let written = table(3).into_iter().map(|cells| cells[0].trim_matches('`').to_owned());
    let written: BTreeSet<_> = written.filter(|name| name.contains(':')).collect();
    assert_eq!(written, records.keys().cloned().collect(), "{PAGE}");
    let rows = rows();
    for (alert, mut words) in alerts {
        // A record is made of others.
        for _ in 0..records.len() {
            let through: Vec<_> = words.iter().filter_map(|word| records.get(word)).collect();
            let more: Vec<_> = through.into_iter().flatten().cloned().collect();
            words.extend(more);
        }
        let used: Vec<_> = words.iter().filter_map(|word| rows.get_key_value(word)).collect();
        assert!(!used.is_empty() || words.contains("up"), "{alert} uses no metric of ours");
        for (name, row) in used {
            assert!(row.alerts.contains(&alert), "{PAGE}: {name} does not link to {alert}");
        }
    }
}

/// What Prometheus's own tool says of them.
pub(crate) fn promtool_accepts(text: &str) {
    let mut promtool = programs::system("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "promtool: {said}");
}

#[tokio::test]
async fn no_label_takes_a_value_that_a_caller_chose() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    let before = proxy.metrics().await.lines().count();
    for number in 0..200 {
        let answer = alice.sign_message(&format!("chosen-{number}"), b"hi").await;
        assert_eq!(answer.reason(), "signer_unknown");
    }
    let text = proxy.metrics().await;
    assert!(!text.contains("chosen-"));
    assert!(
        text.lines().count() <= before + 20,
        "{} lines before, {} after",
        before,
        text.lines().count()
    );
}

#[tokio::test]
async fn memory_stays_flat_while_nobody_scrapes() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let resident_kib = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", proxy.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap()
    };
    let client = proxy.http2_client(ALICE).await;
    let sign_many = || async {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    for _ in 0..500 {
                        assert_eq!(client.sign_message("ed", b"hi").await.status, 200);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    sign_many().await;
    let warm = resident_kib();
    for _ in 0..3 {
        sign_many().await;
    }
    let later = resident_kib();
    // Samples that pile up would take far more: 12,000 requests, 6 histograms.
    assert!(later < warm + 6 * 1024, "{warm} KiB after 4,000 signatures, {later} KiB after 16,000");
}
