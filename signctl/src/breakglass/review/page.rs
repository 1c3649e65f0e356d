//! The page of a request: risks first, then what would be approved, then who has to approve.

use approvers::quorum;
use serde_json::{Value, json};
use signing_core::breakglass::Request;
use signing_core::breakglass::activation::{Approval, missing_roles};
use time::OffsetDateTime;

use super::risks::{Level, Risk, shown, span};
use super::sources::{Document, Known, Who};

/// What the page says.
pub(in super::super) struct Page<'p> {
    /// What is to be approved.
    pub(in super::super) document: &'p Document,
    /// What it was held against.
    pub(in super::super) known: &'p Known,
    /// The worst first.
    pub(in super::super) risks: &'p [Risk],
    /// When it is read.
    pub(in super::super) now: OffsetDateTime,
}

impl Page<'_> {
    /// Whether nothing says that it must not be approved.
    pub(in super::super) fn is_open(&self) -> bool {
        self.risks.iter().all(|risk| risk.level != Level::Stop)
    }

    /// For a person.
    pub(in super::super) fn words(&self) -> String {
        let request = &self.document.request;
        let mut lines = vec![format!(
            "BREAK-GLASS REQUEST {} for the incident {}",
            request.id(),
            request.incident()
        )];
        lines.extend(self.risk_lines());
        lines.push(String::new());
        lines.push("WHAT YOU WOULD APPROVE".to_owned());
        lines.extend(self.facts().into_iter().flat_map(|(name, values)| row(name, &values)));
        lines.push(String::new());
        lines.push("WHO HAS TO APPROVE".to_owned());
        match &self.known.who {
            Ok(who) => lines.extend(self.roles(who).iter().map(Role::line)),
            Err(_) => lines.push("  not known: see above".to_owned()),
        }
        lines.join("\n")
    }

    fn risk_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (level, heading) in
            [(Level::Stop, "STOP: DO NOT APPROVE THIS"), (Level::Ask, "ASK BEFORE YOU APPROVE")]
        {
            let of_level: Vec<_> = self.risks.iter().filter(|risk| risk.level == level).collect();
            if !of_level.is_empty() {
                lines.push(String::new());
                lines.push(heading.to_owned());
                lines.extend(
                    of_level.iter().map(|risk| format!("  ! {}: {}", risk.word, risk.says)),
                );
            }
        }
        if lines.is_empty() {
            lines = vec![
                String::new(),
                "No risk was found. Read every line below all the same.".to_owned(),
            ];
        }
        lines
    }

    /// Each field by its name on the page.
    fn facts(&self) -> Vec<(&'static str, Vec<String>)> {
        let request = &self.document.request;
        let Self { now, .. } = *self;
        let (since, begins, ends) =
            (request.outage_since(), request.not_before(), request.expires_at());
        let under = request.under_freeze().map_or_else(
            || "no freeze: a freeze in force stops the session".to_owned(),
            |id| format!("{id}: the session signs although signing is frozen"),
        );
        vec![
            ("deployment", vec![request.audience().to_owned()]),
            ("justification", vec![request.justification().to_owned()]),
            ("outage", vec![format!("since {} ({} ago)", shown(since), span(now - since))]),
            ("session", vec![format!("from {} until {}", shown(begins), shown(ends))]),
            ("", vec![format!("{} at most{}", span(ends - begins), waits(begins, now))]),
            ("signatures", vec![format!("{} at most, of each instance", request.max_signatures())]),
            ("in place of", request.replaces().iter().map(ToString::to_string).collect()),
            ("for callers", request.callers().iter().map(ToString::to_string).collect()),
            ("under freeze", vec![under]),
            ("emergency key", vec![request.emergency_kid().to_string(), self.key()]),
            ("its SHA-256", vec![request.emergency_key_sha256().to_owned()]),
            ("instances", request.instances().iter().cloned().collect()),
            ("document", vec![self.document.file.display().to_string()]),
            ("its SHA-256", vec![request.sha256().to_owned()]),
        ]
    }

    /// What the registry says of the key.
    fn key(&self) -> String {
        let request = &self.document.request;
        let file = self.known.registry_file.display();
        let Ok(registry) = &self.known.registry else { return "NOT COMPARED".to_owned() };
        let registered = registry.get(request.emergency_kid().as_str());
        let Some(signer) = registered else { return format!("NOT in {file}") };
        let same = signer.public_key.sha256_hex() == request.emergency_key_sha256();
        let compared = if same { "the same key as in" } else { "NOT the key of" };
        let end = signer.not_after.map(|end| format!(", counts until {}", shown(end)));
        format!("{compared} {file}{}", end.unwrap_or_default())
    }

    /// Who has approved and who can, role by role.
    fn roles(&self, who: &Who) -> Vec<Role> {
        let rules = &who.settings.rules;
        let given = self.known.counting();
        let missing = missing_roles(&rules.required_roles, &given);
        let roles = rules.required_roles.iter().map(|role| Role {
            role: role.clone(),
            approved_by: given
                .iter()
                .filter(|approval| approval.roles.contains(role))
                .map(|approval| by(approval))
                .collect(),
            can: quorum::who_can(&who.approvers, rules, role, self.now)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            is_missing: missing.contains(&role.as_str()),
        });
        roles.collect()
    }

    /// For a program.
    pub(in super::super) fn json(&self) -> Value {
        let request = &self.document.request;
        let risks = self.risks.iter().map(
            |Risk { level, word, says }| json!({"risk": word, "level": level.word(), "says": says}),
        );
        let roles = self.known.who.as_ref().ok().map(|who| self.roles(who));
        let roles = roles.map(|roles| roles.iter().map(Role::json).collect::<Vec<_>>());
        let approvals = self.known.approvals.iter().map(|(file, approval)| match approval {
            Ok(approval) => json!({"file": file, "counts": true, "by": approval.who()}),
            Err(why) => json!({"file": file, "counts": false, "why": why}),
        });
        json!({
            "ok": self.is_open(),
            "file": self.document.file,
            "sha256": request.sha256(),
            "session": request.session(),
            "risks": risks.collect::<Vec<_>>(),
            "request": fields(request),
            "outage_s": (self.now - request.outage_since()).whole_seconds(),
            "session_s": (request.expires_at() - request.not_before()).whole_seconds(),
            "roles": roles,
            "approvals": approvals.collect::<Vec<_>>(),
        })
    }
}

