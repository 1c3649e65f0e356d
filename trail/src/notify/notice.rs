//! A notification: which event, of which record, and what it says. A record makes the same
//! notification each time it is read, with the same id: so a receiver can drop what comes twice.

use serde_json::{Map, Value, json};
use signing_core::journal::{Kind, Outline};
use signing_core::tree::LogId;

use super::standing::Standing;
use crate::event::Owner;
use crate::uuid;

/// The kind of event that a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// The gate of a signer shut, or is sealed.
    GateShut,
    /// It opened.
    GateOpen,
    /// Somebody stopped all signing, here or in the fleet.
    Frozen,
    /// A freeze ended.
    Unfrozen,
    /// A break-glass session began.
    SessionBegun,
    /// It ended.
    SessionEnded,
    /// Its key has to be destroyed.
    DestructionDue,
    /// The key should have been destroyed.
    DestructionOverdue,
    /// The key is gone.
    KeyDestroyed,
    /// Somebody began an incident.
    IncidentBegun,
    /// It ended.
    IncidentEnded,
    /// A sink is behind.
    TrailBehind,
    /// It is not behind any more.
    TrailCaughtUp,
    /// Records were removed before they were shipped, or before they were looked at.
    RecordsLost,
    /// The webhook is new here.
    NotificationsBegun,
}

impl Name {
    /// All.
    pub const ALL: [Self; 15] = [
        Self::GateShut,
        Self::GateOpen,
        Self::Frozen,
        Self::Unfrozen,
        Self::SessionBegun,
        Self::SessionEnded,
        Self::DestructionDue,
        Self::DestructionOverdue,
        Self::KeyDestroyed,
        Self::IncidentBegun,
        Self::IncidentEnded,
        Self::TrailBehind,
        Self::TrailCaughtUp,
        Self::RecordsLost,
        Self::NotificationsBegun,
    ];

    /// Its word in the configuration and in notifications.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::GateShut => "gate_shut",
            Self::GateOpen => "gate_open",
            Self::Frozen => "frozen",
            Self::Unfrozen => "unfrozen",
            Self::SessionBegun => "session_begun",
            Self::SessionEnded => "session_ended",
            Self::DestructionDue => "destruction_due",
            Self::DestructionOverdue => "destruction_overdue",
            Self::KeyDestroyed => "key_destroyed",
            Self::IncidentBegun => "incident_begun",
            Self::IncidentEnded => "incident_ended",
            Self::TrailBehind => "trail_behind",
            Self::TrailCaughtUp => "trail_caught_up",
            Self::RecordsLost => "records_lost",
            Self::NotificationsBegun => "notifications_begun",
        }
    }

    /// Reads a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }
}

/// A notification, without the name of the machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    /// The same whenever it is made again.
    pub(crate) id: String,
    pub(crate) event: Name,
    /// When it happened.
    pub(crate) at: String,
    /// One sentence for a person.
    pub(crate) summary: String,
    /// The journal's owner, its log and the record.
    pub(crate) record: Option<(Owner, LogId, u64)>,
    pub(crate) data: Value,
}

impl Notice {
    /// Its JSON.
    pub(crate) fn body(&self, instance: &str) -> Map<String, Value> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("id", json!(self.id));
        put("event", json!(self.event.word()));
        put("at", json!(self.at));
        put("instance", json!(instance));
        put("summary", json!(self.summary));
        if let Some((owner, log, seq)) = self.record {
            put("journal", json!(owner.word()));
            put("log", json!(log.origin()));
            put("seq", json!(seq));
        }
        put("data", self.data.clone());
        body
    }
}

/// A record, as notifications need it.
pub(crate) struct RecordView<'r> {
    pub(crate) owner: Owner,
    pub(crate) log: LogId,
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) outline: &'r Outline,
    /// Whether the emergency signer's journal is read too: then it tells of sessions.
    pub(crate) has_signer: bool,
}

