//! Refused signatures are counted and recorded together, so that being refused fills no disk; by
//! the session that was in force when they were refused, whichever is when it is recorded.

use std::collections::BTreeMap;

use host::clock::now;
use serde_json::json;
use signing_core::Moment;
use signing_core::breakglass::Session;
use signing_core::breakglass::wire::{Reason, Refused, Sign};
use signing_core::journal::{ACTOR, EmergencyRefusals, Record, Refused as RefusedRecord};

use super::{Service, one_line};

/// By the name of the session; none: no session was in force.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Option<String>, SessionRefusals>);

/// Of one session: counts, and one request of each as a sample.
#[derive(Debug)]
struct SessionRefusals {
    incident: Option<String>,
    justification: Option<String>,
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
    pub(super) fn count(&mut self, in_force: Option<&Session>, ask: &Sign, refused: &Refused) {
        let name = in_force.map(|session| session.id().to_owned());
        let request = in_force.map(Session::request);
        let of = self.0.entry(name).or_insert_with(|| SessionRefusals {
            incident: request.map(|request| request.incident().to_owned()),
            justification: request.map(|request| request.justification().to_owned()),
            counted: BTreeMap::new(),
            since: now(),
        });
        let counted = of.counted.entry(refused.reason).or_insert_with(|| Counted {
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
        armory.refusals.0.retain(|session, of| {
            let refused = of.counted.iter().map(|(reason, counted)| RefusedRecord {
                caller: &counted.caller,
                count: counted.count,
                detail: &counted.detail,
                reason: reason.word(),
                request_id: &counted.request_id,
                signer_kid: Some(&counted.signer_kid),
            });
            let record = Record::EmergencyRefusals(EmergencyRefusals {
                actor: ACTOR,
                incident: of.incident.as_deref(),
                justification: of.justification.as_deref(),
                over_s: now().since(of.since).as_secs(),
                refused: refused.collect(),
                session: session.as_deref(),
            });
            let noted = self.journal.note(&record);
            if let Err(error) = &noted {
                // Kept, and tried again with those that come.
                self.log.error("refusals are not recorded", json!({"error": error.to_string()}));
            }
            noted.is_err()
        });
    }
}
