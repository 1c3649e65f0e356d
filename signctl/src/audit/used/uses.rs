//! What records say of the credentials that were used: pure.

use std::collections::BTreeMap;

use serde_json::Value;
use signing_core::journal::{Kind, Outline};

/// A credential that was used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Credential {
    pub(crate) kind: CredentialKind,
    /// Which, as the records name it.
    pub(crate) name: String,
}

/// Whose credential it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CredentialKind {
    /// The proxy's own at an upstream: provider, region and key. Records have no principal; the doctor shows
    /// the one of now.
    Upstream,
    /// A caller's: its certificate at `mtls`.
    Caller,
    /// An operator's login.
    Operator,
    /// An emergency key and its passphrase.
    EmergencyKey,
    /// An approver's key.
    Approver,
}

impl CredentialKind {
    /// Its word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::EmergencyKey => "emergency_key",
            Self::Approver => "approver",
        }
    }
}

/// The section of the runbook under which the records have who answers for a credential.
pub(crate) const ANSWERS: &str = "5.2";

/// How often, and when.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) first: String,
    pub(crate) last: String,
}

/// All that was used. Its size is that of the configuration: callers, keys and people.
#[derive(Default)]
pub(crate) struct Uses {
    seen: BTreeMap<Credential, Seen>,
    /// What somebody said of credentials: `NAME: WHO`, by the records.
    answers: Vec<String>,
}

impl Uses {
    /// In the order of kind and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Credential, &Seen)> {
        self.seen.iter()
    }

    /// The names of what somebody has to replace. An emergency key is destroyed instead, and an approver's key
    /// signed nothing but an approval.
    pub(crate) fn names(&self) -> Vec<String> {
        let to_replace = self.iter().filter(|(one, _)| match one.kind {
            CredentialKind::Upstream | CredentialKind::Caller | CredentialKind::Operator => true,
            CredentialKind::EmergencyKey | CredentialKind::Approver => false,
        });
        to_replace.map(|(one, _)| one.name.clone()).collect()
    }

    /// Whether the records say already who answers for that name.
    pub(crate) fn is_answered(&self, name: &str) -> bool {
        let says =
            |answer: &String| answer.strip_prefix(name).is_some_and(|who| who.starts_with(": "));
        self.answers.iter().any(says)
    }

    /// Takes what a record says.
    pub(crate) fn note(&mut self, kind: Kind, outline: &Outline) {
        let data = &outline.data;
        let at = outline.at.as_str();
        if matches!(kind, Kind::Signed | Kind::Failed) {
            if let Some(caller) = outline.text("caller") {
                let door = outline.text("door").unwrap_or("mtls");
                self.add(CredentialKind::Caller, format!("{caller} ({door})"), at);
            }
            self.upstream(data, data, at);
            for earlier in list(data, "earlier_attempts") {
                self.upstream(earlier, data, at);
            }
        }
        for call in list(data, "calls").iter().filter(|_| kind == Kind::Probes) {
            self.upstream(call, call, at);
        }
        if kind == Kind::EmergencySigned {
            let kid = outline.text("signer_kid").unwrap_or_default();
            self.add(CredentialKind::EmergencyKey, kid.to_owned(), at);
        }
        for approved in list(data, "approved").iter().filter(|_| kind == Kind::SessionActivated) {
            let [principal, key] = ["principal", "fingerprint"].map(|name| text(approved, name));
            self.add(CredentialKind::Approver, format!("{principal} ({key})"), at);
        }
        self.note_answer(kind, outline);
        // A process names itself otherwise.
        if let Some(by) = outline.text("by").filter(|by| by.starts_with("uid ")) {
            self.add(CredentialKind::Operator, by.to_owned(), at);
        }
    }

    /// Takes only what a record says of who answers for a credential: that may come later than the uses.
    pub(crate) fn note_answer(&mut self, kind: Kind, outline: &Outline) {
        if kind == Kind::IncidentItem && outline.text("section") == Some(ANSWERS) {
            self.answers.extend(outline.text("detail").map(str::to_owned));
        }
    }

    /// One that the record of a request names, of that request's signer.
    fn upstream(&mut self, call: &Value, request: &Value, at: &str) {
        let upstream = text(call, "upstream");
        // In a session it is the emergency signer, whose own journal names the key.
        if upstream.is_empty() || upstream == "breakglass-signer" {
            return;
        }
        let (region, kid) = (text(call, "region"), text(request, "signer_kid"));
        let place = if region.is_empty() { String::new() } else { format!(" {region}") };
        self.add(CredentialKind::Upstream, format!("{upstream}{place} {kid}"), at);
    }

    fn add(&mut self, kind: CredentialKind, name: String, at: &str) {
        let seen = self.seen.entry(Credential { kind, name }).or_insert_with(|| Seen {
            count: 0,
            first: at.to_owned(),
            last: at.to_owned(),
        });
        seen.count += 1;
        // One journal is read after the other, and clocks go back. All moments are written in one form.
        if at < seen.first.as_str() {
            at.clone_into(&mut seen.first);
        }
        if at > seen.last.as_str() {
            at.clone_into(&mut seen.last);
        }
    }
}

