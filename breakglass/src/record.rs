//! What came of asking for a session, as a record.

use signing_core::FreezeId;
use signing_core::breakglass::{Refused, Request, wire};
use signing_core::journal::{self, clip};

use crate::emergency::Known;

/// An activation's record, with what it borrows.
pub(super) struct ActivationRecord {
    activated: bool,
    by: String,
    detail: String,
    reason: &'static str,
    emergency_kid: Option<String>,
    incident: Option<String>,
    session: Option<String>,
    signer_head: Option<String>,
    signer_record: Option<String>,
    signer_instance: Option<String>,
    under_freeze: Option<FreezeId>,
}

impl ActivationRecord {
    /// What came of asking for a session, with what is known of the signer.
    pub(super) fn new(
        request: Option<&Request>,
        came_to: Result<&wire::SessionState, &Refused>,
        known: Option<&Known>,
        by: &str,
    ) -> Self {
        Self {
            activated: came_to.is_ok(),
            by: by.to_owned(),
            detail: came_to.err().map_or_else(String::new, |why| clip(&why.detail).to_owned()),
            reason: came_to.err().map_or("activated", |why| why.reason.word()),
            emergency_kid: request.map(|request| request.emergency_kid().to_string()),
            incident: request.map(|request| request.incident().to_owned()),
            session: request.map(Request::session),
            signer_head: known.map(|known| known.state.head.to_text()),
            signer_record: came_to.ok().map(|session| session.record.to_text()),
            signer_instance: known.map(|known| known.state.instance.clone()),
            under_freeze: request.and_then(Request::under_freeze),
        }
    }

    pub(super) fn as_record(&self) -> journal::Activation<'_> {
        journal::Activation {
            activated: self.activated,
            by: &self.by,
            detail: &self.detail,
            emergency_kid: self.emergency_kid.as_deref(),
            incident: self.incident.as_deref(),
            reason: self.reason,
            session: self.session.as_deref(),
            signer_head: self.signer_head.as_deref(),
            signer_record: self.signer_record.as_deref(),
            signer_instance: self.signer_instance.as_deref(),
            under_freeze: self.under_freeze,
        }
    }
}
