//! What a report or a recovery is about, and from when to when: pure. An incident reaches back to the outage that it
//! is about, which began before anybody gave it a name.

use std::collections::{BTreeMap, BTreeSet};

use signing_core::journal::{Kind, Outline, instant};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// So much is shown before and after, for comparison.
const MARGIN: Duration = Duration::minutes(2);

/// What somebody wants a report about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An incident, by its name.
    Incident(String),
    /// A break-glass session, by its name.
    Session(String),
    /// All since a moment, as records have it.
    Since(String),
}

impl Wanted {
    /// Its name: in a title.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Incident(id) => id.clone(),
            Self::Session(id) => format!("Session {id}"),
            Self::Since(at) => format!("Since {at}"),
        }
    }

    /// Whether a record names it: its incident, or its session.
    pub(crate) fn is_named_in(&self, outline: &Outline) -> bool {
        match self {
            Self::Incident(id) => outline.text("incident") == Some(id),
            Self::Session(id) => outline.text("session") == Some(id),
            Self::Since(_) => false,
        }
    }

    /// Its name: in the name of a file.
    pub(crate) fn stem(&self) -> String {
        let (Self::Incident(name) | Self::Session(name) | Self::Since(name)) = self;
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        name.chars().map(plain).collect()
    }
}

/// A stretch of time, as records have it. Both ends belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: OffsetDateTime,
    pub(crate) to: OffsetDateTime,
    /// When what it is about began: so much after `from` that there is something to compare it with.
    pub(crate) since: OffsetDateTime,
    /// When it ended; the newest record if it has not. So much before `to` as `since` is after `from`.
    pub(crate) until: OffsetDateTime,
    /// Whether what it is about had an end.
    pub(crate) is_over: bool,
}

impl Window {
    /// Whether a record of that time belongs to it.
    pub(crate) fn holds(&self, at: OffsetDateTime) -> bool {
        self.from <= at && at <= self.to
    }

    /// Whether a record of that time is of what it is about, and not only there for comparison.
    pub(crate) fn is_about(&self, at: OffsetDateTime) -> bool {
        self.since <= at && at <= self.until
    }

    /// Which of `count` equal parts a moment is in.
    pub(crate) fn part(&self, at: OffsetDateTime, count: usize) -> usize {
        let whole = (self.to - self.from).whole_microseconds().max(1);
        let past = (at - self.from).whole_microseconds().clamp(0, whole);
        let last = i128::try_from(count).unwrap_or(1).max(1) - 1;
        usize::try_from((past * (last + 1) / whole).min(last)).unwrap_or(0)
    }
}

/// Finds the window, from every record of all journals.
#[derive(Debug)]
pub(crate) struct Finder {
    wanted: Wanted,
    /// Gates that are not open, of each journal, with the moment since when.
    not_open: BTreeMap<(usize, String), OffsetDateTime>,
    /// Of each journal that has it: when the incident began, with its outage, and when it ended.
    incidents: BTreeMap<usize, (OffsetDateTime, Option<OffsetDateTime>)>,
    /// The beginnings and ends of the sessions that belong to it.
    session_from: Option<OffsetDateTime>,
    session_to: Option<OffsetDateTime>,
    in_force: BTreeSet<(usize, String)>,
    first: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
}

