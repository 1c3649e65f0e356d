//! Annotations: the policy service is asked about each emergency record, once its row is in the table, and
//! its verdict is kept by the row's id. What has no verdict is asked again: so there is no place to
//! remember, and a database that was restored is filled again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::clock::wall_now;
use host::log::Log;
use serde_json::{Map, Value, json};
use signing_core::journal::Kind;
use tokio::time::sleep;
use tokio_postgres::Client as Database;

use super::back_off::BackOff;
use super::check::POLICY_PATH;
use super::client::Client;
use super::feed::{Cursor, Feed, Heard, extent};
use super::metrics::Deliveries;
use crate::check::Parts;
use crate::config::{POLICY_NAME as NAME, Policy};
use crate::event::{Owner, event_type};
use crate::plan::age;
use crate::postgres::{Annotation, DatabaseError};
use crate::source::SourceError;
use crate::uuid;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const RECORDS_MAX: u32 = 50_000;
const VERDICT_MAX_BYTES: usize = 16 * 1024;
/// The longest text of a record that is sent.
const TEXT_MAX_CHARS: usize = 1024;

/// The loop that asks.
pub(crate) struct Annotating {
    policy: Policy,
    parts: Arc<Parts>,
    client: Client,
    deliveries: Deliveries,
    log: Log,
    back_off: BackOff,
    problem: Option<String>,
}

/// Why it does not go on.
#[derive(Debug, thiserror::Error)]
enum StopError {
    #[error("{0}")]
    Database(#[from] DatabaseError),
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The signer's journal is not named.
    #[error("journals.signer is missing, and break-glass is recorded there; name it")]
    NoJournal,
}

impl Annotating {
    pub(crate) fn new(
        policy: Policy,
        parts: &Arc<Parts>,
        deliveries: Deliveries,
        log: Log,
    ) -> Self {
        deliveries.update(NAME, |delivery| delivery.verdicts = Some((0, 0)));
        Self {
            client: Client::new(policy.endpoint.clone(), POLICY_PATH),
            policy,
            parts: Arc::clone(parts),
            deliveries,
            log,
            back_off: BackOff::new(),
            problem: None,
        }
    }

