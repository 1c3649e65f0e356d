//! The runbook as a checklist over what the proxy knows at one moment. Where only a person knows, the
//! item asks; it never says that something was done which nobody saw.

use serde::{Deserialize, Serialize};

use crate::gate::Extent;

/// The sections of which somebody may say that they are done: the proxy cannot see them.
pub const ASKED: [&str; 5] = ["2.2", "2.3", "3", "5.2", "5.3"];

/// The parts that a bundle has at most, by name.
pub const PARTS: [&str; 9] = [
    "breakglass",
    "configuration",
    "doctor",
    "fleet",
    "journal",
    "metrics",
    "signer-configuration",
    "signer-journal",
    "status",
];

/// What the proxy knows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How much is out, of the signer of which the most is.
    pub outage: Extent,
    /// Signers without an upstream that proved itself, by kid.
    pub not_well: Vec<String>,
    /// Those of them of which nothing is known yet: no canary of theirs has succeeded or failed.
    pub not_known: Vec<String>,
    /// What failed on the proxy's own side, in words: callers get no signatures then either.
    pub failed: Vec<String>,
    /// Whether a freeze is in force.
    pub frozen: bool,
    /// The incident that is open.
    pub incident: Option<String>,
    /// Whether the state was captured for this incident.
    pub captured: bool,
    /// The parts that its newest bundle lacks.
    pub not_captured: Vec<String>,
    /// Whether an outage is long enough for break-glass.
    pub long_enough: bool,
    /// The break-glass session in force.
    pub session: Option<String>,
    /// Emergency keys that a session used and that are not destroyed, by kid.
    pub keys_due: Vec<String>,
    /// Whether that is known: the emergency signer, if there is one, says so now.
    pub keys_known: bool,
    /// Copies of those keys of which nobody has attested that they are destroyed.
    pub copies_left: Vec<String>,
    /// The sections of which somebody said that they are done.
    pub said: Vec<String>,
}

/// One line of the runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The section of the runbook: `2.1`.
    pub section: String,
    /// What it asks for.
    pub what: String,
    /// Whether that is so.
    pub state: State,
    /// What is seen, or what to run.
    pub how: String,
}

/// Whether an item is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The proxy sees that it is done.
    Done,
    /// The proxy sees that it is not done.
    Open,
    /// Only a person knows.
    Ask,
    /// Nothing is to be done.
    NotNeeded,
}

impl State {
    /// Its word in a table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Open => "OPEN",
            Self::Ask => "ask",
            Self::NotNeeded => "-",
        }
    }
}

/// The items that the proxy sees are not done.
pub fn left(items: &[Item]) -> impl Iterator<Item = &Item> {
    items.iter().filter(|item| item.state == State::Open)
}

