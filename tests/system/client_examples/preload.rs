//! The preload: a Node program that knows nothing of certificates signs with it, by fetch and by
//! https, and nobody but the proxy sees the certificate.

use system_tests::programs::{repository, system};
use system_tests::{Pki, World};

use super::{MESSAGE, Said, asked, start, with};
use crate::ALICE;
use crate::caller_tool::Caller;

#[tokio::test]
async fn a_node_program_that_cannot_be_changed_signs_by_fetch_and_by_https() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let second = world.proxy().directory("second").signer("ec", &key).caller(ALICE, &["ec"]);
    let second = second.start().await;
    let input = world.scratch.write("message", MESSAGE);
    let preload = format!("--require={}", start::example("node/preload.cjs").display());
    let url = |listen: &str| format!("https://{listen}");
    let mut variables = Caller::of(&world, &proxy).variables;
    variables.push(("KMS_URL", url(&proxy.listen)));
    variables.push(("NODE_OPTIONS", preload));
    let run = |variables: &[(&'static str, String)]| {
        let mut command = system("node");
        command.arg(repository().join("tests/clients/unchanged.mjs")).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Said::of(command, &input)
    };
    let said = run(&variables);
    assert_eq!(said.code, 0, "{said:?}");
    let signatures: Vec<_> = said.out.lines().collect();
    assert_eq!(signatures.len(), 2, "{said:?}");
    for signature in signatures {
        Said { code: 0, out: signature.to_owned(), err: String::new() }.signed_by(&key);
    }
    assert!((asked(&proxy, "mtls").await - 2.0).abs() < 0.5);

    // Without it, for another host and port, and before a stranger: nothing is asked.
    let stranger = world.scratch.write("stranger.pem", &Pki::named("a stranger").ca_pem);
    let stranger = stranger.to_str().unwrap().to_owned();
    let before = asked(&proxy, "mtls").await;
    for (name, value) in [
        ("NODE_OPTIONS", String::new()),
        ("KMS_URL", url(&second.listen)),
        ("SIGNING_PROXY_CA", stranger),
    ] {
        run(&with(&variables, name, value)).failed(Some(1), &[]);
    }
    assert!((asked(&proxy, "mtls").await - before).abs() < 0.5);
    assert!(asked(&second, "mtls").await < 0.5);

    // A variable that is missing stops the program at its start.
    let missing = with(&variables, "SIGNING_PROXY_CLIENT_KEY", String::new());
    run(&missing).failed(Some(1), &["SIGNING_PROXY_CLIENT_KEY is not set"]);

    let freeze =
        proxy.admin("POST", "/v1/freeze", serde_json::json!({"reason": "incident 7"})).await;
    assert_eq!(freeze.status, 200);
    run(&variables).failed(Some(1), &["503 frozen"]);
    assert!((asked(&proxy, "mtls").await - before - 2.0).abs() < 0.5, "one request each");
}
