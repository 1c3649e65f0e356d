//! The journal's pure part: what its records say, the bytes they have, and how each write is
//! covered by a signed checkpoint. The whole format stands in `docs/reference/journal.md`; the room `audit`
//! reads and writes it.
//!
//! ```text
//! Record --encode--> body --Layout--> frames in a segment --Frame::parse--> --Growing--> Head
//! ```

mod clip;
mod clock;
mod custody;
mod frame;
mod head;
mod header;
mod in_force;
mod key_id;
mod key_modes;
mod keys;
mod peer_logs;
mod record;

pub use clip::clip;
pub use clock::clock_behind;
pub use custody::Custody;
pub use frame::{
    BODY_MAX_BYTES, CHECKPOINT_MAX_BYTES, Entry, FRAME_ALIGNMENT, FRAME_MAX_BYTES, Frame,
    FrameError, Sealing, Shape, frame_bytes,
};
pub use head::{Growing, Grown, Head, Layout, Leaf};
pub use header::{HEADER_BYTES, Header, HeaderError};
pub use in_force::{FleetFrozen, Frozen, InForce, InForceSnapshot, OpenIncident, Seal, SealedFor};
pub use key_id::KeyId;
pub use key_modes::{KeyModes, KeyModesSnapshot};
pub use keys::{AuditKeys, SignedBy};
pub use peer_logs::{Acceptance, KnownLog, NotBelieved, PeerLog, PeerLogs};
pub use record::{
    ACTOR, Activation, Approved, BatchLeaf, BreakglassEnded, Claimed, CopyDestroyed,
    DestructionOverdue, Drill, EarlierAttempt, EmergencyRefusals, EmergencySigned, Failed,
    FleetFreeze, FleetLink, FleetUnfreeze, Freeze, Gate, IncidentBegun, IncidentCaptured,
    IncidentEnded, IncidentItem, Init, Intent, KeyDestroyed, Kind, Outline, ProbeCall, Probes,
    ProxyLogRecord, Record, Refusals, Refused, Rehearsal, Reload, Segment, SessionActivated,
    SessionEnded, SessionRefused, Signed, SignerLogRecord, SignersChanged, Start, Stop, TimingUs,
    Unfreeze, Unlock, Unseal, Withheld, instant,
};