/// The runbook's lines, in its order.
#[must_use]
pub fn checklist(facts: &Facts) -> Vec<Item> {
    let Facts { not_well, frozen, session, .. } = facts;
    let (provider_well, well) = (not_well.is_empty(), facts.is_well());
    let verified =
        ["5.2", "5.3"].iter().all(|section| facts.said.iter().any(|said| said == section));
    let item = |section: &str, what: &str, state, how: String| Item {
        section: section.to_owned(),
        what: what.to_owned(),
        state,
        how,
    };
    let done_or = |done: bool, otherwise: State| if done { State::Done } else { otherwise };
    let named = |kids: &[String]| kids.join(", ");
    let mut items = vec![
        extent(facts),
        match (frozen, well) {
            (true, _) => item("2.1", "Stop deploys and signing", State::Done, "frozen".to_owned()),
            (false, false) => item(
                "2.1",
                "Stop deploys and signing",
                State::Open,
                "signctl freeze --reason ...".to_owned(),
            ),
            (false, true) => item(
                "2.1",
                "Stop deploys and signing",
                State::NotNeeded,
                "every signer is well".to_owned(),
            ),
        },
        item(
            "2.2",
            "Set services to read-only",
            State::Ask,
            "callers get 503 with the reason until signing works again".to_owned(),
        ),
        item(
            "2.3",
            "Tell Security, Finance and #ops-signing",
            State::Ask,
            "name the incident".to_owned(),
        ),
        captured(facts),
        item(
            "3",
            "Find the cause",
            if well { State::NotNeeded } else { State::Ask },
            if well { "every upstream answers, and so does the proxy" } else { "signctl doctor" }
                .to_owned(),
        ),
        match (session, facts.long_enough) {
            (Some(session), _) => {
                item("4", "Break-glass", State::Done, format!("the session {session} is in force"))
            }
            (None, true) => item(
                "4",
                "Break-glass",
                State::Ask,
                "the outage is long enough: signctl breakglass request, if signatures cannot wait"
                    .to_owned(),
            ),
            (None, false) => item(
                "4",
                "Break-glass",
                State::NotNeeded,
                "no outage is long enough now".to_owned(),
            ),
        },
        destruction(facts),
        item(
            "5.1",
            "The provider is healthy",
            done_or(provider_well, State::Open),
            if provider_well {
                "every signer's upstream signed".to_owned()
            } else {
                format!("wait for {}", named(not_well))
            },
        ),
        item(
            "5.2",
            "Replace the credentials that were used",
            State::Open,
            "signctl recover --reason ... asks for each; signctl audit used names them".to_owned(),
        ),
        item(
            "5.3",
            "Verify the whole journal",
            State::Open,
            "signctl recover --reason ... --signers FILE".to_owned(),
        ),
        match (session, frozen) {
            // A command that is shown here is run: nothing signs again before its time.
            (Some(_), _) | (None, true) if !provider_well || !verified => item(
                "5.4",
                "Let deploys and services go on",
                State::Open,
                "later: signctl recover does it, after 5.1 to 5.3".to_owned(),
            ),
            (Some(_), _) => item(
                "5.4",
                "Let deploys and services go on",
                State::Open,
                "signctl breakglass end --reason ...".to_owned(),
            ),
            (None, true) => item(
                "5.4",
                "Let deploys and services go on",
                State::Open,
                "signctl unfreeze --reason ... (what the fleet froze: --statement FILE)".to_owned(),
            ),
            (None, false) => item(
                "5.4",
                "Let deploys and services go on",
                done_or(well, State::Open),
                if well {
                    "signctl gate"
                } else {
                    "not before every signer and the proxy are well"
                }
                .to_owned(),
            ),
        },
        item(
            "6",
            "Release checklist, root cause, archive, annotations",
            State::Ask,
            "after signctl incident end".to_owned(),
        ),
    ];
    let said = |item: &&mut Item| facts.said.contains(&item.section);
    for item in items.iter_mut().filter(said) {
        item.state = State::Done;
        "recorded; by whom: signctl audit tail --type incident_item".clone_into(&mut item.how);
    }
    items
}

/// What nobody knows is not said to be done.
fn destruction(facts: &Facts) -> Item {
    let Facts { keys_due, keys_known, copies_left, .. } = facts;
    let (state, how) = match (keys_known, keys_due.is_empty()) {
        (false, _) => (
            State::Open,
            "not known: the emergency signer does not say which keys are due; signctl breakglass status"
                .to_owned(),
        ),
        (true, true) => (State::NotNeeded, "no session used one".to_owned()),
        (true, false) => {
            let keys = keys_due.join(", ");
            let attest = if copies_left.is_empty() {
                String::new()
            } else {
                format!(" --attest COPY=WHO for each of its copies: {}", copies_left.join(", "))
            };
            let how = format!("signctl breakglass destroy {keys} --reason ... --signers FILE{attest}");
            (State::Open, how)
        }
    };
    Item { section: "4.5".to_owned(), what: "Destroy the emergency key".to_owned(), state, how }
}

