//! The shipped alerts, as files: promtool accepts them, their unit tests hold, and each has a
//! section that says what to do.

use system_tests::programs::{repository, system};

#[test]
fn promtool_accepts_the_rules_and_their_unit_tests_hold() {
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
    let shipped = |name: &str| std::fs::read_to_string(repository().join(name)).unwrap();
    let rules = shipped("config/prometheus/alerts.yml");
    let tests = shipped("config/prometheus/tests.yml");
    let page = shipped("docs/operating/alerts.md");
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
}
