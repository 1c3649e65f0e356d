//! Traces: what a collector gets, and that no collector, however bad, touches a signature.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};
use system_tests::programs::repository;
use system_tests::receiver::{Manner, Receiver};
use system_tests::{Client, Kind, Proxy, World, eventually, openssl};

use crate::ALICE;
use crate::config_files::{check, said};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn table(endpoint: &str, more: &str) -> String {
    format!("[traces]\nendpoint = \"{endpoint}\"\n{more}")
}

async fn ask(client: &Client, id: &str, flags: &str, kid: &str) -> u16 {
    let trace = format!("00-{TRACE}-{PARENT}-{flags}");
    let headers =
        [("content-type", "application/json"), ("x-request-id", id), ("traceparent", &trace)];
    let body = json!({"signer_kid": kid, "message": "c2VjcmV0IGlucHV0"}).to_string();
    client.send(Method::POST, "/v1/sign", &headers, body).await.unwrap().status
}

/// Every span that was accepted.
fn spans(receiver: &Receiver) -> Vec<Value> {
    let bodies = receiver.accepted().into_iter().map(|sent| sent.json());
    let of_body = |body: Value| {
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans.as_array().unwrap().clone()
    };
    bodies.flat_map(of_body).collect()
}

/// The value of an attribute.
fn attribute(span: &Value, key: &str) -> Value {
    let all = span["attributes"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|attribute| attribute["key"] == key);
    found.map(|attribute| attribute["value"]["stringValue"].clone()).unwrap_or_default()
}

