//! `config/clients` is true: each example runs as it stands against a real proxy. What it calls
//! signed verifies by openssl, it believes nobody but its own authority and registry, and of a
//! freeze it makes one request and one clear message.

mod kms;
mod preload;
mod start;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{Key, Kind, Pki, Proxy, World, openssl};

use crate::ALICE;
use crate::caller_tool::Caller;
pub(crate) use start::in_its_own_run;

/// What to come back later with: `EX_TEMPFAIL` of sysexits.h.
const LATER: i32 = 75;
const MESSAGE: &[u8] = b"{\"order\": 17, \"total\": \"12,50\"}\n";

/// An example: how it is started with these variables to have that file signed.
type Start = fn(&World, &[(&'static str, String)], &Path) -> Command;

/// What an example said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(mut command: Command, input: &Path) -> Self {
        command.stdin(Stdio::from(File::open(input).unwrap()));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap();
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It ended well, with one line: a signature of the key.
    #[track_caller]
    fn signed_by(&self, key: &Key) {
        assert_eq!(self.code, 0, "{self:?}");
        let signature = STANDARD.decode(self.out.trim_end()).unwrap();
        assert!(openssl::verifies(key, MESSAGE, &signature), "{self:?}");
    }

    /// It ended otherwise, printed no signature, and said that.
    #[track_caller]
    fn failed(&self, code: Option<i32>, words: &[&str]) {
        assert!(self.code != 0 && code.is_none_or(|code| code == self.code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "missing: {word}: {self:?}");
        }
    }
}

/// How many requests to sign came to the door, whatever became of them.
async fn asked(proxy: &Proxy<'_>, door: &str) -> f64 {
    let metrics = proxy.metrics().await;
    let series = format!("signing_proxy_door_requests_total{{door=\"{door}\",");
    let values = metrics.lines().filter_map(|line| line.strip_prefix(series.as_str()));
    values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Freezes, runs `example` once, and ends the freeze: one request, one clear message.
async fn is_refused_once(proxy: &Proxy<'_>, door: &str, example: impl FnOnce() -> Said) {
    let freeze = proxy.admin("POST", "/v1/freeze", json!({"reason": "incident 7"})).await;
    assert_eq!(freeze.status, 200);
    let before = asked(proxy, door).await;
    example().failed(Some(LATER), &["refused: frozen", "incident 7"]);
    assert!((asked(proxy, door).await - before - 1.0).abs() < 0.5, "it asked more than once");
    let end = proxy.admin("POST", "/v1/unfreeze", json!({"reason": "a test"})).await;
    assert_eq!(end.status, 200);
}

/// The same variables, one of them with another value.
fn with(
    variables: &[(&'static str, String)],
    name: &'static str,
    value: String,
) -> Vec<(&'static str, String)> {
    let others = variables.iter().filter(|(other, _)| *other != name).cloned();
    others.chain([(name, value)]).collect()
}

/// The registry of these keys, as a verifier has it.
fn registry(world: &World, name: &str, keys: &[(&str, &Key)]) -> String {
    let signers: Vec<_> =
        keys.iter().map(|(kid, key)| system_tests::proxy::entry(kid, key)).collect();
    written(world, name, &json!({"signers": signers}))
}

fn written(world: &World, name: &str, document: &Value) -> String {
    let path: PathBuf = world.scratch.write(name, serde_json::to_vec_pretty(document).unwrap());
    path.to_str().unwrap().to_owned()
}

/// All that an example with a client certificate has to do.
async fn holds(start: Start) {
    let world = World::new();
    let kinds = [("ed", Kind::Ed25519), ("ec", Kind::P256), ("rsa", Kind::Rsa2048)];
    let keys = kinds.map(|(kid, kind)| (kid, world.kms.key(kind)));
    // A program that is compiled as it starts shakes hands slowly on a busy machine.
    let patient = world.proxy().server("handshake_timeout_ms = 600000");
    let builder = keys.iter().fold(patient, |builder, (kid, key)| builder.signer(kid, key));
    let proxy = builder.caller(ALICE, &kinds.map(|(kid, _)| kid)).start().await;
    let input = world.scratch.write("message", MESSAGE);
    let variables = Caller::of(&world, &proxy).variables;
    let run = |variables: &[_]| Said::of(start(&world, variables, &input), &input);

    // Its default signer, and each by name.
    run(&variables).signed_by(&keys[0].1);
    for (kid, key) in &keys[1..] {
        run(&with(&variables, "SIGNCTL_SIGNER", (*kid).to_owned())).signed_by(key);
    }
    is_refused_once(&proxy, "mtls", || run(&variables)).await;
    run(&variables).signed_by(&keys[0].1);

    // What the proxy says counts for nothing: here the registry has another key of that name, or none.
    let other = world.kms.key(Kind::Ed25519);
    for (name, entries) in [("other.json", [("ed", &other)]), ("none.json", [("else", &other)])] {
        let mistaken = registry(&world, name, &entries);
        run(&with(&variables, "SIGNCTL_SIGNERS", mistaken)).failed(None, &["NOT VERIFIED"]);
    }
    let mut revoked = json!({"signers": [system_tests::proxy::entry("ed", &keys[0].1)]});
    revoked["signers"][0]["revokedAt"] = json!("2026-01-02T00:00:00Z");
    let revoked = written(&world, "revoked.json", &revoked);
    run(&with(&variables, "SIGNCTL_SIGNERS", revoked)).failed(None, &["revoked"]);

    // Whoever answers has to have a certificate of its authority: else nothing is sent.
    let before = asked(&proxy, "mtls").await;
    let stranger = world.scratch.write("stranger.pem", &Pki::named("a stranger").ca_pem);
    let stranger = stranger.to_str().unwrap().to_owned();
    run(&with(&variables, "SIGNING_PROXY_CA", stranger)).failed(None, &[]);
    assert!((asked(&proxy, "mtls").await - before).abs() < 0.5, "it asked a stranger");
}

#[tokio::test]
async fn curl_signs_by_its_curlrc() {
    holds(start::curl).await;
}

#[tokio::test]
async fn node_signs_with_https() {
    holds(|world, variables, _| start::node(world, variables, "https.mjs")).await;
}

#[tokio::test]
async fn node_signs_with_fetch() {
    holds(|world, variables, _| start::node(world, variables, "fetch.mjs")).await;
}

#[tokio::test]
async fn python_signs_with_requests() {
    holds(|_, variables, _| start::python(variables, "sign_requests.py")).await;
}

#[tokio::test]
async fn go_signs() {
    holds(start::go).await;
}

#[tokio::test]
async fn java_signs() {
    holds(start::java).await;
}
