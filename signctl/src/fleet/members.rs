//! What a member's row says of it, and what became there of what was asked.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use signctl::failure::Failure;
use signctl::judge::{is_word, judge};
use signing_core::FreezeId;
use signing_core::admin::{Health, HeldFreeze};
use trail::fleet::{MemberRow, part};

/// An agent writes how its member is every three seconds. Whoever missed three is silent.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// The headings of the table.
const HEADINGS: [&str; 8] =
    ["MEMBER", "DEPLOYMENT", "LABELS", "VERSION", "STATE", "SESSION", "RECORDS", "LAG"];

/// What was asked of all.
#[derive(Debug)]
pub(super) enum Asked {
    /// To obey a freeze.
    Freeze(FreezeId),
    /// To end some, by the statement in that row.
    Unfreeze { row: String, ends: BTreeSet<FreezeId> },
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    instance: String,
    version: String,
    labels: BTreeSet<String>,
    health: Option<Health>,
    held: BTreeSet<FreezeId>,
    status: Value,
    silent: Option<Duration>,
}

/// One word, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    word: &'static str,
    why: String,
}

impl Asked {
    /// What is done already, for a person.
    pub(super) fn posted(&self) -> String {
        match self {
            Self::Freeze(id) => format!("the freeze {id} is posted"),
            Self::Unfreeze { .. } => "the statement is posted".to_owned(),
        }
    }
}

impl Member {
    pub(super) fn of(row: &MemberRow) -> Self {
        let labels = part(&row.status, "/labels").as_array().into_iter().flatten();
        let seen = Duration::try_from_secs_f64(row.seen_s_ago.max(0.0)).unwrap_or(Duration::MAX);
        Self {
            instance: row.instance.clone(),
            version: row.version.clone(),
            labels: labels.filter_map(|label| label.as_str().map(str::to_owned)).collect(),
            health: signing_core::json::from_str(&row.status.to_string()).ok(),
            held: row.held().collect(),
            status: row.status.clone(),
            silent: Some(seen).filter(|seen| *seen >= SILENT_AFTER),
        }
    }

    fn part(&self, pointer: &str) -> &Value {
        part(&self.status, pointer)
    }

    /// Whether it has all of these labels.
    pub(super) fn has(&self, labels: &[String]) -> bool {
        labels.iter().all(|label| self.labels.contains(label))
    }

    /// Whether it is heard of, and signs.
    pub(super) fn signs(&self) -> bool {
        self.silent.is_none() && self.health.as_ref().is_some_and(|health| health.ok)
    }

    /// Whether a pipeline may rely on it: it signs in its normal mode, and no incident is open.
    ///
    /// # Errors
    /// Why not, with its name.
    pub(super) fn passes(&self) -> Result<(), Failure> {
        let state = self.state();
        if !self.signs() {
            let said = self.health.as_ref().and_then(|health| health.reason.as_deref());
            let said = said.filter(|_| self.silent.is_none()).filter(|said| is_word(said));
            return Err(Failure::new(said.unwrap_or(state.word), self.line(&state)));
        }
        let judged = judge(200, Some(&self.status));
        let not = |Failure { reason, detail }| {
            Failure::new(reason, self.line(&Answer { word: "no", why: detail }))
        };
        judged.map(drop).map_err(not)
    }

    /// Who it is, and how, in one line.
    pub(super) fn line(&self, Answer { word, why }: &Answer) -> String {
        format!("{} ({}): {word}: {why}", self.instance, self.deployment())
    }

    /// Whether it did what was asked, and is heard of.
    pub(super) fn did(&self, asked: &Asked) -> bool {
        let did = match asked {
            Asked::Freeze(id) => self.held.contains(id),
            Asked::Unfreeze { ends, .. } => self.held.is_disjoint(ends),
        };
        did && self.silent.is_none()
    }

    /// Whether waiting changes nothing: it did, it refused, or it is silent.
    pub(super) fn is_settled(&self, asked: &Asked) -> bool {
        self.silent.is_some() || self.did(asked) || self.refusal(asked).is_some()
    }

