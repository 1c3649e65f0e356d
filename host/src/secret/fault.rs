//! What is wrong with a secret file, in texts that were written before the file was: a [`Fault`] is
//! `Copy` and made of numbers and names, so that nothing of the file fits in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be used: which, and what to do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct SecretError {
    file: PathBuf,
    wanted: Wanted,
    fault: Fault,
}

/// What a file has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A key for TLS.
    TlsKey,
    /// An Ed25519 key that signs audit records.
    AuditKey,
    /// A key of the development provider.
    DevelopmentKey,
    /// An emergency key under a passphrase.
    SealedKey,
    /// An approver's key in OpenSSH's form.
    OpenSshKey,
    /// A chain or authorities.
    Certificates,
    /// Revocation lists.
    RevocationLists,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The system says so, by its number for it.
    System(i32),
    /// It cannot be read, for a reason without a number.
    Unreadable,
    /// It is a directory, a pipe, a device.
    NotRegular,
    /// Larger than any such file.
    TooLong {
        /// The limit.
        max_bytes: u64,
    },
    /// There is nothing in it.
    Empty,
    /// It leads elsewhere, and would stay behind when the key is destroyed.
    Link,
    /// It is something else, which has a name.
    Holds(Found),
    /// It has no block at all.
    NoPem,
    /// It has blocks, and none of them is wanted.
    NoBlock,
    /// Its line breaks are lost.
    Joined,
    /// It begins or ends within a block.
    Cut,
    /// A block's first or last line is damaged.
    Header {
        /// The number of the line in the file, from 1.
        line: usize,
    },
    /// A block is not base64.
    Base64 {
        /// Where it begins.
        line: usize,
    },
    /// What the block holds is not what it says, or of a kind that is not used.
    Damaged,
    /// Several private keys.
    Several(usize),
    /// The certificate beside it is another key's.
    OtherKey,
}

/// What else a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A private key, as PEM.
    PrivateKey,
    /// One under a passphrase.
    EncryptedKey,
    /// One under a passphrase, in the way of RFC 1421.
    OldEncryptedKey,
    /// One in OpenSSH's form.
    OpenSshKey,
    /// One in PuTTY's form.
    PuttyKey,
    /// A public key.
    PublicKey,
    /// A certificate, as PEM.
    Certificate,
    /// A request for one.
    CertificateRequest,
    /// A revocation list, as PEM.
    RevocationList,
    /// Certificates in PKCS#7.
    Pkcs7,
    /// Key and certificates in PKCS#12.
    Pkcs12,
    /// A private key in DER.
    DerPrivateKey,
    /// One under a passphrase, in DER.
    DerEncryptedKey,
    /// A certificate in DER.
    DerCertificate,
    /// Text of two bytes a character.
    Utf16,
    /// DER of nothing that is named here.
    Other,
}

impl SecretError {
    /// That fault, of that file.
    #[must_use]
    pub fn new(file: &Path, wanted: Wanted, fault: Fault) -> Self {
        Self { file: file.to_owned(), wanted, fault }
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

impl Fault {
    /// By the number of an error of the system.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::Unreadable, Self::System)
    }
}

/// A path as it is printed. What somebody put in the place of a path may be the secret itself.
#[must_use]
pub fn shown(file: &Path) -> String {
    let text = file.to_string_lossy();
    if text.contains("-----BEGIN") || text.contains(char::is_control) {
        return format!("(a text of {} bytes that is no file's name)", text.len());
    }
    text.into_owned()
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, what) = (shown(&self.file), self.wanted.what());
        write!(f, "{file} ")?;
        match self.fault {
            Fault::System(number) => {
                write!(f, "cannot be read: {}", io::Error::from_raw_os_error(number))
            }
            Fault::Unreadable => f.write_str("cannot be read"),
            Fault::NotRegular => f.write_str("is no regular file; name the file itself"),
            Fault::TooLong { max_bytes } => {
                write!(f, "has more than {max_bytes} bytes; it has to hold {what}")
            }
            Fault::Empty => write!(f, "is empty; it has to hold {what}"),
            Fault::Link => f.write_str(
                "is a symbolic link, and destroying the key would leave what it leads to; name the \
                 file itself",
            ),
            Fault::Holds(found) => self.say_found(f, &file, found),
            Fault::NoPem => {
                write!(f, "is not PEM: no line is -----BEGIN ...-----; the file must hold {what}")
            }
            Fault::NoBlock => {
                write!(f, "is PEM without the block that is needed; the file must hold {what}")
            }
            Fault::Joined => f.write_str(
                "has lost its line breaks, as happens in templates and variables; write each line \
                 of the PEM on a line of its own",
            ),
            Fault::Cut => f.write_str(
                "is cut: a PEM block in it has no beginning or no end; copy the file again",
            ),
            Fault::Header { line } => {
                write!(
                    f,
                    "is damaged in line {line}, where a PEM block begins or ends; copy it again"
                )
            }
            Fault::Base64 { line } => write!(
                f,
                "is damaged: the PEM block from line {line} on is not base64; copy the file again"
            ),
            Fault::Damaged => write!(f, "is damaged, or not {what}"),
            Fault::Several(keys) => {
                write!(f, "holds {keys} private keys; leave only the one that is meant")
            }
            Fault::OtherKey => f.write_str("is not the key of the certificate; name its own"),
        }
    }
}

impl SecretError {
    fn say_found(&self, f: &mut fmt::Formatter<'_>, file: &str, found: Found) -> fmt::Result {
        let what = self.wanted.what();
        write!(f, "holds {}", found.what(self.wanted))?;
        match self.wanted.command(found) {
            Some((because, command)) => {
                write!(f, "{because}: {}", command.replace("FILE", &quoted(file)))
            }
            None => write!(f, "; it has to hold {what}"),
        }
    }
}

