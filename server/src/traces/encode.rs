//! Spans in the JSON form of OTLP (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>):
//! ids in hex, numbers of 64 bits as text.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::span::Span;

/// Kinds of spans (`SpanKind`).
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// `StatusCode`.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// What a request to the collector says, and how many spans it has.
pub(super) fn request(deployment: &str, batch: &[Span]) -> (String, u64) {
    let mut spans = Vec::with_capacity(batch.len() * 5);
    for span in batch {
        whole(span, &mut spans);
    }
    let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
    let resource = attributes(&[
        ("service.name", "signing-proxy"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.namespace", deployment),
    ]);
    let scope = json!({"name": "signing-proxy", "version": env!("CARGO_PKG_VERSION")});
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]});
    (body.to_string(), count)
}

/// A request's span, and one for each of its stages.
fn whole(span: &Span, spans: &mut Vec<Value>) {
    let Span { ids, began, took, stages, attributes: said, error } = span;
    let (trace, id) = (hex::encode(ids.trace), hex::encode(ids.span));
    let said: Vec<_> = said.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut attributes = attributes(&said);
    let status = match error {
        None => json!({"code": OK}),
        Some(reason) => {
            attributes.extend(self::attributes(&[("error.type", reason)]));
            json!({"code": ERROR, "message": reason})
        }
    };
    let mut root = json!({
        "traceId": trace, "spanId": id, "name": "sign", "kind": SERVER,
        "startTimeUnixNano": nanos(*began, Duration::ZERO),
        "endTimeUnixNano": nanos(*began, *took),
        "attributes": attributes, "status": status,
    });
    if let (Some(parent), Some(root)) = (ids.parent, root.as_object_mut()) {
        root.insert("parentSpanId".to_owned(), hex::encode(parent).into());
    }
    spans.push(root);
    // They follow each other, and are counted from the end of the request's head on.
    let mut passed = Duration::ZERO;
    for (stage, took) in stages.iter().flat_map(telemetry::metrics::Stages::named) {
        let mut id = [0; 8];
        if aws_lc_rs::rand::fill(&mut id).is_err() {
            return;
        }
        let until = passed.saturating_add(took);
        spans.push(json!({
            "traceId": trace, "spanId": hex::encode(id), "parentSpanId": hex::encode(ids.span),
            "name": stage, "kind": if stage == "upstream" { CLIENT } else { INTERNAL },
            "startTimeUnixNano": nanos(*began, passed),
            "endTimeUnixNano": nanos(*began, until),
        }));
        passed = until;
    }
}

fn attributes(said: &[(&str, &str)]) -> Vec<Value> {
    said.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

/// Nanoseconds since 1970, `after` an instant.
fn nanos(at: OffsetDateTime, after: Duration) -> String {
    let after = i128::try_from(after.as_nanos()).unwrap_or(i128::MAX);
    at.unix_timestamp_nanos().saturating_add(after).max(0).to_string()
}