/// A bundle that lacks a part is not all of the evidence. What is gone by now, the next bundle lacks too.
fn captured(facts: &Facts) -> Item {
    let Facts { captured, not_captured, .. } = facts;
    let id = facts.incident.as_deref().unwrap_or("ID");
    let again = format!("signctl incident begin --id {id} --no-freeze --reason TEXT");
    let (state, how) = match (captured, not_captured.as_slice()) {
        (false, _) => (State::Open, again),
        (true, []) => (State::Done, "the bundle is recorded".to_owned()),
        (true, missing) => {
            let missing = missing.join(", ");
            let how =
                format!("the newest bundle lacks {missing}; capture all of it again: {again}");
            (State::Open, how)
        }
    };
    let (section, what) = ("2.4".to_owned(), "Capture the state".to_owned());
    Item { section, what, state, how }
}

/// How much is out is known once every signer was tried: before that, "nothing is out" would be a guess.
fn extent(facts: &Facts) -> Item {
    let Facts { outage, not_well, not_known, failed, .. } = facts;
    let out = match (outage, not_well.is_empty()) {
        (_, false) => format!("{} outage: {} not well", outage.word(), not_well.join(", ")),
        (Extent::None, true) => "no signer is out".to_owned(),
        (Extent::Partial | Extent::Full, true) => format!("{} outage", outage.word()),
    };
    let own = if failed.is_empty() {
        String::new()
    } else {
        format!("; on the proxy's own side: {}", failed.join(", "))
    };
    let (state, how) = if not_known.is_empty() {
        (State::Done, format!("{out}{own}"))
    } else {
        let untried = not_known.join(", ");
        (State::Open, format!("not known yet of {untried}: signctl status, in some seconds{own}"))
    };
    Item { section: "1".to_owned(), what: "Find out how much is out".to_owned(), state, how }
}

