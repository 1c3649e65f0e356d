//! The signer's seal: something that only an operator can judge. No session begins until one has ended it
//! with a reason, which is recorded.

use host::clock::rfc3339;
use signing_core::journal::clock_behind;
use time::OffsetDateTime;

use crate::store::Seal;

/// The seal of a start whose clock shows `now`, if that is behind `latest`, the latest time of the
/// journal: what expired would be valid again.
#[must_use]
pub fn by_clock(now: OffsetDateTime, latest: OffsetDateTime) -> Option<Seal> {
    let behind = clock_behind(now, latest)?;
    let detail = format!(
        "clock: at the start this machine's clock was {behind} s behind the latest time of the journal, {}; \
         set the clock, or find out why it was ahead, then: signctl unseal --operator-socket PATH --reason WHY",
        rfc3339(latest)
    );
    Some(Seal { at: rfc3339(now), detail })
}
