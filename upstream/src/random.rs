//! Random names of requests and of calls to upstreams, and random bytes of leaves.

use std::cell::RefCell;

use signing_core::AttemptsId;

thread_local! {
    /// What this thread has not used yet: drawn in bulk, which costs a tenth.
    static DRAWN: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits; None if the system gives none.
#[must_use]
pub fn id() -> Option<[u8; 16]> {
    DRAWN.with_borrow_mut(draw)
}

/// A name for the calls of one order or question; None if the system gives no randomness.
#[must_use]
pub fn attempts() -> Option<AttemptsId> {
    id().map(AttemptsId::new)
}

fn draw(drawn: &mut Vec<[u8; 16]>) -> Option<[u8; 16]> {
    if drawn.is_empty() {
        let mut bytes = [0_u8; 1024];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        drawn.extend_from_slice(bytes.as_chunks().0);
    }
    drawn.pop()
}
