//! From when until when a certificate, an authority or a list counts.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Something that counts from one time until another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// What it is, with its configuration key and file.
    pub what: String,
    /// The first moment in which it counts.
    pub begins: OffsetDateTime,
    /// The last moment in which it counts.
    pub ends: OffsetDateTime,
}

/// A chain counts while each of its certificates does. None if one cannot be read.
pub(super) fn of_chain(file: &Path, chain: &[CertificateDer<'_>]) -> Option<Dated> {
    let all: Vec<_> = chain.iter().map(validity).collect::<Option<_>>()?;
    let begins = all.iter().map(|(begins, _)| *begins).max()?;
    let ends = all.iter().map(|(_, ends)| *ends).min()?;
    Some(Dated { what: format!("server.tls.certificate_file: {}", file.display()), begins, ends })
}

fn validity(der: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}
