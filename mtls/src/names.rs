//! Whom a verified client certificate names.

use rustls::pki_types::CertificateDer;
use signing_core::{Caller, Reason, Refusal};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who the verified client certificate names.
///
/// # Errors
/// `caller_not_authorized` if it names nobody for certain.
pub fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Result<Caller, Refusal> {
    let refused = |why: String| {
        Refusal::new(
            Reason::CallerNotAuthorized,
            format!("the client certificate names no caller: {why}"),
        )
    };
    let leaf = certificates
        .and_then(<[_]>::first)
        .ok_or_else(|| refused("the client sent no certificate; send one".into()))?;
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| refused(error.to_string()))?;
    let extension =
        certificate.subject_alternative_name().map_err(|error| refused(error.to_string()))?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(refused("one of its names cannot be read".into()));
    }
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let dns_names: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    Caller::from_subject_alternative_names(&uris, &dns_names)
        .map_err(|error| refused(error.to_string()))
}
