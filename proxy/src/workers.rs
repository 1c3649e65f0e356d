//! The workers of all tokens, as metrics and status show them.

use std::sync::Arc;

use serde_json::{Value, json};
use signing_core::Kid;
use upstream::Life;

use crate::json::put;

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

/// Adds to a status each worker, where there are any.
pub fn put_workers(workers: &[Worker], status: &mut Value) {
    if workers.is_empty() {
        return;
    }
    let shown = |worker: &Worker| {
        json!({
            "signer_kid": worker.kid.as_str(),
            "region": worker.token_label,
            "up": worker.life.is_up(),
            "restarts": worker.life.restarts(),
            "hangs_killed": worker.life.hangs_killed(),
        })
    };
    put(status, "workers", workers.iter().map(shown).collect::<Vec<_>>());
}
