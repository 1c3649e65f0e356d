//! `signing-proxy dev --trail`, as a new user tries it: paste the printed lines, look, tamper.

use std::process::Command;

use system_tests::postgres::Postgres;
use system_tests::programs::ours;
use system_tests::{Scratch, eventually};

use crate::dev::{dev_with, printed_blocks, processes_in};

fn bash(scratch: &Scratch, script: &str) -> String {
    let script = format!("set -e -o pipefail\n{script}");
    let mut command = Command::new("bash");
    let output = command.arg("-c").arg(&script).current_dir(scratch.dir()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{script}: {said}");
    said
}

#[tokio::test]
async fn ten_emergency_signatures_are_rows_and_a_row_that_is_deleted_is_named() {
    let (scratch, postgres) = (Scratch::new(), Postgres::start().await);
    let url = postgres.url();
    let flags = ["--min-outage", "2s", "--trail", url.as_str(), "--trail-metrics", "127.0.0.1:0"];
    let (mut process, ready) = dev_with(&scratch, &ours("signing-proxy"), &flags).await;
    assert!(ready["trail"]["status_url"].is_string(), "{ready}");
    let printed = process.says("Ctrl-C stops it all").await;
    assert_eq!(processes_in(&scratch).len(), 3, "proxy, emergency signer and trail run");
    let blocks = printed_blocks(&printed);
    let trail = blocks.iter().find(|block| block.contains("audit reconcile")).unwrap();
    let mut walk = blocks.iter().skip_while(|block| !block.contains("dev-ed25519.pem.away"));
    for block in walk.by_ref() {
        // In the session.
        let times = if block.contains("emergency-dev.pub.pem") { 10 } else { 1 };
        for _ in 0..times {
            bash(&scratch, block);
        }
        if times == 10 {
            break;
        }
    }
    // The key is back, and the session ends.
    bash(&scratch, walk.next().unwrap());
    let signed = "SELECT count(*) FROM signing_proxy.audit_events WHERE event_type = 'signing.breakglass.signed'
                  AND actor_id = 'service:signing-breakglass' AND payload->>'justification' = 'trying it out'";
    eventually("ten rows", || async { (postgres.sql(signed) == "10").then_some(()) }).await;
    // It waits for rows by itself.
    let said = bash(&scratch, trail);
    assert!(said.contains("no defect"), "{said}");

    let second = "(SELECT id FROM signing_proxy.audit_events ORDER BY created_at OFFSET 1 LIMIT 1)";
    let third = "SELECT id FROM signing_proxy.audit_events ORDER BY created_at OFFSET 2 LIMIT 1";
    let next = postgres.sql(third);
    postgres.sql(&format!("DELETE FROM signing_proxy.audit_events WHERE id = {second}"));
    let mut verify = Command::new(ours("signctl"));
    verify.args(["audit", "verify", "--database-url", &url, "--signers", "dev/signers.json"]);
    let output = verify.current_dir(scratch.dir()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("row {next}: its prev_hash is not the hash")), "{said}");

    process.signal(nix::sys::signal::Signal::SIGINT);
    assert!(process.ended().await.success());
    assert_eq!(processes_in(&scratch), [0; 0], "nothing is left running");
    assert!(!process.output().contains("THE TRAIL ENDED"), "it was told to");
}

#[tokio::test]
async fn a_database_that_cannot_be_one_is_refused_before_anything_runs() {
    let scratch = Scratch::new();
    let refused = |command: &mut Command| {
        let output = command.current_dir(scratch.dir()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--trail: ") && said.contains("postgres.url"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    };
    // With a password it is no argument: who lists processes reads those.
    let dev = || {
        let mut command = Command::new(ours("signing-proxy"));
        command.args([
            "dev",
            "--dir",
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ]);
        command
    };
    let url = "postgres://u:s3cret@db.internal/d?sslmode=disable";
    refused(dev().args(["--trail", "postgres://u@db.internal/d?sslmode=disable"]));
    refused(dev().env("SIGNING_PROXY_DEV_TRAIL", url));
    let file = scratch.write("url", format!("{url}\n"));
    refused(dev().arg("--trail-file").arg(file));
}
