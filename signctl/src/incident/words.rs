//! An incident in words, for a person.

use signing_core::admin::incident::{Incident, Open};
use signing_core::incident::{Item, State, left};

use crate::show::{Said, noted, table};

const NO_INCIDENT: &str =
    "no incident is open; to begin one: signctl incident begin --id ID --reason TEXT";

/// What is open, and the runbook over what is known.
pub(super) fn status(incident: &Incident) -> Said {
    // The runbook is about an incident: without one, its lines would ask for what nobody has to do.
    let Some(open) = &incident.open else { return Said::done(NO_INCIDENT.to_owned()) };
    let is_good = left(&incident.checklist).next().is_none();
    Said { words: format!("{}\n{}", headline(open), rows(&incident.checklist)), is_good }
}

/// That it ended, or what is left.
pub(super) fn ended(incident: &Incident) -> Said {
    let note = noted(incident.note.as_deref());
    let words = match &incident.open {
        Some(open) => format!("{}{note}\n{}", headline(open), open_rows(&incident.checklist)),
        None if incident.note.is_some() => note.trim_start().to_owned(),
        None => "the incident has ended. Next: section 6 of the runbook".to_owned(),
    };
    Said::done(words)
}

/// What is to be done next: what the proxy sees is open, and what only people know.
pub(crate) fn next(items: &[Item]) -> String {
    open_rows(items)
}

fn headline(open: &Open) -> String {
    let Open { incident, reason, by, since, captured, .. } = open;
    let bundle = captured.as_ref().map(|sha256| format!("\nbundle {sha256}")).unwrap_or_default();
    format!("INCIDENT {incident} since {since} by {by}: {reason}{bundle}")
}

fn rows(items: &[Item]) -> String {
    let row = |item: &Item| {
        vec![
            item.section.clone(),
            item.state.word().to_owned(),
            item.what.clone(),
            item.how.clone(),
        ]
    };
    table(&items.iter().map(row).collect::<Vec<_>>())
}

fn open_rows(items: &[Item]) -> String {
    let is_left = |item: &&Item| matches!(item.state, State::Open | State::Ask);
    rows(&items.iter().filter(is_left).cloned().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(state: State) -> Incident {
        Incident {
            open: Some(Open {
                incident: "INC-42".to_owned(),
                reason: "it fails".to_owned(),
                by: "uid 0 (root)".to_owned(),
                since: "2026-11-26T05:15:00Z".to_owned(),
                captured: Some("00".to_owned()),
                missing: Vec::new(),
            }),
            checklist: vec![Item {
                section: "5.4".to_owned(),
                what: "Go on".to_owned(),
                state,
                how: "signctl unfreeze".to_owned(),
            }],
            note: None,
        }
    }

    #[test]
    fn a_status_is_good_only_if_nothing_is_left() {
        let said = status(&incident(State::Open));
        assert_eq!(
            (said.words.as_str(), said.is_good),
            (
                "INCIDENT INC-42 since 2026-11-26T05:15:00Z by uid 0 (root): it fails\nbundle 00\n\
                 5.4  OPEN  Go on  signctl unfreeze",
                false
            )
        );
        assert!(status(&incident(State::Ask)).is_good);
        let said = status(&Incident { open: None, ..incident(State::Open) });
        assert_eq!((said.words.as_str(), said.is_good), (NO_INCIDENT, true));
    }

    #[test]
    fn an_end_says_what_is_left_or_what_comes_next() {
        let note = Some("it has not ended".to_owned());
        let said = ended(&Incident { note, ..incident(State::Open) }).words;
        assert!(said.contains("note: it has not ended\n5.4  OPEN"), "{said}");
        let over = Incident { open: None, ..incident(State::Ask) };
        assert!(ended(&over).words.contains("section 6"));
    }
}
