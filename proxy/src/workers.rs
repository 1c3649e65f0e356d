//! The workers of all tokens, as metrics and status show them.

use std::sync::Arc;

use signing_core::{Kid, admin};
use upstream::Life;

/// The worker of one upstream of one signer.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The signer.
    pub kid: Kid,
    /// The label of the token: what metrics and status call its region.
    pub token_label: String,
    /// How it fares.
    pub life: Arc<Life>,
}

impl Worker {
    /// As a status shows it.
    #[must_use]
    pub fn message(&self) -> admin::Worker {
        admin::Worker {
            signer_kid: self.kid.to_string(),
            region: self.token_label.clone(),
            up: self.life.is_up(),
            restarts: self.life.restarts(),
            hangs_killed: self.life.hangs_killed(),
        }
    }
}
