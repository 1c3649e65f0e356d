//! The loop of one webhook: what happened waits in the journals and is taken one by one; each is sent
//! until the receiver accepts it, and noted then. Whoever dies in between sends once more, under the
//! same id. Nothing waits in memory, so a receiver may be away for as long as the journals are kept.

use std::sync::Arc;
use std::time::Duration;

use host::clock::{now, rfc3339_millis, wall_now};
use host::log::Log;
use serde_json::{Map, Value, json};
use signing_core::Moment;
use tokio::time::sleep;

use super::back_off::BackOff;
use super::client::Client;
use super::conditions::{Blocked, Change, key};
use super::form::written;
use super::journals::Journals;
use super::metrics::Deliveries;
use super::notice::{Name, Notice};
use super::state::{PENDING_MAX, Place, State};
use crate::check::Parts;
use crate::config::Webhook;
use crate::metrics::Metrics;
use crate::plan::age;
use crate::uuid;

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the place is noted while nothing is to be told.
const NOTE_EVERY: Duration = Duration::from_secs(30);
/// The wait after the state could not be read.
const AGAIN: Duration = Duration::from_secs(5);

/// Everything that the loop has.
pub(crate) struct Delivering {
    webhook: Webhook,
    instance: String,
    behind_after: Duration,
    place: Place,
    journals: Journals,
    client: Client,
    metrics: Metrics,
    deliveries: Deliveries,
    log: Log,
    back_off: BackOff,
    blocked: Blocked,
    /// What keeps the receiver from being told, as it was logged last.
    refusal: Option<String>,
    /// What keeps the state from being written.
    unwritten: Option<String>,
    written: Option<(Moment, State)>,
}

impl Delivering {
    pub(crate) fn new(
        webhook: Webhook,
        parts: &Arc<Parts>,
        metrics: Metrics,
        deliveries: Deliveries,
        log: Log,
    ) -> Self {
        let notify = &parts.config.notify;
        Self {
            instance: notify.instance.clone(),
            behind_after: notify.behind_after,
            place: Place::new(&notify.state_dir, &webhook.name),
            journals: Journals::new(&webhook.name, Arc::clone(parts), log.clone()),
            client: Client::new(webhook.endpoint.clone(), ""),
            webhook,
            metrics,
            deliveries,
            log,
            back_off: BackOff::new(),
            blocked: Blocked::default(),
            refusal: None,
            unwritten: None,
            written: None,
        }
    }

