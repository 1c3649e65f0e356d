//! KMS's own wire form, so that every AWS SDK signs through the gate: `POST /` with `X-Amz-Target`.
//! What signs is the pipeline of every other request; nothing is ever forwarded.

mod exceptions;
mod keys;

use http::{HeaderMap, HeaderName, Response, StatusCode};
use serde_json::Value;
use sign::headers::sole;
use signing_core::{Caller, Kid, Reason, Refusal, Rulebook};
use time::OffsetDateTime;

use super::answer::Answer;
use super::dialects::{read_key_id, read_list_aliases, read_list_keys};

pub(super) use exceptions::{exception, name, refusal};

/// What is asked for (AWS JSON 1.1 protocol).
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// KMS's name in it.
const SERVICE: &str = "TrentService.";
/// What KMS answers with.
pub(super) const CONTENT_TYPE_JSON: &str = "application/x-amz-json-1.1";

/// An operation that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Sign,
    Verify,
    OfKeys(OfKeys),
}

/// An operation about keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfKeys {
    GetPublicKey,
    DescribeKey,
    ListKeys,
    ListAliases,
}

impl Operation {
    const ALL: [(&'static str, Self); 6] = [
        ("Sign", Self::Sign),
        ("Verify", Self::Verify),
        ("GetPublicKey", Self::OfKeys(OfKeys::GetPublicKey)),
        ("DescribeKey", Self::OfKeys(OfKeys::DescribeKey)),
        ("ListKeys", Self::OfKeys(OfKeys::ListKeys)),
        ("ListAliases", Self::OfKeys(OfKeys::ListAliases)),
    ];

    /// The operation that a request names.
    ///
    /// # Errors
    /// `not_found` for every other one, which is KMS's `UnsupportedOperationException`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let named = sole(headers, TARGET).and_then(|target| target.strip_prefix(SERVICE));
        let found = Self::ALL.into_iter().find(|(name, _)| Some(*name) == named);
        found.map(|(_, operation)| operation).ok_or_else(|| {
            let known = Self::ALL.map(|(name, _)| name).join(", ");
            let detail = format!(
                "X-Amz-Target names no operation that is served here; these are: {known}, of \
                 TrentService"
            );
            Refusal::new(Reason::NotFound, detail)
        })
    }
}

impl OfKeys {
    /// What KMS would answer.
    ///
    /// # Errors
    /// `invalid_request` or `signer_unknown`.
    pub(super) fn answer(
        self,
        rulebook: &Rulebook,
        caller: &Caller,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<Value, Refusal> {
        let signer = || rulebook.find(caller, Some(&read_key_id(body)?));
        Ok(match self {
            Self::GetPublicKey => keys::public_key(signer()?),
            Self::DescribeKey => keys::describe(rulebook, signer()?, now),
            Self::ListKeys => {
                read_list_keys(body)?;
                keys::list(rulebook)
            }
            Self::ListAliases => {
                let named = read_list_aliases(body)?;
                let of = named.map(|named| rulebook.find(caller, Some(&named))).transpose()?;
                keys::list_aliases(rulebook, of.map(|signer| &signer.kid))
            }
        })
    }
}

/// The answer to a request that asks whether it would be granted.
pub(super) fn dry_run() -> Response<Answer> {
    let message = "The request would have been granted, but DryRun is set: nothing was done";
    exceptions::said(StatusCode::PRECONDITION_FAILED, "DryRunOperationException", message)
}

/// The answer about a signature that does not verify.
pub(super) fn invalid_signature(kid: &Kid) -> Response<Answer> {
    let message = format!("the signature does not verify under {kid}");
    exceptions::said(StatusCode::BAD_REQUEST, "KMSInvalidSignatureException", &message)
}
