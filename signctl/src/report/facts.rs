//! All that a report needs of the records of all journals, in one pass. Pure but for the reading, which is the
//! caller's.

use std::collections::{BTreeMap, BTreeSet};

use signing_core::journal::{Kind, Outline};

use super::ceremony::{Emergency, Key, Session};
use super::health::Outage;
use super::load::Load;
use super::member::{Journal, Member};
use crate::audit::{Uses, words};
use crate::scope::{Wanted, Window, moment};

/// The section of the runbook under which a recovery records it.
const RECONCILED: &str = "5.3";
/// So many lines the timeline has at most, and so many are kept of each journal. What is more is counted.
const LINES_MAX: usize = 5000;

/// A line of the timeline.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: String,
    /// The number of its member.
    pub(super) member: usize,
    pub(super) journal: Journal,
    pub(super) seq: u64,
    pub(super) kind: &'static str,
    /// What happened, in words.
    pub(super) what: String,
}

/// All of it.
#[derive(Default)]
pub(super) struct Facts {
    /// The members, in the order of their names.
    pub(super) members: Vec<Member>,
    pub(super) timeline: Vec<Line>,
    /// How many lines are from each journal: none takes the place of those of another.
    kept: BTreeMap<(usize, Journal), usize>,
    /// Lines that are not in the timeline, since it is full.
    pub(super) left_out: u64,
    /// What callers asked for and got, of all members together.
    pub(super) load: Load,
    pub(super) uses: Uses,
    /// The bundles that were captured, by the SHA-256 of their list.
    pub(super) bundles: Vec<String>,
    /// What a recovery recorded of verifying and reconciling.
    pub(super) reconciled: Vec<String>,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordOwner {
    /// The number of the member.
    pub(super) member: usize,
    pub(super) journal: Journal,
}

impl Facts {
    /// Of these members nothing is known yet.
    pub(super) fn of(members: Vec<Member>) -> Self {
        Self { members, ..Self::default() }
    }

    /// A journal is read from here on: what comes next are its records. That of an emergency signer is read before
    /// its proxy's, whose records name the signer's.
    pub(super) fn begin(&mut self, of: RecordOwner, log: &str) {
        let Some(member) = self.members.get_mut(of.member) else { return };
        member.logs.push((of.journal, log.to_owned()));
        member.logs.sort();
        if of.journal == Journal::Signer {
            member.ceremony.begin(log);
        }
    }

    /// Takes a record. `row`: the name of its row in a database of the trail.
    pub(super) fn note(
        &mut self,
        RecordOwner { member: number, journal }: RecordOwner,
        seq: u64,
        kind: Kind,
        outline: &Outline,
        row: &str,
        about: (&Wanted, &Window),
    ) {
        let (wanted, window) = about;
        let Some(at) = moment(&outline.at) else { return };
        let Some(member) = self.members.get_mut(number) else { return };
        let (is_within, is_about) = (window.holds(at), window.is_about(at));
        let is_ours = match wanted {
            Wanted::Session(_) => wanted.is_named_in(outline),
            // Shortly before and after, what does not name it is another incident's.
            Wanted::Incident(_) | Wanted::Since(_) => is_about || wanted.is_named_in(outline),
        };
        if let (Kind::Start | Kind::Init, Some(deployment)) = (kind, outline.text("deployment")) {
            deployment.clone_into(&mut member.deployment);
        }
        match journal {
            // What was so before follows, and nothing after counts.
            Journal::Proxy if at <= window.to => member.health.note(at, kind, outline),
            Journal::Proxy => {}
            Journal::Signer => member.ceremony.note(seq, kind, outline, row, is_ours),
        }
        if is_by_emergency_key(kind, outline) {
            // By what the records say: the proxy's record of a signature comes later than the signer's, and so
            // perhaps after the end of a session whose last signature it is.
            let is_counted = match journal {
                Journal::Signer => is_ours,
                Journal::Proxy => member.ceremony.is_of_it(outline).unwrap_or(is_ours),
            };
            if is_counted {
                self.uses.note(kind, outline);
                if journal == Journal::Signer || member.ceremony.is_first_answer(outline) {
                    member.load.note(at, kind, outline, window);
                    self.load.note(at, kind, outline, window);
                }
            }
            return;
        }
        if !is_within {
            return;
        }
        member.load.note(at, kind, outline, window);
        self.load.note(at, kind, outline, window);
        // As a recovery asks for them: what was used before or after is not this incident's.
        if is_about {
            self.uses.note(kind, outline);
        } else if at >= window.since {
            self.uses.note_answer(kind, outline);
        }
        if kind == Kind::IncidentItem && outline.text("section") == Some(RECONCILED) {
            let (by, detail) = (outline.text("by"), outline.text("detail"));
            let [by, detail] = [by, detail].map(Option::unwrap_or_default);
            let said = format!("{} by {by}: {detail}", outline.at);
            self.reconciled.extend(self.members.get(number).map(|member| member.of(&said)));
        }
        if kind == Kind::IncidentCaptured {
            self.bundles.extend(outline.text("sha256").map(str::to_owned));
        }
        if is_event(kind) {
            self.line(RecordOwner { member: number, journal }, seq, kind, outline);
        }
    }

