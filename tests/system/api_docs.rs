//! `docs/reference/api.md` is true: its examples are run against `signing-proxy dev` and answer
//! what stands below them. The tables of `docs/reference/refusals.md` are the closed lists of the code.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use signing_core::Reason;
use system_tests::Scratch;
use system_tests::programs::{repository, system};

use crate::dev::dev;
use crate::tidy::{OF_THE_PROXY, text};

const PAGE: &str = "docs/reference/api.md";
const REFUSALS: &str = "docs/reference/refusals.md";

/// Stands for whatever differs from run to run.
const ANYTHING: &str = "...";

/// A `sh` block, and the `json` block that follows before the next one.
struct Example {
    script: String,
    answer: Option<Value>,
}

fn page() -> String {
    text(&repository().join(PAGE))
}

fn refusals() -> String {
    text(&repository().join(REFUSALS))
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in page.split("\n```").skip(1) {
        let (language, text) = block.split_once('\n').unwrap_or((block, ""));
        match language {
            "sh" => examples.push(Example { script: text.to_owned(), answer: None }),
            "json" => {
                let answer = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
                let example = examples.last_mut().unwrap();
                assert!(example.answer.is_none(), "two answers to {}", example.script);
                example.answer = Some(answer);
            }
            "" => {}
            other => panic!("{PAGE}: a block of {other:?} that nobody runs"),
        }
    }
    examples
}

/// Whether `found` is what the page says: the same but for [`ANYTHING`].
fn is_as_written(written: &Value, found: &Value) -> bool {
    match (written, found) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::Object(written), Value::Object(found)) => {
            written.len() == found.len()
                && written.iter().all(|(key, written)| {
                    found.get(key).is_some_and(|found| is_as_written(written, found))
                })
        }
        (Value::Array(written), Value::Array(found)) => {
            written.len() == found.len()
                && written.iter().zip(found).all(|(written, found)| is_as_written(written, found))
        }
        _ => written == found,
    }
}

/// Runs a script as a reader does who pasted the page's first block before it.
fn run(scratch: &Path, ready: &Value, setup: &str, script: &str) -> String {
    let text = |key: &str| ready[key].as_str().unwrap().to_owned();
    let output = Command::new("bash")
        .arg("-c")
        .arg(format!("set -eu -o pipefail\n{setup}\n{script}"))
        .current_dir(scratch)
        .env("DIR", scratch.join("dev"))
        .env("URL", text("url"))
        .env("HEALTH", text("health_url").strip_suffix("/health").unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn every_example_answers_what_stands_below_it() {
    for program in ["curl", "openssl", "bash"] {
        let _ = system(program);
    }
    let page = page();
    let mut examples = examples(&page).into_iter();
    let setup = examples.next().unwrap();
    assert!(setup.answer.is_none() && setup.script.contains("call()"), "{}", setup.script);
    let scratch = Scratch::new();
    let (_process, ready) = dev(&scratch).await;
    assert_eq!(ready["healthy"], true);
    let mut answered = 0;
    for Example { script, answer } in examples {
        let said = run(scratch.dir(), &ready, &setup.script, &script);
        if let Some(written) = answer {
            let found: Value =
                serde_json::from_str(&said).unwrap_or_else(|e| panic!("{script}{e}: {said}"));
            assert!(
                is_as_written(&written, &found),
                "{script}\n{PAGE} says:\n{written:#}\nbut it is:\n{found:#}"
            );
            answered += 1;
        }
    }
    assert!(answered >= 10, "{answered} examples with an answer");
}

#[test]
fn only_what_is_written_so_differs_from_what_is_found() {
    let written: Value = serde_json::from_str(r#"{"a": "...", "b": [1, "..."]}"#).unwrap();
    for (found, expected) in [
        (r#"{"a": 7, "b": [1, "x"]}"#, true),
        (r#"{"a": 7, "b": [2, "x"]}"#, false),
        (r#"{"a": 7, "b": [1, "x", 3]}"#, false),
        (r#"{"a": 7, "b": [1, "x"], "c": 1}"#, false),
        (r#"{"b": [1, "x"]}"#, false),
    ] {
        let found: Value = serde_json::from_str(found).unwrap();
        assert_eq!(is_as_written(&written, &found), expected, "{found}");
    }
}

/// Status, reason and seconds as the table says, with what it says of when.
fn rows(page: &str) -> Vec<(String, String, String, String)> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let table = page.split_once("| status | reason |").unwrap().1.split_once("\n\n").unwrap().0;
    let rows = table.lines().skip(2).map(|line| {
        let cells = cells(line);
        assert_eq!(cells.len(), 8, "{line}");
        assert!(
            ["fix", "ask", "retry", "wait"].iter().any(|word| cells[5].starts_with(word)),
            "what does the caller do? {line}"
        );
        let waits = cells[5].starts_with("wait") || cells[5].starts_with("ask");
        assert!(!waits || !cells[6].is_empty(), "what does the operator do? {line}");
        let reason = cells[2].trim_matches('`').to_owned();
        (cells[1].clone(), reason, cells[3].clone(), cells[4].clone())
    });
    rows.collect()
}

#[test]
fn the_refusals_are_the_closed_list_with_status_and_retry_after() {
    let found = rows(&refusals());
    let expected: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| {
            let seconds = reason.retry_after_s().map(|s| format!("{s} s")).unwrap_or_default();
            (reason.status().to_string(), reason.word().to_owned(), seconds)
        })
        .collect();
    let found: Vec<_> = found.into_iter().map(|(status, word, s, _)| (status, word, s)).collect();
    assert_eq!(found, expected, "{REFUSALS}");
}

/// Every line of our own crates outside the list itself, and outside the map of it to KMS's words.
fn code() -> String {
    fn walk(directory: &Path, text: &mut String) {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, text);
            } else if !path.ends_with("refusal.rs") && !path.ends_with("kms/exceptions.rs") {
                *text += &std::fs::read_to_string(&path).unwrap();
            }
        }
    }
    let mut text = String::new();
    for room in ["signing-core"].iter().chain(&OF_THE_PROXY) {
        walk(&repository().join(room).join("src"), &mut text);
    }
    text
}

#[test]
fn the_exceptions_of_kms_are_the_total_map_of_the_code() {
    let page = refusals();
    let (_, section) = page.split_once("## In KMS's words").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    let rows = rows.take_while(|line| line.starts_with("| `"));
    let mut written = std::collections::BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        for word in cells[0].split(", ") {
            let exception = cells[1].split('`').nth(1).unwrap();
            written.insert(word.trim_matches('`').to_owned(), exception.to_owned());
        }
    }
    let map = Reason::ALL.iter().map(|reason| {
        let exception = server::untrusted_input::kms_exception(*reason);
        (reason.word().to_owned(), exception.to_owned())
    });
    assert_eq!(written, map.collect());
}

#[test]
fn reasons_that_nothing_gives_yet_are_marked_and_no_others() {
    let (code, rows) = (code(), rows(&refusals()));
    for (reason, (_, word, _, when)) in Reason::ALL.iter().zip(&rows) {
        let name = format!("Reason::{reason:?}");
        let is_given = code
            .match_indices(&name)
            .any(|(at, _)| !code[at + name.len()..].starts_with(char::is_alphanumeric));
        assert_eq!(is_given, !when.starts_with("later: "), "{REFUSALS}: {word}: {when}");
    }
}
