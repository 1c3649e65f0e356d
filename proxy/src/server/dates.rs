//! From when until when the data plane's certificates, authorities and revocation lists count.

use std::path::Path;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::conditions::Dated;

/// A chain counts while each of its certificates does. None if one cannot be read.
pub(super) fn of_chain(file: &Path, chain: &[CertificateDer<'_>]) -> Option<Dated> {
    let all: Vec<_> = chain.iter().map(validity).collect::<Option<_>>()?;
    let begins = all.iter().map(|(begins, _)| *begins).max()?;
    let ends = all.iter().map(|(_, ends)| *ends).min()?;
    Some(Dated { what: format!("server.tls.certificate_file: {}", file.display()), begins, ends })
}

/// Each authority of the file by its position there, since several may have one name.
pub(super) fn of_authorities(file: &Path, authorities: &[CertificateDer<'_>]) -> Vec<Dated> {
    let dated = |(index, der): (usize, &CertificateDer<'_>)| {
        let (begins, ends) = validity(der)?;
        let (number, file) = (index + 1, file.display());
        let what = format!("server.tls.client_ca_file: certificate {number} of {file}");
        Some(Dated { what, begins, ends })
    };
    authorities.iter().enumerate().filter_map(dated).collect()
}

/// Each list of the file. A list that does not say when it is due never is.
pub(super) fn of_lists(file: &Path, lists: &[CertificateRevocationListDer<'_>]) -> Vec<Dated> {
    let dated = |(index, der): (usize, &CertificateRevocationListDer<'_>)| {
        let (_, list) = x509_parser::parse_x509_crl(der).ok()?;
        let (number, file) = (index + 1, file.display());
        let what = format!("server.tls.client_crl_files: list {number} of {file}");
        let (begins, ends) = (list.last_update().to_datetime(), list.next_update()?.to_datetime());
        Some(Dated { what, begins, ends })
    };
    lists.iter().enumerate().filter_map(dated).collect()
}

fn validity(der: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}
