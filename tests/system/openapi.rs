//! The API's own description holds of a running proxy, as a program of others finds.

use std::path::Path;
use std::process::Command;

use system_tests::client::local;
use system_tests::programs::repository;
use system_tests::{Chance, Kind, Profile, Proxy, World, is_campaign};

use crate::ALICE;

/// `sha256sum` of `secret`.
const SECRET: &str =
    "token_sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";

/// KMS's wire form has a media type of its own, which schemathesis does not write; SDKs try that.
/// No deadline ends early, since that is no fault. What is valid by its form may still be refused.
fn holds(description: &str, door: &[String], seed: usize, (phases, but): (&str, &str)) {
    let program = repository().join("target/tools/schemathesis/bin/schemathesis");
    let missing = "run ./tests/run.sh, which installs schemathesis";
    assert!(program.exists(), "{} is missing: {missing}", program.display());
    let cases = if is_campaign() { 2000 } else { 40 };
    let mut command = Command::new(program);
    // It keeps notes in its working directory.
    command.current_dir(Path::new(description).parent().unwrap());
    command
        .args(["run", description, "--phases", phases, "--exclude-checks", but])
        .args(["--seed", &seed.to_string(), "--max-examples", &cases.to_string()])
        .args(["--exclude-path", "/", "--header", "Signing-Deadline-Ms: 60000"])
        .args(["--generation-with-security-parameters", "false", "--generation-database", "none"])
        .args(["--no-color", "--continue-on-failure"])
        .args(door);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // It has tried something.
    assert!(said.contains("Tested: 16"), "{said}");
}

async fn every_door(proxy: &Proxy<'_>, world: &World) {
    let file = |name: &str, text: String| world.scratch.write(name, text).display().to_string();
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let main = vec![
        format!("--url=https://{}", proxy.listen),
        format!("--tls-verify={}", file("openapi/ca.pem", world.pki.ca_pem.clone())),
        format!("--request-cert={}", file("openapi/cert.pem", certificate.certificate_pem)),
        format!("--request-cert-key={}", file("openapi/key.pem", certificate.key_pem)),
    ];
    let local_door = vec![
        format!("--url=http://{}", proxy.local[0]),
        "--header=Authorization: Bearer secret".to_owned(),
    ];
    // Nothing has to be proven for it.
    let answer = local(&proxy.local[0], "GET", "/openapi.json", &[], String::new()).await;
    assert_eq!(answer.status, 200);
    let description = file("openapi/openapi.json", answer.text);
    let mut chance = Chance::of("openapi");
    for door in [main, local_door] {
        let valid = "positive_data_acceptance";
        let seed = chance.below(1 << 30);
        holds(&description, &door, seed, ("examples,fuzzing", valid));
        // It would have headers refused that it does not know.
        let but = format!("{valid},negative_data_rejection");
        holds(&description, &door, seed, ("coverage", &but));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_at_either_door_that_the_description_does_not_say() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world
        .proxy()
        .signer("ed", &key)
        .signer("ec", &world.kms.key(Kind::P256))
        .local("127.0.0.1:0", &[("a", SECRET)])
        .caller("local:a", &["ed", "ec"])
        .caller(ALICE, &["ed", "ec"])
        .start()
        .await;
    proxy.healthy().await;
    every_door(&proxy, &world).await;
    proxy.healthy().await;
}
