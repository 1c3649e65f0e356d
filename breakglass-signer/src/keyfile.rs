//! An emergency key's sealed file: PKCS#8, encrypted with a passphrase (PBES2, RFC 8018), as
//! PEM. Ours are under scrypt; what `openssl genpkey -aes256` makes is read as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use host::secret::{self, Fault, SecretError, Wanted, shown};
use host::shortage;
use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::pkcs5::pbes2;
use pkcs8::pkcs5::scrypt::Params;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use zeroize::{Zeroize as _, Zeroizing};

/// More rounds than this are a mistake or an attack: opening would take minutes.
const PBKDF2_ROUNDS_MAX: u32 = 20_000_000;
/// scrypt's N times r times p of a file that is opened: N = 2^20 with r = 8 and p = 1 takes 1 GiB and
/// seconds. Either grows with the product, so it bounds both.
const SCRYPT_WORK_MAX: u64 = 1 << 23;
/// scrypt with N = 2^14, r = 8, p = 5: the most memory that openssl takes without being told.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);
const SALT_BYTES: usize = 16;
const IV_BYTES: usize = 16;
/// More than opening a key takes.
const STACK_WIPED_BYTES: usize = 128 << 10;

/// Why a key's file cannot be used. Nothing of the file is in it, except numbers that say what
/// opening it costs.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is no encrypted key.
    #[error(transparent)]
    File(#[from] SecretError),
    /// It cannot be made.
    #[error("{}: {error}", shown(file))]
    Io {
        /// The key's file, as the configuration names it.
        file: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// It is one, and cannot be opened at all, or only in too long a time or too much memory.
    #[error(
        "{} cannot be opened: {obstacle}; encrypt it anew: openssl pkcs8 -topk8 -v2 aes256 -scrypt",
        shown(file)
    )]
    Obstacle {
        /// The key's file, as the configuration names it.
        file: PathBuf,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {}", shown(.0))]
    Passphrase(PathBuf),
    /// It cannot be made.
    #[error("the key cannot be encrypted")]
    Sealing,
}

/// What is in the way of opening an encrypted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It cannot be read.
    #[error("it is damaged, or names a number or a method beyond all that is used")]
    Unreadable,
    /// PBES1, or one of PKCS#12.
    #[error("it is encrypted in an old way, not by PBES2")]
    OldWay,
    /// Time.
    #[error(
        "its key derivation asks for {rounds} rounds of PBKDF2, expected 1 to {PBKDF2_ROUNDS_MAX}"
    )]
    Pbkdf2 {
        /// The number of PBKDF2 iterations.
        rounds: u32,
    },
    /// Time and memory.
    #[error(
        "its key derivation asks for scrypt with N = {n}, r = {r}, p = {p}; N has to be a power of two, and N * r * p 1 to {SCRYPT_WORK_MAX}"
    )]
    Scrypt {
        /// Cost.
        n: u64,
        /// Size of a block.
        r: u32,
        /// Parallelisation.
        p: u32,
    },
    /// No key derivation that is known here.
    #[error("its key derivation is neither PBKDF2 nor scrypt")]
    OtherDerivation,
}

/// Reads a sealed file; it stays sealed.
///
/// # Errors
/// [`KeyFileError`].
pub fn load(file: &Path) -> Result<Sealed, KeyFileError> {
    if is_link(file) {
        return Err(SecretError::new(file, Wanted::SealedKey, Fault::Link).into());
    }
    parse(file, &secret::read(file, Wanted::SealedKey)?)
}

/// Reads what a sealed file holds; it stays sealed. What it would cost to open is bounded here,
/// since whoever can write the file chooses it.
///
/// # Errors
/// [`KeyFileError`].
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Sealed, KeyFileError> {
    let wanted = Wanted::SealedKey;
    let refused = |fault| SecretError::new(file, wanted, fault);
    let obstacle = |obstacle| KeyFileError::Obstacle { file: file.to_owned(), obstacle };
    let key = secret::private_key_of(bytes, wanted).map_err(refused)?;
    let document =
        SecretDocument::try_from(key.der.as_slice()).map_err(|_| obstacle(Obstacle::Unreadable))?;
    let sealed = Sealed { file: file.to_owned(), document };
    let info = sealed.info().map_err(obstacle)?;
    let pbes2 = info.encryption_algorithm.pbes2();
    let pbes2 = pbes2.ok_or_else(|| obstacle(Obstacle::OldWay))?;
    bounded(&pbes2.kdf).map_err(obstacle)?;
    Ok(sealed)
}

