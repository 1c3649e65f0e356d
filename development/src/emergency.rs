//! Emergency keys for `signing-proxy dev`: which of them is in use. Their private halves are made
//! by `breakglass-signer` and never seen here (I4).

use std::path::PathBuf;

use host::clock::{rfc3339_seconds, wall_now};
use signing_core::registry::Entry;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::material::{Material, MaterialError};

/// Each kind that `dev` has: the kid of the first key, and what `breakglass-signer keygen
/// --algorithm` calls it. Others, after one was destroyed, have a number behind the kid.
const KINDS: [(&str, &str); 2] = [("emergency-dev", "ed25519"), ("emergency-dev-rsa", "rsa-2048")];

/// How long a new one lives: an emergency key without an end is one that approvers ask about.
const LIFE: time::Duration = time::Duration::days(365);

/// An emergency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyKey {
    /// Its name in the registry.
    pub kid: String,
    /// As `breakglass-signer keygen --algorithm` has it.
    pub algorithm: &'static str,
    /// Its sealed file.
    pub file: PathBuf,
    /// Whether it is made and registered, and the registry has not ended it; else it has to be made.
    pub is_made: bool,
}

impl Material {
    /// One emergency key of each kind: that which is still there, neither revoked nor past its end, else a
    /// name and a file that no emergency key ever had here.
    ///
    /// # Errors
    /// [`MaterialError`] if the registry cannot be read.
    pub fn emergency_keys(&self) -> Result<Vec<EmergencyKey>, MaterialError> {
        let entries = self.entries()?;
        KINDS.iter().map(|kind| self.emergency_key_of(kind, &entries)).collect()
    }

    fn emergency_key_of(
        &self,
        &(first, algorithm): &(&str, &'static str),
        entries: &[Entry],
    ) -> Result<EmergencyKey, MaterialError> {
        let key = |kid: String, is_made| {
            let file = self.path("breakglass/keys").join(format!("{kid}.pem"));
            EmergencyKey { kid, algorithm, file, is_made }
        };
        let now = wall_now();
        let is_usable = |entry: &&Entry| {
            entry.purpose.as_deref() == Some("breakglass")
                && entry.revoked_at.is_none()
                && !has_ended(entry, now)
        };
        let of_kind = entries.iter().filter(|entry| is_of(&entry.signer_kid, first));
        let mut usable = of_kind.filter(is_usable).map(|entry| key(entry.signer_kid.clone(), true));
        if let Some(there) = usable.find(|key| key.file.exists()) {
            return Ok(there);
        }
        let is_free = |key: &EmergencyKey| {
            !key.file.exists() && entries.iter().all(|entry| entry.signer_kid != key.kid)
        };
        let names = std::iter::once(first.to_owned())
            .chain((2_u32..).map(|number| format!("{first}-{number}")));
        let free = names.map(|kid| key(kid, false)).find(is_free);
        free.ok_or_else(|| MaterialError::Unusable {
            path: self.path("breakglass/keys"),
            why: "has a key for every name".to_owned(),
        })
    }

    /// Adds what `breakglass-signer keygen` printed to the registry, with an end.
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
        let not_after = Some(rfc3339_seconds(wall_now() + LIFE));
        entries.push(Entry { description, not_after, ..entry });
        self.write_entries(entries)
    }
}

/// Whether the registry has ended its key by `now`. An end that is no time is the registry's mistake, which
/// whoever reads the registry says.
fn has_ended(entry: &Entry, now: OffsetDateTime) -> bool {
    let end = entry.not_after.as_deref().and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
    end.is_some_and(|end| end <= now)
}

/// Whether `kid` is the first one of a kind or, with a number, a later one.
fn is_of(kid: &str, first: &str) -> bool {
    kid.strip_prefix(first).is_some_and(|rest| {
        let number = rest.strip_prefix('-').unwrap_or(rest);
        number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_of_one_kind() {
        for kid in ["emergency-dev", "emergency-dev-2", "emergency-dev-13"] {
            assert!(is_of(kid, "emergency-dev") && !is_of(kid, "emergency-dev-rsa"), "{kid}");
        }
        for kid in ["emergency-dev-rsa", "emergency-dev-rsa-2"] {
            assert!(is_of(kid, "emergency-dev-rsa") && !is_of(kid, "emergency-dev"), "{kid}");
        }
    }
}