fn list<'v>(data: &'v Value, name: &str) -> &'v [Value] {
    data.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(records: &[(Kind, Value)]) -> Vec<(&'static str, String, u64)> {
        let mut uses = Uses::default();
        for (kind, data) in records {
            let (at, r#type) = ("2026-11-26T05:15:00.000000Z".to_owned(), kind.word().to_owned());
            uses.note(*kind, &Outline { at, data: data.clone(), r#type });
        }
        let rows = uses.iter().map(|(one, seen)| (one.kind.word(), one.name.clone(), seen.count));
        rows.collect()
    }

    #[test]
    fn each_record_names_the_credentials_that_were_used_for_it() {
        let request = |more: Value| {
            let mut data = json!({"caller": "a", "door": "mtls", "signer_kid": "k"});
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            data
        };
        let earlier = json!([{"upstream": "aws-kms", "region": "eu-1"}]);
        let records = [
            (
                Kind::Signed,
                request(
                    json!({"upstream": "aws-kms", "region": "eu-2", "earlier_attempts": earlier}),
                ),
            ),
            (Kind::Failed, request(json!({"upstream": "breakglass-signer"}))),
            (
                Kind::Probes,
                json!({"calls": [{"upstream": "aws-kms", "region": "eu-2", "signer_kid": "k"}]}),
            ),
            (Kind::Freeze, json!({"by": "uid 1000 (alice)"})),
            (Kind::BreakglassEnded, json!({"by": "signing-proxy"})),
            (Kind::EmergencySigned, json!({"signer_kid": "e", "caller": "a"})),
            (
                Kind::SessionActivated,
                json!({"by": "uid 7", "approved": [{"principal": "bob", "fingerprint": "SHA256:x"}]}),
            ),
        ];
        let row = |kind, name: &str, count| (kind, name.to_owned(), count);
        let expected = [
            row("upstream", "aws-kms eu-1 k", 1),
            row("upstream", "aws-kms eu-2 k", 2),
            row("caller", "a (mtls)", 2),
            row("operator", "uid 1000 (alice)", 1),
            row("operator", "uid 7", 1),
            row("emergency_key", "e", 1),
            row("approver", "bob (SHA256:x)", 1),
        ];
        assert_eq!(used(&records), expected);
        assert!(used(&[(Kind::Start, json!({"version": "1"}))]).is_empty());
    }

    #[test]
    fn the_first_and_the_last_use_are_so_by_their_times_in_whichever_order_journals_are_read() {
        let mut uses = Uses::default();
        for minute in [20, 10, 30, 15] {
            let at = format!("2026-11-26T05:{minute}:00.000000Z");
            let data = json!({"by": "uid 7 (bob)"});
            uses.note(Kind::Freeze, &Outline { at, data, r#type: "freeze".to_owned() });
        }
        let seen = uses.iter().next().unwrap().1;
        let minutes = [&seen.first, &seen.last].map(|at| at[14..16].to_owned());
        assert_eq!((seen.count, minutes), (4, ["10", "30"].map(str::to_owned)));
    }

    #[test]
    fn an_answer_counts_for_the_whole_name_of_its_credential_and_in_its_section() {
        let mut uses = Uses::default();
        for (section, detail) in [("5.2", "uid 7 (bob): gone"), ("5.3", "uid 8: gone")] {
            let (at, r#type) = (String::new(), "incident_item".to_owned());
            let data = json!({"section": section, "detail": detail, "by": "signing-proxy"});
            uses.note(Kind::IncidentItem, &Outline { at, data, r#type });
        }
        assert!(uses.is_answered("uid 7 (bob)"));
        for other in ["uid 7", "uid 8", "(bob)", ""] {
            assert!(!uses.is_answered(other), "{other}");
        }
    }
}
