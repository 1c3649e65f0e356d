//! Files with secrets, and files in whose place one is often named by mistake. They are read here,
//! since a parser's own words quote its input: an error about them holds no byte of theirs.

mod fault;
mod pem;
mod recognise;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

pub use fault::{Fault, Found, SecretError, Wanted, shown};

use pem::{Block, Label};

/// More than any key, chain or archive has.
const KEY_MAX_BYTES: u64 = 1 << 20;
/// More than any secret that is one line.
const LINE_MAX_BYTES: usize = 256;
/// More than any bundle of authorities or revocation list has.
const CERTIFICATES_MAX_BYTES: u64 = 64 << 20;

/// A private key that nothing was asked of yet; wiped on drop, never printed.
pub struct PrivateKey {
    /// How it is written down.
    pub form: Form,
    /// Its DER.
    pub der: Zeroizing<Vec<u8>>,
}

/// The blocks of a PEM that are of one kind.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Their DER, in order.
    pub found: Vec<Vec<u8>>,
    /// How many blocks of other kinds there are.
    pub others: usize,
}

/// How the DER of a private key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any kind of key (RFC 5958): `BEGIN PRIVATE KEY`.
    Pkcs8,
    /// RSA (RFC 8017): `BEGIN RSA PRIVATE KEY`.
    Pkcs1,
    /// Elliptic curves (RFC 5915): `BEGIN EC PRIVATE KEY`.
    Sec1,
    /// Encrypted (RFC 5958): `BEGIN ENCRYPTED PRIVATE KEY`.
    Sealed,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, ..)", self.form)
    }
}

/// Reads `file` whole.
///
/// # Errors
/// [`SecretError`]: it cannot be read, is no file, is empty, or is larger than any such file.
pub fn read(file: &Path, wanted: Wanted) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    bytes_of(file, wanted).map_err(|fault| SecretError::new(file, wanted, fault))
}

/// Reads the one line in `file`, such as a secret key of a caller: without its end, 1 to 256 visible
/// ASCII characters.
///
/// # Errors
/// What is wrong, without a byte of the file.
pub fn line(file: &Path) -> Result<Zeroizing<String>, &'static str> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_MAX_BYTES + 3));
    let opened = File::open(file).map_err(|_| "cannot be read")?;
    opened.take(LINE_MAX_BYTES as u64 + 3).read_to_end(&mut bytes).map_err(|_| "cannot be read")?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_one = (1..=LINE_MAX_BYTES).contains(&line.len());
    match std::str::from_utf8(line) {
        Ok(text) if is_one && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Zeroizing::new(text.to_owned()))
        }
        Ok(_) | Err(_) => Err("is not one line of 1 to 256 visible ASCII characters"),
    }
}

/// Reads the one private key in `file`. Other blocks beside it, such as its certificate, are passed
/// over.
///
/// # Errors
/// [`SecretError`].
pub fn private_key(file: &Path, wanted: Wanted) -> Result<PrivateKey, SecretError> {
    bytes_of(file, wanted)
        .and_then(|bytes| private_key_of(&bytes, wanted))
        .map_err(|fault| SecretError::new(file, wanted, fault))
}

/// As [`private_key`], of what a file holds.
///
/// # Errors
/// [`Fault`].
pub fn private_key_of(bytes: &[u8], wanted: Wanted) -> Result<PrivateKey, Fault> {
    let is_wanted = |form: &Form| (*form == Form::Sealed) == (wanted == Wanted::SealedKey);
    let blocks = blocks(bytes)?;
    let keys = blocks.iter().filter_map(|block| Some((block, block.label.form()?)));
    let mut keys = keys.filter(|(block, form)| is_wanted(form) && !block.has_headers);
    let (block, form) = keys.next().ok_or_else(|| other_than(&blocks))?;
    match keys.count() {
        0 => Ok(PrivateKey { form, der: block.decode()? }),
        more => Err(Fault::Several(more + 1)),
    }
}

/// Reads every certificate in `file`, in order: their DER. Other blocks are passed over.
///
/// # Errors
/// [`SecretError`], also if there is none.
pub fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, SecretError> {
    let found =
        bytes_of(file, Wanted::Certificates).and_then(|bytes| of_label(&bytes, Label::Certificate));
    let found = found.map_err(|fault| SecretError::new(file, Wanted::Certificates, fault))?;
    Ok(found.found)
}

/// Reads every revocation list of a PEM file, or takes `file` for one in DER: whoever parses that
/// says so if it is none.
///
/// # Errors
/// [`SecretError`].
pub fn revocation_lists(file: &Path) -> Result<Blocks, SecretError> {
    let wanted = Wanted::RevocationLists;
    let found = bytes_of(file, wanted).and_then(|bytes| match recognise::der(&bytes) {
        Some(Found::Other) => Ok(Blocks { found: vec![bytes.to_vec()], others: 0 }),
        Some(found) => Err(Fault::Holds(found)),
        None => of_label(&bytes, Label::RevocationList),
    });
    found.map_err(|fault| SecretError::new(file, wanted, fault))
}

/// `text` without the byte order mark that some editors put first.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn bytes_of(file: &Path, wanted: Wanted) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let max_bytes = match wanted {
        Wanted::Certificates | Wanted::RevocationLists => CERTIFICATES_MAX_BYTES,
        _ => KEY_MAX_BYTES,
    };
    // Asked before it is opened: opening a named pipe waits for somebody to write.
    let metadata = std::fs::metadata(file).map_err(|error| Fault::of_io(&error))?;
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    if metadata.len() > max_bytes {
        return Err(Fault::TooLong { max_bytes });
    }
    // It has its place from the start, so that no copy is left behind.
    let capacity = usize::try_from(metadata.len() + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let read = File::open(file).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| Fault::of_io(&error))?;
    if read as u64 > max_bytes {
        return Err(Fault::TooLong { max_bytes });
    }
    Ok(bytes)
}

/// The blocks of a PEM; what is no PEM at all is told by what it is.
fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, Fault> {
    if without_mark(bytes).trim_ascii().is_empty() {
        return Err(Fault::Empty);
    }
    if let Some(found) = recognise::whole(bytes) {
        return Err(Fault::Holds(found));
    }
    pem::blocks(without_mark(bytes))
}

fn of_label(bytes: &[u8], label: Label) -> Result<Blocks, Fault> {
    let blocks = blocks(bytes)?;
    let wanted = blocks.iter().filter(|block| block.label == label);
    let found = wanted.map(|block| Ok(block.decode()?.to_vec())).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(other_than(&blocks));
    }
    let others = blocks.len() - found.len();
    Ok(Blocks { found, others })
}

/// What blocks without the wanted one are told as: by the first that has a name.
fn other_than(blocks: &[Block<'_>]) -> Fault {
    let found = blocks.iter().find_map(Block::found);
    found.map_or(Fault::NoBlock, Fault::Holds)
}
