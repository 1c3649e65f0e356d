//! When certificates and revocation lists begin and end.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use host::files;

/// From when until when the first certificate of a PEM file is valid; None if
/// there is none, which is a mistake of its own.
pub(super) fn validity(file: &Path) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let der = CertificateDer::from_pem_slice(&files::read(file).ok()?).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}

/// When the first of a file's revocation lists is due for replacement.
pub(super) fn next_update(file: &Path) -> Option<OffsetDateTime> {
    let bytes = files::read(file).ok()?;
    let mut lists: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    if lists.is_empty() {
        lists.push(CertificateRevocationListDer::from(bytes));
    }
    let due = lists.iter().filter_map(|der| {
        let (_, list) = x509_parser::parse_x509_crl(der).ok()?;
        Some(list.next_update()?.to_datetime())
    });
    due.min()
}
