//! A real Prometheus with the shipped rules, which scrapes what a test tells it. Its rules are a
//! copy of the shipped files in which every time is short: a test cannot wait for 30 minutes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::client::plain;
use crate::process::Process;
use crate::programs::{repository, system};
use crate::scratch::Scratch;
use crate::wait::eventually;

/// Beyond the one time that cannot be made shorter: an emergency key is overdue after a minute.
const DEADLINE: Duration = Duration::from_secs(150);
/// Between two looks at the alerts: shorter than the time between two evaluations.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Texts of the rules, and what stands in their place here. Each has to be there.
const SHORTER: [(&str, &str); 4] =
    [("[5m]", "[10s]"), ("[15m]", "[40s]"), ("[1h]", "[20s]"), ("> 1800", "> 2")];

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    scratch: Scratch,
    _process: Process,
    address: String,
    began: OffsetDateTime,
    targets: RefCell<BTreeMap<String, String>>,
    fired: RefCell<BTreeSet<String>>,
}

impl Prometheus {
    /// Starts it, with nothing to scrape yet.
    pub async fn start() -> Self {
        let scratch = Scratch::new();
        let mut texts = ["alerts.yml", "recording.yml"].map(|name| (name, shipped(name)));
        for (long, short) in SHORTER {
            assert!(texts.iter().any(|(_, text)| text.contains(long)), "no rule has {long}");
            texts = texts.map(|(name, text)| (name, text.replace(long, short)));
        }
        for (name, text) in texts {
            let at_once = |line: &str| {
                let is_wait = line.trim_start().starts_with("for: ");
                if is_wait { String::new() } else { format!("{line}\n") }
            };
            scratch.write(name, text.lines().map(at_once).collect::<String>());
        }
        let config = "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n\
             rule_files: [recording.yml, alerts.yml]\n\
             scrape_configs:\n  - job_name: signing-proxy\n    \
             file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]\n";
        let config = scratch.write("prometheus.yml", config);
        scratch.write("targets.json", "[]");
        let mut command = system("prometheus");
        command.arg("--config.file").arg(config);
        command.arg("--storage.tsdb.path").arg(scratch.path("data"));
        command.args(["--web.listen-address", "127.0.0.1:0"]);
        let mut process = Process::start(command);
        let listens = |line: &str| {
            let line = line.contains("\"Listening on\"").then_some(line)?;
            line.split_once("address=").map(|(_, address)| address.trim().to_owned())
        };
        let address = process.line("Prometheus listens", listens).await;
        eventually("Prometheus is ready", || async {
            (plain(&address, "/-/ready").await.status == 200).then_some(())
        })
        .await;
        Self {
            scratch,
            _process: process,
            address,
            began: OffsetDateTime::now_utc(),
            targets: RefCell::default(),
            fired: RefCell::default(),
        }
    }

    /// Scrapes the metrics listener at `address` too, as that instance, and waits until it did: a
    /// counter that rises before its first sample does not rise for Prometheus.
    pub async fn scrape(&self, instance: &str, address: &str) {
        self.targets.borrow_mut().insert(instance.to_owned(), address.to_owned());
        let target = |(instance, address): (&String, &String)| json!({"targets": [address], "labels": {"instance": instance}});
        let targets: Vec<_> = self.targets.borrow().iter().map(target).collect();
        // Renamed into place: it may read at any time.
        let new = self.scratch.write("targets.new", json!(targets).to_string());
        std::fs::rename(new, self.scratch.path("targets.json")).unwrap();
        self.has(&format!("up{{instance=\"{instance}\"}} == 1")).await;
    }

    /// Waits until `expression` had a series.
    pub async fn has(&self, expression: &str) {
        eventually(expression, || async {
            (!self.series(expression).await.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until that alert fires for that instance, or for none if it is empty.
    pub async fn fires(&self, alert: &str, instance: &str) {
        self.fires_while(alert, instance, async || {}).await;
    }

    /// The same, and does `act` before each look.
    pub async fn fires_while(&self, alert: &str, instance: &str, mut act: impl AsyncFnMut()) {
        let start = Instant::now();
        loop {
            act().await;
            let all = self.get("/api/v1/alerts").await["alerts"].as_array().cloned().unwrap();
            let ours = all.iter().find(|one| {
                let is = |label: &str, value: &str| {
                    one["labels"][label].as_str().unwrap_or_default() == value
                };
                one["state"] == "firing" && is("alertname", alert) && is("instance", instance)
            });
            if let Some(fired) = ours {
                let summary = fired["annotations"]["summary"].as_str().unwrap();
                assert!(!summary.contains("<error") && !summary.contains("{{"), "{summary}");
                println!("{alert}: {summary}");
                self.fired.borrow_mut().insert(alert.to_owned());
                return;
            }
            let waited = start.elapsed();
            assert!(waited < DEADLINE, "{alert} does not fire for {instance}; these do: {all:#?}");
            // A pause: between two looks.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Every alert that [`Self::fires`] saw.
    #[must_use]
    pub fn fired(&self) -> BTreeSet<String> {
        self.fired.borrow().clone()
    }

    /// Every alert of the rules that it has read, without those that it cannot evaluate.
    pub async fn alerts(&self) -> BTreeSet<String> {
        let groups = self.get("/api/v1/rules").await["groups"].as_array().cloned().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let alerts = rules.filter(|rule| {
            assert_eq!(rule["health"], "ok", "{rule:#}");
            rule["type"] == "alerting"
        });
        alerts.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The series that `expression` had at any time since the start.
    pub async fn series(&self, expression: &str) -> Vec<Value> {
        let now = OffsetDateTime::now_utc().unix_timestamp() + 1;
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={now}&step=1",
            escaped(expression),
            self.began.unix_timestamp(),
        );
        self.get(&path).await["result"].as_array().cloned().unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = plain(&self.address, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.body["data"].clone()
    }
}

/// A file of `config/prometheus`.
#[must_use]
pub fn shipped(name: &str) -> String {
    std::fs::read_to_string(repository().join("config/prometheus").join(name)).unwrap()
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