/// Whether a key derivation can be done, in seconds and in memory that a machine has.
fn bounded(kdf: &pbes2::Kdf) -> Result<(), Obstacle> {
    match kdf {
        pbes2::Kdf::Pbkdf2(params) => {
            let rounds = params.iteration_count;
            let is_bearable = (1..=PBKDF2_ROUNDS_MAX).contains(&rounds);
            if is_bearable { Ok(()) } else { Err(Obstacle::Pbkdf2 { rounds }) }
        }
        pbes2::Kdf::Scrypt(params) => {
            let (n, r, p) = (params.cost_parameter, params.block_size, params.parallelization);
            let work = n.saturating_mul(u64::from(r)).saturating_mul(u64::from(p));
            // With an N that is none the library panics.
            let is_n = n.is_power_of_two() && n > 1;
            let is_bearable = is_n && (1..=SCRYPT_WORK_MAX).contains(&work);
            if is_bearable { Ok(()) } else { Err(Obstacle::Scrypt { n, r: r.into(), p: p.into() }) }
        }
        _ => Err(Obstacle::OtherDerivation),
    }
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
        let unreadable = |obstacle| KeyFileError::Obstacle { file: file(), obstacle };
        let info = self.info().map_err(unreadable)?;
        let opened = info.decrypt(passphrase).map_err(|_| KeyFileError::Passphrase(file()));
        wipe_stack();
        opened
    }

    /// How much memory its opening takes, in bytes, beside what any takes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let info = self.info().ok();
        match info.as_ref().and_then(|info| info.encryption_algorithm.pbes2()).map(|it| &it.kdf) {
            // RFC 7914: N blocks of 128 r bytes, beside the p blocks that are mixed one after the other. One
            // of these is not counted: any file has it.
            Some(pbes2::Kdf::Scrypt(params)) => {
                let blocks = u64::from(params.parallelization).saturating_sub(1);
                let blocks = params.cost_parameter.saturating_add(blocks);
                blocks.saturating_mul(u64::from(params.block_size) * 128)
            }
            _ => 0,
        }
    }

    fn info(&self) -> Result<EncryptedPrivateKeyInfoRef<'_>, Obstacle> {
        EncryptedPrivateKeyInfoRef::try_from(self.document.as_bytes())
            .map_err(|_| Obstacle::Unreadable)
    }
}

/// Overwrites what the calls before left on the stack below this one: the cipher decrypts a kilobyte at
/// a time there, which is most of an RSA key.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; STACK_WIPED_BYTES];
    below.zeroize();
    std::hint::black_box(&below);
}

