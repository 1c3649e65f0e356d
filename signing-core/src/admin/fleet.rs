//! What the agent of a fleet and a member say to each other.

use serde::{Deserialize, Serialize};

/// `POST /v1/fleet/freeze`: a freeze that the whole fleet obeys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFreeze {
    /// 32 hex digits: 16 random bytes.
    pub id: String,
    /// Why; callers and records see it.
    pub reason: String,
    /// Who ordered it, for people: nothing depends on it.
    pub by: String,
}

/// `POST /v1/fleet/statement`: what ends freezes, and who signed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetStatement {
    /// Base64 of the document's exact bytes.
    pub statement_b64: String,
    /// Base64 of the signature, as `ssh-keygen -Y sign` writes it.
    pub signature_b64: String,
}

/// `POST /v1/fleet/heartbeat`: the agent has read the fleet, and has presented all that it read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetHeartbeat {
    /// The ids of all freezes that apply to this member. One that it neither obeys nor knows to be ended
    /// was presented to another process, before a restart: then nothing was heard.
    #[serde(default)]
    pub read: Vec<String>,
}

/// How a member is in its fleet: the answer to a heartbeat, and a part of the status.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetMember {
    /// The fleet; none: the proxy is of no fleet, and still holds freezes of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Whether this member has ever read its fleet. Until then it does not sign.
    pub joined: bool,
    /// Whether it was not heard within the lease.
    pub lost: bool,
    /// Seconds since it was heard; none: not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_s_ago: Option<u64>,
    /// What applies while it is lost: `keep` or `freeze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<String>,
    /// The freezes in force here.
    pub held: Vec<HeldFreeze>,
    /// Those that a signed statement ended, the newest last.
    pub ended: Vec<String>,
}

/// A freeze of the fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldFreeze {
    /// Its id.
    pub id: String,
    /// The reason that was given with it.
    pub reason: String,
    /// Who ordered it, as whoever presented it said.
    pub by: String,
    /// RFC 3339: since when this member obeys it.
    pub since: String,
}

/// What became of a statement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FleetEnded {
    /// Whether a freeze is in force now, of the fleet or of this proxy's own operators.
    pub frozen: bool,
    /// What is not as it was asked: why the statement does not count, or that there was nothing to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