/// What the next record of a journal is notified as. `standing` is what the records before it made, and
/// hears this one.
pub(crate) fn of_record(of: &RecordView<'_>, standing: &mut Standing) -> Vec<Notice> {
    let was_frozen = standing.is_frozen();
    let was_told = standing.is_told(of.text("emergency_kid"));
    standing.hear(of.kind, of.outline);
    let is_frozen = standing.is_frozen();
    match of.kind {
        Kind::Gate => gate(of).into_iter().collect(),
        Kind::Freeze | Kind::FleetFreeze => {
            vec![of.notice(Name::Frozen, frozen(of), of.with_freeze(true))]
        }
        Kind::Unfreeze | Kind::FleetUnfreeze => {
            vec![of.notice(Name::Unfrozen, unfrozen(of, is_frozen), of.with_freeze(is_frozen))]
        }
        // They tell what is in force: it may be more than the records before them say.
        Kind::Start | Kind::Segment => match (was_frozen, is_frozen) {
            (false, true) => {
                let words = "Signing is frozen since the proxy started".to_owned();
                vec![of.notice(Name::Frozen, words, json!({"frozen": true}))]
            }
            (true, false) => {
                let words = "Signing is not frozen any more".to_owned();
                vec![of.notice(Name::Unfrozen, words, json!({"frozen": false}))]
            }
            (true, true) | (false, false) => Vec::new(),
        },
        Kind::SessionActivated => vec![session_begun(of)],
        Kind::SessionEnded => vec![session_ended(of), destruction_due(of)],
        // The proxy's own view, where the other journal is not here.
        Kind::Activation
            if !of.has_signer && of.outline.data.get("activated") == Some(&json!(true)) =>
        {
            vec![session_begun(of)]
        }
        Kind::BreakglassEnded if !of.has_signer => vec![session_ended(of)],
        // The trail was quicker.
        Kind::DestructionOverdue if was_told => Vec::new(),
        Kind::DestructionOverdue => {
            let (kid, due) = (of.text("emergency_kid"), of.text("destruction_due"));
            let notice = overdue(of.log, kid, due, &of.outline.at);
            vec![Notice { record: Some((of.owner, of.log, of.seq)), ..notice }]
        }
        Kind::KeyDestroyed => {
            let words = format!("Emergency key {} is destroyed", of.text("emergency_kid"));
            let data = of.data(&[
                "emergency_kid",
                "emergency_key_sha256",
                "by",
                "copies",
                "reason",
                "overwritten",
            ]);
            vec![of.notice(Name::KeyDestroyed, words, data)]
        }
        Kind::IncidentBegun => {
            let (incident, by) = (of.text("incident"), of.text("by"));
            let words = format!("Incident {incident} began, by {by}: {}", of.text("reason"));
            vec![of.notice(Name::IncidentBegun, words, of.data(&["incident", "by", "reason"]))]
        }
        Kind::IncidentEnded => {
            let (incident, by) = (of.text("incident"), of.text("by"));
            let words = format!("Incident {incident} ended, by {by}: {}", of.text("reason"));
            let data = of.data(&["incident", "by", "reason", "left"]);
            vec![of.notice(Name::IncidentEnded, words, data)]
        }
        Kind::Init
        | Kind::Stop
        | Kind::Intent
        | Kind::Signed
        | Kind::Failed
        | Kind::Withheld
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::Rehearsal
        | Kind::Probes
        | Kind::Refusals
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::SignerLog
        | Kind::ProxyLog
        | Kind::SessionRefused
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::FleetLink => Vec::new(),
    }
}

/// Whether records of that kind change what is in force, or are notified.
pub(crate) const fn is_heard(kind: Kind) -> bool {
    match kind {
        Kind::Gate
        | Kind::Freeze
        | Kind::FleetFreeze
        | Kind::Unfreeze
        | Kind::FleetUnfreeze
        | Kind::Start
        | Kind::Segment
        | Kind::SessionActivated
        | Kind::SessionEnded
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::IncidentBegun
        | Kind::IncidentEnded => true,
        Kind::Init
        | Kind::Stop
        | Kind::Intent
        | Kind::Signed
        | Kind::Failed
        | Kind::Withheld
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::Rehearsal
        | Kind::Probes
        | Kind::Refusals
        | Kind::SignerLog
        | Kind::ProxyLog
        | Kind::SessionRefused
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::FleetLink => false,
    }
}

/// A key that should have been destroyed: the emergency signer records that, and if that does not run, the
/// trail says so itself. Either has the same id.
pub(crate) fn overdue(log: LogId, kid: &str, due: &str, at: &str) -> Notice {
    Notice {
        id: uuid::v5(log, &format!("notice destruction_overdue {kid} {due}")),
        event: Name::DestructionOverdue,
        at: at.to_owned(),
        summary: format!(
            "Emergency key {kid} should have been destroyed by {due}: signctl breakglass destroy"
        ),
        record: None,
        data: json!({"emergency_kid": kid, "destruction_due": due}),
    }
}

