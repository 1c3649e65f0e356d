//! The blocks of a PEM (RFC 7468), as tools write it: text around them, lines of any length, either
//! line end, spaces around lines. A library's reader would do, if its errors did not quote the
//! input and its buffers were wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::fault::{Fault, Found};
use super::{Form, without_mark};

/// No boundary is longer; one that lines were joined to is.
const BOUNDARY_MAX_BYTES: usize = 80;

/// One block, not decoded yet.
pub(super) struct Block<'t> {
    /// What it says that it is.
    pub(super) label: Label,
    /// It is encrypted in the way of RFC 1421, by headers of its own.
    pub(super) has_headers: bool,
    first_line: usize,
    body: Vec<&'t [u8]>,
}

/// What blocks say that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Certificate,
    CertificateRequest,
    RevocationList,
    PublicKey,
    PrivateKey,
    RsaPrivateKey,
    EcPrivateKey,
    EncryptedPrivateKey,
    OpenSshPrivateKey,
    Pkcs7,
    /// Parameters, and whatever nobody asks for here.
    Other,
}

impl Label {
    fn of(text: &[u8]) -> Self {
        match text {
            b"CERTIFICATE" => Self::Certificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::CertificateRequest,
            b"X509 CRL" => Self::RevocationList,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" => Self::PublicKey,
            b"PRIVATE KEY" => Self::PrivateKey,
            b"RSA PRIVATE KEY" => Self::RsaPrivateKey,
            b"EC PRIVATE KEY" => Self::EcPrivateKey,
            b"ENCRYPTED PRIVATE KEY" => Self::EncryptedPrivateKey,
            b"OPENSSH PRIVATE KEY" => Self::OpenSshPrivateKey,
            b"PKCS7" => Self::Pkcs7,
            _ => Self::Other,
        }
    }

    /// How a private key in it is written.
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Self::PrivateKey => Some(Form::Pkcs8),
            Self::RsaPrivateKey => Some(Form::Pkcs1),
            Self::EcPrivateKey => Some(Form::Sec1),
            Self::EncryptedPrivateKey => Some(Form::Sealed),
            Self::Certificate
            | Self::CertificateRequest
            | Self::RevocationList
            | Self::PublicKey
            | Self::OpenSshPrivateKey
            | Self::Pkcs7
            | Self::Other => None,
        }
    }
}

impl Block<'_> {
    /// As what it is told where something else is wanted.
    pub(super) fn found(&self) -> Option<Found> {
        match self.label {
            Label::PrivateKey | Label::RsaPrivateKey | Label::EcPrivateKey if self.has_headers => {
                Some(Found::OldEncryptedKey)
            }
            Label::PrivateKey | Label::RsaPrivateKey | Label::EcPrivateKey => {
                Some(Found::PrivateKey)
            }
            Label::EncryptedPrivateKey => Some(Found::EncryptedKey),
            Label::OpenSshPrivateKey => Some(Found::OpenSshKey),
            Label::Certificate => Some(Found::Certificate),
            Label::CertificateRequest => Some(Found::CertificateRequest),
            Label::RevocationList => Some(Found::RevocationList),
            Label::PublicKey => Some(Found::PublicKey),
            Label::Pkcs7 => Some(Found::Pkcs7),
            Label::Other => None,
        }
    }

    /// What it holds, wiped on drop.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let length = self.body.iter().map(|line| line.len()).sum();
        // Both have their place from the start, so that no copy is left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        self.body.iter().for_each(|line| text.extend_from_slice(line));
        let mut der = Zeroizing::new(vec![0; length]);
        let decoded = STANDARD.decode_slice(text.as_slice(), &mut der);
        let length = decoded.map_err(|_| Fault::Base64 { line: self.first_line })?;
        der.truncate(length);
        Ok(der)
    }
}

/// Every block of `text`, in order; at least one.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, Fault> {
    let mut blocks = Vec::new();
    let mut open: Option<(&[u8], Block<'_>)> = None;
    for (number, line) in (1..).zip(lines(text)) {
        // A second file that was put behind the first brings its own mark.
        let line = without_mark(line).trim_ascii();
        let is_boundary = line.windows(5).any(|five| five == b"-----");
        open = match (open, boundary(line)) {
            (None, Some(Boundary::Begin(label))) => {
                let kind = Label::of(label);
                let first_line = number + 1;
                let block = Block { label: kind, has_headers: false, first_line, body: Vec::new() };
                Some((label, block))
            }
            (Some((label, block)), Some(Boundary::End(ends))) if label == ends => {
                blocks.push(block);
                None
            }
            (None, Some(Boundary::End(_))) | (Some(_), Some(_)) => return Err(Fault::Cut),
            (_, None) if is_boundary => return Err(broken(line, number)),
            (None, None) => None,
            (Some(_), None) if line.contains(&b'\\') => return Err(Fault::Joined),
            (Some((label, mut block)), None) => {
                block.has_headers |= line.starts_with(b"Proc-Type:");
                block.body.push(line);
                Some((label, block))
            }
        };
    }
    match open {
        Some(_) => Err(Fault::Cut),
        None if blocks.is_empty() => Err(Fault::NoPem),
        None => Ok(blocks),
    }
}

enum Boundary<'t> {
    Begin(&'t [u8]),
    End(&'t [u8]),
}

fn boundary(line: &[u8]) -> Option<Boundary<'_>> {
    let inner = line.strip_prefix(b"-----")?.strip_suffix(b"-----")?;
    let is_label = |text: &[u8]| text.iter().all(|b| b" ".contains(b) || b.is_ascii_alphanumeric());
    match (inner.strip_prefix(b"BEGIN "), inner.strip_prefix(b"END ")) {
        (Some(label), _) if is_label(label) => Some(Boundary::Begin(label)),
        (_, Some(label)) if is_label(label) => Some(Boundary::End(label)),
        _ => None,
    }
}

/// What is wrong with a line that has five dashes and is no boundary.
fn broken(line: &[u8], number: usize) -> Fault {
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
    let is_joined =
        line.len() > BOUNDARY_MAX_BYTES || (has(b"-----BEGIN") && has(b"-----END")) || has(b"\\n");
    if is_joined { Fault::Joined } else { Fault::Header { line: number } }
}

/// Lines, by either end: LF with or without CR, or CR alone.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = if text.contains(&b'\n') { b'\n' } else { b'\r' };
    text.split(move |byte| *byte == end)
}
