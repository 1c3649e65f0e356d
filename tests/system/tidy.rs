//! Style as failing tests: what reviewers would otherwise say again and again.

use std::fs;
use std::path::{Path, PathBuf};

use system_tests::programs::repository;

/// The crates of the process `signing-proxy` that are nobody else's.
pub(crate) const OF_THE_PROXY: [&str; 7] =
    ["breakglass", "configuration", "monitor", "proxy", "server", "sign", "telemetry"];

/// Whether a file is of one of them.
pub(crate) fn is_of_the_proxy(path: &Path) -> bool {
    OF_THE_PROXY.iter().any(|room| path.starts_with(repository().join(room).join("src")))
}

/// Every file of ours with that ending: outside build directories, and not others' code.
pub(crate) fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let is_ours = !name.starts_with('.') && name != "target" && name != "third_party";
            if path.is_dir() && is_ours {
                walk(&path, ending, found);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no *{ending} under {}", repository().display());
    found
}

pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_source_file_says_its_one_idea_first_and_stays_small() {
    for path in files(".rs") {
        let text = text(&path);
        assert!(text.starts_with("//! "), "{} has no module header", path.display());
        let lines = text.lines().count();
        assert!(lines <= 480, "{} has {lines} lines: split it by idea", path.display());
    }
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    for (room, forbidden) in [
        (
            "signing-core/src",
            &["tokio", "hyper::", "std::fs", "std::net", "std::env", "async fn", "aws_sdk"][..],
        ),
        (
            "audit/src",
            // A pipe to itself is no network.
            &[
                "hyper::",
                "std::net",
                "TcpStream",
                "UnixStream",
                "UdpSocket",
                "tokio::time",
                "aws_sdk",
                "signing_proxy::",
            ],
        ),
        (
            "breakglass-signer/src",
            &["hyper", "aws_sdk", "signing_proxy::", "http::", "std::net", "development::"],
        ),
        ("release/src", &["tokio", "hyper::", "std::fs", "std::net", "aws_sdk", "signing_proxy::"]),
        ("sigv4/src", &["tokio", "hyper", "std::fs", "std::net", "aws_sdk", "signing_core"]),
        ("mtls/src", &["hyper", "std::net", "tokio::net", "aws_sdk", "audit::", "signing_proxy::"]),
        // It tells addresses apart, and connects to none.
        (
            "host/src",
            &[
                "tokio",
                "hyper",
                "aws_sdk",
                "TcpStream",
                "TcpListener",
                "UdpSocket",
                "ToSocketAddrs",
                "signing_proxy::",
            ],
        ),
        ("approvers/src", &["tokio", "hyper", "aws_sdk", "std::net", "signing_proxy::"]),
        ("configuration/src", &["tokio", "hyper::", "std::fs", "aws_sdk", "signing_proxy::"]),
        ("development/src", &["tokio", "hyper::", "aws_sdk", "signing_proxy::"]),
        ("pkcs11-worker/src", &["tokio", "hyper::", "std::net", "aws_sdk", "signing_proxy::"]),
        ("monitor/src", &["hyper", "tokio::net", "aws_sdk", "signing_proxy::"]),
        ("breakglass/src", &["hyper", "aws_sdk", "upstream::", "signing_proxy::"]),
        ("sign/src", &["hyper", "std::fs", "std::net", "aws_sdk", "signing_proxy::"]),
        ("proxy/src", &["cryptoki::", "aws_sdk", "aws_config", "aws_smithy"]),
        ("server/src", &["upstream::", "breakglass::emergency", "aws_sdk", "signing_proxy::"]),
        (
            "upstream/src",
            &[
                "::policy",
                "signing_core::Policy",
                "Snapshot",
                "Permit",
                "audit::",
                "signing_proxy::",
            ],
        ),
        ("proxy/src/admin", &["sign::", "release::", "upstream::"]),
        ("telemetry/src", &["hyper", "std::fs", "std::net", "aws_sdk", "signing_proxy::"]),
        ("signctl/src", &["signing_proxy::", "aws_sdk"]),
    ] {
        for path in files(".rs").iter().filter(|path| path.starts_with(repository().join(room))) {
            for word in forbidden {
                let found = text(path)
                    .lines()
                    .find(|line| !line.trim_start().starts_with("//") && line.contains(word))
                    .map(str::to_owned);
                assert!(found.is_none(), "{} must not use {word}: {found:?}", path.display());
            }
        }
    }
}

/// A room is a directory, with its table of contents in mod.rs; the proxy's own root is one that a
/// newcomer can read.
#[test]
fn a_module_with_files_is_a_directory() {
    for path in files(".rs") {
        let directory = path.with_extension("");
        assert!(!directory.is_dir(), "{} stands beside its own directory", path.display());
    }
    let root = repository().join("proxy/src");
    let files = files(".rs").into_iter().filter(|path| path.parent() == Some(&root)).count();
    assert!(files <= 12, "{files} files stand at the root of the proxy");
}

#[test]
fn metric_names_stand_in_one_file() {
    for path in files(".rs").iter().filter(|path| is_of_the_proxy(path)) {
        if path.ends_with("metrics/names.rs") {
            continue;
        }
        for name in [
            "\"signing_proxy_",
            "\"kms_sign",
            "\"kms_errors",
            "counter!(",
            "gauge!(",
            "histogram!(",
        ] {
            assert!(!text(path).contains(name), "{} names a metric: {name}", path.display());
        }
    }
}

