//! Sessions with who approved them, what an emergency key signed, and what became of the key. Pure: from the
//! records of the emergency signer's journal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use signing_core::journal::{Kind, Outline};

/// Somebody approved a request.
#[derive(Clone, Debug)]
pub(super) struct Approval {
    pub(super) principal: String,
    pub(super) roles: String,
    /// The key's algorithm and fingerprint, and whether a hardware key was touched and asked for a PIN.
    pub(super) key: String,
    /// The signature over the request, as it came.
    pub(super) armored: String,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) at: String,
    pub(super) reason: String,
    pub(super) by: String,
    pub(super) signatures: String,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) at: String,
    pub(super) incident: String,
    pub(super) justification: String,
    pub(super) emergency_kid: String,
    pub(super) replaces: String,
    pub(super) callers: String,
    pub(super) outage_since: String,
    /// The outages that the proxy claimed to see.
    pub(super) claimed: String,
    pub(super) expires_at: String,
    pub(super) max_signatures: String,
    pub(super) request_sha256: String,
    pub(super) under_freeze: Option<String>,
    pub(super) by: String,
    /// The name of its row in a database of the trail.
    pub(super) row: String,
    pub(super) approvals: Vec<Approval>,
    pub(super) end: Option<End>,
}

/// A signature by an emergency key.
#[derive(Clone, Debug)]
pub(super) struct Emergency {
    pub(super) at: String,
    pub(super) seq: u64,
    pub(super) session: String,
    pub(super) caller: String,
    pub(super) request_id: String,
    pub(super) input_digest: String,
    pub(super) key: String,
    pub(super) replaces: String,
}

/// What became of a key that a session used.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    /// Until when it has to be destroyed.
    pub(super) due: Option<String>,
    pub(super) is_overdue: bool,
    /// When, by whom, and how.
    pub(super) destroyed: Option<String>,
    /// Its copies, by name: who attests that each is destroyed, and when.
    pub(super) copies: BTreeMap<String, Option<String>>,
}

impl Key {
    /// The copies that a record names; what is attested of one stays.
    fn has_copies(&mut self, outline: &Outline) {
        let copies = outline.data.get("copies").and_then(Value::as_array);
        for copy in copies.into_iter().flatten().filter_map(Value::as_str) {
            self.copies.entry(copy.to_owned()).or_default();
        }
    }

    /// Its copies of which nobody attests that they are destroyed.
    pub(super) fn copies_left(&self) -> Vec<&str> {
        let left = self.copies.iter().filter(|(_, who)| who.is_none());
        left.map(|(copy, _)| copy.as_str()).collect()
    }

