//! What the gates did: the state of each over time, and the outages with their two measures, the time until
//! it refused and the time until it recovered. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use signing_core::journal::{Kind, Outline};
use time::{Duration, OffsetDateTime};

use crate::scope::Window;

/// A gate, or one upstream of a signer that has several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) signer_kid: String,
    /// Provider and region; none: the gate itself.
    pub(super) upstream: Option<String>,
}

impl Lane {
    pub(super) fn name(&self) -> String {
        let Self { signer_kid, upstream } = self;
        upstream.as_ref().map_or_else(|| signer_kid.clone(), |one| format!("{signer_kid} {one}"))
    }
}

/// A time in which a gate that had been open was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) signer_kid: String,
    /// Since when the signer signed for nobody.
    pub(super) shut: OffsetDateTime,
    /// To which state the gate went, and why.
    pub(super) why: String,
    /// The last moment before, of which it is known that the upstream signed, or that it is later than this.
    pub(super) last_good: Option<OffsetDateTime>,
    /// The first call for a caller that failed after that.
    pub(super) first_failed: Option<OffsetDateTime>,
    /// When the gate was open again, or its signer was taken out of the configuration.
    pub(super) open: Option<OffsetDateTime>,
    /// Whether a drill made it: then it was no outage.
    pub(super) is_drill: bool,
}

impl Outage {
    /// Whether it lasted into a report's time, whenever it began.
    pub(super) fn is_in(&self, window: &Window) -> bool {
        self.shut <= window.to && self.open.is_none_or(|open| open >= window.from)
    }

    /// How long it took at most until the signer refused: from the last signature that is known.
    pub(super) fn time_to_refuse(&self) -> Option<Duration> {
        self.last_good.map(|good| self.shut - good)
    }

    /// How long it took until the gate was open again.
    pub(super) fn time_to_recover(&self) -> Option<Duration> {
        self.open.map(|open| open - self.shut)
    }
}

/// All of it, from the records of a proxy's journal.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The states of each lane, by the moment from which on.
    pub(super) states: BTreeMap<Lane, Vec<(OffsetDateTime, String)>>,
    /// In the order in which they began.
    pub(super) outages: Vec<Outage>,
    last_good: BTreeMap<String, OffsetDateTime>,
    first_failed: BTreeMap<String, OffsetDateTime>,
    drilled: BTreeSet<String>,
}

impl Health {
    /// Takes what a record says, also of before the time of the report: what was so at its beginning follows.
    pub(super) fn note(&mut self, at: OffsetDateTime, kind: Kind, outline: &Outline) {
        let kid = || outline.text("signer_kid").unwrap_or_default().to_owned();
        match kind {
            Kind::Gate => self.gate(at, outline),
            // A process that begins has no evidence, and one that ended signs nothing.
            Kind::Start => self.all(at, "shut"),
            Kind::Stop => self.all(at, "stopped"),
            Kind::Signed if outline.text("mode") == Some("normal") && !is_replayed(outline) => {
                self.good(kid(), at);
            }
            Kind::Failed if outline.text("upstream").is_some() => {
                self.first_failed.entry(kid()).or_insert(at);
            }
            Kind::Probes => self.probes(at, outline),
            Kind::Reload => {
                let removed = outline.data.get("signers_removed").and_then(Value::as_array);
                for kid in removed.into_iter().flatten().filter_map(Value::as_str) {
                    self.ends(kid, at);
                }
            }
            Kind::Drill if outline.text("phase") == Some("begin") => {
                self.drilled.insert(kid());
            }
            Kind::Drill => {
                self.drilled.remove(&kid());
            }
            _ => {}
        }
    }

    fn gate(&mut self, at: OffsetDateTime, outline: &Outline) {
        let text = |name| outline.text(name).unwrap_or_default().to_owned();
        let upstream = outline.text("upstream").map(str::to_owned);
        let is_gate = upstream.is_none();
        let lane = Lane { signer_kid: text("signer_kid"), upstream };
        let (from, to, kid) = (text("from"), text("to"), lane.signer_kid.clone());
        self.states.entry(lane).or_default().push((at, to.clone()));
        if !is_gate {
            return;
        }
        if to == "open" {
            self.ends(&kid, at);
            self.first_failed.remove(&kid);
        } else if from == "open" {
            self.outages.push(Outage {
                shut: at,
                why: format!("{to}: {}", text("detail")),
                last_good: self.last_good.get(&kid).copied(),
                first_failed: self.first_failed.get(&kid).copied(),
                open: None,
                is_drill: self.drilled.contains(&kid),
                signer_kid: kid,
            });
        }
    }

    fn ends(&mut self, kid: &str, at: OffsetDateTime) {
        let mut outages = self.outages.iter_mut().rev();
        if let Some(outage) = outages.find(|one| one.signer_kid == kid && one.open.is_none()) {
            outage.open = Some(at);
        }
    }

    /// Each canary was within the time that the record covers, so none is older than its beginning.
    fn probes(&mut self, at: OffsetDateTime, outline: &Outline) {
        let over = i64::try_from(outline.number("over_s").unwrap_or_default()).unwrap_or(i64::MAX);
        let Some(from) = at.checked_sub(Duration::seconds(over)) else { return };
        let calls = outline.data.get("calls").and_then(Value::as_array).into_iter().flatten();
        for call in calls.filter(|call| call.get("outcome") == Some(&Value::from("signed"))) {
            if let Some(kid) = call.get("signer_kid").and_then(Value::as_str) {
                self.good(kid.to_owned(), from);
            }
        }
    }