    fn line(
        &mut self,
        RecordOwner { member, journal }: RecordOwner,
        seq: u64,
        kind: Kind,
        outline: &Outline,
    ) {
        let kept = self.kept.entry((member, journal)).or_default();
        if *kept >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        *kept += 1;
        let whose = [outline.text("signer_kid"), outline.text("upstream")];
        let whose: Vec<_> = whose.into_iter().flatten().collect();
        let what = format!("{} {}", whose.join(" "), words(outline));
        let (at, kind, what) = (outline.at.clone(), kind.word(), what.trim().to_owned());
        self.timeline.push(Line { at, member, journal, seq, kind, what });
    }

    /// Whether it is about members that have names.
    pub(super) fn is_fleet(&self) -> bool {
        self.members.iter().any(|member| member.name.is_some())
    }

    /// The deployments of all members, each once.
    pub(super) fn deployment(&self) -> String {
        let names: BTreeSet<_> = self.members.iter().map(|it| it.deployment.as_str()).collect();
        let names = names.into_iter().filter(|name| !name.is_empty());
        names.collect::<Vec<_>>().join(", ")
    }

    /// The outages that lasted into the time, by member.
    pub(super) fn outages<'f>(
        &'f self,
        window: &'f Window,
    ) -> impl Iterator<Item = (&'f Member, &'f Outage)> {
        let of = |member: &'f Member| member.health.outages.iter().map(move |one| (member, one));
        self.members.iter().flat_map(of).filter(|(_, outage)| outage.is_in(window))
    }

    /// The sessions, by member.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (&Member, &Session)> {
        self.members.iter().flat_map(|member| {
            member.ceremony.sessions.iter().map(move |session| (member, session))
        })
    }

    /// The signatures by emergency keys, by member.
    pub(super) fn signatures(&self) -> impl Iterator<Item = (&Member, &Emergency)> {
        self.members
            .iter()
            .flat_map(|member| member.ceremony.signatures.iter().map(move |one| (member, one)))
    }

    /// The emergency keys that sessions used, by member.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Member, &String, &Key)> {
        self.members.iter().flat_map(|member| {
            member.ceremony.keys.iter().map(move |(kid, key)| (member, kid, key))
        })
    }

    /// Puts the lines of all journals in the order of their times, and of one journal in that of its numbers.
    pub(super) fn sort(&mut self) {
        self.timeline.sort_by(|one, other| {
            let other = (&other.at, other.member, other.journal, other.seq);
            (&one.at, one.member, one.journal, one.seq).cmp(&other)
        });
        let more = self.timeline.len().saturating_sub(LINES_MAX);
        self.left_out = self.left_out.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        self.timeline.truncate(LINES_MAX);
    }
}

/// Whether it is a signature by an emergency key, in either journal.
fn is_by_emergency_key(kind: Kind, outline: &Outline) -> bool {
    let in_session = kind == Kind::Signed && outline.text("mode") == Some("breakglass");
    in_session || kind == Kind::EmergencySigned
}