    /// Why it did not take a row.
    fn refusal(&self, asked: &Asked) -> Option<&str> {
        let refused = self.part("/agent/refused");
        match asked {
            Asked::Freeze(id) => refused.get(id.to_string())?.as_str(),
            Asked::Unfreeze { row, .. } => refused.get(row)?.as_str(),
        }
    }

    /// How it is.
    pub(super) fn state(&self) -> Answer {
        if let Some(silent) = self.silent {
            let why = format!("its agent has said nothing for {} s", silent.as_secs());
            return Answer { word: "silent", why };
        }
        let problem = self.part("/agent/problem").as_str();
        match &self.health {
            Some(health) if health.ok => {
                Answer { word: "signs", why: problem.unwrap_or_default().to_owned() }
            }
            Some(health) => {
                let said = [&health.reason, &health.detail].into_iter().flatten();
                let said = said.map(String::as_str).chain(problem);
                Answer { word: "refuses", why: said.collect::<Vec<_>>().join(": ") }
            }
            None => {
                let why = "its status cannot be read; run the same release of signctl".to_owned();
                Answer { word: "unknown", why }
            }
        }
    }

    /// What became of what was asked.
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        if self.silent.is_some() {
            return self.state();
        }
        let late = || "its agent answers, but the member did not do it in time".to_owned();
        match (asked, self.did(asked), self.refusal(asked)) {
            (Asked::Freeze(_), true, _) => Answer { word: "frozen", why: String::new() },
            // It may refuse for another reason.
            (Asked::Unfreeze { .. }, true, _) => Answer { word: "ended", why: self.state().why },
            (_, false, Some(why)) => Answer { word: "refused", why: why.to_owned() },
            (_, false, None) => Answer { word: "not yet", why: late() },
        }
    }

    /// The fleet that it is of.
    pub(super) fn fleet(&self) -> Option<&str> {
        self.part("/fleet/fleet").as_str()
    }

    /// The freezes that it holds.
    pub(super) fn freezes(&self) -> impl Iterator<Item = (FreezeId, HeldFreeze)> {
        let held = self.part("/fleet/held").as_array().into_iter().flatten();
        held.filter_map(|held| {
            let freeze: HeldFreeze = signing_core::json::from_str(&held.to_string()).ok()?;
            Some((FreezeId::parse(&freeze.id).ok()?, freeze))
        })
    }

    /// The deployment that it is of.
    fn deployment(&self) -> &str {
        self.part("/deployment").as_str().unwrap_or("?")
    }

    fn incident(&self) -> Option<&str> {
        let session = self.health.as_ref()?.breakglass.as_ref()?;
        Some(session.incident.as_deref().unwrap_or("in a session"))
    }

    /// Records of its journals that the trail has not shipped; none: something keeps the trail back.
    fn lag(&self) -> Option<u64> {
        let trail = self.part("/agent/trail");
        let of = |journal: &Value| part(journal, "/lag_records").as_u64();
        let journals = part(trail, "/journals").as_array()?;
        let records = journals.iter().map(of).sum::<Option<u64>>()?;
        (*part(trail, "/ok") == json!(true)).then_some(records)
    }

    /// Its line of the table, without why.
    fn cells(&self, word: &str) -> [String; 8] {
        let own = ["deployment=", "fleet="];
        let labels: Vec<_> = self.labels.iter().map(String::as_str).collect();
        let labels =
            labels.into_iter().filter(|label| !own.iter().any(|own| label.starts_with(own)));
        let labels: Vec<_> = labels.collect();
        let number = |number: Option<u64>, otherwise: &str| {
            number.map_or_else(|| otherwise.to_owned(), |number| number.to_string())
        };
        [
            self.instance.clone(),
            self.deployment().to_owned(),
            if labels.is_empty() { "-".to_owned() } else { labels.join(",") },
            self.version.clone(),
            word.to_owned(),
            self.incident().unwrap_or("-").to_owned(),
            number(self.part("/audit/size").as_u64(), "?"),
            number(self.lag(), "BLOCKED"),
        ]
    }

    pub(super) fn to_json(&self, Answer { word, why }: Answer) -> Value {
        let held: Vec<_> = self.held.iter().map(FreezeId::to_string).collect();
        json!({
            "agent": self.part("/agent"),
            "breakglass": self.part("/breakglass"),
            "deployment": self.deployment(),
            "fleet": self.fleet(),
            "held": held,
            "instance": self.instance,
            "journal": self.part("/audit"),
            "labels": self.labels,
            "silent_s": self.silent.map(|silent| silent.as_secs()),
            "state": word,
            "version": self.version,
            "why": why,
        })
    }
}