impl Facts {
    /// Whether callers can get signatures again, but for the freeze.
    fn is_well(&self) -> bool {
        self.not_well.is_empty() && self.failed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out() -> Facts {
        Facts {
            outage: Extent::Full,
            not_well: vec!["k".to_owned()],
            not_known: Vec::new(),
            failed: Vec::new(),
            frozen: true,
            incident: Some("INC-42".to_owned()),
            captured: true,
            not_captured: Vec::new(),
            long_enough: false,
            session: None,
            keys_due: Vec::new(),
            keys_known: true,
            copies_left: Vec::new(),
            said: ["5.2", "5.3"].map(str::to_owned).to_vec(),
        }
    }

    fn open(facts: &Facts) -> Vec<String> {
        let items = checklist(facts);
        left(&items).map(|item| item.section.clone()).collect()
    }

    #[test]
    fn the_sections_are_the_runbooks_in_its_order() {
        let sections: Vec<_> = checklist(&out()).into_iter().map(|item| item.section).collect();
        let expected =
            ["1", "2.1", "2.2", "2.3", "2.4", "3", "4", "4.5", "5.1", "5.2", "5.3", "5.4", "6"];
        assert_eq!(sections, expected);
    }

    #[test]
    fn a_bundle_that_lacks_parts_is_left_with_the_command_that_captures_them() {
        let not_captured = vec!["metrics".to_owned(), "signer-journal".to_owned()];
        let facts = Facts { not_captured, ..out() };
        let item = checklist(&facts).into_iter().find(|item| item.section == "2.4").unwrap();
        let how = "the newest bundle lacks metrics, signer-journal; capture all of it again: \
                   signctl incident begin --id INC-42 --no-freeze --reason TEXT";
        assert_eq!((item.state, &*item.how), (State::Open, how));
    }

    #[test]
    fn what_is_left_follows_from_what_is_seen() {
        let facts = out();
        assert_eq!(open(&facts), ["5.1", "5.4"]);
        assert_eq!(open(&Facts { frozen: false, ..facts.clone() }), ["2.1", "5.1", "5.4"]);
        assert_eq!(open(&Facts { captured: false, ..facts.clone() }), ["2.4", "5.1", "5.4"]);
        let well = Facts { outage: Extent::None, not_well: Vec::new(), ..facts.clone() };
        // Well, and frozen still.
        assert_eq!(open(&well), ["5.4"]);
        let due = Facts { keys_due: vec!["e".to_owned()], frozen: false, ..well.clone() };
        assert_eq!(open(&due), ["4.5"]);
        let copies = Facts { copies_left: vec!["laptop".to_owned()], ..due.clone() };
        let of = |facts: &Facts| {
            checklist(facts).into_iter().find(|one| one.section == "4.5").unwrap().how
        };
        assert!(of(&copies).ends_with("--attest COPY=WHO for each of its copies: laptop"));
        assert!(!of(&due).contains("--attest"));
        let not_known = Facts { keys_known: false, frozen: false, ..well.clone() };
        assert_eq!(open(&not_known), ["4.5"]);
        let session = Some("s".to_owned());
        assert_eq!(open(&Facts { session, frozen: false, ..well.clone() }), ["5.4"]);
        assert!(open(&Facts { frozen: false, ..well }).is_empty());
    }

    #[test]
    fn how_much_is_out_is_found_once_every_signer_was_tried() {
        let of = |facts: &Facts| {
            let first = checklist(facts).into_iter().next().unwrap();
            (first.state, first.how)
        };
        let untried = Facts { not_known: vec!["k".to_owned()], ..out() };
        assert_eq!(of(&untried).0, State::Open);
        assert!(of(&untried).1.starts_with("not known yet of k: "));
        assert_eq!(of(&out()), (State::Done, "full outage: k not well".to_owned()));
        let own = Facts {
            outage: Extent::None,
            not_well: Vec::new(),
            failed: vec!["journal".to_owned()],
            frozen: false,
            ..out()
        };
        let said = "no signer is out; on the proxy's own side: journal".to_owned();
        assert_eq!(of(&own), (State::Done, said));
        // The provider is healthy, and deploys do not go on all the same.
        assert_eq!(open(&own), ["2.1", "5.4"]);
    }

    #[test]
    fn what_only_a_person_knows_is_never_done_by_itself() {
        let well = Facts { outage: Extent::None, not_well: Vec::new(), frozen: false, ..out() };
        for facts in [out(), well] {
            let of = |section: &str| {
                checklist(&facts).into_iter().find(|item| item.section == section).unwrap().state
            };
            assert_eq!(["2.2", "2.3", "6"].map(of), [State::Ask; 3]);
        }
    }

    #[test]
    fn nothing_that_signs_again_is_shown_before_its_time() {
        let how = |facts: &Facts| {
            let items = checklist(facts);
            items.into_iter().find(|item| item.section == "5.4").unwrap().how
        };
        let session = Some("s".to_owned());
        let well = Facts { outage: Extent::None, not_well: Vec::new(), ..out() };
        for facts in [out(), Facts { session: session.clone(), ..out() }] {
            assert!(how(&facts).starts_with("later: "), "{facts:?}");
        }
        for session in [None, session.clone()] {
            let unsaid = Facts { said: vec!["5.2".to_owned()], session, ..well.clone() };
            assert!(how(&unsaid).starts_with("later: "), "{unsaid:?}");
        }
        assert!(how(&well).starts_with("signctl unfreeze"));
        assert!(how(&Facts { session, ..well }).starts_with("signctl breakglass end"));
    }

    #[test]
    fn credentials_and_verification_are_left_until_somebody_says_that_they_are_done() {
        let well = Facts { outage: Extent::None, not_well: Vec::new(), frozen: false, ..out() };
        let unsaid = Facts { said: Vec::new(), ..well.clone() };
        assert_eq!(open(&unsaid), ["5.2", "5.3"]);
        assert_eq!(open(&Facts { said: vec!["5.2".to_owned()], ..well.clone() }), ["5.3"]);
        assert!(open(&well).is_empty());
        let all = Facts { said: ASKED.map(str::to_owned).to_vec(), ..well };
        let done = checklist(&all).into_iter().filter(|item| item.state == State::Done);
        let done: Vec<_> = done.map(|item| item.section).collect();
        assert!(ASKED.iter().all(|section| done.iter().any(|done| done == section)), "{done:?}");
    }
}