/// Whether the file can be opened, as it would have to be in an emergency; it stays sealed.
///
/// # Errors
/// Why the file cannot be opened.
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
    // What cannot be looked at may be there.
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
    let overwritten = match overwrite(file) {
        // It can be overwritten when there is one: removed now, its bytes would stay on the disk.
        Err(error) if let Some(why) = shortage::of(&error) => {
            return Err(io::Error::other(format!("cannot be overwritten now: {why}")));
        }
        done => done,
    };
    if let Err(error) = &overwritten
        && metadata.nlink() > 1
    {
        return Err(io::Error::other(format!(
            "cannot be overwritten ({error}) and has another name too, a hard link; remove that one first"
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

#[cfg(test)]
mod tests {
    use super::*;

    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
    const SCRYPT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b];
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

    /// Tag, length, content (X.690 8.1), up to 255 bytes.
    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).unwrap();
        let long: &[u8] = if length < 0x80 { &[] } else { &[0x81] };
        [&[tag], long, &[length], &content[..]].concat()
    }

    fn number(number: u64) -> Vec<u8> {
        let bytes = [&[0][..], &number.to_be_bytes()].concat();
        let zeros = bytes.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
        tlv(0x02, &[&bytes[zeros..]])
    }

    /// A sealed file that derives its key with `kdf` and those numbers.
    fn pem(kdf: &[u8], numbers: &[u64]) -> String {
        let numbers: Vec<u8> = numbers.iter().flat_map(|value| number(*value)).collect();
        let salt = tlv(0x04, &[&[7; 16]]);
        let kdf = tlv(0x30, &[&tlv(0x06, &[kdf]), &tlv(0x30, &[&salt, &numbers])]);
        let aes = tlv(0x30, &[&tlv(0x06, &[AES256_CBC]), &tlv(0x04, &[&[7; 16]])]);
        let scheme = tlv(0x30, &[&tlv(0x06, &[PBES2]), &tlv(0x30, &[&kdf, &aes])]);
        let der = tlv(0x30, &[&scheme, &tlv(0x04, &[&[7; 48]])]);
        let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
        pkcs8::der::pem::encode_string(label, LineEnding::LF, &der).unwrap()
    }

    fn parsed(kdf: &[u8], numbers: &[u64]) -> Result<Sealed, String> {
        parse(Path::new("key.pem"), pem(kdf, numbers).as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn i8_a_file_that_asks_for_hours_or_gigabytes_is_refused_with_what_it_asks_for() {
        for (kdf, numbers, expected) in [
            (PBKDF2, &[20_000_001][..], "asks for 20000001 rounds of PBKDF2, expected 1 to"),
            (PBKDF2, &[0], "asks for 0 rounds of PBKDF2"),
            (PBKDF2, &[1 << 40], "names a number or a method beyond all that is used"),
            (SCRYPT, &[1 << 40, 8, 1], "asks for scrypt with N = 1099511627776, r = 8, p = 1;"),
            (SCRYPT, &[1 << 20, 8, 2], "N * r * p 1 to 8388608"),
            (SCRYPT, &[2, 65_535, 65_535], "r = 65535, p = 65535;"),
            (SCRYPT, &[1 << 20, 1 << 20, 1], "names a number or a method beyond all that is used"),
        ] {
            let why = parsed(kdf, numbers).unwrap_err();
            assert!(why.starts_with("key.pem ") && why.contains(expected), "{numbers:?}: {why}");
        }
    }

    #[test]
    fn i8_numbers_that_no_scrypt_has_are_refused_before_the_library_sees_them() {
        for numbers in [[0, 8, 1], [1, 8, 1], [3, 8, 1], [16_384, 0, 1], [16_384, 8, 0]] {
            let why = parsed(SCRYPT, &numbers).unwrap_err();
            assert!(why.contains("N has to be a power of two"), "{numbers:?}: {why}");
        }
    }

    #[test]
    fn how_much_memory_an_opening_takes_is_read_without_the_passphrase() {
        for (kdf, numbers, bytes) in [
            (SCRYPT, &[1 << 14, 8, 1][..], 16 << 20),
            (SCRYPT, &[1 << 14, 8, 5], (16 << 20) + 4 * 1024),
            (SCRYPT, &[1 << 20, 8, 1], 1024 << 20),
            (SCRYPT, &[2, 64, 65_535], 65_536 * 64 * 128),
            (PBKDF2, &[1 << 20], 0),
        ] {
            assert_eq!(parsed(kdf, numbers).unwrap().memory_bytes(), bytes, "{numbers:?}");
        }
    }

    #[test]
    fn what_people_use_is_read_and_a_wrong_passphrase_is_only_that() {
        for (kdf, numbers) in [
            (PBKDF2, &[2048][..]),
            (PBKDF2, &[20_000_000]),
            (SCRYPT, &[16_384, 8, 1]),
            (SCRYPT, &[16_384, 8, 5]),
            (SCRYPT, &[1 << 20, 8, 1]),
        ] {
            assert!(parsed(kdf, numbers).is_ok(), "{numbers:?}");
        }
        for (kdf, numbers) in [(PBKDF2, &[1][..]), (SCRYPT, &[2, 8, 1])] {
            let opened = parsed(kdf, numbers).unwrap().open(b"no");
            assert!(matches!(opened, Err(KeyFileError::Passphrase(_))), "{numbers:?}");
        }
    }
}
