//! Bytes from outside, read as a connection would read them, without one: what is fuzzed.

use http::request::Parts;
use http::{Method, Uri};
use rustls::pki_types::CertificateDer;
use signing_core::{Caller, Input, Reason, Refusal, SignRequest};
use time::OffsetDateTime;

use super::route::{Resource, kid_of_query, route};
use super::{dialects, kms, local};

/// What a body asks to have signed; the path decides about the dialect.
///
/// # Errors
/// The refusal that its caller would get.
pub fn sign_request(
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<SignRequest, Refusal> {
    dialects::read_sign(path, content_type, body, (false, &[])).map(|(_, request)| request)
}

/// What a body asks to have verified: the input and the signature.
///
/// # Errors
/// The refusal that its caller would get.
pub fn verify_request(
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(Input, Vec<u8>), Refusal> {
    dialects::read_verify(path, content_type, body)
        .map(|request| (request.input, request.signature))
}

/// Whom the AWS signature of a request names, and whether a secret that nobody has made it; None:
/// it has no such signature.
///
/// # Errors
/// The refusal that its caller would get.
pub fn aws_signature(
    head: &Parts,
    body: &[u8],
    now: OffsetDateTime,
) -> Result<Option<(String, bool)>, Refusal> {
    local::claimed(head, body, now).map_err(|not_proven| not_proven.refusal)
}

/// What KMS would call a refusal.
#[must_use]
pub fn kms_exception(reason: Reason) -> &'static str {
    kms::exception(reason, None)
}

/// Whom a client certificate names, once it is verified.
///
/// # Errors
/// The refusal that each of its requests would get.
pub fn caller(certificate_der: &[u8]) -> Result<Caller, Refusal> {
    mtls::caller(Some(&[CertificateDer::from(certificate_der)]))
}

/// Whether a revocation list that is taken revokes each certificate that another parser finds
/// on it; None if it is not taken.
#[must_use]
pub fn revocation_list(der: &[u8]) -> Option<bool> {
    mtls::revokes_all_that_it_lists(der)
}

/// By which method a target of a request is asked for, and the kid that it names, if any.
///
/// # Errors
/// The refusal that its caller would get.
pub fn resource(uri: &Uri) -> Result<(Method, Option<String>), Refusal> {
    let (resource, method) = route(uri.path())?;
    let kid = match resource {
        Resource::PublicKeyDer { kid } => Some(kid),
        Resource::PublicKeyPem => kid_of_query(uri)?,
        Resource::Sign
        | Resource::Verify
        | Resource::PublicKeyAsked
        | Resource::Kms
        | Resource::Signers
        | Resource::Health
        | Resource::Live
        | Resource::Ready
        | Resource::OpenApi => None,
    };
    Ok((method, kid))
}