    fn good(&mut self, kid: String, at: OffsetDateTime) {
        if self.first_failed.get(&kid).is_some_and(|failed| *failed <= at) {
            self.first_failed.remove(&kid);
        }
        let last = self.last_good.entry(kid).or_insert(at);
        *last = (*last).max(at);
    }

    fn all(&mut self, at: OffsetDateTime, state: &str) {
        for states in self.states.values_mut() {
            states.push((at, state.to_owned()));
        }
    }
}

fn is_replayed(outline: &Outline) -> bool {
    outline.data.get("replayed") == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scope::moment;

    fn at(second: u8) -> OffsetDateTime {
        moment(&format!("2026-11-26T05:00:{second:02}.000000Z")).unwrap()
    }

    fn health(records: &[(u8, Kind, Value)]) -> Health {
        let mut health = Health::default();
        for (second, kind, data) in records {
            let (text, r#type) = (String::new(), kind.word().to_owned());
            health.note(at(*second), *kind, &Outline { at: text, data: data.clone(), r#type });
        }
        health
    }

    fn gate(from: &str, to: &str) -> Value {
        json!({"signer_kid": "k", "from": from, "to": to, "detail": "why"})
    }

    #[test]
    fn an_outage_is_measured_from_the_last_good_signature_to_the_open_gate() {
        let signed = json!({"signer_kid": "k", "mode": "normal", "replayed": false});
        let failed = json!({"signer_kid": "k", "upstream": "aws-kms"});
        let canary = json!({"calls": [{"signer_kid": "k", "outcome": "signed"}], "over_s": 3});
        let records = [
            (1, Kind::Gate, gate("shut", "open")),
            (2, Kind::Failed, failed.clone()),
            (5, Kind::Signed, signed),
            (9, Kind::Probes, canary),
            (10, Kind::Failed, failed.clone()),
            (11, Kind::Failed, failed),
            (12, Kind::Gate, gate("open", "shut")),
            (14, Kind::Gate, gate("shut", "probing")),
            (20, Kind::Gate, gate("probing", "open")),
        ];
        let health = health(&records);
        let [outage] = &health.outages[..] else { panic!("{health:?}") };
        assert_eq!((outage.last_good, outage.first_failed), (Some(at(6)), Some(at(10))));
        assert_eq!(outage.time_to_refuse(), Some(Duration::seconds(6)));
        assert_eq!(outage.time_to_recover(), Some(Duration::seconds(8)));
        assert!(!outage.is_drill && outage.why == "shut: why");
    }

    #[test]
    fn a_replay_an_emergency_signature_and_a_failed_canary_are_no_evidence() {
        let records = [
            (1, Kind::Signed, json!({"signer_kid": "k", "mode": "normal", "replayed": true})),
            (1, Kind::Signed, json!({"signer_kid": "k", "mode": "breakglass", "replayed": false})),
            (
                1,
                Kind::Probes,
                json!({"calls": [{"signer_kid": "k", "outcome": "timeout"}], "over_s": 3}),
            ),
            (2, Kind::Gate, gate("open", "sealed")),
        ];
        let health = health(&records);
        assert_eq!(health.outages[0].time_to_refuse(), None);
        assert_eq!(health.outages[0].time_to_recover(), None);
    }

    #[test]
    fn a_drill_is_named_and_a_region_alone_is_no_outage() {
        let region =
            json!({"signer_kid": "k", "upstream": "aws-kms eu", "from": "open", "to": "shut"});
        let records = [
            (1, Kind::Drill, json!({"phase": "begin", "signer_kid": "k"})),
            (2, Kind::Gate, region),
            (3, Kind::Gate, gate("open", "shut")),
            (4, Kind::Gate, gate("probing", "open")),
            (5, Kind::Drill, json!({"phase": "end", "signer_kid": "k"})),
            (6, Kind::Gate, gate("open", "shut")),
            (7, Kind::Start, json!({})),
        ];
        let health = health(&records);
        let drills: Vec<_> = health.outages.iter().map(|outage| outage.is_drill).collect();
        assert_eq!(drills, [true, false]);
        let names: Vec<_> = health.states.keys().map(Lane::name).collect();
        assert_eq!(names, ["k", "k aws-kms eu"]);
        assert_eq!(health.states.values().last().unwrap().last().unwrap().1, "shut");
    }

    #[test]
    fn an_outage_is_of_each_time_that_it_lasted_into() {
        let window = |from, to| Window {
            from: at(from),
            to: at(to),
            since: at(from),
            until: at(to),
            is_over: true,
        };
        let records = [
            (10, Kind::Gate, gate("open", "shut")),
            (20, Kind::Gate, gate("probing", "open")),
            (30, Kind::Gate, gate("open", "shut")),
        ];
        let lasts = health(&records);
        for (from, to, expected) in
            [(1, 9, 0), (1, 10, 1), (5, 25, 1), (12, 15, 1), (20, 29, 1), (21, 29, 0), (35, 40, 1)]
        {
            let of = lasts.outages.iter().filter(|one| one.is_in(&window(from, to))).count();
            assert_eq!(of, expected, "{from} to {to}");
        }
        // Nor does a signer that is taken out stay shut for ever.
        let removed = (40, Kind::Reload, json!({"signers_removed": ["k"]}));
        let over = health(&[&records[..], &[removed]].concat());
        assert_eq!(over.outages[1].open, Some(at(40)));
    }
}
