//! The registry as verifiers read it: written once for each rulebook, and shared by all answers.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use signing_core::Rulebook;

/// The newest registry that was asked for, as JSON.
#[derive(Debug, Default)]
pub struct RegistryAnswer {
    newest: ArcSwapOption<Written>,
    /// Held while one is written, so that many who ask at once do not write many.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Written {
    generation: u64,
    json: Bytes,
}

impl RegistryAnswer {
    /// The registry of `rulebook`.
    pub(super) fn of(&self, rulebook: &Rulebook) -> Bytes {
        let generation = rulebook.generation();
        let known = || {
            let newest = self.newest.load();
            newest.as_ref().filter(|one| one.generation == generation).map(|one| one.json.clone())
        };
        if let Some(json) = known() {
            return json;
        }
        // What is written is whole or not there.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(json) = known() {
            return json;
        }
        let json = Bytes::from(rulebook.registry().to_json());
        // A request of the rulebook before a reload does not bring it back.
        if self.newest.load().as_ref().is_none_or(|newest| newest.generation < generation) {
            self.newest.store(Some(Arc::new(Written { generation, json: json.clone() })));
        }
        json
    }
}