/// Whether the timeline has a line of it. What is frequent has a count, a picture or a table of its own.
const fn is_event(kind: Kind) -> bool {
    match kind {
        Kind::Segment
        | Kind::Intent
        | Kind::Signed
        | Kind::Failed
        | Kind::Withheld
        | Kind::Probes
        | Kind::Refusals
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals => false,
        Kind::Init
        | Kind::Start
        | Kind::Stop
        | Kind::Gate
        | Kind::Freeze
        | Kind::Unfreeze
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::SessionActivated
        | Kind::SessionRefused
        | Kind::SessionEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::Rehearsal
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::IncidentBegun
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::IncidentEnded
        | Kind::SignerLog
        | Kind::ProxyLog
        | Kind::FleetFreeze
        | Kind::FleetUnfreeze
        | Kind::FleetLink => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window() -> Window {
        Window {
            from: moment("2026-11-26T05:10:00Z").unwrap(),
            to: moment("2026-11-26T05:20:00Z").unwrap(),
            since: moment("2026-11-26T05:12:00Z").unwrap(),
            until: moment("2026-11-26T05:18:00Z").unwrap(),
            is_over: true,
        }
    }

    /// How many emergency signatures a report counts by the signer's journal, by the proxy's, and for each caller: of
    /// records with their journal, number, minute, kind and data.
    fn counted(
        wanted: &Wanted,
        signer_log: &str,
        records: &[(Journal, u64, u8, Kind, serde_json::Value)],
    ) -> (usize, u64, Vec<(String, u64)>) {
        let mut facts = Facts::of(vec![Member::default()]);
        for (journal, log) in [(Journal::Signer, signer_log), (Journal::Proxy, "p")] {
            let of = RecordOwner { member: 0, journal };
            facts.begin(of, &format!("signing-journal/{log}"));
            for (_, seq, minute, kind, data) in records.iter().filter(|one| one.0 == journal) {
                let at = format!("2026-11-26T05:{minute:02}:00.000000Z");
                let outline = Outline { at, data: data.clone(), r#type: kind.word().to_owned() };
                facts.note(of, *seq, *kind, &outline, "row", (wanted, &window()));
            }
        }
        let callers = facts.uses.iter().filter_map(|(one, seen)| {
            one.name.strip_suffix(" (mtls)").map(|name| (name.to_owned(), seen.count))
        });
        let callers = callers.collect();
        assert_eq!(facts.members[0].load.signed_in_session, facts.load.signed_in_session);
        let by_signer: u64 = facts.load.emergency.iter().sum();
        assert_eq!(u64::try_from(facts.signatures().count()).unwrap(), by_signer);
        (facts.signatures().count(), facts.load.signed_in_session, callers)
    }

    #[test]
    fn an_emergency_signature_counts_by_what_its_records_name_and_not_by_when_they_were_written() {
        let by_signer = |seq, minute, name: &str| {
            let data =
                json!({"session": format!("{name}-00"), "incident": name, "signer_kid": "e"});
            (Journal::Signer, seq, minute, Kind::EmergencySigned, data)
        };
        let by_proxy = |of: u64, minute, name: &str| {
            let data = json!({
                "mode": "breakglass", "caller": name, "session": format!("{name}-00"), "incident": name,
                "signer_record": format!("aa:{of}:leaf"),
            });
            (Journal::Proxy, of, minute, Kind::Signed, data)
        };
        let records = [
            by_signer(5, 17, "I"),
            by_signer(6, 18, "I"),
            // By a clock that went forward.
            by_signer(7, 19, "I"),
            by_signer(8, 18, "I"),
            // Another incident's, of which the proxy wrote one in time and one late, and one after the end.
            by_signer(9, 18, "J"),
            by_signer(10, 19, "J"),
            by_proxy(5, 17, "I"),
            // Its session ended with it.
            by_proxy(6, 19, "I"),
            // After its disk had hung for long.
            by_proxy(7, 59, "I"),
            // The same answer twice; and that of 8 never came to be.
            by_proxy(6, 19, "I"),
            by_proxy(9, 19, "J"),
            by_proxy(10, 19, "J"),
        ];
        let callers = |of: &[(&str, u64)]| {
            of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
        };
        let incident = Wanted::Incident("I".to_owned());
        // J's first one was made within the time of I, and counts in both journals.
        let of_incident = (5, 4, callers(&[("I", 4), ("J", 1)]));
        assert_eq!(counted(&incident, "aa", &records), of_incident);
        let session = Wanted::Session("I-00".to_owned());
        assert_eq!(counted(&session, "aa", &records), (4, 3, callers(&[("I", 4)])));
        let session = Wanted::Session("J-00".to_owned());
        assert_eq!(counted(&session, "aa", &records), (2, 2, callers(&[("J", 2)])));
        // Of a signer whose journal is not here, or an older copy, a record counts by what it names itself.
        let proxys: Vec<_> =
            records.iter().filter(|one| one.0 == Journal::Proxy).cloned().collect();
        assert_eq!(counted(&incident, "aa", &proxys), (0, 3, callers(&[("I", 4)])));
        let older =
            records.iter().filter(|one| !(6..=10).contains(&one.1) || one.0 == Journal::Proxy);
        assert_eq!(counted(&incident, "aa", &older.cloned().collect::<Vec<_>>()).1, 3);
        assert_eq!(counted(&incident, "bb", &records).1, 3);
    }

    #[test]
    fn what_is_within_the_time_is_told_and_what_was_before_follows() {
        let (window, wanted) = (window(), Wanted::Incident("I".to_owned()));
        let mut facts = Facts::of(vec![Member::default()]);
        let mut note = |journal, minute: u8, kind: Kind, data| {
            let at = format!("2026-11-26T05:{minute:02}:00.000000Z");
            let outline = Outline { at, data, r#type: kind.word().to_owned() };
            let of = RecordOwner { member: 0, journal };
            facts.note(of, 1, kind, &outline, "row", (&wanted, &window));
        };
        let gate = |to: &str| json!({"signer_kid": "k", "from": "shut", "to": to, "detail": "d"});
        note(Journal::Proxy, 1, Kind::Gate, gate("open"));
        note(Journal::Proxy, 15, Kind::Freeze, json!({"by": "uid 0 (root)", "reason": "why"}));
        note(Journal::Proxy, 30, Kind::Gate, gate("shut"));
        note(Journal::Proxy, 11, Kind::Reload, json!({"by": "uid 9", "generation": 2}));
        note(Journal::Signer, 12, Kind::Unlock, json!({"by": "uid 1", "outcome": "brought"}));
        note(Journal::Signer, 12, Kind::EmergencySigned, json!({"session": "S"}));
        // After the end: shown, and nobody is asked about it.
        let next = json!({"session": "T", "emergency_kid": "next", "by": "uid 3"});
        note(Journal::Signer, 19, Kind::SessionActivated, next);
        note(Journal::Signer, 19, Kind::EmergencySigned, json!({"session": "T"}));
        note(Journal::Proxy, 19, Kind::Signed, json!({"mode": "breakglass", "caller": "late"}));
        facts.sort();
        let lines: Vec<_> =
            facts.timeline.iter().map(|line| (line.kind, line.what.as_str())).collect();
        assert_eq!(
            lines.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            ["reload", "unlock", "freeze", "session_activated"]
        );
        assert_eq!(
            lines[1..3],
            [("unlock", "brought by uid 1"), ("freeze", "by uid 0 (root): why")]
        );
        assert_eq!(facts.members[0].health.states.values().next().unwrap().len(), 1);
        assert_eq!((facts.signatures().count(), facts.sessions().count()), (1, 0));
        assert_eq!((facts.keys().count(), facts.load.signed_in_session), (0, 0));
        assert!(!facts.uses.is_answered("uid 1"));
        let names: Vec<_> = facts.uses.iter().map(|(one, _)| one.name.clone()).collect();
        assert!(names.contains(&"uid 0 (root)".to_owned()), "{names:?}");
        for other in ["uid 9", "uid 3", "late (mtls)"] {
            assert!(!names.contains(&other.to_owned()), "{names:?}");
        }
    }
}
