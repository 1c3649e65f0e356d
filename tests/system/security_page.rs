//! SECURITY.md says what each party can do, line by line: each line has its test, or says why it is so.

use std::collections::BTreeSet;
use std::path::Path;

use system_tests::programs::repository;

/// The names of all functions in the files below a directory.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_line_of_what_each_party_can_do_has_its_test_or_its_reason() {
    let root = repository();
    let mut known = BTreeSet::new();
    for directory in
        ["tests/system", "audit/tests", "signing-core/tests", "breakglass-signer/tests"]
    {
        functions(&root.join(directory), &mut known);
    }
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, after) = page.split_once("### What each party can do").unwrap();
    let section = after.split("\n## ").next().unwrap();
    for party in ["proxy", "`breakglass-signer`", "local user", "Root", "caller", "stranger"] {
        assert!(
            section.lines().any(|line| line.starts_with("**") && line.contains(party)),
            "{party}"
        );
    }
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| ---");
    let rows: Vec<_> =
        section.lines().filter(is_row).filter(|line| !line.contains("shown by")).collect();
    assert!(rows.len() > 30, "{} lines", rows.len());
    for row in rows {
        let shown = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        if shown.starts_with("by design, because ") {
            continue;
        }
        let tests: Vec<_> = shown.split(", ").collect();
        for test in tests {
            let name = test.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
            let name =
                name.unwrap_or_else(|| panic!("{row}\nneither a test nor \"by design, because\""));
            assert!(known.contains(name), "{row}\nno test is called {name}");
        }
    }
}
