//! The bytes of answers that clients have not taken: bounded for each connection, for each caller,
//! and in total. Whoever asks and does not read gets refusals, not our memory.

use std::sync::Arc;

use signing_core::{Reason, Refusal};

use super::connection::Connection;
use super::shared::Shared;

/// What an answer with a signature of at most [`SHORT_SIGNATURE_BYTES`] takes at most.
const SIGNED_MAX_BYTES: usize = 4 << 10;
/// The same with a receipt, which has up to two records with their proofs. One with the longest
/// justifications takes more, which counts once it is made.
const RECEIPT_MAX_BYTES: usize = 16 << 10;
/// RSA-4096; only ML-DSA has longer ones.
const SHORT_SIGNATURE_BYTES: usize = 512;

/// What an answer with a signature of so many bytes takes at most. It is kept for the answer before anybody is asked to
/// sign, since a signature that has no room is made for nothing.
#[must_use]
pub const fn signed_max(signature_bytes: usize) -> usize {
    SIGNED_MAX_BYTES + base64(signature_bytes.saturating_sub(SHORT_SIGNATURE_BYTES))
}

/// The same with a receipt, whose records have the signature too.
pub(super) const fn with_receipt_max(signature_bytes: usize) -> usize {
    let more = base64(signature_bytes.saturating_sub(SHORT_SIGNATURE_BYTES));
    RECEIPT_MAX_BYTES + more + 2 * base64(more)
}

/// How long so many bytes are in base64.
const fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Bytes kept for an answer that is not made yet.
#[derive(Debug)]
pub(super) struct Reserved {
    connection: Arc<Connection>,
    /// Where they are kept.
    shared: Arc<Shared>,
    bytes: usize,
}

/// An answer, from when it is made, or its signature is about to ask the gate, until the HTTP
/// library has let go of its last byte.
#[derive(Debug)]
pub(super) struct InFlight {
    reserved: Reserved,
    number: u64,
    is_release: bool,
    /// The HTTP library has its bytes.
    taken: bool,
}

impl Reserved {
    /// Keeps `bytes` for an answer of this connection.
    ///
    /// # Errors
    /// The refusal, if a limit is reached.
    pub(super) fn new(connection: &Arc<Connection>, bytes: usize) -> Result<Self, Refusal> {
        let shared = connection.shared();
        match shared.answers.try_add(bytes) {
            Ok(()) => {}
            Err(full) => {
                let (key, max) = (full.key(), full.max());
                let detail = format!(
                    "{key} is {max}, and answers that were not read take that: read them, then retry"
                );
                return Err(Refusal::new(Reason::Overloaded, detail));
            }
        }
        Ok(Self { connection: Arc::clone(connection), shared, bytes })
    }

    /// For a refusal, which has to be said: a few hundred bytes, one for each stream.
    pub(super) fn beyond_limits(connection: &Arc<Connection>, bytes: usize) -> Self {
        let shared = connection.shared();
        shared.answers.add(bytes);
        Self { connection: Arc::clone(connection), shared, bytes }
    }

    /// The answer is made.
    pub(super) fn answer(self) -> InFlight {
        InFlight::new(self, false)
    }

    /// The answer will have a signature, which is about to ask the gate.
    pub(super) fn release(self) -> InFlight {
        InFlight::new(self, true)
    }

    /// How long the answer has become.
    fn resize(&mut self, bytes: usize) {
        let shares = &self.shared.answers;
        if bytes > self.bytes {
            shares.add(bytes - self.bytes);
        } else {
            shares.remove(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl InFlight {
    fn new(reserved: Reserved, is_release: bool) -> Self {
        let number = reserved.connection.announce(is_release);
        Self { reserved, number, is_release, taken: false }
    }

    /// How long the answer has become.
    pub(super) fn resize(&mut self, bytes: usize) {
        self.reserved.resize(bytes);
    }

    /// The HTTP library took the answer's bytes.
    pub(super) fn taken(&mut self) {
        self.taken = true;
    }

    /// Some of the answer is written, and the rest waits for the client.
    pub(super) fn progressed(&self) {
        // A signature has all of its time from the beginning: it has to arrive, or not.
        if !self.is_release {
            self.reserved.connection.progressed(self.number);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.reserved.connection.answered(self.number, self.is_release && self.taken);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.answers.remove(self.bytes);
    }
}