/// How many spans OpenTelemetry's own definitions read in a body.
fn read(body: &[u8]) -> usize {
    let python = repository().join("target/tools/opentelemetry-proto/bin/python");
    let missing = "run ./tests/run.sh, which installs opentelemetry-proto";
    assert!(python.exists(), "{} is missing: {missing}", python.display());
    let mut child = Command::new(python)
        .arg(repository().join("tests/traces/read.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(body));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

async fn counted(proxy: &Proxy<'_>, result: &str) -> u64 {
    let sample = format!("signing_proxy_trace_spans_total{{result=\"{result}\"}} ");
    let text = proxy.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap_or_else(|| panic!("{sample} is missing in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_request_is_a_span_in_its_callers_trace_with_a_span_for_each_stage() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let collector = Receiver::start();
    let traces = table(&collector.url("/v1/traces"), "sample_percent = 0");
    let builder = world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.tables(&traces).start().await;
    let client = proxy.client(ALICE).await;
    assert_eq!(ask(&client, "not-sampled", "00", "ec").await, 200);
    assert_eq!(client.sign_message("ec", b"without a trace").await.status, 200);
    assert_eq!(ask(&client, "refused", "01", "unknown").await, 404);
    assert_eq!(ask(&client, "signed", "01", "ec").await, 200);
    let named = |spans: &[Value], id: &str| {
        let is_it = |span: &&Value| attribute(span, "signing.request_id") == id;
        spans.iter().find(is_it).cloned()
    };
    let (all, signed) = eventually("the span of the last request", || async {
        let all = spans(&collector);
        let signed = named(&all, "signed")?;
        Some((all, signed))
    })
    .await;
    assert_eq!(named(&all, "not-sampled"), None, "{all:#?}");
    for (key, value) in [("traceId", TRACE), ("parentSpanId", PARENT), ("name", "sign")] {
        assert_eq!(signed[key], value, "{signed:#}");
    }
    for (key, value) in [
        ("signing.signer_kid", "ec"),
        ("signing.algorithm", "ECDSA_SHA_256"),
        ("signing.mode", "normal"),
        ("signing.door", "mtls"),
        ("signing.caller", ALICE),
    ] {
        assert_eq!(attribute(&signed, key), value, "{signed:#}");
    }
    assert_eq!((&signed["kind"], &signed["status"]), (&json!(2), &json!({"code": 1})));
    let stages: Vec<_> =
        all.iter().filter(|span| span["parentSpanId"] == signed["spanId"]).collect();
    let names: Vec<_> = stages.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["queue", "upstream", "verify", "audit"]);
    assert!(stages.iter().all(|span| span["traceId"] == TRACE), "{stages:#?}");
    let refused = named(&all, "refused").unwrap();
    assert_eq!(refused["status"], json!({"code": 2, "message": "signer_unknown"}));
    assert_eq!(attribute(&refused, "error.type"), "signer_unknown");
    // One span of the refused request, five of the signed one, and none of the two others.
    assert_eq!(all.len(), 6, "{all:#?}");
    let sent = collector.accepted();
    assert_eq!(sent.iter().map(|sent| read(&sent.body)).sum::<usize>(), 6);
    for sent in &sent {
        assert_eq!(
            (sent.path.as_str(), sent.header("content-type")),
            ("/v1/traces", "application/json")
        );
        let body = String::from_utf8_lossy(&sent.body).into_owned();
        assert!(!body.contains("c2VjcmV0") && !body.contains("secret input"), "{body}");
    }
    eventually("the count of spans", || async {
        (counted(&proxy, "sent").await == 6).then_some(())
    })
    .await;
}

/// The outcome is the same, whatever the collector does: every request is signed, every signature
/// verifies, and every lost span is counted.
#[tokio::test]
async fn a_collector_that_hangs_lies_refuses_or_is_not_there_changes_no_signature() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1/traces", listener.local_addr().unwrap())
    };
    let lie = json!({"partialSuccess": {"rejectedSpans": "1000000"}}).to_string();
    let cases = [
        ("hangs", Some(Manner::Hang), "failed"),
        ("endless", Some(Manner::Endless), "failed"),
        ("closes", Some(Manner::Close), "failed"),
        ("fails", Some(Manner::Answer(500, "no".to_owned())), "failed"),
        ("redirects", Some(Manner::Redirect("http://127.0.0.1:1/".to_owned())), "failed"),
        ("lies", Some(Manner::Answer(200, lie)), "rejected"),
        ("absent", None, "failed"),
    ];
    let mut running = Vec::new();
    for (name, manner, result) in cases {
        let collector = manner.map(|manner| {
            let collector = Receiver::start();
            collector.set(manner);
            collector
        });
        let endpoint = collector.as_ref().map_or(nobody.clone(), |it| it.url("/v1/traces"));
        let traces = table(&endpoint, "queue_max = 2\ntimeout_ms = 300");
        let builder = world.proxy().directory(name).rare_canaries().signer("ec", &key);
        let proxy = builder.caller(ALICE, &["ec"]).tables(&traces).start().await;
        running.push((name, collector, result, proxy));
    }
    for (name, _, result, proxy) in &running {
        let client = proxy.client(ALICE).await;
        // More than the queue holds, so that some find it full.
        eventually(&format!("spans of {name} to be lost in both ways"), || async {
            for number in 0..10 {
                let message = format!("{name} {number}");
                let answer = client.sign_message("ec", message.as_bytes()).await;
                assert_eq!(answer.status, 200, "{name}: {answer:?}");
                let signature = answer.signature();
                assert!(number > 0 || openssl::verifies(&key, message.as_bytes(), &signature));
            }
            let (lost, full) = (counted(proxy, result).await, counted(proxy, "queue_full").await);
            // A collector that answers at once may never let two requests fill the queue.
            (lost > 0 && (full > 0 || *result == "rejected")).then_some(())
        })
        .await;
        assert_eq!(counted(proxy, "sent").await, 0, "{name}");
        assert_eq!(proxy.health().await.status, 200, "{name}");
    }
    // Once it is well again, spans arrive again.
    let (_, collector, _, proxy) = running.remove(3);
    let collector = collector.unwrap();
    collector.mend();
    let client = proxy.client(ALICE).await;
    eventually("spans to arrive again", || async {
        assert_eq!(client.sign_message("ec", b"again").await.status, 200);
        (!spans(&collector).is_empty() && counted(&proxy, "sent").await > 0).then_some(())
    })
    .await;
}

#[test]
fn the_collectors_address_is_checked_and_one_beyond_this_machine_is_noted() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let checked = |directory: &str, endpoint: &str| {
        let builder = world.proxy().directory(directory).signer("ec", &key).caller(ALICE, &["ec"]);
        let output = check(&builder.tables(&table(endpoint, "")).write(), &[]);
        (output.status.code(), said(&output))
    };
    let (code, said) = checked("tls", "https://127.0.0.1:4318/v1/traces");
    let why = "traces.endpoint: is \"https://127.0.0.1:4318/v1/traces\", expected http://HOST:PORT";
    assert!(code == Some(1) && said.contains(why), "{said}");
    let note = "traces.endpoint: is http://collector.example:4318/v1/traces, and the spans";
    let (code, said) = checked("beyond", "http://collector.example:4318");
    assert!(code == Some(0) && said.contains(note), "{said}");
    let (code, said) = checked("beside", "http://[::1]:4318");
    assert!(code == Some(0) && !said.contains("traces.endpoint"), "{said}");
}
