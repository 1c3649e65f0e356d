//! Emergency keys for `signing-proxy dev`: which of them is in use. Their private halves are made
//! by `breakglass-signer` and never seen here (I4).

use std::path::PathBuf;

use signing_core::registry::Entry;

use crate::material::{Material, MaterialError};

/// The kid of the first one; others, after one was destroyed, have a number.
const KID: &str = "emergency-dev";

/// An emergency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyKey {
    /// Its name in the registry.
    pub kid: String,
    /// Its sealed file.
    pub file: PathBuf,
}

impl Material {
    /// The emergency keys that are still there and not revoked.
    ///
    /// # Errors
    /// [`MaterialError`] if the registry cannot be read.
    pub fn emergency_keys(&self) -> Result<Vec<EmergencyKey>, MaterialError> {
        let entries = self.entries()?.into_iter();
        let usable = entries.filter(|entry| {
            entry.purpose.as_deref() == Some("breakglass") && entry.revoked_at.is_none()
        });
        let keys = usable.map(|entry| self.emergency_key(entry.signer_kid));
        Ok(keys.filter(|key| key.file.exists()).collect())
    }

    /// A name and a file that no emergency key ever had here.
    ///
    /// # Errors
    /// [`MaterialError`] if the registry cannot be read.
    pub fn next_emergency_key(&self) -> Result<EmergencyKey, MaterialError> {
        let entries = self.entries()?;
        let is_free = |key: &EmergencyKey| {
            !key.file.exists() && entries.iter().all(|entry| entry.signer_kid != key.kid)
        };
        let names = std::iter::once(KID.to_owned())
            .chain((2_u32..).map(|number| format!("{KID}-{number}")));
        let free = names.map(|kid| self.emergency_key(kid)).find(is_free);
        free.ok_or_else(|| MaterialError::Unusable {
            path: self.path("breakglass/keys"),
            why: "has a key for every name".to_owned(),
        })
    }

    /// Adds what `breakglass-signer keygen` printed to the registry.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn register_emergency_key(&self, printed: &[u8]) -> Result<(), MaterialError> {
        let unusable =
            |why: String| MaterialError::Unusable { path: self.path("signers.json"), why };
        let entry: Entry =
            signing_core::json::from_slice(printed).map_err(|error| unusable(error.to_string()))?;
        let description =
            Some("development only: the passphrase of its private key is known".to_owned());
        let mut entries = self.entries()?;
        if let Some(pem) = &entry.public_key_pem {
            self.write(&format!("keys/{}.pub.pem", entry.signer_kid), pem.as_bytes())?;
        }
        entries.push(Entry { description, ..entry });
        self.write_entries(entries)
    }

    fn emergency_key(&self, kid: String) -> EmergencyKey {
        let file = self.path("breakglass/keys").join(format!("{kid}.pem"));
        EmergencyKey { kid, file }
    }
}
