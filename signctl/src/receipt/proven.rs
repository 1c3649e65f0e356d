//! One receipt: where a record is, its bytes, and the proof that it is there. It stands alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use signing_core::Registry;
use signing_core::journal::{AuditKeys, Kind, Outline};
use signing_core::tree::{Inclusion, LogId, TreeHash};

use super::same;

/// A receipt, as an answer has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipt {
    pub(super) log: String,
    pub(super) seq: u64,
    pub(super) leaf: String,
    record: Option<String>,
    proof: Option<String>,
    /// The emergency signer's own, in a break-glass session.
    pub(super) signer: Option<Box<Self>>,
}

/// A record that is proved to be in its log.
pub(super) struct Proven {
    /// What it says.
    pub(super) outline: Outline,
    /// How many records the log has by the proof.
    pub(super) size: u64,
}

impl Receipt {
    /// Checks that its record is in its log, that an audit key says so, and that it is one of that kind.
    /// `at` is where it stands in the answer.
    pub(super) fn proven(
        &self,
        at: &str,
        kind: Kind,
        registry: &Registry,
    ) -> Result<Proven, String> {
        let (record, proof) =
            self.record.as_deref().zip(self.proof.as_deref()).ok_or_else(|| {
                format!(
                    "{at} has no record and proof; ask for them with the header `Signing-Receipt: proof`"
                )
            })?;
        let record = STANDARD.decode(record).map_err(|_| format!("{at}.record is not base64"))?;
        let leaf = TreeHash::leaf(&record);
        same(&format!("{at}.leaf"), &self.leaf, "the record's", &leaf.to_string())?;
        let size = self.check_proof(at, registry, proof, &leaf)?;
        let (outline, found) =
            Outline::parse(&record).ok_or_else(|| format!("{at}.record is not a record"))?;
        if found != kind {
            return Err(format!("{at}.record is `{}`, not `{}`", found.word(), kind.word()));
        }
        Ok(Proven { outline, size })
    }

    /// Where its record is, as another journal names it: `log:seq:leaf`.
    pub(super) fn place(&self) -> Option<String> {
        let log = LogId::parse_origin(&self.log)?;
        Some(format!("{log}:{}:{}", self.seq, self.leaf))
    }

    /// Checks that the leaf is in the log, and that the audit key says so; how much the log has.
    fn check_proof(
        &self,
        at: &str,
        registry: &Registry,
        proof: &str,
        leaf: &TreeHash,
    ) -> Result<u64, String> {
        let proof = Inclusion::parse(proof).map_err(|error| format!("{at}.proof: {error}"))?;
        proof.proves(leaf).map_err(|error| format!("{at}.proof: {error}"))?;
        let stated = proof.checkpoint.checkpoint();
        if proof.index.checked_add(1) != Some(self.seq) {
            return Err(format!(
                "{at}.seq is {}, and the proof's index is {}; it must be one less than the record's number",
                self.seq, proof.index
            ));
        }
        LogId::parse_origin(&self.log)
            .ok_or_else(|| format!("{at}.log is not the name of a log"))?;
        same(&format!("{at}.log"), &self.log, "the proof's", &stated.log.origin())?;
        let signed = AuditKeys::of_registry(registry).verify(&proof.checkpoint);
        signed.map_err(|_| {
            format!("no audit key in --signers signed the checkpoint in {at}.proof")
        })?;
        Ok(stated.size)
    }
}
