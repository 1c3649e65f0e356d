//! What records say, and their canonical bytes.
//!
//! A body is JSON in the one form that JavaScript's `JSON.stringify` gives it once
//! keys are sorted: no white space, no floats. So every struct here has its fields in
//! the order of their names.

mod batch;
mod breakglass;
mod fleet;
mod incident;
mod outline;
mod proxy;
mod signers_changed;

use serde::Serialize;
use time::OffsetDateTime;

use super::frame::BODY_MAX_BYTES;

pub use batch::BatchLeaf;
pub use breakglass::{
    ACTOR, Activation, Approved, BreakglassEnded, Claimed, CopyDestroyed, DestructionOverdue,
    EmergencyRefusals, EmergencySigned, KeyDestroyed, ProxyLogRecord, SessionActivated,
    SessionEnded, SessionRefused, SignerLogRecord, Unlock,
};
pub use fleet::{FleetFreeze, FleetLink, FleetUnfreeze};
pub use incident::{IncidentBegun, IncidentCaptured, IncidentEnded, IncidentItem};
pub use outline::Outline;
pub use proxy::{
    Drill, EarlierAttempt, Failed, Freeze, Gate, Init, Intent, ProbeCall, Probes, Refusals,
    Refused, Rehearsal, Reload, Segment, Signed, Start, Stop, TimingUs, Unfreeze, Unseal, Withheld,
};
pub use signers_changed::SignersChanged;

/// What a record has room for at first: a signature's and its intent's are shorter.
const RECORD_BYTES: usize = 1024;

