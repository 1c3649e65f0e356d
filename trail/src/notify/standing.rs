//! What is in force by the records of one journal: freezes, and keys that have to be destroyed. Small,
//! so that it is kept beside the place up to which a journal was read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use signing_core::journal::{Kind, Outline};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// Whether an operator's freeze is.
    frozen: bool,
    /// The freezes of the fleet that are.
    fleet: BTreeSet<String>,
    /// Emergency keys that a session used and that are not destroyed.
    keys: BTreeMap<String, Due>,
}

/// When a key has to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Due {
    at: String,
    /// Whether it was said that the key is overdue.
    told: bool,
    /// Of a key that is destroyed: its copies that nobody has attested to be destroyed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    copies: BTreeSet<String>,
}

impl Standing {
    /// Whether any freeze is in force.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen || !self.fleet.is_empty()
    }

    /// Whether it was said that this key is overdue.
    pub(crate) fn is_told(&self, kid: &str) -> bool {
        self.keys.get(kid).is_some_and(|due| due.told)
    }

    /// Hears the next record.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other kind begins or ends either")]
    pub(crate) fn hear(&mut self, kind: Kind, outline: &Outline) {
        let text = |name| outline.text(name).unwrap_or_default().to_owned();
        let texts = |name: &str, of: fn(&Value) -> Option<&str>| {
            let list = outline.data.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(of).map(str::to_owned).collect::<BTreeSet<_>>()
        };
        match kind {
            Kind::Freeze => self.frozen = true,
            Kind::Unfreeze => self.frozen = false,
            Kind::FleetFreeze => {
                self.fleet.insert(text("freeze_id"));
            }
            Kind::FleetUnfreeze => {
                let ended = texts("ends", Value::as_str);
                self.fleet.retain(|id| !ended.contains(id));
            }
            Kind::Start | Kind::Segment => {
                self.frozen = outline.data.get("freeze").is_some();
                self.fleet = texts("fleet", |one| one.get("freeze_id")?.as_str());
            }
            Kind::SessionEnded => {
                let due = Due { at: text("destruction_due"), told: false, copies: BTreeSet::new() };
                // An earlier session's date stands: the key was not destroyed since.
                self.keys.entry(text("emergency_kid")).or_insert(due);
            }
            Kind::DestructionOverdue => {
                if let Some(due) = self.keys.get_mut(&text("emergency_kid")) {
                    due.told = true;
                }
            }
            Kind::KeyDestroyed => {
                // With copies left it stays due: whoever has one can still sign.
                let (kid, copies) = (text("emergency_kid"), texts("copies", Value::as_str));
                if copies.is_empty() {
                    self.keys.remove(&kid);
                } else {
                    // Of a key that no session used, from here on.
                    let due = Due { at: outline.at.clone(), told: false, copies: BTreeSet::new() };
                    self.keys.entry(kid).or_insert(due).copies = copies;
                }
            }
            Kind::CopyDestroyed => {
                let kid = text("emergency_kid");
                if let Some(due) = self.keys.get_mut(&kid)
                    && due.copies.remove(&text("copy"))
                    && due.copies.is_empty()
                {
                    self.keys.remove(&kid);
                }
            }
            _ => {}
        }
    }

    /// A key that is overdue by `now` and of which nobody said so yet; from here on somebody did.
    pub(crate) fn take_overdue(&mut self, now: OffsetDateTime) -> Option<(String, String)> {
        let is_over = |due: &Due| {
            OffsetDateTime::parse(&due.at, &Rfc3339).is_ok_and(|at| at < now) && !due.told
        };
        let (kid, due) = self.keys.iter_mut().find(|(_, due)| is_over(due))?;
        due.told = true;
        Some((kid.clone(), due.at.clone()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outline(data: Value) -> Outline {
        Outline { at: "2026-11-24T02:22:12.123456Z".to_owned(), data, r#type: String::new() }
    }

    #[test]
    fn it_is_frozen_until_the_last_freeze_ended() {
        let mut standing = Standing::default();
        let hear = |standing: &mut Standing, kind, data| standing.hear(kind, &outline(data));
        hear(&mut standing, Kind::Freeze, json!({}));
        hear(&mut standing, Kind::FleetFreeze, json!({"freeze_id": "a"}));
        hear(&mut standing, Kind::FleetFreeze, json!({"freeze_id": "b"}));
        hear(&mut standing, Kind::Unfreeze, json!({}));
        assert!(standing.is_frozen());
        hear(&mut standing, Kind::FleetUnfreeze, json!({"ends": ["a", "c"]}));
        assert!(standing.is_frozen());
        hear(&mut standing, Kind::FleetUnfreeze, json!({"ends": ["b"]}));
        assert!(!standing.is_frozen());
        hear(&mut standing, Kind::Segment, json!({"freeze": {"reason": "r"}}));
        assert!(standing.is_frozen());
        hear(&mut standing, Kind::Start, json!({"fleet": [{"freeze_id": "a"}]}));
        assert!(standing.is_frozen());
        hear(&mut standing, Kind::Start, json!({}));
        assert!(!standing.is_frozen());
    }

    #[test]
    fn a_key_that_is_destroyed_stays_due_until_its_last_copy_is() {
        let mut standing = Standing::default();
        let hear = |standing: &mut Standing, kind, data| standing.hear(kind, &outline(data));
        let due = json!({"emergency_kid": "k", "destruction_due": "2026-11-12T00:00:00Z"});
        hear(&mut standing, Kind::SessionEnded, due);
        let destroyed = json!({"emergency_kid": "k", "copies": ["safe", "tape"]});
        hear(&mut standing, Kind::KeyDestroyed, destroyed);
        let attested = |copy| json!({"emergency_kid": "k", "copy": copy});
        hear(&mut standing, Kind::CopyDestroyed, attested("safe"));
        hear(&mut standing, Kind::CopyDestroyed, attested("safe"));
        let day = OffsetDateTime::parse("2026-11-13T00:00:00Z", &Rfc3339).unwrap();
        assert!(standing.clone().take_overdue(day).is_some());
        hear(&mut standing, Kind::CopyDestroyed, attested("tape"));
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn a_key_is_overdue_once_from_its_first_date_until_it_is_destroyed() {
        let mut standing = Standing::default();
        let day = |day: u32| {
            OffsetDateTime::parse(&format!("2026-11-{day}T00:00:00Z"), &Rfc3339).unwrap()
        };
        let ended = |due: &str| outline(json!({"emergency_kid": "k", "destruction_due": due}));
        standing.hear(Kind::SessionEnded, &ended("2026-11-12T00:00:00Z"));
        standing.hear(Kind::SessionEnded, &ended("2026-11-20T00:00:00Z"));
        assert_eq!(standing.take_overdue(day(12)), None);
        let due = ("k".to_owned(), "2026-11-12T00:00:00Z".to_owned());
        assert_eq!(standing.take_overdue(day(13)), Some(due));
        assert_eq!(standing.take_overdue(day(14)), None);
        standing.hear(Kind::KeyDestroyed, &ended(""));
        assert_eq!(standing, Standing::default());
        standing.hear(Kind::SessionEnded, &ended("2026-11-12T00:00:00Z"));
        standing.hear(Kind::DestructionOverdue, &ended(""));
        assert_eq!(standing.take_overdue(day(14)), None, "the signer said so itself");
    }
}
