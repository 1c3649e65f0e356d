//! The emergency signer's own record of a signature: what the proxy's record names it by, and for a receipt
//! the record itself and the proof that it is in the signer's log. A proof that does not prove that is no
//! answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::breakglass::wire::{JournalRecord, RecordProof};
use signing_core::journal::AuditKeys;
use signing_core::tree::{Inclusion, LogId, TreeHash};

/// A record of the emergency signer's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Log, number and leaf of the record.
    pub record: JournalRecord,
    /// The origin of its log, as receipts name it.
    pub origin: String,
    /// That it is in there, if that was asked for.
    pub proof: Option<RecordProof>,
}

impl Witness {
    /// What the signer says of its record. None if its answer cannot be read, or if the proof does not
    /// verify under one of `keys`.
    pub(super) fn new(
        record: JournalRecord,
        proof: Option<RecordProof>,
        keys: &AuditKeys,
    ) -> Option<Self> {
        let (log, leaf) = (LogId::parse(&record.log)?, TreeHash::parse(&record.leaf)?);
        if let Some(RecordProof { record: body, proof }) = &proof {
            let body = STANDARD.decode(body).ok()?;
            let proof = Inclusion::parse(proof).ok()?;
            let is_its = TreeHash::leaf(&body) == leaf
                && proof.proves(&leaf).is_ok()
                && proof.index.checked_add(1) == Some(record.seq)
                && proof.checkpoint.checkpoint().log == log
                && keys.verify(&proof.checkpoint).is_ok();
            if !is_its {
                return None;
            }
        }
        Some(Self { origin: log.origin(), record, proof })
    }
}
