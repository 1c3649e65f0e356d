//! The development provider: a key in a plain file. It exists only where the
//! configuration says `environment = "development"` and no guard of the
//! environment asks for the real thing (I3). While that file is not there, the key is out of
//! reach: so an outage can be tried.

use std::path::PathBuf;
use std::sync::Arc;

use development::DevelopmentKey;
use release::{Order, Signs};
use signing_core::evidence::Fault;
use signing_core::gate::Place;

use super::UpstreamError;

/// A development key as an upstream.
#[derive(Debug)]
pub struct DevelopmentUpstream {
    key: DevelopmentKey,
    file: PathBuf,
}

impl DevelopmentUpstream {
    /// Fronts `key`, which was read from `file`.
    #[must_use]
    pub fn new(key: DevelopmentKey, file: PathBuf) -> Self {
        Self { key, file }
    }

    pub(super) fn sign(
        &self,
        order: &impl Order,
        place: &Arc<Place>,
    ) -> Result<Vec<u8>, UpstreamError> {
        // Before anything is signed: what is refused here was certainly not signed.
        if !self.file.exists() {
            let detail = format!("{} is not there; move it back", self.file.display());
            return Err(UpstreamError::failed(Fault::Unavailable, detail));
        }
        order.attempts().begin(Signs::Upstream(Arc::clone(place)));
        self.key
            .sign(order.input())
            .map_err(|error| UpstreamError::failed(Fault::Rejected, error.to_string()))
    }

    pub(super) fn public_key(&self) -> Vec<u8> {
        self.key.public_key_der().to_vec()
    }
}