/// Not derived: a path is printed as everywhere.
impl fmt::Debug for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretError({self})")
    }
}

impl Wanted {
    fn what(self) -> &'static str {
        match self {
            Self::TlsKey => {
                "the PEM of a private key that TLS uses (RSA, ECDSA on P-256, P-384 or P-521, Ed25519)"
            }
            Self::AuditKey => {
                "a PKCS#8 PEM of an Ed25519 key (what `openssl genpkey -algorithm ed25519` makes)"
            }
            Self::DevelopmentKey => {
                "a PKCS#8 PEM of an Ed25519, ECDSA, RSA or ML-DSA key (ML-DSA as a seed)"
            }
            Self::SealedKey => {
                "an encrypted PKCS#8 PEM (what breakglass-signer keygen and openssl genpkey -aes256 \
                 make)"
            }
            Self::OpenSshKey => "an OpenSSH private key without a passphrase",
            Self::Certificates => "PEM certificates",
            Self::RevocationLists => "certificate revocation lists, in PEM or DER",
        }
    }

    /// How what was found becomes what is wanted: why, and a command.
    fn command(self, found: Found) -> Option<(&'static str, &'static str)> {
        const DECRYPT: &str = ", and nobody is there to type its passphrase; decrypt it";
        const CONVERT: &str = "; convert it";
        const SEAL: &str = "; encrypt it";
        Some(match (self, found) {
            (_, Found::Utf16) => (CONVERT, "iconv -f UTF-16 -t UTF-8 FILE > NEW"),
            (Self::TlsKey | Self::AuditKey | Self::DevelopmentKey, found) => match found {
                Found::EncryptedKey | Found::OldEncryptedKey => {
                    (DECRYPT, "openssl pkey -in FILE -out NEW")
                }
                Found::DerEncryptedKey => (DECRYPT, "openssl pkcs8 -inform DER -in FILE -out NEW"),
                Found::PrivateKey => ("; convert it", "openssl pkey -in FILE -out NEW"),
                Found::DerPrivateKey => (CONVERT, "openssl pkey -inform DER -in FILE -out NEW"),
                Found::Pkcs12 => {
                    ("; take its key out", "openssl pkcs12 -in FILE -nocerts -noenc -out NEW")
                }
                _ => return None,
            },
            (Self::SealedKey, found) => match found {
                Found::PrivateKey => {
                    (SEAL, "openssl pkcs8 -topk8 -v2 aes256 -scrypt -in FILE -out NEW")
                }
                Found::DerPrivateKey => {
                    (SEAL, "openssl pkcs8 -topk8 -v2 aes256 -scrypt -inform DER -in FILE -out NEW")
                }
                Found::OldEncryptedKey => {
                    (CONVERT, "openssl pkcs8 -topk8 -v2 aes256 -scrypt -in FILE -out NEW")
                }
                Found::DerEncryptedKey => {
                    (CONVERT, "openssl pkey -inform DER -in FILE -aes256 -out NEW")
                }
                Found::Pkcs12 => {
                    ("; take its key out", "openssl pkcs12 -in FILE -nocerts -out NEW")
                }
                _ => return None,
            },
            (Self::Certificates, Found::DerCertificate) => {
                (CONVERT, "openssl x509 -inform DER -in FILE -out NEW")
            }
            (Self::Certificates, Found::Pkcs12) => {
                ("; take its certificates out", "openssl pkcs12 -in FILE -nokeys -out NEW")
            }
            (Self::Certificates, Found::Pkcs7) => {
                ("; take its certificates out", "openssl pkcs7 -in FILE -print_certs -out NEW")
            }
            (Self::Certificates | Self::RevocationLists | Self::OpenSshKey, _) => return None,
        })
    }
}

impl Found {
    fn what(self, wanted: Wanted) -> &'static str {
        match self {
            Self::PrivateKey => "a private key without a passphrase",
            Self::EncryptedKey => "an encrypted private key",
            Self::OldEncryptedKey => "a private key that is encrypted in an old way (RFC 1421)",
            Self::OpenSshKey => "a private key in OpenSSH's own form",
            Self::PuttyKey => "a private key in PuTTY's own form",
            Self::PublicKey => "a public key",
            Self::Certificate => match wanted {
                Wanted::RevocationLists => "a certificate and no revocation list",
                _ => "a certificate and no private key",
            },
            Self::CertificateRequest => "a request for a certificate",
            Self::RevocationList => "a revocation list",
            Self::Pkcs7 => "PKCS#7",
            Self::Pkcs12 => "a PKCS#12 archive",
            Self::DerPrivateKey => "a private key in DER, not PEM",
            Self::DerEncryptedKey => "an encrypted private key in DER, not PEM",
            Self::DerCertificate => "a certificate in DER, not PEM",
            Self::Utf16 => "text in UTF-16",
            Self::Other => "DER of another kind",
        }
    }
}

/// A file's name as a shell takes it.
fn quoted(file: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if file.chars().all(is_plain) {
        file.to_owned()
    } else {
        format!("'{}'", file.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is `Copy` owns no text.
    const fn holds_no_text<T: Copy>() {}
    const _: () = holds_no_text::<Fault>();
    const _: () = holds_no_text::<Wanted>();

    #[test]
    fn what_is_no_files_name_is_not_shown() {
        let key = "-----BEGIN PUBLIC KEY----- MC4CAQ";
        let error = SecretError::new(Path::new(key), Wanted::TlsKey, Fault::System(2));
        for said in [error.to_string(), format!("{error:?}")] {
            assert!(!said.contains("MC4CAQ") && said.contains("bytes that is no file's name"));
        }
        assert_eq!(shown(Path::new("/etc/a b.pem")), "/etc/a b.pem");
    }
}
