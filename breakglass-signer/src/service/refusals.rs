//! Refused signatures are counted and recorded together, so that being refused fills no disk.

use std::collections::BTreeMap;

use serde_json::json;
use signing_core::Moment;
use signing_core::breakglass::wire::{Reason, Refused, Sign};
use signing_core::journal::{ACTOR, EmergencyRefusals, Record, Refused as RefusedRecord};

use super::{Service, one_line};
use crate::time::now;

/// Counts, and one request of each as a sample.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counted: BTreeMap<Reason, Counted>,
    since: Moment,
}

#[derive(Debug)]
struct Counted {
    count: u64,
    caller: String,
    detail: String,
    request_id: String,
    signer_kid: String,
}

impl Refusals {
    pub(super) fn count(&mut self, ask: &Sign, refused: &Refused) {
        if self.counted.is_empty() {
            self.since = now();
        }
        let counted = self.counted.entry(refused.reason).or_insert_with(|| Counted {
            count: 0,
            caller: one_line(&ask.caller, 256),
            detail: one_line(&refused.detail, 1024),
            request_id: one_line(&ask.request_id, 256),
            signer_kid: one_line(&ask.signer_kid, 128),
        });
        counted.count = counted.count.saturating_add(1);
    }
}

impl Service {
    /// Records what was refused since the last time.
    pub(super) fn record_refusals(&self) {
        let mut armory = self.armory.borrow_mut();
        let over_s = now().since(armory.refusals.since).as_secs();
        if armory.refusals.counted.is_empty() {
            return;
        }
        let request = armory.active.as_ref().map(|active| active.session.request());
        let refused = armory.refusals.counted.iter().map(|(reason, counted)| RefusedRecord {
            caller: &counted.caller,
            count: counted.count,
            detail: &counted.detail,
            reason: reason.word(),
            request_id: &counted.request_id,
            signer_kid: Some(&counted.signer_kid),
        });
        let record = Record::EmergencyRefusals(EmergencyRefusals {
            actor: ACTOR,
            incident: request.map(signing_core::breakglass::Request::incident),
            justification: request.map(signing_core::breakglass::Request::justification),
            over_s,
            refused: refused.collect(),
            session: armory.active.as_ref().map(|active| active.session.id()),
        });
        match self.journal.note(&record) {
            Ok(()) => armory.refusals.counted.clear(),
            // Kept, and tried again with those that come.
            Err(trouble) => {
                self.log.error("refusals are not recorded", json!({"error": trouble.to_string()}));
            }
        }
    }
}
