//! What lets a client stay connected, and until when.

use std::sync::{Mutex, PoisonError};

use host::clock::now;
use mtls::{FinishedHandshake, ServerTls};
use signing_core::Moment;
use time::OffsetDateTime;

use super::expiry::Expiry;

/// What let a client in.
#[derive(Debug)]
pub(super) enum LetIn {
    /// Its certificate.
    Certificate {
        handshake: FinishedHandshake,
        /// A reload may change it.
        expiry: Mutex<Expiry>,
    },
    /// It is on this machine. Its requests prove who calls, each anew.
    Local,
}

impl LetIn {
    pub(super) fn certificate(handshake: FinishedHandshake, expiry: Expiry) -> Self {
        Self::Certificate { handshake, expiry: Mutex::new(expiry) }
    }

    /// Whether `tls` would let it in now; until then, if so, it may stay.
    pub(super) fn is_let_in(&self, tls: &ServerTls, wall: OffsetDateTime) -> bool {
        let Self::Certificate { handshake, expiry } = self else { return true };
        let Some(until) = tls.lets_in(handshake, wall) else { return false };
        *expiry.lock().unwrap_or_else(PoisonError::into_inner) = Expiry::new(until, now(), wall);
        true
    }

    /// Whether its certificate, or what vouched for it, has expired.
    pub(super) fn is_expired(&self, now: Moment, wall: OffsetDateTime) -> bool {
        match self {
            Self::Certificate { expiry, .. } => {
                expiry.lock().unwrap_or_else(PoisonError::into_inner).is_past(now, wall)
            }
            Self::Local => false,
        }
    }
}
