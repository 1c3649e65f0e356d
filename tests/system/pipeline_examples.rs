//! `config/pipelines` is true: what Argo and Spinnaker are told to run is run here as they would, with
//! its own environment, and lets a pipeline go on only while signing is healthy. And a flag that
//! follows freezes does so, and follows nothing else. Their form: `tests/kubernetes.sh`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use system_tests::programs::{ours, repository, system};
use system_tests::{Kind, Pki, Process, Profile, Proxy, World, eventually, journal};

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

/// A kubectl that writes down what it is told, and fails where a file `broken` is.
fn kubectl(world: &World) -> PathBuf {
    let directory = world.scratch.path("bin");
    let script = format!(
        "#!/bin/sh\nif [ -e {0}/broken ]; then echo failed >>{0}/told; exit 1; fi\n\
         echo \"$*\" >>{0}/told\n",
        directory.display()
    );
    let program = world.scratch.write("bin/kubectl", script);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn flag(world: &World, urls: &str, bin: &std::path::Path) -> Process {
    let [ca, certificate, key] = certificates(world);
    let mut command = system("python3");
    command.arg("-B").arg(path("read_only_flag.py"));
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    for (name, value) in [
        ("SIGNING_PROXY_URLS", urls),
        ("SIGNING_PROXY_CA", &ca),
        ("SIGNING_PROXY_CLIENT_CERT", &certificate),
        ("SIGNING_PROXY_CLIENT_KEY", &key),
        ("READ_ONLY_WORKLOADS", "deployment/orders deployment/ledger"),
        ("INTERVAL_S", "0.05"),
    ] {
        command.env(name, value);
    }
    Process::start(command)
}

#[tokio::test]
async fn the_flag_follows_the_freezes_of_all_proxies() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let key = world.kms.key(Kind::P256);
    let second = world.proxy().directory("second").signer("ec", &key);
    let second = second.caller(crate::ALICE, &["ec"]).start().await;
    let bin = kubectl(&world);
    // One over mutual TLS, one by the health listener of a sidecar.
    let urls = format!("https://{} http://{}", proxy.listen, second.metrics);
    let _flag = flag(&world, &urls, &bin);
    let told = async |lines: &[&str]| {
        eventually(&format!("kubectl is told {lines:?}"), || {
            let text = std::fs::read_to_string(bin.join("told")).unwrap_or_default();
            let found: Vec<_> = text
                .lines()
                .map(|line| {
                    line.replace("set env deployment/orders deployment/ledger READ_ONLY=", "")
                })
                .collect();
            std::future::ready((found == lines).then_some(()))
        })
        .await;
    };
    told(&["false"]).await;
    for proxy in [&proxy, &second] {
        let freeze = proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
        assert_eq!(freeze.status, 200);
    }
    told(&["false", "true"]).await;
    // One that is frozen is enough; then it is tried until it could be set.
    let unfreeze = json!({"reason": "a test"});
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", unfreeze.clone()).await.status, 200);
    std::fs::write(bin.join("broken"), "").unwrap();
    assert_eq!(second.admin("POST", "/v1/unfreeze", unfreeze).await.status, 200);
    eventually("kubectl fails twice", || {
        let text = std::fs::read_to_string(bin.join("told")).unwrap();
        std::future::ready((text.matches("failed").count() > 1).then_some(()))
    })
    .await;
    std::fs::remove_file(bin.join("broken")).unwrap();
    eventually("the flag is down again", || {
        let text = std::fs::read_to_string(bin.join("told")).unwrap();
        std::future::ready(text.trim_end().ends_with("READ_ONLY=false").then_some(()))
    })
    .await;
}

/// Which answers mean what, without a clock: silence and an outage change nothing.
#[test]
fn the_flag_changes_only_by_what_proxies_say_of_a_freeze() {
    let script = "import sys, json; sys.path.insert(0, sys.argv[1]); import read_only_flag\n\
                  print(json.dumps([read_only_flag.read_only(a) for a in json.loads(sys.argv[2])]))";
    let frozen = json!({"ok": false, "frozen": true, "reason": "frozen"});
    let well = json!({"ok": true, "frozen": false, "mode": "normal"});
    let outage = json!({"ok": false, "frozen": false, "reason": "upstream_unhealthy"});
    let cases = [
        (json!([frozen]), json!(true)),
        (json!([well]), json!(false)),
        (json!([outage]), Value::Null),
        (json!([{}]), Value::Null),
        (json!([]), Value::Null),
        (json!([well, well]), json!(false)),
        (json!([well, frozen]), json!(true)),
        (json!([{}, frozen]), json!(true)),
        (json!([well, {}]), Value::Null),
        (json!([well, outage]), Value::Null),
        (json!([{"ok": "true"}, {"frozen": "true"}]), Value::Null),
    ];
    let answers: Vec<_> = cases.iter().map(|(answers, _)| answers).collect();
    let output = system("python3")
        .args(["-B", "-c", script])
        .arg(repository().join("config/pipelines"))
        .arg(json!(answers).to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let wanted: Vec<_> = cases.iter().map(|(_, wanted)| wanted.clone()).collect();
    assert_eq!(found, wanted);
}