/// A line for each member under headings, and why behind it.
pub(super) fn table(members: &[Member], word: impl Fn(&Member) -> Answer) -> String {
    let headings = (HEADINGS.map(str::to_owned), "WHY".to_owned());
    let rows = members.iter().map(|member| {
        let Answer { word, why } = word(member);
        (member.cells(word), why)
    });
    let rows: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let mut widths = [0; HEADINGS.len()];
    for (cells, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(text::line(cell).chars().count());
        }
    }
    let line = |(cells, why): &([String; HEADINGS.len()], String)| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| {
            let cell = text::line(cell);
            format!("{cell:<width$}  ")
        });
        format!("{}{}", cells.collect::<String>(), text::line(why)).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FreezeId = FreezeId::new([1; 16]);

    fn member(status: &Value, seen_s_ago: f64) -> Member {
        let mut status = status.clone();
        for (key, value) in [
            ("mode", json!("normal")),
            ("frozen", json!(false)),
            ("outage", json!("none")),
            ("signers", json!([])),
            ("conditions", json!([])),
            ("deployment", json!("payments")),
        ] {
            status[key] = value;
        }
        let (instance, version) = ("ab".repeat(16), "0.1.0".to_owned());
        Member::of(&MemberRow { instance, version, status, seen_s_ago })
    }

    #[test]
    fn a_member_that_says_nothing_counts_as_silent_whatever_it_said_last() {
        let status = json!({"ok": true, "fleet": {"held": [{"id": ID.to_string()}]}});
        let (heard, silent) = (member(&status, 9.9), member(&status, 10.1));
        assert!(heard.signs() && heard.did(&Asked::Freeze(ID)));
        assert!(!silent.signs() && !silent.did(&Asked::Freeze(ID)));
        assert!(silent.is_settled(&Asked::Freeze(ID)), "nobody waits for it");
        assert_eq!(silent.answer(&Asked::Freeze(ID)).word, "silent");
        // A clock that goes back, and what is no number.
        for seen in [-5.0, f64::NAN] {
            assert!(member(&status, seen).signs());
        }
        assert!(!member(&status, f64::INFINITY).signs());
    }

    #[test]
    fn what_a_member_refused_is_said_and_what_it_did_counts_more() {
        let ends = BTreeSet::from([ID]);
        let asked = Asked::Unfreeze { row: "r1".to_owned(), ends };
        let held = json!([{"id": ID.to_string()}]);
        let refuses =
            json!({"ok": false, "fleet": {"held": held}, "agent": {"refused": {"r1": "no"}}});
        let refused = member(&refuses, 0.0).answer(&asked);
        assert_eq!(refused, Answer { word: "refused", why: "no".to_owned() });
        let ended = json!({"ok": true, "fleet": {"held": []}, "agent": {"refused": {"r1": "ended already"}}});
        assert_eq!(member(&ended, 0.0).answer(&asked).word, "ended");
        let waits = json!({"ok": false, "fleet": {"held": held}});
        assert!(!member(&waits, 0.0).is_settled(&asked));
        assert_eq!(member(&waits, 0.0).answer(&asked).word, "not yet");
    }

    #[test]
    fn the_table_has_a_line_for_each_member_and_shows_nothing_hidden() {
        let status = json!({
            "ok": false, "reason": "frozen", "detail": "stopped\u{1b}[2J",
            "labels": ["deployment=payments", "region=eu-1"], "audit": {"size": 17},
            "agent": {"trail": {"ok": true, "journals": [{"lag_records": 2}, {"lag_records": 1}]}},
        });
        let shown = table(&[member(&status, 0.0)], Member::state);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{shown}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        let expected = ["payments", "region=eu-1", "0.1.0", "refuses", "-", "17", "3", "frozen:"];
        assert_eq!(&words[1..9], expected, "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(lines[0].find("WHY"), lines[1].find("frozen:"), "{shown}");
    }
}
