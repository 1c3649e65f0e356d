//! Approvers for `signing-proxy dev`: the OpenSSH keys of two made-up people, and the file that
//! names them.

use std::path::PathBuf;

use host::secret::{self, Fault, SecretError, Wanted};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::key::KeyError;
use crate::material::{Material, MaterialError};

/// Role, and the name of the key's file.
const APPROVERS: [(&str, &str); 2] = [("Security", "security"), ("Finance", "finance")];

/// One made-up person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// `Security` or `Finance`.
    pub role: &'static str,
    /// The name in the approvers file.
    pub principal: String,
    /// The private key's file, not encrypted; the public key lies beside it.
    pub key_file: PathBuf,
}

impl Material {
    /// The made-up people.
    pub fn approvers(&self) -> impl Iterator<Item = Approver> {
        APPROVERS.iter().map(|(role, name)| Approver {
            role,
            principal: format!("{name}@dev.localhost"),
            key_file: self.path("approvers").join(name),
        })
    }

    /// Makes missing keys, and `approvers/allowed_signers` out of all of them.
    pub(crate) fn prepare_approvers(&self) -> Result<(), MaterialError> {
        let mut lines = String::new();
        for Approver { principal, key_file, .. } in self.approvers() {
            let name = format!("approvers/{}", file_name(&key_file));
            if !key_file.exists() {
                let key = generate(&principal)?;
                let text = key.to_openssh(LineEnding::LF).map_err(|_| KeyError::Encoding)?;
                self.write(&name, text.as_bytes())?;
            }
            let wanted = Wanted::OpenSshKey;
            let damaged = || SecretError::new(&key_file, wanted, Fault::Damaged);
            let text = secret::read(&key_file, wanted).map_err(KeyError::from)?;
            let text = std::str::from_utf8(&text).map_err(|_| KeyError::from(damaged()))?;
            let key = PrivateKey::from_openssh(text).map_err(|_| KeyError::from(damaged()))?;
            let public = key.public_key().to_openssh().map_err(|_| KeyError::Encoding)?;
            self.write(&format!("{name}.pub"), format!("{public}\n").as_bytes())?;
            lines += &format!(
                "{principal} namespaces=\"breakglass@signing-proxy,fleet@signing-proxy\" {public}\n"
            );
        }
        self.write("approvers/allowed_signers", lines.as_bytes())
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn generate(principal: &str) -> Result<PrivateKey, KeyError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let pair = Ed25519Keypair {
        public: Ed25519PublicKey(public),
        private: Ed25519PrivateKey::from_bytes(&seed),
    };
    PrivateKey::new(KeypairData::Ed25519(pair), principal).map_err(|_| KeyError::Encoding)
}