    /// Whether it is destroyed, with each copy.
    pub(super) fn is_gone(&self) -> bool {
        self.destroyed.is_some() && self.copies_left().is_empty()
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Ceremony {
    pub(super) sessions: Vec<Session>,
    pub(super) signatures: Vec<Emergency>,
    pub(super) keys: BTreeMap<String, Key>,
    /// The log of the journal, in hex, and its first and newest record that were read.
    log: String,
    read: Option<(u64, u64)>,
    /// The records that are within the report.
    signed: BTreeSet<u64>,
    /// The records of which the proxy's journal has an answer.
    answered: BTreeSet<String>,
}

impl Ceremony {
    /// From here on, records are of this log.
    pub(super) fn begin(&mut self, origin: &str) {
        origin.rsplit('/').next().unwrap_or(origin).clone_into(&mut self.log);
    }

    /// Whether the signature that a record of the proxy is about is within the report, by the record of the signer
    /// that it names. None: that record was not read.
    pub(super) fn is_of_it(&self, outline: &Outline) -> Option<bool> {
        let (log, rest) = outline.text("signer_record")?.split_once(':')?;
        let seq = rest.split_once(':')?.0.parse().ok()?;
        let (first, newest) = self.read.filter(|_| log == self.log)?;
        (first <= seq && seq <= newest).then(|| self.signed.contains(&seq))
    }

    /// Whether a record of the proxy is the first one of its signature: an answer may be given again.
    pub(super) fn is_first_answer(&mut self, outline: &Outline) -> bool {
        outline.text("signer_record").is_none_or(|of| self.answered.insert(of.to_owned()))
    }

    /// Takes a record. `is_ours`: it is within the report. The end of a session that is, and of its key, count
    /// whenever they come.
    pub(super) fn note(
        &mut self,
        seq: u64,
        kind: Kind,
        outline: &Outline,
        row: &str,
        is_ours: bool,
    ) {
        let text = |name: &str| outline.text(name).unwrap_or_default().to_owned();
        self.read = Some((self.read.map_or(seq, |(first, _)| first), seq));
        match kind {
            Kind::SessionActivated if is_ours => {
                let key = self.keys.entry(text("emergency_kid")).or_default();
                key.has_copies(outline);
                self.sessions.push(Session::read(outline, row));
            }
            Kind::EmergencySigned if is_ours => {
                self.signed.insert(seq);
                self.signatures.push(Emergency {
                    at: outline.at.clone(),
                    seq,
                    session: text("session"),
                    caller: text("caller"),
                    request_id: text("request_id"),
                    input_digest: text("input_digest"),
                    key: format!("{} {}", text("signer_kid"), text("algorithm")),
                    replaces: text("replaces"),
                });
            }
            Kind::SessionEnded => self.end(outline),
            Kind::DestructionOverdue => {
                if let Some(key) = self.keys.get_mut(&text("emergency_kid")) {
                    key.is_overdue = true;
                }
            }
            Kind::KeyDestroyed => {
                if let Some(key) = self.keys.get_mut(&text("emergency_kid")) {
                    let overwritten = outline.data.get("overwritten") == Some(&Value::Bool(true));
                    let how =
                        if overwritten { "its file was overwritten" } else { "NOT overwritten" };
                    let (at, by, reason) = (&outline.at, text("by"), text("reason"));
                    key.destroyed = Some(format!("{at} by {by}: {reason} ({how})"));
                    key.has_copies(outline);
                }
            }
            Kind::CopyDestroyed => {
                if let Some(key) = self.keys.get_mut(&text("emergency_kid")) {
                    let who = format!("{} at {}", text("attested_by"), outline.at);
                    key.copies.insert(text("copy"), Some(who));
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, outline: &Outline) {
        let text = |name: &str| outline.text(name).unwrap_or_default().to_owned();
        let name = text("session");
        let Some(session) = self.sessions.iter_mut().find(|session| session.name == name) else {
            return;
        };
        session.end = Some(End {
            at: outline.at.clone(),
            reason: format!("{}: {}", text("reason"), text("detail")),
            by: text("by"),
            signatures: outline.number("signatures").unwrap_or_default().to_string(),
        });
        let due = text("destruction_due");
        self.keys.entry(text("emergency_kid")).or_default().due.get_or_insert(due);
    }
}

impl Session {
    fn read(outline: &Outline, row: &str) -> Self {
        let text = |name: &str| outline.text(name).unwrap_or_default().to_owned();
        let list = |name: &str| {
            outline.data.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let armored = list("approvals");
        let approved = list("approved");
        let approvals = approved.iter().enumerate().map(|(index, one)| {
            let armored = armored.get(index).and_then(Value::as_str).unwrap_or_default();
            Approval::read(one, armored)
        });
        let claimed = list("claimed");
        let claimed = claimed.iter().map(|one| {
            let seconds = one.get("seconds").and_then(Value::as_u64).unwrap_or_default();
            format!("{} {seconds} s", of(one, "signer_kid"))
        });
        Self {
            name: text("session"),
            at: outline.at.clone(),
            incident: text("incident"),
            justification: text("justification"),
            emergency_kid: text("emergency_kid"),
            replaces: names(&list("replaces")),
            callers: names(&list("callers")),
            outage_since: text("outage_since"),
            claimed: claimed.collect::<Vec<_>>().join(", "),
            expires_at: text("expires_at"),
            max_signatures: outline.number("max_signatures").unwrap_or_default().to_string(),
            request_sha256: text("request_sha256"),
            under_freeze: outline.text("under_freeze").map(str::to_owned),
            by: text("by"),
            row: row.to_owned(),
            approvals: approvals.collect(),
            end: None,
        }
    }

    /// What the approvers approved, in one line.
    pub(super) fn scope(&self) -> String {
        let Self { emergency_kid, replaces, callers, max_signatures, expires_at, .. } = self;
        let under =
            self.under_freeze.as_ref().map(|id| format!(", under freeze {id}")).unwrap_or_default();
        format!(
            "{emergency_kid} in place of {replaces}, for {callers}, at most {max_signatures} signatures for each \
             signer instance, until {expires_at}{under}; session {}, incident {}, request SHA-256 {}",
            self.name, self.incident, self.request_sha256
        )
    }
}

impl Approval {
    fn read(approved: &Value, armored: &str) -> Self {
        let roles = approved.get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
        let said = |name: &str, yes: &'static str, no: &'static str| match approved
            .get(name)
            .and_then(Value::as_bool)
        {
            Some(true) => yes,
            Some(false) => no,
            None => "",
        };
        Self {
            principal: of(approved, "principal"),
            roles: names(&roles),
            key: format!(
                "{} {}{}{}",
                of(approved, "algorithm"),
                of(approved, "fingerprint"),
                said("touched", ", touched", ", NOT touched"),
                said("verified", ", with PIN", ", without PIN"),
            ),
            armored: armored.to_owned(),
        }
    }
}

fn of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn names(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn note(ceremony: &mut Ceremony, kind: Kind, data: Value, is_ours: bool) {
        let (at, r#type) = ("2026-11-26T05:00:00.000000Z".to_owned(), kind.word().to_owned());
        ceremony.note(7, kind, &Outline { at, data, r#type }, "row", is_ours);
    }

    #[test]
    fn the_end_of_a_session_and_of_its_key_count_whenever_they_come() {
        let mut ceremony = Ceremony::default();
        let of = |name: &str, kid: &str| {
            json!({
                "session": name, "emergency_kid": kid, "replaces": ["a", "b"], "approvals": ["armored"],
                "approved": [{"principal": "bob", "roles": ["security"], "algorithm": "ssh-ed25519",
                    "fingerprint": "SHA256:x", "touched": true, "verified": false}],
                "destruction_due": "later", "reason": "operator", "overwritten": true, "signatures": 2,
            })
        };
        note(&mut ceremony, Kind::SessionActivated, of("S-1", "e"), true);
        note(&mut ceremony, Kind::SessionActivated, of("S-2", "f"), false);
        for (name, kid) in [("S-1", "e"), ("S-2", "f")] {
            note(&mut ceremony, Kind::SessionEnded, of(name, kid), false);
            note(&mut ceremony, Kind::KeyDestroyed, of(name, kid), false);
        }
        let [session] = &ceremony.sessions[..] else { panic!("{ceremony:?}") };
        let [approval] = &session.approvals[..] else { panic!("{session:?}") };
        assert_eq!((approval.principal.as_str(), approval.roles.as_str()), ("bob", "security"));
        assert_eq!(approval.key, "ssh-ed25519 SHA256:x, touched, without PIN");
        assert_eq!(approval.armored, "armored");
        assert!(session.scope().starts_with("e in place of a, b"), "{}", session.scope());
        assert_eq!(session.end.as_ref().unwrap().signatures, "2");
        assert_eq!(ceremony.keys.keys().collect::<Vec<_>>(), ["e"]);
        assert!(ceremony.keys["e"].destroyed.as_ref().unwrap().contains("overwritten"));
    }
}
