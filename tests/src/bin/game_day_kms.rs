//! The KMS of `tests/game-day.sh`: twelve regions with the keys of `dev`, told line by line what goes wrong with them.
//!
//! ```text
//! game-day-kms HOSTS KEYS CA   writes the keys and the authority, prints {"signers", "table"}
//! causes                       each region does not sign, for a cause of its own
//! outage                       no region can be reached
//! mend                         all is well again
//! log DIR                      writes KMS's own log
//! ```
//!
//! Each line is answered by `done`. It ends with its standard input.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool of the tests that cannot go on says why and ends"
)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;
use system_tests::game_day::GameDay;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hosts, keys, ca] = &arguments[..] else { panic!("usage: game-day-kms HOSTS KEYS CA") };
    let day = GameDay::start(Path::new(hosts));
    for (kid, pem) in &day.private_keys {
        let file = Path::new(keys).join(format!("{kid}.pem"));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).unwrap();
        file.write_all(pem.as_bytes()).unwrap();
    }
    std::fs::write(ca, &day.ca_pem).unwrap();
    println!("{}", json!({"signers": day.signers(), "table": day.table()}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            None if line == "causes" => runtime.block_on(day.inject()),
            None if line == "outage" => runtime.block_on(day.cut()),
            None if line == "mend" => runtime.block_on(day.mend()),
            Some(("log", directory)) => day.write_log(Path::new(directory)),
            _ => panic!("{line:?}: expected causes, outage, mend or log DIR"),
        }
        println!("done");
    }
}
