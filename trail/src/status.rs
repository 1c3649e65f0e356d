//! `status`: asks the trail that runs here how far it is.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long it waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// What the trail at `address` says.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(address: &str) -> Result<Value, String> {
    let asked = timeout(PATIENCE, get(address)).await;
    asked.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
}

async fn get(address: &str) -> Result<Value, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get("/status")
        .header(header::HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    signing_core::json::from_slice(&body)
        .map_err(|error| format!("its answer is no status: {error}"))
}

/// The lines for a person.
#[must_use]
pub fn lines(status: &Value) -> String {
    let journals = status.get("journals").and_then(Value::as_array).into_iter().flatten();
    let line = |journal: &Value| {
        let text = |name: &str| match journal.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text::line(text).into_owned(),
            Some(other) => other.to_string(),
        };
        let missing = text("missing_records");
        let gap = if missing == "0" {
            String::new()
        } else {
            format!(", {missing} LOST before they were shipped")
        };
        let trouble = text("trouble");
        let trouble = if trouble.is_empty() { String::new() } else { format!("; {trouble}") };
        format!(
            "{} {}: record {}, {} behind ({} s){gap}{trouble}",
            text("sink"),
            text("journal"),
            text("shipped"),
            text("lag_records"),
            text("lag_seconds")
        )
    };
    let notifications = status.get("notifications").and_then(Value::as_array);
    let told = notifications.into_iter().flatten().map(notification);
    journals.map(line).chain(told).collect::<Vec<_>>().join("\n")
}

fn notification(of: &Value) -> String {
    let text = |name: &str| {
        text::line(of.get(name).and_then(Value::as_str).unwrap_or_default()).into_owned()
    };
    let number = |name: &str| of.get(name).and_then(Value::as_f64).unwrap_or_default();
    let trouble = text("trouble");
    let trouble = if trouble.is_empty() { trouble } else { format!("; {trouble}") };
    format!(
        "notifications to {}: {} delivered, {} failed, {:.0} s behind{trouble}",
        text("destination"),
        number("delivered"),
        number("failed"),
        number("lag_seconds")
    )
}
