//! Every shipped alert, as a file and for real: a running proxy gets into the situation, and a real
//! Prometheus that scrapes it fires.

mod break_glass;
mod dashboards;
mod own_side;
mod replicas;
mod stops;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};

use system_tests::programs::{repository, system};
use system_tests::prometheus::shipped;
use system_tests::{Prometheus, World};

/// Every alert, and the situation that fires it.
const SITUATIONS: &[(&str, &str)] = &[
    ("BreakGlassActive", "a session is in force"),
    ("BreakGlassEndsSoon", "it has ten minutes"),
    ("BreakGlassKeyDestructionOverdue", "it ended a minute ago, and its key is still there"),
    ("BreakGlassNoLongerNeeded", "KMS is back while it is in force"),
    ("BreakGlassQuotaLow", "it has 50 signatures"),
    ("BreakGlassSignerDisconnected", "breakglass-signer stops"),
    ("ClientAuthorityExpired", "an authority ended a minute ago"),
    ("ClientAuthorityExpiresSoon", "an authority has three days"),
    ("ComponentDegraded", "something else stands where the admin socket was"),
    ("HsmWorkerDown", "the token is gone"),
    ("HsmWorkerHangs", "the worker is stopped during a call"),
    ("JournalFillsSoon", "a small disk, and callers that sign"),
    ("JournalFull", "they sign until it is full"),
    ("JournalSealed", "a write to the journal fails"),
    ("JournalSlow", "every write takes 0.4 s"),
    ("KmsErrors", "KMS answers 503"),
    ("KmsKeyUnavailable", "KMS says that the key is disabled"),
    ("KmsQuotaNearlyUsed", "callers ask for more than the quota"),
    ("KmsSlow", "KMS takes 1.5 s"),
    ("KmsThrottled", "KMS throttles"),
    ("ReloadRefused", "a registry that is no JSON, and a reload"),
    ("RequiredTrailDown", "nobody has started the trail that it requires"),
    ("RevocationListExpired", "a list ended a minute ago"),
    ("RevocationListExpiresSoon", "a list has five hours"),
    ("ServerCertificateExpired", "a certificate of three seconds"),
    ("ServerCertificateExpiresSoon", "a certificate of a day"),
    ("SignerKeyEnded", "the registry ended a key a minute ago"),
    ("SignerKeyEndsSoon", "the registry ends a key in a day"),
    ("SignerSealed", "KMS signs with another key"),
    ("SigningAvailabilityLow", "KMS answers 503, and callers ask"),
    ("SigningFrozen", "an operator freezes"),
    ("SigningGateFlapping", "KMS fails and recovers again and again"),
    ("SigningOutageFull", "KMS answers 503"),
    ("SigningOutageLong", "it does so for longer"),
    ("SigningOutagePartial", "one of two regions answers 503"),
    ("SigningOverloaded", "more callers ask than there are places"),
    ("SigningProxyDown", "the proxy is killed"),
    ("SigningProxyMissing", "nothing is scraped"),
    ("SigningReplicaNew", "a replica is registered"),
    ("SigningReplicaRefused", "its volume is emptied"),
    ("SigningUnhealthy", "KMS answers 503"),
    ("TlsHandshakesFail", "clients that speak no TLS"),
];

/// How fast this machine is decides these, so that a proxy that is well may fire them here.
const BY_SPEED: [&str; 5] =
    ["JournalFillsSoon", "JournalSlow", "KmsSlow", "SigningProxyDown", "SigningUnhealthy"];

#[tokio::test]
async fn every_alert_fires_in_its_situation_and_none_for_a_proxy_that_is_well() {
    let prometheus = Prometheus::start().await;
    prometheus.fires("SigningProxyMissing", "").await;
    let (world, key) = World::one_signer();
    let quiet = world.proxy_of(&key).start().await;
    prometheus.scrape("quiet", &quiet.metrics).await;
    tokio::join!(
        upstreams::fire(&prometheus),
        stops::fire(&prometheus),
        break_glass::fire(&prometheus),
        own_side::fire(&prometheus),
        replicas::fire(&prometheus),
    );
    let wanted: BTreeSet<_> = SITUATIONS.iter().map(|(alert, _)| (*alert).to_owned()).collect();
    assert_eq!(prometheus.alerts().await, wanted, "each rule needs a situation");
    assert_eq!(prometheus.fired(), wanted);
    dashboards::have_series(&prometheus).await;
    for fired in prometheus.series("ALERTS{instance=\"quiet\", alertstate=\"firing\"}").await {
        let name = fired["metric"]["alertname"].as_str().unwrap();
        assert!(BY_SPEED.contains(&name), "the proxy is well, and fires {fired:#}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_its_unit_tests_hold() {
    for arguments in
        [&["check", "rules", "alerts.yml", "recording.yml"][..], &["test", "rules", "tests.yml"]]
    {
        let directory = repository().join("config/prometheus");
        let output = system("promtool").args(arguments).current_dir(directory).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn every_alert_has_a_severity_a_summary_a_section_and_a_unit_test() {
    let (rules, tests) = (shipped("alerts.yml"), shipped("tests.yml"));
    let page = std::fs::read_to_string(repository().join("docs/operating/alerts.md")).unwrap();
    let mut names = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let has = |wanted: &str| assert!(rule.contains(wanted), "{name} has no {wanted}");
        let is_critical = rule.contains("labels: {severity: critical}");
        assert!(is_critical || rule.contains("labels: {severity: warning}"), "{name}");
        has("summary: \"");
        has(&format!("runbook_url: docs/operating/alerts.md#{}\n", name.to_lowercase()));
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has no unit test");
        let section = page.split("\n### ").find(|section| section.lines().next() == Some(name));
        let section = section.unwrap_or_else(|| panic!("{name} has no section"));
        for part in ["**Meaning.** ", "**Check.** ", "**Act.** "] {
            assert!(section.contains(part), "{name} has no {part}");
        }
        names.push(name);
    }
    let sections = page.lines().filter_map(|line| line.strip_prefix("### "));
    assert_eq!(sections.collect::<Vec<_>>(), names, "sections are in the order of the rules");
    let known: BTreeMap<_, _> = SITUATIONS.iter().copied().collect();
    assert_eq!(known.into_keys().collect::<BTreeSet<_>>(), names.into_iter().collect());
}
