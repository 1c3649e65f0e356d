//! The admin socket of the proxy on this machine.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use host::environment::REASON_MAX_CHARS;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use signing_core::admin::{FleetHeartbeat, FleetMember, path};
use signing_core::json::JsonError;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::members::part;

/// How long the proxy may take: it answers a freeze once that is on disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Of a reason, or of who gave it.
const LINE_MAX_CHARS: usize = REASON_MAX_CHARS;

/// The proxy.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) socket: PathBuf,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Proxy {
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Reply, String> {
        let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
        self.ask(Method::POST, path, Bytes::from(body)).await
    }

    /// What the proxy says of itself.
    pub(super) async fn status(&self) -> Result<Value, String> {
        let reply = self.ask(Method::GET, path::STATUS, Bytes::new()).await?;
        if part(&reply.body, "/deployment").is_string() {
            Ok(reply.body)
        } else {
            Err(self.refused("tell its status", &reply))
        }
    }

    /// Says that the fleet was read, and that the freezes in `read` are all that apply here.
    pub(super) async fn hear(&self, read: Vec<String>) -> Result<FleetMember, String> {
        let reply = self.post(path::FLEET_HEARTBEAT, &FleetHeartbeat { read }).await?;
        typed(&reply.body).map_err(|_| self.refused("hear the fleet", &reply))
    }

    /// What is wrong with a proxy that nobody's signature starts again.
    pub(super) fn is_in_no_fleet(&self) -> String {
        format!(
            "fleet.socket {}: the proxy has no [fleet] in its configuration: no statement would end a freeze there",
            self.socket.display()
        )
    }

    fn refused(&self, what: &str, reply: &Reply) -> String {
        let why = part(&reply.body, "/detail").as_str().unwrap_or("without a reason");
        format!(
            "fleet.socket {}: the proxy does not {what}: {}",
            self.socket.display(),
            one_line(why)
        )
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Reply, String> {
        let asked = timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await;
        let asked = asked
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
        asked.map_err(|why| format!("fleet.socket {}: {why}", self.socket.display()))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Reply, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| words(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| words(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "admin")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| words(&error))?;
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| words(&error))?.to_bytes();
        let body = signing_core::json::from_slice(&body)
            .map_err(|error| format!("its answer is no object: {error}"))?;
        Ok(Reply { status, body })
    }
}

impl Reply {
    /// Why it did not do what was asked; none: it did.
    pub(super) fn refusal(&self) -> Option<String> {
        let text = |pointer: &str| part(&self.body, pointer).as_str();
        let why = || text("/note").or_else(|| text("/detail"));
        (self.status != 200).then(|| one_line(why().unwrap_or_default()))
    }
}

/// One line, as the admin socket takes it: whoever wrote it may have written anything.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().filter(|c| !c.is_control()).take(LINE_MAX_CHARS).collect();
    let line = line.trim();
    if line.is_empty() { "nothing is said".to_owned() } else { line.to_owned() }
}

/// What a part of an answer is.
pub(super) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, JsonError> {
    signing_core::json::from_str(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_wrote_becomes_one_line_that_the_admin_socket_takes() {
        assert_eq!(one_line(" two\nlines\u{1b}[2J "), "twolines[2J");
        assert_eq!(one_line("\n\t"), "nothing is said");
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), LINE_MAX_CHARS);
    }

    #[test]
    fn an_answer_without_a_word_is_a_refusal_all_the_same() {
        let reply = |status, body| Reply { status, body };
        assert_eq!(reply(200, Value::Null).refusal(), None);
        assert_eq!(reply(409, serde_json::json!({"note": "no"})).refusal().unwrap(), "no");
        assert_eq!(reply(503, serde_json::json!({"detail": "no"})).refusal().unwrap(), "no");
        assert_eq!(reply(500, Value::Null).refusal().unwrap(), "nothing is said");
    }
}
