//! A batch signer's answer, held against its record: the record has the leaf and the signature over the
//! batch's note, and the answer the proof that leads from the input to both.

use serde_json::Value;
use signing_core::journal::BatchLeaf;
use signing_core::{Digest, Hash, Input, Signer};

use super::same;
use crate::batch_signer;

/// Checks the proof against the record, the signer's key and the input; what was checked.
pub(super) fn check(
    signer: &Signer,
    (given, format): (&[u8], Option<&str>),
    (batch, recorded, input_digest): (Option<&Value>, &[u8], &str),
    (input, deployment): (Option<&[u8]>, Option<&str>),
) -> Result<&'static str, String> {
    let kid = &signer.kid;
    same("signature_format", format.unwrap_or_default(), "a batch signer's", "tlog-proof")?;
    let leaf = batch.and_then(BatchLeaf::parse);
    let leaf =
        leaf.ok_or_else(|| format!("{kid} is a batch signer, and the record names no leaf"))?;
    let digits = input_digest.strip_prefix("sha256:");
    let digits = digits.ok_or("the record's input_digest is not a sha256")?;
    let bytes = hex::decode(digits).map_err(|_| "the record's input_digest is not a digest")?;
    let digest = Digest::new(Hash::Sha256, &bytes).map_err(|refusal| refusal.detail)?;
    if let Some(input) = input {
        let of_input = hex::encode(Hash::Sha256.of(input).bytes());
        same("the digest of --input", &of_input, "the record's", digits)?;
    }
    let signer = batch_signer::signer_of(signer, given, deployment)?;
    // Either a message or its digest was given, and the leaf says which.
    let message = input.map(|input| Input::Message(input.to_vec()));
    let tried = message.into_iter().chain([Input::Digest(digest)]);
    let mut verified = tried.filter_map(|input| {
        let prepared = signer.prepare(&input, signer.algorithm()).ok()?;
        signer.verify(&prepared, given.to_vec()).ok()
    });
    let Some(verified) = verified.next() else {
        let there = deployment.map(|name| format!(" in the deployment {name}"));
        let there = there.unwrap_or_default();
        return Err(match input {
            Some(_) => {
                format!("the proof is not {kid}'s{there}, by --signers, of that input")
            }
            None => format!(
                "the proof is not {kid}'s{there}, by --signers, of the record's digest; if a message was signed, \
                 give it with --input"
            ),
        });
    };
    let proved = verified.proved().ok_or("the signature is no proof")?;
    if BatchLeaf::of(proved) != leaf || proved.note_signature != recorded {
        return Err("signature is of another leaf than the record's".to_owned());
    }
    Ok(match input {
        Some(_) => "verified, a proof over the input",
        None => {
            "verified, a proof over the record's digest; give the input with --input to compare it"
        }
    })
}
