//! Files of a room that import each other are one file in two places: a reader can begin with neither.
//!
//! A room's table of contents (`mod.rs`, `lib.rs`) and the files below it are not counted against each other.
//! The table has what its files share, and calls them; a file may take a shared type from it. Where to begin is
//! clear then: at the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use system_tests::programs::repository;

/// Crates of which the root is a room; those of the others hold rooms.
const ROOMS: [&str; 14] = [
    "approvers",
    "breakglass",
    "configuration",
    "development",
    "host",
    "monitor",
    "pkcs11-worker",
    "release",
    "server",
    "sign",
    "signctl",
    "sigv4",
    "telemetry",
    "upstream",
];
const HOUSES: [&str; 5] = ["audit", "breakglass-signer", "proxy", "signing-core", "trail"];

/// A module by its names below its crate.
type Module = Vec<String>;

fn modules(directory: &Path, of: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let below = |name: &str| [of.as_slice(), &[name.to_owned()]].concat();
        if path.is_dir() {
            modules(&path, &below(&name), found);
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let is_own = ["lib", "main", "mod"].contains(&stem);
            found.insert(if is_own { of.clone() } else { below(stem) }, path);
        }
    }
}

/// The paths that a file names, `use` trees taken apart.
fn paths(code: &str) -> Vec<String> {
    fn expand(before: &str, tree: &str, all: &mut Vec<String>) {
        let Some((head, rest)) = tree.split_once('{') else {
            let path = tree.split(" as ").next().unwrap_or(tree);
            return all.push(format!("{before}{}", path.trim()));
        };
        let before = format!("{before}{}", head.trim());
        let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
        let mut depth = 0;
        for part in inside.split(|letter| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            letter == ',' && depth == 0
        }) {
            expand(&before, part.trim(), all);
        }
    }
    let mut all = Vec::new();
    for at in ["use ", "crate::", "super::"].iter().flat_map(|word| code.match_indices(word)) {
        let rest = code.get(at.0..).unwrap_or_default();
        if let Some(tree) = rest.strip_prefix("use ") {
            expand("", tree.split(';').next().unwrap_or_default(), &mut all);
        } else {
            let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
            all.push(rest.split(|letter| !is_path(letter)).next().unwrap_or_default().to_owned());
        }
    }
    all
}

/// The modules that `from` names.
fn named(from: &Module, code: &str, all: &BTreeMap<Module, PathBuf>) -> BTreeSet<Module> {
    let resolve = |path: String| {
        let mut base = from.clone();
        let mut parts = path.split("::").map(str::trim).peekable();
        match parts.next()? {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                while parts.next_if_eq(&"super").is_some() {
                    base.pop();
                }
            }
            _ => return None,
        }
        base.extend(parts.map(str::to_owned));
        (1..=base.len()).rev().map(|length| base[..length].to_vec()).find(|it| all.contains_key(it))
    };
    paths(code).into_iter().filter_map(resolve).collect()
}

/// The way from `at` back to `to`, if there is one.
fn way(
    at: &str,
    to: &str,
    edges: &BTreeMap<String, BTreeSet<String>>,
    seen: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    for next in edges.get(at).into_iter().flatten() {
        if next == to {
            return Some(vec![at.to_owned(), to.to_owned()]);
        }
        if seen.insert(next.clone())
            && let Some(rest) = way(next, to, edges, seen)
        {
            return Some([vec![at.to_owned()], rest].concat());
        }
    }
    None
}

fn cycles(name: &str) -> Vec<String> {
    let mut all = BTreeMap::new();
    modules(&repository().join(name).join("src"), &Vec::new(), &mut all);
    // Of each room: which of its files name which others.
    let mut rooms: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, path) in &all {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        for to in named(from, &code, &all) {
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if common < from.len() && common < to.len() {
                let edges = rooms.entry(from[..common].to_vec()).or_default();
                edges.entry(from[common].clone()).or_default().insert(to[common].clone());
            }
        }
    }
    let mut found = Vec::new();
    for (room, edges) in &rooms {
        if room.is_empty() && HOUSES.contains(&name) {
            continue;
        }
        for file in edges.keys() {
            if let Some(way) = way(file, file, edges, &mut BTreeSet::new()) {
                found.push(format!("{name}/{}: {}", room.join("/"), way.join(" -> ")));
            }
        }
    }
    found
}

#[test]
fn no_file_of_a_room_imports_one_that_imports_it() {
    let found: Vec<_> = ROOMS.iter().chain(&HOUSES).flat_map(|name| cycles(name)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_use_tree_is_taken_apart() {
    let code = "use super::{a::{B, c}, d as e};\nuse crate::f;\nlet x = super::super::g::h(1);";
    let all = paths(code);
    for path in ["super::a::B", "super::a::c", "super::d", "crate::f", "super::super::g::h"] {
        assert!(all.iter().any(|found| found == path), "{path}: {all:?}");
    }
}
