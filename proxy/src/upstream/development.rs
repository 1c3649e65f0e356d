//! The development provider: a key in a plain file. It exists only where the
//! configuration says `environment = "development"` and no guard of the
//! environment asks for the real thing (I3).

use development::DevelopmentKey;
use signing_core::gate::Fault;

use super::UpstreamError;
use crate::order::Order;

/// A development key as an upstream.
#[derive(Debug)]
pub struct DevelopmentUpstream {
    key: DevelopmentKey,
}

impl DevelopmentUpstream {
    /// Fronts `key`.
    #[must_use]
    pub fn new(key: DevelopmentKey) -> Self {
        Self { key }
    }

    pub(super) fn sign(&self, order: &impl Order) -> Result<Vec<u8>, UpstreamError> {
        self.key
            .sign(order.input())
            .map_err(|error| UpstreamError::failed(Fault::Rejected, error.to_string()))
    }

    pub(super) fn public_key(&self) -> Vec<u8> {
        self.key.public_key_der().to_vec()
    }
}
