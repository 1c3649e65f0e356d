//! The bytes of answers that clients have not taken: bounded for each connection, for each caller,
//! and in total. Whoever asks and does not read gets refusals, not our memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signing_core::{Reason, Refusal};

use super::connection::Connection;
use crate::config;

/// What an answer with a signature takes at most. It is kept for the answer before anybody is
/// asked to sign, since a signature that has no room is made for nothing.
pub const SIGNED_MAX_BYTES: usize = 4 << 10;

/// What several answers share.
#[derive(Debug)]
pub(super) struct Share {
    bytes: AtomicUsize,
    max: usize,
    /// The config key of `max`.
    key: &'static str,
}

/// The shares that an answer of one connection takes from: the connection's, its caller's,
/// everybody's.
#[derive(Debug)]
pub(super) struct Shares([Arc<Share>; 3]);

/// Bytes kept for an answer that is not made yet.
#[derive(Debug)]
pub(super) struct Reserved {
    connection: Arc<Connection>,
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

impl Share {
    fn new(key: &'static str, max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max, key })
    }

    pub(super) fn of_all(limits: &config::Server) -> Arc<Self> {
        Self::new("answers_max_bytes", limits.answers_max_bytes)
    }

    pub(super) fn of_caller(limits: &config::Server) -> Arc<Self> {
        Self::new("answers_per_caller_max_bytes", limits.answers_per_caller_max_bytes)
    }

    fn of_connection(limits: &config::Server) -> Arc<Self> {
        Self::new("answers_per_connection_max_bytes", limits.answers_per_connection_max_bytes)
    }

    /// How many bytes are in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    fn try_add(&self, bytes: usize) -> bool {
        let added = |all: usize| all.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, added).is_ok()
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Shares {
    pub(super) fn new(limits: &config::Server, caller: Arc<Share>, all: Arc<Share>) -> Self {
        Self([Share::of_connection(limits), caller, all])
    }

    /// All or nothing; the share that has no room, the narrowest first.
    fn try_add(&self, bytes: usize) -> Result<(), &Share> {
        for (at, share) in self.0.iter().enumerate() {
            if !share.try_add(bytes) {
                self.0.iter().take(at).for_each(|taken| taken.remove(bytes));
                return Err(share);
            }
        }
        Ok(())
    }

    fn add(&self, bytes: usize) {
        self.0.iter().for_each(|share| share.add(bytes));
    }

    fn remove(&self, bytes: usize) {
        self.0.iter().for_each(|share| share.remove(bytes));
    }
}

impl Reserved {
    /// Keeps `bytes` for an answer of this connection.
    ///
    /// # Errors
    /// The refusal, if a limit is reached.
    pub(super) fn new(connection: &Arc<Connection>, bytes: usize) -> Result<Self, Refusal> {
        match connection.shares().try_add(bytes) {
            Ok(()) => Ok(Self { connection: Arc::clone(connection), bytes }),
            Err(Share { key, max, .. }) => {
                let detail = format!(
                    "{key} is {max}, and answers that were not read take that: read them, then ask again"
                );
                Err(Refusal::new(Reason::Overloaded, detail))
            }
        }
    }

    /// For a refusal, which has to be said: a few hundred bytes, one for each stream.
    pub(super) fn beyond_limits(connection: &Arc<Connection>, bytes: usize) -> Self {
        connection.shares().add(bytes);
        Self { connection: Arc::clone(connection), bytes }
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
        let shares = self.connection.shares();
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
        self.connection.shares().remove(self.bytes);
    }
}
