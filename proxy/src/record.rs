//! The audit step of the pipeline: what became of an order is on disk before anything
//! of it leaves.

use audit::{Journal, Trouble};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::breakglass::wire::JournalHead;
use signing_core::gate::{Admitted, Evidence};
use signing_core::journal::{self, Record, TimingUs};
use signing_core::{Reason, Refusal};

use crate::intent::Intent;
use crate::order::{DurableOutcome, Failed, Proven, Withheld};

/// The mode of a signature through the signer's own upstream.
pub(crate) const NORMAL: &str = "normal";
/// The mode of a signature with an emergency key.
pub(crate) const BREAKGLASS: &str = "breakglass";

/// Longest detail in a record, in bytes: the space for an outcome is set aside before
/// the upstream is asked.
const DETAIL_MAX_BYTES: usize = 512;

/// Records what became of an order; for a proven one it returns once that is on disk.
///
/// `witnessed` is the emergency signer's own record of it.
///
/// # Errors
/// The refusal of a failed order, or `audit_unavailable` if the record is not on disk.
pub async fn record_outcome<P: Admitted>(
    journal: &Journal,
    verdict: Result<Proven<P>, Failed>,
    witnessed: Option<&JournalHead>,
    replayed: bool,
    timing_us: TimingUs,
) -> Result<DurableOutcome<P>, Refusal> {
    let proven = match verdict {
        Ok(proven) => proven,
        Err(failed) => return Err(record_failure(journal, failed)),
    };
    let (intent, proven) = proven.split();
    let signature = STANDARD.encode(proven.signature().bytes());
    let about = proven.about();
    let signer_record = witnessed.map(JournalHead::to_text);
    let armed = proven.session();
    let record = Record::Signed(journal::Signed {
        algorithm: about.algorithm.name(),
        caller: about.caller.as_str(),
        input_digest: &about.input_digest,
        intent: intent.seq(),
        incident: armed.map(|armed| armed.incident.as_str()),
        session: armed.map(|armed| armed.session.as_str()),
        signer_record: signer_record.as_deref(),
        mode: about.mode,
        replayed,
        request_id: &about.request_id,
        signature: &signature,
        signer_kid: about.signer_kid.as_str(),
        timing_us,
    });
    match journal.outcome(intent, &record).await {
        Ok(durable) => Ok(proven.recorded(durable)),
        Err(trouble) => Err(unavailable(&trouble).about(&proven.about().signer_kid)),
    }
}

/// Nothing leaves, so nothing waits: if this record is lost, the next start concludes the
/// intent as indeterminate.
fn record_failure(journal: &Journal, failed: Failed) -> Refusal {
    let Failed { intent: Intent { seq, about }, evidence, refusal } = failed;
    let detail = match &evidence {
        Evidence::Signed => "",
        Evidence::Failed { detail, .. } | Evidence::Doubt { detail } => detail,
    };
    let record = Record::Failed(journal::Failed {
        algorithm: about.algorithm.name(),
        caller: about.caller.as_str(),
        detail: clip(detail),
        input_digest: &about.input_digest,
        intent: seq.seq(),
        mode: about.mode,
        reason: refusal.reason.word(),
        request_id: &about.request_id,
        signer_kid: about.signer_kid.as_str(),
    });
    // The caller is refused either way; its reason says more than the journal's.
    let _ = journal.conclude(seq, &record);
    refusal
}

/// Records that a signature does not leave. Its own record is on disk, so nothing waits.
pub fn record_withheld(journal: &Journal, withheld: Withheld) -> Refusal {
    let Withheld { about, durable, refusal } = withheld;
    let record = Record::Withheld(journal::Withheld {
        detail: clip(&refusal.detail),
        reason: refusal.reason.word(),
        request_id: &about.request_id,
        signed: durable.seq(),
        signer_kid: about.signer_kid.as_str(),
    });
    // It does not leave either way.
    let _ = journal.note(&record);
    refusal
}

/// What a caller is told when nothing can be recorded: not where the journal lies.
pub(crate) fn unavailable(trouble: &Trouble) -> Refusal {
    let detail = match trouble {
        Trouble::Sealed(_) => "the journal is sealed: an operator has to look into it",
        Trouble::Full(_) => "the journal is full, and nothing is signed without a record",
        Trouble::NoSegment(_) => {
            "the journal cannot make its next segment, and nothing is signed without a record"
        }
        Trouble::Stopping => "the process is stopping, and nothing is signed without a record",
        Trouble::Stalled(_) => {
            "the journal does not keep up, and nothing is signed without a record"
        }
    };
    Refusal::new(Reason::AuditUnavailable, detail)
}

/// As much of a text as a record takes.
pub(crate) fn clip(text: &str) -> &str {
    let mut end = text.len().min(DETAIL_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
