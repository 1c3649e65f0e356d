//! The PEM files that the data plane's TLS is made of, and mistakes in them.

use std::fmt::Display;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as Pem, PemObject};

/// The blocks of a PEM file.
pub(super) struct Blocks<T> {
    /// Those of the kind that was asked for, in the file's order.
    pub(super) found: Vec<T>,
    /// How many others there are.
    pub(super) others: usize,
}

/// Reads the PEM blocks of one kind.
///
/// # Errors
/// The position, among those of its kind, of a block that can not be read, from 1 on.
pub(super) fn blocks<T: PemObject>(bytes: &[u8]) -> Result<Blocks<T>, usize> {
    let mut found = Vec::new();
    for (position, block) in (1_usize..).zip(T::pem_slice_iter(bytes)) {
        found.push(block.map_err(|_| position)?);
    }
    let begin = b"-----BEGIN ";
    let all = bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(begin)).count();
    let others = all.saturating_sub(found.len());
    Ok(Blocks { found, others })
}

/// The certificates of a PEM file.
pub(super) fn certificates(
    key: &str,
    file: &Path,
) -> Result<Blocks<CertificateDer<'static>>, String> {
    let bytes = host::files::read(file)
        .map_err(|error| mistake(key, file, format_args!("can not be read: {error}")))?;
    let read = blocks(&bytes).map_err(|position| {
        mistake(
            key,
            file,
            format_args!("does not hold PEM certificates: block {position} can not be read"),
        )
    })?;
    if read.found.is_empty() {
        return Err(mistake(key, file, "holds no PEM block CERTIFICATE"));
    }
    Ok(read)
}

/// Why a PEM file can not be read.
pub(super) fn pem(error: &Pem, expected: &str) -> String {
    match error {
        Pem::Io(error) => format!("can not be read: {error}"),
        other => format!("does not hold {expected}: {other}"),
    }
}

pub(super) fn mistake(key: &str, file: &Path, what: impl Display) -> String {
    format!("{key}: {} {what}", file.display())
}