    /// Tells until the process ends.
    pub(crate) async fn run(mut self) {
        let mut state = self.begin().await;
        loop {
            self.journals.begin(&mut state).await;
            let is_new = self.observe_unrecorded(&mut state) || self.written.is_none();
            let mut has_read = false;
            if state.pending.is_empty()
                && let Some(notices) = self.journals.next(&mut state).await
            {
                has_read = true;
                for notice in notices {
                    self.push(&mut state, &notice);
                }
            }
            // What the trail itself saw has an id by chance: it is noted before it is sent.
            let must_note = is_new || self.unwritten.is_some();
            let mut is_noted = !must_note || self.note(&state).await;
            let is_sent = is_noted && self.deliver(&mut state).await;
            if is_sent || self.written.as_ref().is_none_or(|(at, _)| now().since(*at) >= NOTE_EVERY)
            {
                is_noted = self.note(&state).await;
            }
            self.publish(&state);
            if !(has_read || is_sent) || !is_noted {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn begin(&mut self) -> State {
        loop {
            let place = self.place.clone();
            let read = tokio::task::spawn_blocking(move || place.read()).await;
            let read = read.unwrap_or_else(|_| Err("the state cannot be read".to_owned()));
            match read {
                Ok(Some(state)) => return state,
                Ok(None) => {
                    let mut state = State::new();
                    let summary = format!("Notifications to {} begin", self.webhook.name);
                    let event = Name::NotificationsBegun;
                    let notice = seen(Change { event, summary, data: json!({}) });
                    self.push(&mut state, &notice);
                    return state;
                }
                Err(error) => {
                    self.unnoted(error);
                    self.publish(&State::new());
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// What no record says; whether there is something new of it.
    fn observe_unrecorded(&mut self, state: &mut State) -> bool {
        let mut is_new = false;
        let status = self.metrics.status();
        let sinks = status.get("journals").and_then(Value::as_array).into_iter().flatten();
        for sink in sinks {
            // Without room it is seen later, as it is then.
            if state.pending.len() >= PENDING_MAX {
                return is_new;
            }
            let told = state.sinks.entry(key(sink)).or_default();
            let change = self.blocked.change(sink, told, self.behind_after, now());
            if let Some(change) = change {
                is_new |= self.push(state, &seen(change));
            }
        }
        if state.pending.len() < PENDING_MAX
            && let Some(notice) = self.journals.overdue(state)
        {
            is_new |= self.push(state, &notice);
        }
        is_new
    }

    /// Queues a notification, if the webhook wants it.
    fn push(&self, state: &mut State, notice: &Notice) -> bool {
        let is_wanted = self.webhook.events.contains(&notice.event);
        if is_wanted {
            state.pending.push(notice.body(&self.instance));
        }
        is_wanted
    }

    /// Sends the oldest that waits, if it is time; whether it was accepted.
    async fn deliver(&mut self, state: &mut State) -> bool {
        let Some(body) = state.pending.first().filter(|_| self.back_off.is_due()) else {
            return false;
        };
        match self.send(body.clone()).await {
            Ok(()) => {
                state.pending.remove(0);
                self.back_off.reset();
                self.deliveries.update(&self.webhook.name, |delivery| delivery.delivered += 1);
                if self.refusal.take().is_some() {
                    let fields = json!({"destination": self.webhook.name});
                    self.log.info("notifications are delivered again", fields);
                }
                true
            }
            Err((why, wait)) => {
                self.back_off.failed(wait);
                self.deliveries.update(&self.webhook.name, |delivery| delivery.failed += 1);
                if self.refusal.as_ref() != Some(&why) {
                    let event = body.get("event").cloned().unwrap_or_default();
                    self.log.warn(
                        "a notification is not delivered; it is sent again",
                        json!({"destination": self.webhook.name, "event": event, "error": why}),
                    );
                }
                self.refusal = Some(why);
                false
            }
        }
    }

    async fn send(&mut self, body: Map<String, Value>) -> Result<(), (String, Option<Duration>)> {
        let (form, at) = (self.webhook.form.clone(), wall_now().unix_timestamp());
        // The key is read from its file.
        let written = tokio::task::spawn_blocking(move || written(&form, &body, at)).await;
        let written = written.unwrap_or_else(|_| Err("it cannot be written".to_owned()));
        let (headers, body) = written.map_err(|why| (why, None))?;
        let answer = self.client.post(headers, body, 0).await.map_err(|why| (why, None))?;
        match answer.status {
            200..=299 => Ok(()),
            300..=399 => Err((
                format!(
                    "answered {}: a redirect is not followed; name the last URL",
                    answer.status
                ),
                answer.retry_after,
            )),
            status => Err((format!("answered {status}"), answer.retry_after)),
        }
    }

    /// Writes the state, if it changed; whether it is on disk as it is.
    async fn note(&mut self, state: &State) -> bool {
        if self.written.as_ref().is_some_and(|(_, written)| written == state) {
            return true;
        }
        let (place, copy) = (self.place.clone(), state.clone());
        let writing = tokio::task::spawn_blocking(move || place.write(&copy).map(|()| copy)).await;
        match writing.unwrap_or_else(|_| Err("the state cannot be written".to_owned())) {
            Ok(copy) => {
                self.written = Some((now(), copy));
                self.unwritten = None;
                true
            }
            Err(error) => {
                self.unnoted(error);
                false
            }
        }
    }

    fn unnoted(&mut self, error: String) {
        if self.unwritten.as_ref() != Some(&error) {
            self.log.error(
                "the state of a webhook cannot be kept; nothing is sent to it",
                json!({"destination": self.webhook.name, "error": error}),
            );
        }
        self.unwritten = Some(error);
    }

    fn publish(&self, state: &State) {
        let text = |body: &Map<String, Value>| {
            body.get("at").and_then(Value::as_str).map(|at| age(at, wall_now()))
        };
        let lag = state.pending.first().and_then(text).unwrap_or_default();
        let trouble = self.refusal.clone().or_else(|| self.unwritten.clone());
        let trouble = trouble.or_else(|| self.journals.failure());
        self.deliveries.update(&self.webhook.name, |delivery| {
            delivery.lag_seconds = lag;
            delivery.trouble = trouble;
        });
    }
}

/// A notification of what the trail itself saw.
fn seen(change: Change) -> Notice {
    let Change { event, summary, data } = change;
    let at = rfc3339_millis(wall_now());
    Notice { id: uuid::v4(), event, at, summary, record: None, data }
}