impl RecordView<'_> {
    fn text(&self, name: &str) -> &str {
        self.outline.text(name).unwrap_or_default()
    }

    /// These members of the record.
    fn data(&self, names: &[&str]) -> Value {
        let member =
            |name: &&str| Some(((*name).to_owned(), self.outline.data.get(*name)?.clone()));
        Value::Object(names.iter().filter_map(member).collect())
    }

    fn with_freeze(&self, is_frozen: bool) -> Value {
        let mut data = self.data(&["by", "reason", "id", "freeze_id", "ends", "frozen_for"]);
        if let Some(data) = data.as_object_mut() {
            data.insert("frozen".to_owned(), json!(is_frozen));
        }
        data
    }

    fn notice(&self, event: Name, summary: String, data: Value) -> Notice {
        Notice {
            id: uuid::v5(self.log, &format!("notice {} {}", event.word(), self.seq)),
            event,
            at: self.outline.at.clone(),
            summary,
            record: Some((self.owner, self.log, self.seq)),
            data,
        }
    }
}

/// Only a change between open and not open: probing is neither news.
fn gate(of: &RecordView<'_>) -> Option<Notice> {
    if of.outline.data.get("upstream").is_some() {
        return None;
    }
    let (kid, detail) = (of.text("signer_kid"), of.text("detail"));
    let data = || of.data(&["signer_kid", "from", "to", "detail"]);
    match (of.text("from"), of.text("to")) {
        (_, "open") => {
            Some(of.notice(Name::GateOpen, format!("The gate of {kid} is open"), data()))
        }
        (_, "sealed") => Some(of.notice(
            Name::GateShut,
            format!("The gate of {kid} is sealed: {detail}"),
            data(),
        )),
        ("open", "shut") => {
            Some(of.notice(Name::GateShut, format!("The gate of {kid} is shut: {detail}"), data()))
        }
        _ => None,
    }
}

fn frozen(of: &RecordView<'_>) -> String {
    let whose = if of.kind == Kind::FleetFreeze {
        "Signing is frozen in the fleet"
    } else {
        "Signing is frozen"
    };
    format!("{whose}, by {}: {}", of.text("by"), of.text("reason"))
}

fn unfrozen(of: &RecordView<'_>, is_frozen: bool) -> String {
    let what =
        if is_frozen { "A freeze ended, and another one is in force" } else { "The freeze ended" };
    format!("{what}: {}", of.text("reason"))
}

fn session_begun(of: &RecordView<'_>) -> Notice {
    let (session, incident) = (of.text("session"), of.text("incident"));
    let kid = of.text("emergency_kid");
    let until = of.outline.text("expires_at").map(|at| format!(" until {at}")).unwrap_or_default();
    let words =
        format!("Break-glass session {session} of incident {incident} began: {kid} signs{until}");
    let names = [
        "session",
        "incident",
        "justification",
        "emergency_kid",
        "replaces",
        "expires_at",
        "max_signatures",
        "under_freeze",
        "by",
    ];
    let mut data = of.data(&names);
    let approved = of.outline.data.get("approved").and_then(Value::as_array);
    let approvers = approved.map(|all| all.iter().filter_map(|one| one.get("principal")).collect());
    if let (Some(data), Some(approvers)) = (data.as_object_mut(), approvers) {
        let approvers: Vec<&Value> = approvers;
        data.insert("approvers".to_owned(), json!(approvers));
    }
    of.notice(Name::SessionBegun, words, data)
}

fn session_ended(of: &RecordView<'_>) -> Notice {
    let (session, incident, reason) = (of.text("session"), of.text("incident"), of.text("reason"));
    let signatures = of.outline.number("signatures");
    let signed = signatures.map(|count| format!("; signatures: {count}")).unwrap_or_default();
    let words =
        format!("Break-glass session {session} of incident {incident} ended ({reason}){signed}");
    let names = ["session", "incident", "emergency_kid", "reason", "detail", "signatures", "by"];
    of.notice(Name::SessionEnded, words, of.data(&names))
}

fn destruction_due(of: &RecordView<'_>) -> Notice {
    let (kid, due) = (of.text("emergency_kid"), of.text("destruction_due"));
    let words =
        format!("Emergency key {kid} has to be destroyed by {due}: signctl breakglass destroy");
    let data = of.data(&["emergency_kid", "destruction_due", "session", "incident"]);
    of.notice(Name::DestructionDue, words, data)
}
