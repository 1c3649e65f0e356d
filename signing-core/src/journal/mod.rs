//! The journal's pure part: what its records say, the bytes they have, how each
//! is chained to the one before and signed. The whole format stands in
//! `docs/journal.md`; the room `audit` reads and writes it.
//!
//! ```text
//! Record --encode--> body --Chain::append--> frame in a segment --Frame::parse--> --follows--> Head
//! ```

mod chain;
mod clip;
mod frame;
mod hash;
mod header;
mod key_id;
mod keys;
mod record;

pub use chain::{Chain, Head};
pub use clip::clip;
pub use frame::{BODY_MAX_BYTES, FRAME_MAX_BYTES, Frame, FrameError, frame_bytes};
pub use hash::{ChainId, RecordHash};
pub use header::{HEADER_BYTES, Header, HeaderError};
pub use key_id::KeyId;
pub use keys::AuditKeys;
pub use record::{
    ACTOR, Activation, Approved, BreakglassEnded, Claimed, DestructionOverdue, Drill,
    EmergencyRefusals, EmergencySigned, Failed, Freeze, Gate, Init, Intent, KeyDestroyed, Kind,
    Outline, Record, Refusals, Refused, Reload, Segment, SessionActivated, SessionEnded,
    SessionRefused, Signed, Start, Stop, TimingUs, Unfreeze, Unlock, Unseal, Withheld, instant,
};
