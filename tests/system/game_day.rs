//! The game day: an outage of dev from the page to the post-mortem, as `tests/game-day.sh` prints it.

use std::process::Command;

use system_tests::programs::{ours, repository};

#[test]
fn a_game_day_takes_at_most_twelve_commands_and_three_pasted_values_and_leaves_no_gap() {
    // All that it runs has been built.
    let built = ["signctl", "signing-proxy", "breakglass-signer", "signing-trail"].map(ours);
    let output = Command::new("timeout")
        .args(["--kill-after=10", "400"])
        .arg(repository().join("tests/game-day.sh"))
        .env("GAME_DAY_PROGRAMS", built[0].parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    // What it found it has checked itself.
    let last = said.lines().last().unwrap_or_default();
    println!("{last}");
    for part in ["12 causes named", "(at most 12)", "(at most 3)", "reconcile found 0 gaps"] {
        assert!(last.contains(part), "{last}");
    }
}