impl Finder {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            not_open: BTreeMap::new(),
            incidents: BTreeMap::new(),
            session_from: None,
            session_to: None,
            in_force: BTreeSet::new(),
            first: None,
            last: None,
        }
    }

    /// Takes what a record of that journal says. Each journal is read from its beginning on, one after the other.
    pub(crate) fn note(&mut self, journal: usize, kind: Kind, outline: &Outline) {
        let Some(at) = moment(&outline.at) else { return };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        let text = |name| outline.text(name);
        let is_ours = self.wanted.is_named_in(outline);
        match kind {
            Kind::Gate if text("upstream").is_none() => self.gate(journal, at, outline),
            Kind::IncidentBegun if is_ours => {
                // Of several of that name in one journal, the newest. An outage counts where somebody saw it.
                let mine = self.not_open.iter().filter(|((of, _), _)| *of == journal);
                let out = mine.map(|(_, since)| *since).min();
                self.incidents.insert(journal, (out.map_or(at, |out| out.min(at)), None));
            }
            Kind::IncidentEnded if is_ours => {
                if let Some((_, ended)) = self.incidents.get_mut(&journal) {
                    *ended = Some(at);
                }
            }
            Kind::SessionActivated if is_ours => {
                let since = text("outage_since").and_then(moment).map_or(at, |since| since.min(at));
                self.session_from = Some(self.session_from.map_or(since, |from| from.min(since)));
                let session = text("session").unwrap_or_default();
                self.in_force.insert((journal, session.to_owned()));
            }
            Kind::SessionEnded if is_ours => {
                self.session_to = Some(self.session_to.map_or(at, |to| to.max(at)));
                self.in_force.remove(&(journal, text("session").unwrap_or_default().to_owned()));
            }
            _ => {}
        }
    }

    fn gate(&mut self, journal: usize, at: OffsetDateTime, outline: &Outline) {
        let gate = (journal, outline.text("signer_kid").unwrap_or_default().to_owned());
        if outline.text("to") == Some("open") {
            self.not_open.remove(&gate);
        } else {
            self.not_open.entry(gate).or_insert(at);
        }
    }

    /// The window, or what is not in the journals.
    pub(crate) fn found(self) -> Result<Window, String> {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Err("the journals hold no record".to_owned());
        };
        let (from, to) = match &self.wanted {
            Wanted::Since(at) => (moment(at), None),
            Wanted::Session(_) => (self.session_from, self.session_ended()),
            Wanted::Incident(_) => match self.incident() {
                // A session of an incident that nobody began with a command.
                None => (self.session_from, self.session_ended()),
                Some((begun, ended)) => {
                    let from = self.session_from.map_or(begun, |from| from.min(begun));
                    let session = self.session_to;
                    // What a session signs is the incident's, also after somebody ended the incident.
                    let ended = ended.filter(|_| self.in_force.is_empty());
                    let to = ended.map(|ended| session.map_or(ended, |to| to.max(ended)));
                    (Some(from), to)
                }
            },
        };
        let Some(from) = from else {
            let title = self.wanted.title();
            return Err(format!("the journals hold no beginning of {title}; name --since"));
        };
        let edge = |at: OffsetDateTime, by: Duration| at.checked_add(by).unwrap_or(at);
        Ok(Window {
            from: edge(from, -MARGIN).max(first),
            since: from,
            until: to.map_or(last, |to| to.min(last)).max(from),
            to: to.map_or(last, |to| edge(to, MARGIN).min(last)).max(from),
            is_over: to.is_some() || matches!(self.wanted, Wanted::Since(_)),
        })
    }

    /// When the incident first began anywhere, and when it had ended everywhere.
    fn incident(&self) -> Option<(OffsetDateTime, Option<OffsetDateTime>)> {
        let begun = self.incidents.values().map(|(begun, _)| *begun).min()?;
        let ended: Option<Vec<_>> = self.incidents.values().map(|(_, ended)| *ended).collect();
        Some((begun, ended.and_then(|ended| ended.into_iter().max())))
    }

    /// When its last session ended, if none is in force.
    fn session_ended(&self) -> Option<OffsetDateTime> {
        self.session_to.filter(|_| self.in_force.is_empty())
    }
}

/// A moment of a record.
pub(crate) fn moment(at: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(at, &Rfc3339).ok()
}

/// A moment in words: as records have it, to the millisecond.
pub(crate) fn shown(at: OffsetDateTime) -> String {
    let text = instant(at);
    let whole = text.get(..23).unwrap_or(&text).replacen('T', " ", 1);
    format!("{whole}Z")
}

