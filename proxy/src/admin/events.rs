//! `GET /v1/events`: what happened after a position, at once or as soon as something happens. A question waits for
//! so long at most, few may wait, and whoever reads too slowly is told what it missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use server::{Answer, json_answer};
use signing_core::admin::{self, Event};
use signing_core::journal::Outline;
use signing_core::{Reason, Refusal};
use telemetry::events::Newer;

use super::Admin;
use super::peer::Peer;

/// How long a question may wait, in seconds: less than a connection may last.
const WAIT_MAX_S: u64 = 30;
/// Questions that may wait, of all users and of one: each holds a connection, and the others are for commands.
const WAITING_MAX: usize = 16;
const WAITING_PER_USER_MAX: usize = 4;

/// How many questions of each user wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<BTreeMap<u32, usize>>>);

/// One question that waits, until it is dropped.
#[derive(Debug)]
struct WaitingQuestion {
    of: Waiting,
    uid: u32,
}

/// What a question says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    after: Option<u64>,
    wait_s: u64,
}

impl Waiting {
    /// One more; None if too many wait.
    fn begin(&self, uid: u32) -> Option<WaitingQuestion> {
        let mut by_user = self.lock();
        let of_all: usize = by_user.values().sum();
        let of_user = by_user.entry(uid).or_default();
        if of_all >= WAITING_MAX || *of_user >= WAITING_PER_USER_MAX {
            by_user.retain(|_, waiting| *waiting > 0);
            return None;
        }
        *of_user += 1;
        Some(WaitingQuestion { of: self.clone(), uid })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        // Nothing under this lock panics but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingQuestion {
    fn drop(&mut self) {
        let mut by_user = self.of.lock();
        if let Some(waiting) = by_user.get_mut(&self.uid) {
            *waiting = waiting.saturating_sub(1);
        }
        // Who waits for nothing is not remembered.
        by_user.retain(|_, waiting| *waiting > 0);
    }
}

pub(super) async fn show<B>(
    admin: &Admin,
    peer: Peer,
    request: &Request<B>,
) -> Result<Response<Answer>, Refusal> {
    let Asked { after, wait_s } = asked(request.uri().query().unwrap_or_default())?;
    // Before the first look: what happens in between wakes.
    let mut synced = admin.events.watch();
    let mut newer = event_page(admin, after)?;
    if wait_s > 0 && newer.is_nothing() {
        let _waits = admin.waiting.begin(peer.uid()).ok_or_else(|| too_many(peer.uid()))?;
        let waiting = async {
            while synced.changed().await.is_ok() {
                newer = event_page(admin, after)?;
                if !newer.is_nothing() {
                    break;
                }
            }
            Ok(())
        };
        // Nothing happened in that time: that is an answer too.
        tokio::time::timeout(Duration::from_secs(wait_s), waiting).await.unwrap_or(Ok(()))?;
    }
    Ok(json_answer(StatusCode::OK, &newer.message(admin)))
}

/// What there is, and how much of the journal was on disk.
struct EventPage {
    newer: Newer,
    size: u64,
}

fn event_page(admin: &Admin, after: Option<u64>) -> Result<EventPage, Refusal> {
    let size = admin.journal.head().size;
    if let Some(after) = after.filter(|after| *after > size) {
        let why = format!(
            "after: record {after} does not exist, the newest is {size}; a position is the \"next\" of an answer \
             of the same log, so ask once without a position"
        );
        return Err(Refusal::new(Reason::InvalidRequest, why));
    }
    Ok(EventPage { newer: admin.events.newer(after, size), size })
}

impl EventPage {
    fn is_nothing(&self) -> bool {
        self.newer.events.is_empty() && self.newer.missed_through.is_none()
    }

    fn message(self, admin: &Admin) -> admin::Events {
        let event = |event: &telemetry::events::Event| {
            // Records of this process have the form that is read here.
            let (Outline { at, data, r#type }, _) = Outline::parse(&event.body)?;
            Some(Event { seq: event.seq, at, r#type, data })
        };
        let Newer { events, missed_through } = self.newer;
        admin::Events {
            log: admin.journal.log().origin(),
            size: self.size,
            // All that is on disk was looked at.
            next: self.size,
            missed_through,
            events: events.iter().filter_map(|one| event(one)).collect(),
        }
    }
}

fn too_many(uid: u32) -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        format!(
            "{WAITING_PER_USER_MAX} questions of uid {uid}, or {WAITING_MAX} of all users, wait for events already; end \
             one of them, or ask with wait_s=0"
        ),
    )
}

/// Reads the query: `after` and `wait_s`, each at most once.
fn asked(query: &str) -> Result<Asked, Refusal> {
    let invalid = |why: String| Refusal::new(Reason::InvalidRequest, why);
    let mut asked = Asked::default();
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if seen.contains(&key) {
            return Err(invalid(format!("{key:?} is there twice; say it once")));
        }
        seen.push(key);
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| value.parse().ok()).flatten();
        let number: u64 =
            number.ok_or_else(|| invalid(format!("{key:?} is {value:?}, which is no number")))?;
        match key {
            "after" => asked.after = Some(number),
            "wait_s" if number <= WAIT_MAX_S => asked.wait_s = number,
            "wait_s" => {
                return Err(invalid(format!("wait_s is {number}; wait {WAIT_MAX_S} s at most")));
            }
            _ => return Err(invalid(format!("{key:?} is not known; there are after and wait_s"))),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_may_wait_and_a_place_comes_back() {
        let waiting = Waiting::default();
        let of_one: Vec<_> = (0..4).map(|_| waiting.begin(1).unwrap()).collect();
        assert!(waiting.begin(1).is_none());
        let others: Vec<_> = (2..14).map(|uid| waiting.begin(uid).unwrap()).collect();
        assert!(waiting.begin(99).is_none(), "sixteen wait");
        drop(of_one);
        assert!(waiting.begin(1).is_some() && waiting.begin(99).is_some());
        drop(others);
        assert!(waiting.lock().is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_question_says_where_to_go_on_and_how_long_to_wait() {
        for (query, after, wait_s) in [
            ("", None, 0),
            ("after=7", Some(7), 0),
            ("after=7&wait_s=30", Some(7), 30),
            ("wait_s=1&after=18446744073709551615", Some(u64::MAX), 1),
        ] {
            assert_eq!(asked(query).unwrap(), Asked { after, wait_s }, "{query}");
        }
        for (query, why) in [
            ("after", "no number"),
            ("after=", "no number"),
            ("after=-1", "no number"),
            ("after=+1", "no number"),
            ("after=18446744073709551616", "no number"),
            ("wait_s=31", "30 s at most"),
            ("after=1&after=2", "twice"),
            ("since=1", "not known"),
            ("since", "no number"),
        ] {
            let refusal = asked(query).unwrap_err();
            assert!(refusal.detail.contains(why), "{query}: {}", refusal.detail);
        }
    }
}
