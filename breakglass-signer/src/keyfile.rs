//! An emergency key's sealed file: PKCS#8, encrypted with a passphrase (PBES2, RFC 8018), as
//! PEM. Ours are under scrypt; what `openssl genpkey -aes256` makes is read as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use host::files;
use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::pkcs5::pbes2;
use pkcs8::pkcs5::scrypt::Params;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

/// More rounds than this are a mistake or an attack: opening would take minutes.
const PBKDF2_ROUNDS_MAX: u32 = 20_000_000;
/// scrypt with N = 2^14, r = 8, p = 5: the most memory that openssl takes without being told.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);
/// scrypt's N of a file that is opened; 2^20 with r = 8 takes 1 GiB.
const SCRYPT_N_MAX: u64 = 1 << 20;
const SALT_BYTES: usize = 16;
const IV_BYTES: usize = 16;

/// Why a key's file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system says no.
    #[error("{}: {error}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It leads elsewhere.
    #[error("{} is a symbolic link, and destroying the key would leave what it leads to; name the file itself", .0.display())]
    Link(PathBuf),
    /// It is no encrypted key.
    #[error("{} is not an encrypted PKCS#8 PEM (what breakglass-signer keygen and openssl genpkey -aes256 make): {why}", file.display())]
    NotSealed {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {}", .0.display())]
    Passphrase(PathBuf),
    /// It can not be made.
    #[error("the key can not be encrypted")]
    Sealing,
}

/// Reads a sealed file; it stays sealed.
///
/// # Errors
/// [`KeyFileError`].
pub fn load(file: &Path) -> Result<Sealed, KeyFileError> {
    let io = |error| KeyFileError::Io { file: file.to_owned(), error };
    let why = |why: String| KeyFileError::NotSealed { file: file.to_owned(), why };
    if is_link(file) {
        return Err(KeyFileError::Link(file.to_owned()));
    }
    let text = files::read_text(file).map_err(io)?;
    let (label, document) =
        SecretDocument::from_pem(&text).map_err(|error| why(error.to_string()))?;
    EncryptedPrivateKeyInfoRef::validate_pem_label(label)
        .map_err(|_| why(format!("it is a {label}; encrypt it with a passphrase")))?;
    let sealed = Sealed { file: file.to_owned(), document };
    let info = sealed.info().map_err(why)?;
    let pbes2 = info.encryption_algorithm.pbes2();
    let pbes2 =
        pbes2.ok_or_else(|| why("it is encrypted in an old way, not by PBES2".to_owned()))?;
    let is_bounded = match &pbes2.kdf {
        pbes2::Kdf::Pbkdf2(params) => params.iteration_count <= PBKDF2_ROUNDS_MAX,
        pbes2::Kdf::Scrypt(params) => {
            let memory = params.cost_parameter.saturating_mul(u64::from(params.block_size));
            memory <= SCRYPT_N_MAX * 8 && params.parallelization <= 16
        }
        _ => false,
    };
    if !is_bounded {
        return Err(why("opening it would take too long, or is not known how".to_owned()));
    }
    Ok(sealed)
}

/// A sealed key.
#[derive(Debug)]
pub struct Sealed {
    file: PathBuf,
    document: SecretDocument,
}

impl Sealed {
    /// Opens it: the DER of a PKCS#8 private key, wiped on drop.
    ///
    /// # Errors
    /// [`KeyFileError::Passphrase`].
    pub fn open(&self, passphrase: &[u8]) -> Result<SecretDocument, KeyFileError> {
        let file = || self.file.clone();
        let info = self.info().map_err(|why| KeyFileError::NotSealed { file: file(), why })?;
        info.decrypt(passphrase).map_err(|_| KeyFileError::Passphrase(file()))
    }

    fn info(&self) -> Result<EncryptedPrivateKeyInfoRef<'_>, String> {
        EncryptedPrivateKeyInfoRef::try_from(self.document.as_bytes())
            .map_err(|error| error.to_string())
    }
}

/// Whether the file can be opened, as it would have to be in an emergency; it stays sealed.
///
/// # Errors
/// Why not.
pub fn probe(file: &Path) -> io::Result<()> {
    // One that is not there, a pipe or a link is not waited for or followed.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if opened.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("is no regular file")) }
}

/// Seals the DER of a PKCS#8 private key into a new file, readable by its owner only.
///
/// # Errors
/// [`KeyFileError`]; a file that is there stays as it is.
pub fn create(file: &Path, der: &[u8], passphrase: &[u8]) -> Result<(), KeyFileError> {
    let io = |error| KeyFileError::Io { file: file.to_owned(), error };
    let sealing = |_| KeyFileError::Sealing;
    let mut random = [0; SALT_BYTES + IV_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyFileError::Sealing)?;
    let (salt, rest) = random.split_first_chunk::<SALT_BYTES>().ok_or(KeyFileError::Sealing)?;
    let iv = *rest.first_chunk::<IV_BYTES>().ok_or(KeyFileError::Sealing)?;
    let (log_n, r, p) = SCRYPT;
    let params = Params::new(log_n, r, p).map_err(|_| KeyFileError::Sealing)?;
    let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(params, salt, iv).map_err(sealing)?;
    let info = pkcs8::PrivateKeyInfoRef::try_from(der).map_err(|_| KeyFileError::Sealing)?;
    let sealed = info.encrypt_with_params(scheme, passphrase).map_err(|_| KeyFileError::Sealing)?;
    let pem: Zeroizing<String> = sealed
        .to_pem(pkcs8::EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|_| KeyFileError::Sealing)?;
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(io)?;
    out.write_all(pem.as_bytes()).and_then(|()| out.sync_all()).map_err(io)?;
    sync_directory(file).map_err(io)
}

/// Whether something has that name, be it a link that leads nowhere.
#[must_use]
pub fn is_there(file: &Path) -> bool {
    // What can not be looked at may be there.
    !matches!(fs::symlink_metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn is_link(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink())
}

/// Overwrites and removes a file; whether it was overwritten. What a file system or a disk
/// keeps of it elsewhere is out of reach: the control is that the key is revoked.
///
/// # Errors
/// If it is still there afterwards, under this name or another one.
pub fn destroy(file: &Path) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other(
            "is no regular file (a symbolic link leaves what it leads to); put the key's file itself there",
        ));
    }
    let overwritten = overwrite(file);
    if let Err(error) = &overwritten
        && metadata.nlink() > 1
    {
        return Err(io::Error::other(format!(
            "can not be overwritten ({error}) and has another name too, a hard link; remove that one first"
        )));
    }
    fs::remove_file(file)?;
    sync_directory(file)?;
    Ok(overwritten.is_ok())
}

fn overwrite(file: &Path) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(file)?;
    let length = out.metadata()?.len();
    let mut random = vec![0; usize::try_from(length).unwrap_or(0).min(1 << 20)];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    out.write_all(&random)?;
    out.sync_all()
}

fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
