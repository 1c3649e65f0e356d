//! AWS's command line, as its users have it: one process for each call. How often each asks is what it says
//! itself with `--debug`.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{Scratch, journal};

use super::environment;

/// A start takes about half a second of CPU, so that a few run beside each other.
const AT_ONCE: usize = 3;

/// What it gets for these calls: `[["sign", {...}], ...]`, each by a process of its own.
pub(super) fn ask(place: &str, key_pair: (&str, &str), calls: &Value) -> Vec<Value> {
    let calls = calls.as_array().unwrap();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = calls.get(number) else { return results };
            results.push((number, one(place, key_pair, call)));
        }
    };
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn one(place: &str, key_pair: (&str, &str), call: &Value) -> Value {
    let scratch = Scratch::new();
    let mut command = journal::python("tests/kms/aws.py");
    environment(&mut command, place, key_pair);
    command.env("HOME", scratch.dir()).args(["kms", &call[0].as_str().unwrap().replace('_', "-")]);
    for (name, value) in call[1].as_object().unwrap() {
        command.arg(option(name));
        match value {
            Value::Bool(true) => {}
            Value::String(text) => _ = command.arg(text),
            bytes => _ = command.arg(file(&scratch, name, bytes)),
        }
    }
    command.args(["--output", "json", "--debug"]);
    // One more try is enough to see that there is one.
    result(&command.env("AWS_MAX_ATTEMPTS", "2").output().unwrap())
}

/// `SigningAlgorithm` is `--signing-algorithm`.
fn option(name: &str) -> String {
    let mut option = "-".to_owned();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            option.push('-');
        }
        option.push(letter.to_ascii_lowercase());
    }
    option
}

/// Bytes, as the command line takes them whatever they are.
fn file(scratch: &Scratch, name: &str, bytes: &Value) -> String {
    let bytes = STANDARD.decode(bytes["b64"].as_str().unwrap()).unwrap();
    format!("fileb://{}", scratch.write(name, bytes).display())
}

/// What came, in the form of the scripts for the other clients.
fn result(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    let requests = said.matches("Sending http request: ").count();
    if output.status.success() {
        return json!({"ok": serde_json::from_slice::<Value>(&output.stdout).unwrap(), "requests": requests});
    }
    let fault = said.lines().rev().find_map(|line| line.split_once("An error occurred ("));
    let (_, fault) = fault.unwrap_or_else(|| panic!("{said}"));
    let (code, rest) = fault.split_once(") when calling the ").unwrap();
    // The operation, and how often it was tried again.
    let (_, rest) = rest.split_once(" operation").unwrap();
    let (_, message) = rest.split_once(if rest.starts_with(':') { ": " } else { "): " }).unwrap();
    let (_, answered) = said.rsplit_once("\"POST / HTTP/1.1\" ").unwrap();
    let status: u16 = answered.split(' ').next().unwrap().parse().unwrap();
    json!({"error": code, "message": message, "status": status, "requests": requests})
}
