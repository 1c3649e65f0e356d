//! The PEM files that the data plane's TLS is made of, and mistakes in them.

use std::fmt::Display;
use std::path::Path;

use host::secret::{self, Fault, SecretError, Wanted, shown};
use rustls::Error;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const PRIVATE_KEY: &str = "server.tls.private_key_file";

/// The certificates of a PEM file; what else is in it is passed over.
pub(super) fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = secret::certificates(file).map_err(|error| format!("{key}: {error}"))?;
    Ok(read.into_iter().map(CertificateDer::from).collect())
}

/// The server's private key.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let key = secret::private_key(file, Wanted::TlsKey);
    let key = key.map_err(|error| format!("{PRIVATE_KEY}: {error}"))?;
    PrivateKeyDer::try_from(key.der.to_vec()).map_err(|_| of_key(file, Fault::Damaged))
}

/// Why the key does not serve with the certificate; the library's own words could quote the key.
pub(super) fn unusable(file: &Path, error: &Error) -> String {
    let fault = match error {
        Error::InconsistentKeys(_) => Fault::OtherKey,
        _ => Fault::Damaged,
    };
    of_key(file, fault)
}

fn of_key(file: &Path, fault: Fault) -> String {
    format!("{PRIVATE_KEY}: {}", SecretError::new(file, Wanted::TlsKey, fault))
}

pub(super) fn mistake(key: &str, file: &Path, what: impl Display) -> String {
    format!("{key}: {} {what}", shown(file))
}
