//! What no record says, and the trail sees by itself: a sink that is behind, records that were lost.
//! Pure decisions about what `status` says; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use signing_core::Moment;

use super::notice::Name;
use super::state::Sink;

/// What is remembered of a sink between two looks.
#[derive(Debug, Default)]
pub(crate) struct Blocked(BTreeMap<String, Moment>);

/// Something that began or ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) event: Name,
    pub(crate) summary: String,
    pub(crate) data: Value,
}

impl Blocked {
    /// What changed since `told`, by the status of one journal in one sink. `told` is what was said of it, and
    /// changes with that.
    pub(crate) fn change(
        &mut self,
        of: &Value,
        told: &mut Sink,
        after: Duration,
        now: Moment,
    ) -> Option<Change> {
        let text = |name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (sink, journal) = (text("sink"), text("journal"));
        let seconds = of.get("lag_seconds").and_then(Value::as_f64).unwrap_or_default();
        let (records, missing, trouble) =
            (number("lag_records"), number("missing_records"), text("trouble"));
        let since = if trouble.is_empty() {
            self.0.remove(&key(of));
            None
        } else {
            Some(*self.0.entry(key(of)).or_insert(now))
        };
        let data = json!({
            "sink": sink, "journal": journal, "lag_records": records, "lag_seconds": seconds,
            "missing_records": missing, "trouble": trouble,
        });
        if missing > told.missing {
            let lost = missing - told.missing;
            told.missing = missing;
            let summary = format!(
                "{lost} records of {journal} were removed before they were shipped to {sink}: they are lost there"
            );
            return Some(Change { event: Name::RecordsLost, summary, data });
        }
        let is_blocked = since.is_some_and(|since| now.since(since) >= after);
        let is_late = seconds >= after.as_secs_f64();
        match told.is_behind {
            false if is_late || is_blocked => {
                told.is_behind = true;
                let why = if trouble.is_empty() { String::new() } else { format!(": {trouble}") };
                let summary = format!(
                    "The trail is behind: {records} records of {journal} are not in {sink}{why}"
                );
                Some(Change { event: Name::TrailBehind, summary, data })
            }
            // Half of it, so that it does not flap.
            true if trouble.is_empty() && seconds < after.as_secs_f64() / 2.0 => {
                told.is_behind = false;
                let summary = format!("The trail has caught up: {journal} to {sink}");
                Some(Change { event: Name::TrailCaughtUp, summary, data })
            }
            _ => None,
        }
    }
}

/// The name of a journal in a sink.
pub(crate) fn key(of: &Value) -> String {
    let text = |name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("sink"), text("journal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(seconds: f64, trouble: Option<&str>, missing: u64) -> Value {
        json!({"sink": "postgres", "journal": "signing-proxy", "lag_records": 7, "lag_seconds": seconds,
               "missing_records": missing, "trouble": trouble})
    }

    fn at(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn a_sink_is_behind_by_its_age_or_by_a_standing_trouble_and_says_each_once() {
        let after = Duration::from_secs(60);
        let (mut blocked, mut told) = (Blocked::default(), Sink::default());
        let mut look = |status: &Value, second| {
            let change = blocked.change(status, &mut told, after, at(second));
            change.map(|change| change.event)
        };
        // By age.
        assert_eq!(look(&status(59.0, None, 0), 0), None);
        assert_eq!(look(&status(60.0, None, 0), 1), Some(Name::TrailBehind));
        assert_eq!(look(&status(90.0, None, 0), 2), None);
        assert_eq!(look(&status(30.0, None, 0), 3), None, "not yet caught up");
        assert_eq!(look(&status(29.0, Some("no"), 0), 4), None, "still in trouble");
        assert_eq!(look(&status(29.0, None, 0), 5), Some(Name::TrailCaughtUp));
        assert_eq!(look(&status(0.0, None, 0), 6), None);
        // By trouble, of which the age is not known.
        assert_eq!(look(&status(0.0, Some("down"), 0), 100), None);
        assert_eq!(look(&status(0.0, Some("still"), 0), 159), None);
        assert_eq!(look(&status(0.0, Some("still"), 0), 160), Some(Name::TrailBehind));
        assert_eq!(look(&status(0.0, None, 0), 161), Some(Name::TrailCaughtUp));
        // A trouble that ends in between begins anew.
        assert_eq!(look(&status(0.0, Some("down"), 0), 200), None);
        assert_eq!(look(&status(0.0, None, 0), 230), None);
        assert_eq!(look(&status(0.0, Some("down"), 0), 231), None);
        assert_eq!(look(&status(0.0, Some("down"), 0), 290), None);
    }

    #[test]
    fn each_loss_is_said_once() {
        let (mut blocked, mut told) = (Blocked::default(), Sink::default());
        let after = Duration::from_secs(60);
        let mut lost = |missing| {
            let change = blocked.change(&status(0.0, None, missing), &mut told, after, at(0));
            change.map(|change| change.summary.split(' ').next().unwrap().to_owned())
        };
        assert_eq!(lost(0), None);
        assert_eq!(lost(5).as_deref(), Some("5"));
        assert_eq!(lost(5), None);
        assert_eq!(lost(7).as_deref(), Some("2"));
    }
}