#[test]
fn one_file_asks_what_time_it_is() {
    // What tests, measures or makes material for `dev` is no part of a decision.
    let apart = ["benches", "development", "fuzz", "tests", "third_party"]
        .map(|room| repository().join(room));
    for path in files(".rs").iter().filter(|path| !apart.iter().any(|room| path.starts_with(room)))
    {
        if path.ends_with("host/src/clock.rs") || path.ends_with("sandbox.rs") {
            continue;
        }
        let text = text(path);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = code.collect();
        for word in ["SystemTime::now", "now_utc()", "clock_gettime"] {
            assert!(!code.contains(word), "{} asks the time: {word}", path.display());
        }
    }
}

/// Both have words of their own that quote what they read, and serde takes a list for a struct.
#[test]
fn json_and_pem_are_read_in_one_place_each() {
    let rooms = ["tests", "benches", "fuzz"].map(|room| repository().join(room));
    let is_test = |path: &&PathBuf| {
        rooms.iter().any(|room| path.starts_with(room))
            || path.components().any(|part| part.as_os_str() == "tests")
            || path.file_name().is_some_and(|name| name == "tests.rs")
    };
    for path in files(".rs").iter().filter(|path| !is_test(path)) {
        let text = text(path);
        // What follows are its own tests.
        let text = text.split("#[cfg(test)]").next().unwrap();
        let has = |words: &[&'static str]| words.iter().find(|word| text.contains(**word)).copied();
        let json = ["serde_json::from_", "serde_json::Deserializer"];
        let json = if path.ends_with("signing-core/src/json.rs") { None } else { has(&json) };
        let pem = has(&["from_pem_slice", "pem_slice_iter", "from_pem_file", "from_pkcs8_pem"]);
        let toml = ["toml::from_str", "parse::<toml::Table>", "parse::<Table>"];
        let one = ["host/src/section.rs", "host/src/environment.rs"];
        let toml = if one.iter().any(|one| path.ends_with(one)) { None } else { has(&toml) };
        assert_eq!([json, pem, toml], [None; 3], "{}", path.display());
    }
}

/// Opening a named pipe waits for somebody at its other end: what a program keeps or is told to believe is opened by
/// `host::files`, which waits for nothing.
#[test]
fn files_are_opened_in_one_place() {
    // They have rules of their own for secrets, or read what the kernel or this process made, or what a person names; a
    // build writes `manual`'s.
    let own = [
        "host/src/",
        "signctl/src/",
        "development/src/",
        "manual/src/",
        "pkcs11-worker/src/",
        "proxy/src/log/levels.rs",
        "trail/src/config/notify.rs",
        "breakglass-signer/src/keyfile.rs",
    ];
    let root = repository();
    let opens = [
        "fs::read(",
        "fs::read_to_string(",
        "fs::write(",
        "fs::copy(",
        "File::open(",
        "File::create(",
        "options.open(",
    ];
    // What is made new is no pipe that was there.
    let opens_itself = |statement: &&str| {
        let has_options =
            ["OpenOptions::", "File::options("].iter().any(|it| statement.contains(it));
        has_options && statement.contains(".open(") && !statement.contains("create_new(true)")
    };
    let directories =
        ["File::open(directory)", "File::open(&self.directory)", "File::open(parent)"];
    for path in files(".rs") {
        let place = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let is_product = place.contains("/src/") && !place.starts_with("tests/");
        let is_product =
            is_product && !place.starts_with("benches/") && !place.starts_with("fuzz/");
        if !is_product
            || place.ends_with("tests.rs")
            || own.iter().any(|own| place.starts_with(own))
        {
            continue;
        }
        let text = text(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code = directories.iter().fold(code.to_owned(), |code, known| code.replace(known, ""));
        // `TreeFile::open` is another.
        let code = code.replace("TreeFile::open(", "");
        let found = opens.iter().copied().filter(|open| code.contains(open));
        let found: Vec<_> = found.chain(code.split(';').filter(opens_itself)).collect();
        assert!(found.is_empty(), "{place}: {found:?}: use host::files");
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = text(&repository().join("Cargo.toml"));
    let dependencies = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("[workspace.lints").next().unwrap();
    for line in dependencies.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
        let ours = line.contains("path = ");
        assert!(ours || line.contains(" # "), "no reason given: {line}");
    }
}

#[test]
fn no_key_and_no_unfinished_word_is_in_the_tree() {
    for ending in [".rs", ".toml", ".sh", ".json", ".md"] {
        for path in files(ending) {
            let text = text(&path);
            let private = concat!("PRIVATE", " KEY-----");
            assert!(!text.contains(private), "{} holds a private key", path.display());
            for word in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("#[", "ignore"),
                concat!("#[", "allow("),
            ] {
                assert!(!text.contains(word), "{} says {word}", path.display());
            }
        }
    }
}

#[test]
fn no_test_sleeps_but_for_a_pause_that_says_what_it_is_for() {
    let mut pauses = 0;
    let is_of_tests = |path: &&PathBuf| {
        let inside = path.strip_prefix(repository()).unwrap();
        inside.iter().any(|part| part == "tests") && !path.ends_with(file!())
    };
    for path in files(".rs").iter().filter(is_of_tests) {
        let text = text(path);
        let mut before = "";
        for line in text.lines().map(str::trim) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if line.match_indices("sleep(").any(|(at, _)| !line[..at].ends_with(is_name)) {
                let is_said = before.trim_start_matches(['/', '#']).starts_with(" A pause: ");
                assert!(is_said, "{}: say before it what it is for: {line}", path.display());
                pauses += 1;
            }
            before = line;
        }
    }
    assert!(pauses > 15, "{pauses}");
}
