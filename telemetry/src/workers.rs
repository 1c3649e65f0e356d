//! The workers of all tokens, as metrics and status show them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
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

/// Those of all tokens in force.
#[derive(Debug, Default)]
pub struct Workers(ArcSwap<Vec<Worker>>);

impl Workers {
    /// These.
    #[must_use]
    pub fn new(workers: Vec<Worker>) -> Self {
        Self(ArcSwap::from_pointee(workers))
    }

    /// Those in force.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Worker>> {
        self.0.load_full()
    }

    /// Takes `new` ones in the place of those of signers that are `gone`; returns all. What is gone ends once
    /// its last call is answered.
    pub fn replace(&self, gone: &BTreeSet<Kid>, new: Vec<Worker>) -> Arc<Vec<Worker>> {
        let mut all = Vec::clone(&self.0.load());
        all.retain(|worker| !gone.contains(&worker.kid));
        all.extend(new);
        self.0.store(Arc::new(all));
        self.all()
    }
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
