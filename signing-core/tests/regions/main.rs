//! Gates of several upstreams: what the whole makes of its parts, the window of calls, flaps,
//! and the outage clock (I11).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod flaps;
mod outage;
mod room;
mod whole;
mod window;