/// A role that has to approve.
struct Role {
    role: String,
    approved_by: Vec<String>,
    can: Vec<String>,
    is_missing: bool,
}

impl Role {
    fn line(&self) -> String {
        let Self { role, approved_by, can, is_missing } = self;
        let can = if can.is_empty() { "nobody can now".to_owned() } else { can.join(", ") };
        let done = format!("approved by {}", approved_by.join(", "));
        match (is_missing, approved_by.is_empty()) {
            (false, _) => format!("  {role:<12}  {done}"),
            (true, true) => format!("  {role:<12}  NOT YET; who can: {can}"),
            (true, false) => {
                format!(
                    "  {role:<12}  NOT YET: each role needs a person of its own ({done}); who can: {can}"
                )
            }
        }
    }

    fn json(&self) -> Value {
        let Self { role, approved_by, can, is_missing } = self;
        json!({"role": role, "missing": is_missing, "approved_by": approved_by, "who_can": can})
    }
}

fn waits(begins: OffsetDateTime, now: OffsetDateTime) -> String {
    if begins <= now {
        return String::new();
    }
    format!("; it may begin in {}", span(begins - now))
}

/// `alice@example.org (sk-ssh-ed25519@openssh.com, touched)`.
fn by(approval: &Approval) -> String {
    let touched = match approval.hardware {
        Some(by) if by.touched && by.verified => ", touched, PIN",
        Some(by) if by.touched => ", touched",
        Some(_) => ", not touched",
        None => ", a key in a file",
    };
    format!("{} ({}{touched})", approval.principal, approval.algorithm)
}

/// A field and its values, one below the other; many are counted first.
fn row(name: &str, values: &[String]) -> Vec<String> {
    let counted = (values.len() > 2).then(|| format!("{} of them:", values.len()));
    let values = counted.iter().chain(values);
    let lines = values.enumerate().map(|(at, value)| {
        let name = if at == 0 { name } else { "" };
        format!("  {name:<13}  {value}")
    });
    lines.collect()
}

/// The document's own fields, by their names in it.
fn fields(request: &Request) -> Value {
    json!({
        "id": request.id(), "audience": request.audience(), "instances": request.instances(),
        "incident": request.incident(), "justification": request.justification(),
        "emergency_kid": request.emergency_kid().as_str(),
        "emergency_key_sha256": request.emergency_key_sha256(),
        "replaces": request.replaces().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "callers": request.callers().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "outage_since": shown(request.outage_since()), "not_before": shown(request.not_before()),
        "expires_at": shown(request.expires_at()), "max_signatures": request.max_signatures(),
        "under_freeze": request.under_freeze().map(|id| id.to_string()),
    })
}
