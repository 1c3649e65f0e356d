//! A network namespace of its own for a test: nothing else is in it, and it ends with its process.

use std::process::Command;

use crate::programs::system;

/// Set where the test runs in its namespace.
const INSIDE: &str = "IN_A_NETWORK_OF_ITS_OWN";

/// Runs the test `name` once more in a network namespace of its own, for so many seconds at most; true in
/// there, where the loopback interface is up.
///
/// # Panics
/// If the test fails in there.
#[must_use]
pub fn inside(name: &str, seconds: u32) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run(&["ip", "link", "set", "lo", "up"]);
        return true;
    }
    let output = system("unshare")
        .args(["--net", "timeout", "--kill-after=5", &seconds.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    print!("{said}");
    false
}

/// Runs a command, which has to succeed.
///
/// # Panics
/// If it fails.
pub fn run(words: &[&str]) {
    let mut command: Command = system(words[0]);
    let output = command.args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
