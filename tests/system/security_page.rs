//! SECURITY.md says what each party can do, line by line: each line has its test, or says why it is so.

use std::collections::BTreeSet;
use std::path::Path;

use system_tests::programs::repository;

/// The names of all tests in the files below a directory that run whenever their program does.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.extend(tests(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The functions of a source that its attributes make tests, and that none of them leaves out.
fn tests(text: &str) -> Vec<String> {
    let (mut is_test, mut is_left_out, mut found) = (false, false, Vec::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            is_left_out |= line.starts_with(concat!("#[", "ignore"));
            continue;
        }
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some(name) = function.and_then(|rest| rest.split(['(', '<']).next()) {
            if is_test && !is_left_out {
                found.push(name.to_owned());
            }
            (is_test, is_left_out) = (false, false);
        }
    }
    found
}

#[test]
fn a_helper_a_comment_and_what_is_left_out_are_no_tests() {
    let text = "#[test]\nfn a() {}\nfn b() {}\n// fn c()\n#[tokio::test(flavor = \"x\")]\nasync fn d() {}\n\
                #[test]\n#[IGNORE = \"why\"]\nfn e() {}\n#[cfg(x)]\nfn f<T>() {}\n";
    assert_eq!(tests(&text.replace("IGNORE", concat!("ign", "ore"))), ["a", "d"]);
}

#[test]
fn every_line_of_what_each_party_can_do_has_its_test_or_its_reason() {
    let root = repository();
    let mut known = BTreeSet::new();
    for directory in
        ["tests/system", "audit/tests", "signing-core/tests", "breakglass-signer/tests"]
    {
        tests_below(&root.join(directory), &mut known);
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
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("| ---");
    let rows: Vec<_> =
        section.lines().filter(is_row).filter(|line| !line.ends_with("| shown by |")).collect();
    assert!(rows.len() > 50, "{} lines", rows.len());
    // No line is outside of a table, where nobody would look for its test.
    let listed = section.lines().filter(|line| line.trim_start().starts_with("- "));
    assert_eq!(listed.count(), 0);
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