/// A duration in words.
pub(crate) fn lasted(duration: Duration) -> String {
    let seconds = duration.whole_seconds();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match seconds {
        ..60 => format!("{}.{:03} s", seconds, duration.subsec_milliseconds().abs()),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {minutes} min {} s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(minute: u8) -> String {
        format!("2026-11-26T05:{minute:02}:00.000000Z")
    }

    fn found(
        wanted: Wanted,
        records: &[(u8, Kind, Value)],
    ) -> Result<(String, String, bool), String> {
        let mut finder = Finder::new(wanted);
        for (minute, kind, data) in records {
            let (data, r#type) = (data.clone(), kind.word().to_owned());
            finder.note(0, *kind, &Outline { at: at(*minute), data, r#type });
        }
        let window = finder.found()?;
        Ok((instant(window.from), instant(window.to), window.is_over))
    }

    fn records() -> Vec<(u8, Kind, Value)> {
        let session = json!({"session": "INC-1-00", "incident": "INC-1", "outage_since": at(9)});
        vec![
            (0, Kind::Start, json!({})),
            (5, Kind::Gate, json!({"signer_kid": "k", "from": "open", "to": "shut"})),
            (6, Kind::Gate, json!({"signer_kid": "k", "from": "probing", "to": "open"})),
            (10, Kind::Gate, json!({"signer_kid": "k", "from": "open", "to": "shut"})),
            (20, Kind::IncidentBegun, json!({"incident": "INC-1"})),
            (30, Kind::SessionActivated, session.clone()),
            (35, Kind::SessionEnded, session),
            (40, Kind::Gate, json!({"signer_kid": "k", "from": "probing", "to": "open"})),
            (50, Kind::IncidentEnded, json!({"incident": "INC-1"})),
            (59, Kind::Stop, json!({})),
        ]
    }

    #[test]
    fn an_incident_reaches_from_its_outage_to_its_end() {
        let incident = |id: &str| Wanted::Incident(id.to_owned());
        assert_eq!(found(incident("INC-1"), &records()), Ok((at(7), at(52), true)));
        assert_eq!(found(incident("INC-1"), &records()[..7]), Ok((at(7), at(35), false)));
        assert!(
            found(incident("INC-2"), &records()).unwrap_err().contains("no beginning of INC-2")
        );
        assert!(found(incident("INC-1"), &[]).is_err());
        // Nobody began it with a command: its session did.
        let mut unnamed = records();
        unnamed.retain(|(_, kind, _)| !matches!(kind, Kind::IncidentBegun | Kind::IncidentEnded));
        assert_eq!(found(incident("INC-1"), &unnamed), Ok((at(7), at(37), true)));
    }

    #[test]
    fn an_incident_of_several_members_lasts_until_it_has_ended_at_each_and_gates_are_of_one_member()
    {
        let begun = json!({"incident": "INC-1"});
        let shut = json!({"signer_kid": "k", "from": "open", "to": "shut"});
        let mut finder = Finder::new(Wanted::Incident("INC-1".to_owned()));
        for (journal, minute, kind, data) in [
            // The gate of another member is out for long, and nobody began an incident there.
            (0, 1, Kind::Gate, shut.clone()),
            (1, 10, Kind::Gate, shut),
            (1, 12, Kind::IncidentBegun, begun.clone()),
            (1, 20, Kind::IncidentEnded, begun.clone()),
            (2, 13, Kind::IncidentBegun, begun.clone()),
            (2, 30, Kind::IncidentEnded, begun.clone()),
            (3, 59, Kind::Stop, json!({})),
        ] {
            let (data, r#type) = (data, kind.word().to_owned());
            finder.note(journal, kind, &Outline { at: at(minute), data, r#type });
        }
        let window = finder.found().unwrap();
        assert_eq!((instant(window.from), instant(window.to)), (at(8), at(32)));
        assert!(window.is_over);
    }

    #[test]
    fn a_session_reaches_from_its_outage_to_its_end() {
        let session = |id: &str| Wanted::Session(id.to_owned());
        assert_eq!(found(session("INC-1-00"), &records()), Ok((at(7), at(37), true)));
        assert_eq!(found(session("INC-1-00"), &records()[..6]), Ok((at(7), at(30), false)));
        assert!(found(session("INC-1"), &records()).is_err());
        let since = Wanted::Since(at(20));
        assert_eq!(found(since, &records()), Ok((at(18), at(59), true)));
    }

    #[test]
    fn it_began_with_the_outage_and_the_margin_before_is_no_part_of_it() {
        let mut finder = Finder::new(Wanted::Incident("INC-1".to_owned()));
        for (minute, kind, data) in &records()[..5] {
            let (data, r#type) = (data.clone(), kind.word().to_owned());
            finder.note(0, *kind, &Outline { at: at(*minute), data, r#type });
        }
        let window = finder.found().unwrap();
        assert_eq!((instant(window.from), instant(window.since)), (at(8), at(10)));
    }

    #[test]
    fn each_moment_is_in_one_part() {
        let [from, to] = [0, 10].map(|minute| moment(&at(minute)).unwrap());
        let window = Window { from, to, since: from, until: to, is_over: true };
        let part = |minute| window.part(moment(&at(minute)).unwrap(), 10);
        assert_eq!([0, 1, 9, 10, 11].map(part), [0, 1, 9, 9, 9]);
        assert!(window.holds(to) && !window.holds(moment(&at(11)).unwrap()));
        let none = Window { from, to: from, since: from, until: from, is_over: true };
        assert_eq!(none.part(from, 10), 0);
    }

    #[test]
    fn names_are_safe_in_a_path() {
        assert_eq!(Wanted::Session("../a b".to_owned()).stem(), ".._a_b");
        assert_eq!(lasted(Duration::milliseconds(4321)), "4.321 s");
        assert_eq!(lasted(Duration::seconds(3725)), "1 h 2 min 5 s");
        assert_eq!(lasted(Duration::seconds(65)), "1 min 5 s");
    }
}