    /// Asks until the process ends.
    pub(crate) async fn run(mut self) {
        let mut waits = BackOff::new();
        loop {
            if waits.is_due() {
                let failed = self.session(&mut waits).await;
                waits.failed(None);
                if let Err(error) = failed {
                    self.set_problem(Some(error.to_string()));
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Asks about everything from the first record on, as long as database and journal are there.
    async fn session(&mut self, waits: &mut BackOff) -> Result<(), StopError> {
        let journals = &self.parts.config.journals;
        let signer = journals.iter().find(|(owner, _)| *owner == Owner::Signer);
        let path = signer.map(|(_, path)| path.clone()).ok_or(StopError::NoJournal)?;
        let parts = Arc::clone(&self.parts);
        let opening = tokio::task::spawn_blocking(move || {
            let there = extent(&path)?;
            let feed = Feed::open(&path, Cursor::before(there.log, there.oldest), is_asked)?;
            Ok::<_, SourceError>((feed, parts.audit_keys()))
        });
        // It panics only where it would have panicked here.
        let Ok(opened) = opening.await else { return Ok(()) };
        let (mut feed, keys) = opened?;
        let place = self.parts.config.postgres.clone();
        let database = place.connect().await?;
        place.make_annotations(&database).await?;
        loop {
            let keys = keys.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let mut feed = feed;
                feed.read(RECORDS_MAX, &keys).map(|()| feed)
            });
            let Ok(read) = reading.await else { return Ok(()) };
            feed = read?;
            waits.reset();
            let Some(heard) = feed.front() else {
                self.set_problem(None);
                self.set_lag(0.0);
                // It ends with its connection, so that is looked at while nothing happens.
                if database.is_closed() {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
                continue;
            };
            self.set_lag(age(&heard.outline.at, wall_now()));
            let log = feed.cursor().log;
            let id = uuid::v5(log, &heard.seq.to_string());
            if place.is_annotated(&database, &id).await? {
                feed.take();
                continue;
            }
            let size = feed.front_size().unwrap_or(u64::MAX);
            let is_shipped = place.position(&database, log).await?.shipped >= size;
            if !is_shipped || !self.back_off.is_due() {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let action = event_type(Owner::Signer, heard.kind);
            let body = request(&self.policy.roles, &id, &action, &log.origin(), heard);
            let annotation = Asked { id, log: log.origin(), seq: heard.seq, action };
            if self.ask(&database, annotation, body).await? {
                feed.take();
            }
        }
    }

    /// Asks once; whether the verdict is kept.
    async fn ask(
        &mut self,
        database: &Database,
        asked: Asked,
        body: Value,
    ) -> Result<bool, StopError> {
        let sent = Bytes::from(body.to_string());
        let answer = self.client.post(Vec::new(), sent, VERDICT_MAX_BYTES).await;
        let wait = answer.as_ref().ok().and_then(|answer| answer.retry_after);
        let verdict = answer.and_then(|answer| match answer.status {
            200..=299 => Verdict::parse(&answer.body),
            300..=399 => Err(format!(
                "answered {}: a redirect is not followed; name the last URL",
                answer.status
            )),
            status => Err(format!("answered {status}")),
        });
        let Verdict { decision, allowed, body } = match verdict {
            Ok(verdict) => verdict,
            Err(why) => {
                self.back_off.failed(wait);
                self.deliveries.update(NAME, |delivery| delivery.failed += 1);
                self.set_problem(Some(why));
                return Ok(false);
            }
        };
        let Asked { id, log, seq, action } = asked;
        if !allowed {
            self.log.warn(
                "the policy service does not allow what was done",
                json!({"row": id, "action": action, "decision": decision}),
            );
        }
        let annotation =
            Annotation { row_id: id, log, seq, action, decision, allowed, verdict: body };
        // Dying before this asks again, under the same id.
        self.parts.config.postgres.annotate(database, &annotation).await?;
        self.back_off.reset();
        self.set_problem(None);
        self.deliveries.update(NAME, |delivery| {
            delivery.delivered += 1;
            if let Some((yes, no)) = &mut delivery.verdicts {
                *(if allowed { yes } else { no }) += 1;
            }
        });
        Ok(true)
    }

    fn set_lag(&self, seconds: f64) {
        self.deliveries.update(NAME, |delivery| delivery.lag_seconds = seconds);
    }

    fn set_problem(&mut self, problem: Option<String>) {
        if self.problem == problem {
            return;
        }
        match &problem {
            Some(why) => self.log.warn(
                "the policy service gives no verdict; it is asked again",
                json!({"error": why}),
            ),
            None => self.log.info("the policy service gives verdicts again", json!({})),
        }
        self.deliveries.update(NAME, |delivery| delivery.trouble.clone_from(&problem));
        self.problem = problem;
    }
}

/// What the service is asked about.
struct Asked {
    id: String,
    log: String,
    seq: u64,
    action: String,
}

/// What it answered.
struct Verdict {
    decision: String,
    allowed: bool,
    body: Value,
}

impl Verdict {
    fn parse(body: &[u8]) -> Result<Self, String> {
        let what = "its answer is no verdict: expected JSON with a text decision and allowed, true or false";
        let body: Value = signing_core::json::from_slice(body).map_err(|_| what.to_owned())?;
        let decision = body.get("decision").and_then(Value::as_str).map(str::to_owned);
        let allowed = body.get("allowed").and_then(Value::as_bool);
        let (decision, allowed) = decision.zip(allowed).ok_or_else(|| what.to_owned())?;
        Ok(Self { decision, allowed, body })
    }
}

/// The records of the emergency signer that it is asked about.
const ASKED: [Kind; 4] =
    [Kind::SessionActivated, Kind::EmergencySigned, Kind::SessionEnded, Kind::KeyDestroyed];

fn is_asked(kind: Kind) -> bool {
    ASKED.contains(&kind)
}

/// Whether the service is asked about rows of that type.
#[must_use]
pub fn is_asked_about(row: &str) -> bool {
    ASKED.into_iter().any(|kind| event_type(Owner::Signer, kind) == row)
}

/// The request about one record.
fn request(roles: &[String], id: &str, action: &str, log: &str, heard: &Heard) -> Value {
    let mut context = Map::new();
    context.insert("at".to_owned(), json!(heard.outline.at));
    for (name, of) in [
        ("session", "session"),
        ("incident", "incident"),
        ("caller", "caller"),
        ("request_id", "request_id"),
        ("input_digest", "input_digest"),
        ("algorithm", "algorithm"),
        ("emergency_kid", "emergency_kid"),
        ("emergency_kid", "signer_kid"),
        ("reason", "reason"),
        ("expires_at", "expires_at"),
        ("destruction_due", "destruction_due"),
        ("by", "by"),
        ("justification", "justification"),
        ("justification", "session_justification"),
    ] {
        if let Some(text) = heard.outline.text(of) {
            let text: String = text.chars().take(TEXT_MAX_CHARS).collect();
            context.insert(name.to_owned(), json!(text));
        }
    }
    for name in ["max_signatures", "signatures", "remaining"] {
        if let Some(number) = heard.outline.number(name) {
            context.insert(name.to_owned(), json!(number));
        }
    }
    json!({
        "requestId": id,
        "action": action,
        "actor": {"id": Owner::Signer.actor(), "type": "service", "roles": roles},
        "resource": {"type": "audit_event", "id": id, "log": log, "seq": heard.seq},
        "context": context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_with_a_yes_or_no_is_a_verdict() {
        for body in [
            "",
            "ok",
            "[]",
            "{}",
            "{\"decision\":\"allow\"}",
            "{\"allowed\":true}",
            "{\"decision\":1,\"allowed\":true}",
            "{\"decision\":\"allow\",\"allowed\":\"true\"}",
            "{\"decision\":\"allow\",\"allowed\":true,\"allowed\":false}",
        ] {
            assert!(Verdict::parse(body.as_bytes()).is_err(), "{body}");
        }
        let verdict =
            Verdict::parse(br#"{"decision":"deny","allowed":false,"ts":"x","ruleId":"r"}"#);
        let Verdict { decision, allowed, body } = verdict.unwrap();
        assert_eq!((decision.as_str(), allowed, &body["ruleId"]), ("deny", false, &json!("r")));
    }
}