/// Declares [`Kind`] as a table: variant, word, whether its record may use the
/// reserved space, what it records.
macro_rules! kinds {
    ($($variant:ident $word:literal $ends:literal $what:literal)*) => {
        /// What a record is about. Its word is the body's `type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(#[doc = $what] $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The body's `type`, and the metric's label.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Whether it ends or stops something: such a record may use the space that
            /// is reserved for them.
            #[must_use]
            pub const fn ends_something(self) -> bool {
                match self { $(Self::$variant => $ends,)* }
            }

            /// What it records, for a person.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

kinds! {
    Init "init" false "A log began."
    Start "start" true "A process began to write."
    Stop "stop" true "It ended in order."
    Segment "segment" true "A segment began."
    Intent "intent" false "An upstream is about to be asked to sign."
    Signed "signed" true "The signature verified, and is about to leave."
    Failed "failed" true "No signature came of an intent, or none is known."
    Withheld "withheld" true "A signature that was made does not leave."
    Gate "gate" true "A gate went from one state to another."
    Freeze "freeze" true "An operator stopped all signing."
    Unfreeze "unfreeze" false "An operator asked to end the freeze."
    Unseal "unseal" false "An operator asked to end a seal."
    Reload "reload" false "Another configuration is about to be put in force."
    Drill "drill" false "A drill began or ended."
    Rehearsal "rehearsal" false "A break-glass ceremony was rehearsed with another key."
    Probes "probes" false "Calls to upstreams that no caller asked for."
    Refusals "refusals" false "Requests that were refused, counted, with a sample of each."
    SessionActivated "session_activated" false "A break-glass session is about to begin; its request is used up."
    SessionRefused "session_refused" false "A break-glass session was asked for, and does not begin."
    EmergencySigned "emergency_signed" false "An emergency key signed, and the signature is about to leave."
    EmergencyRefusals "emergency_refusals" false "Emergency signatures that were refused, counted, with a sample of each."
    SessionEnded "session_ended" true "A break-glass session ended, and its key was wiped."
    DestructionOverdue "destruction_overdue" true "An emergency key that a session used should have been destroyed."
    KeyDestroyed "key_destroyed" true "An emergency key was destroyed."
    CopyDestroyed "copy_destroyed" true "Somebody attested that a copy of a destroyed key is destroyed."
    Unlock "unlock" false "A passphrase for an emergency key was brought, used, or let go."
    Activation "activation" false "The proxy asked its emergency signer for a session."
    BreakglassEnded "breakglass_ended" true "The proxy left a break-glass session."
    IncidentBegun "incident_begun" false "An incident began."
    IncidentCaptured "incident_captured" false "The state was captured for an incident."
    IncidentItem "incident_item" false "Somebody said what was done for an incident."
    IncidentEnded "incident_ended" false "An incident ended."
    SignerLog "signer_log" false "How far the emergency signer's log goes, as the proxy knows it."
    ProxyLog "proxy_log" false "How far a proxy's log goes, as the emergency signer knows it."
    FleetFreeze "fleet_freeze" true "A freeze of the whole fleet was obeyed here."
    FleetUnfreeze "fleet_unfreeze" false "A signed statement ends freezes of the fleet here."
    FleetLink "fleet_link" false "What this member hears of its fleet changed."
}

impl Kind {
    /// Whether it is an event for whoever watches: something that happened to the proxy. What each request makes, and
    /// what the journal says of itself, would push the events out of sight.
    #[must_use]
    pub const fn is_event(self) -> bool {
        match self {
            Self::Intent
            | Self::Signed
            | Self::Failed
            | Self::Withheld
            | Self::EmergencySigned
            | Self::Segment
            | Self::Probes
            | Self::SignerLog
            | Self::ProxyLog => false,
            Self::Init
            | Self::Start
            | Self::Stop
            | Self::Gate
            | Self::Freeze
            | Self::Unfreeze
            | Self::Unseal
            | Self::Reload
            | Self::Drill
            | Self::Rehearsal
            | Self::Refusals
            | Self::SessionActivated
            | Self::SessionRefused
            | Self::EmergencyRefusals
            | Self::SessionEnded
            | Self::DestructionOverdue
            | Self::KeyDestroyed
            | Self::CopyDestroyed
            | Self::Unlock
            | Self::Activation
            | Self::BreakglassEnded
            | Self::IncidentBegun
            | Self::IncidentCaptured
            | Self::IncidentItem
            | Self::IncidentEnded
            | Self::FleetFreeze
            | Self::FleetUnfreeze
            | Self::FleetLink => true,
        }
    }

    /// Reads a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

/// A record before it has a place in a log.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant's name is its struct's, which says what it is")]
pub enum Record<'r> {
    Init(Init<'r>),
    Start(Start<'r>),
    Stop(Stop<'r>),
    Segment(Segment<'r>),
    Intent(Intent<'r>),
    Signed(Signed<'r>),
    Failed(Failed<'r>),
    Withheld(Withheld<'r>),
    Gate(Gate<'r>),
    Freeze(Freeze<'r>),
    Unfreeze(Unfreeze<'r>),
    Unseal(Unseal<'r>),
    Reload(Reload<'r>),
    Drill(Drill<'r>),
    Rehearsal(Rehearsal<'r>),
    Probes(Probes<'r>),
    Refusals(Refusals<'r>),
    SessionActivated(SessionActivated<'r>),
    SessionRefused(SessionRefused<'r>),
    EmergencySigned(EmergencySigned<'r>),
    EmergencyRefusals(EmergencyRefusals<'r>),
    SessionEnded(SessionEnded<'r>),
    DestructionOverdue(DestructionOverdue<'r>),
    KeyDestroyed(KeyDestroyed<'r>),
    CopyDestroyed(CopyDestroyed<'r>),
    Unlock(Unlock<'r>),
    Activation(Activation<'r>),
    BreakglassEnded(BreakglassEnded<'r>),
    IncidentBegun(IncidentBegun<'r>),
    IncidentCaptured(IncidentCaptured<'r>),
    IncidentItem(IncidentItem<'r>),
    IncidentEnded(IncidentEnded<'r>),
    SignerLog(SignerLogRecord<'r>),
    ProxyLog(ProxyLogRecord<'r>),
    FleetFreeze(FleetFreeze<'r>),
    FleetUnfreeze(FleetUnfreeze<'r>),
    FleetLink(FleetLink<'r>),
}

/// The body: when, what, and of which kind.
#[derive(Serialize)]
struct Body<'r> {
    at: &'r str,
    data: &'r Record<'r>,
    r#type: &'static str,
}

impl Record<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Init(_) => Kind::Init,
            Self::Start(_) => Kind::Start,
            Self::Stop(_) => Kind::Stop,
            Self::Segment(_) => Kind::Segment,
            Self::Intent(_) => Kind::Intent,
            Self::Signed(_) => Kind::Signed,
            Self::Failed(_) => Kind::Failed,
            Self::Withheld(_) => Kind::Withheld,
            Self::Gate(_) => Kind::Gate,
            Self::Freeze(_) => Kind::Freeze,
            Self::Unfreeze(_) => Kind::Unfreeze,
            Self::Unseal(_) => Kind::Unseal,
            Self::Reload(_) => Kind::Reload,
            Self::Drill(_) => Kind::Drill,
            Self::Rehearsal(_) => Kind::Rehearsal,
            Self::Probes(_) => Kind::Probes,
            Self::Refusals(_) => Kind::Refusals,
            Self::SessionActivated(_) => Kind::SessionActivated,
            Self::SessionRefused(_) => Kind::SessionRefused,
            Self::EmergencySigned(_) => Kind::EmergencySigned,
            Self::EmergencyRefusals(_) => Kind::EmergencyRefusals,
            Self::SessionEnded(_) => Kind::SessionEnded,
            Self::DestructionOverdue(_) => Kind::DestructionOverdue,
            Self::KeyDestroyed(_) => Kind::KeyDestroyed,
            Self::CopyDestroyed(_) => Kind::CopyDestroyed,
            Self::Unlock(_) => Kind::Unlock,
            Self::Activation(_) => Kind::Activation,
            Self::BreakglassEnded(_) => Kind::BreakglassEnded,
            Self::IncidentBegun(_) => Kind::IncidentBegun,
            Self::IncidentCaptured(_) => Kind::IncidentCaptured,
            Self::IncidentItem(_) => Kind::IncidentItem,
            Self::IncidentEnded(_) => Kind::IncidentEnded,
            Self::SignerLog(_) => Kind::SignerLog,
            Self::ProxyLog(_) => Kind::ProxyLog,
            Self::FleetFreeze(_) => Kind::FleetFreeze,
            Self::FleetUnfreeze(_) => Kind::FleetUnfreeze,
            Self::FleetLink(_) => Kind::FleetLink,
        }
    }

    /// Its body at that time, in canonical JSON. None if it has no such form, or is
    /// longer than a body may be; whoever writes records bounds what goes into them.
    #[must_use]
    pub fn encode(&self, at: OffsetDateTime) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        let body = Body { at: &instant(at), data: self, r#type: self.kind().word() };
        serde_json::to_writer(&mut bytes, &body).ok()?;
        (bytes.len() <= BODY_MAX_BYTES).then_some(bytes)
    }
}

/// `2026-11-24T02:22:12.123456Z`: RFC 3339 in UTC with six digits, always as long.
#[must_use]
pub fn instant(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (hour, minute, second, micros) = at.to_hms_micro();
    // Nothing was recorded before the year 0.
    let year = u32::try_from(at.year()).unwrap_or(0);
    let parts = [
        (year, 4, '-'),
        (u8::from(at.month()).into(), 2, '-'),
        (at.day().into(), 2, 'T'),
        (hour.into(), 2, ':'),
        (minute.into(), 2, ':'),
        (second.into(), 2, '.'),
        (micros, 6, 'Z'),
    ];
    // Digit by digit: every record has one, and the formatter takes several times as long.
    let mut text = String::with_capacity(27);
    for (number, digits, then) in parts {
        let places = (0..digits).rev().map(|place| number / 10_u32.pow(place) % 10);
        text.extend(places.filter_map(|digit| char::from_digit(digit, 10)).chain([then]));
    }
    text
}
