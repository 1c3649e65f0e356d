//! `config/pipelines` is true: what Argo and Spinnaker are told to run is run here as they would, with
//! its own environment, and lets a pipeline go on only while signing is healthy. Their form:
//! `tests/kubernetes.sh`.

use std::path::PathBuf;

use serde_json::{Value, json};
use system_tests::programs::{ours, repository};
use system_tests::{Kind, Pki, Profile, Proxy, World, journal};

use crate::client_examples::in_its_own_run;

/// A pipeline has a certificate of its own, and no grant.
const PIPELINE: &str = "spiffe://test/pipeline";

fn path(name: &str) -> PathBuf {
    repository().join("config/pipelines").join(name)
}

fn document(name: &str) -> Value {
    let output = journal::python("tests/pipelines/to_json.py").arg(path(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a job runs; a second try would be no gate.
fn of_job(job: &Value) -> Value {
    assert_eq!((&job["kind"], &job["spec"]["backoffLimit"]), (&json!("Job"), &json!(0)));
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    pod["containers"][0].clone()
}

/// The container of each example that is its gate.
fn gates() -> [(&'static str, Value); 3] {
    let sync = document("argo-cd-presync.yaml");
    assert_eq!(sync["metadata"]["annotations"]["argocd.argoproj.io/hook"], "PreSync");

    let workflow = document("argo-workflow.yaml");
    let templates = workflow["spec"]["templates"].as_array().unwrap();
    let named = |name: &Value| templates.iter().find(|one| one["name"] == *name).unwrap();
    let steps = named(&workflow["spec"]["entrypoint"])["steps"].as_array().unwrap();
    // Steps of one list run at once: the gate is alone in its own.
    assert!(steps.len() > 1 && steps[0].as_array().unwrap().len() == 1, "{steps:?}");
    let gate = named(&steps[0][0]["template"]);
    assert!(gate["retryStrategy"].is_null() && workflow["spec"]["retryStrategy"].is_null());

    let stage = document("spinnaker-stage.json");
    assert_eq!((&stage["type"], &stage["failPipeline"]), (&json!("runJobManifest"), &json!(true)));
    assert_eq!(stage["continuePipeline"], false);

    [
        ("argo-cd-presync.yaml", of_job(&sync)),
        ("argo-workflow.yaml", gate["container"].clone()),
        ("spinnaker-stage.json", of_job(&stage["manifest"])),
    ]
}

/// Runs that container's command with its own environment, but for what `change` says: its exit status,
/// and all that it said.
fn run(
    container: &Value,
    certificates: [&str; 3],
    change: &[(&str, Option<&str>)],
) -> (i32, String) {
    let words: Vec<_> = container["command"].as_array().unwrap().iter().collect();
    assert_eq!(words, ["/usr/bin/signctl", "gate"], "the image has it there");
    assert!(container["args"].is_null());
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/run/secrets/signing-proxy");
    let mut command = in_its_own_run(certificates);
    command.arg(ours("signctl")).arg("gate").env_clear().env("PATH", "/usr/bin:/bin");
    for variable in container["env"].as_array().unwrap() {
        command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
    }
    for (name, value) in change {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

async fn proxy(world: &World) -> Proxy<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(crate::ALICE, &["ec"]).start().await
}

/// Files of a certificate without a grant: authority, certificate, key.
fn certificates(world: &World) -> [String; 3] {
    let client = world.pki.issue(&Profile::client(PIPELINE));
    let file = |name: &str, text: &str| {
        world.scratch.write(&format!("ci/{name}"), text).to_str().unwrap().to_owned()
    };
    [
        file("ca.pem", &world.pki.ca_pem),
        file("client.pem", &client.certificate_pem),
        file("client.key", &client.key_pem),
    ]
}

#[tokio::test]
async fn what_argo_and_spinnaker_run_lets_a_pipeline_go_on_only_while_signing_is_healthy() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let files = certificates(&world);
    let [ca, certificate, key] = files.each_ref().map(String::as_str);
    let stranger = world.scratch.write("stranger.pem", &Pki::named("a stranger").ca_pem);
    let stranger = stranger.to_str().unwrap();
    let url = format!("https://{}", proxy.listen);
    let here = [("SIGNING_PROXY_URL", Some(url.as_str()))];
    let gates = gates();
    let all = |certificates: [&str; 3], change: &[_], expected: i32| {
        for (name, container) in &gates {
            let (code, said) = run(container, certificates, change);
            assert_eq!(code, expected, "{name}: {said}");
        }
    };
    all([ca, certificate, key], &here, 0);
    let freeze = proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
    assert_eq!(freeze.status, 200);
    all([ca, certificate, key], &here, 2);
    let end = proxy.admin("POST", "/v1/unfreeze", json!({"reason": "a test"})).await;
    assert_eq!(end.status, 200);
    all([ca, certificate, key], &here, 0);
    // Whoever answers has to be the proxy, and a variable that got lost is no consent.
    all([stranger, certificate, key], &here, 2);
    all([ca, certificate, key], &[("SIGNING_PROXY_URL", None)], 4);
}
