//! How exposed each unit is, as `systemd-analyze security` counts it: the page has the figures.

use std::fs;

use system_tests::programs::{repository, system};

#[test]
fn the_page_has_what_systemd_analyze_security_says_of_each_unit() {
    let page = fs::read_to_string(repository().join("docs/operating/packaging.md")).unwrap();
    for name in ["signing-proxy", "breakglass-signer", "signing-trail"] {
        let mut analyze = system("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager"]);
        let unit = repository().join(format!("config/systemd/{name}.service"));
        let output = analyze.arg(unit).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let (_, figure) = said.split_once("Overall exposure level for ").unwrap();
        let figure = figure.split_whitespace().nth(1).unwrap();
        let row = format!("| `{name}.service` | {figure} |");
        assert!(page.contains(&row), "docs/operating/packaging.md: {row}");
    }
}
