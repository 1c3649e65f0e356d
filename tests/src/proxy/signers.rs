//! Which keys a proxy serves, from where, and what its registry says of them.

use serde_json::{Value, json};

use super::ProxyBuilder;
use crate::kms::{Key, Kms};
use crate::softhsm::SoftHsm;
use crate::tokens::OtherToken;

impl ProxyBuilder<'_> {
    /// Serves `key` as the signer `kid`, registered with its public key.
    #[must_use]
    pub fn signer(mut self, kid: &str, key: &Key) -> Self {
        self.registry.push(entry(kid, key));
        self.signers.push((kid.to_owned(), key.clone()));
        self
    }

    /// Serves `key` as the batch signer `kid`.
    #[must_use]
    pub fn batch_signer(self, kid: &str, key: &Key) -> Self {
        self.signer(kid, key).registered(batch_entry(kid, key))
    }

    /// More lines of the signer `kid` in the config file.
    #[must_use]
    pub fn of_signer(mut self, kid: &str, lines: &str) -> Self {
        self.of_signers.push((kid.to_owned(), lines.to_owned()));
        self
    }

    /// Serves `key` as `kid`, but registers the public key of `registered`.
    #[must_use]
    pub fn signer_registered_as(mut self, kid: &str, key: &Key, registered: &Key) -> Self {
        self.registry.push(entry(kid, registered));
        self.signers.push((kid.to_owned(), key.clone()));
        self
    }

    /// Serves `key` of a token as the signer `kid`, registered with its public key; adds
    /// lines to its upstream.
    #[must_use]
    pub fn token(self, kid: &str, hsm: &SoftHsm, key: &Key, lines: &str) -> Self {
        let environment = hsm.environment();
        let builder = environment
            .iter()
            .fold(self, |builder, (variable, value)| builder.environment(variable, value));
        let mut builder = builder.signer(kid, key);
        builder.upstreams.push((kid.to_owned(), hsm.upstream(key, lines)));
        builder
    }

    /// Serves the key of a token that is no SoftHSM as the signer `kid`; adds lines to its upstream.
    #[must_use]
    pub fn other_token(self, kid: &str, token: &OtherToken, lines: &str) -> Self {
        let builder = token
            .environment()
            .iter()
            .fold(self, |builder, (variable, value)| builder.environment(variable, value));
        let mut builder = builder.signer(kid, &token.key);
        builder.upstreams.push((kid.to_owned(), token.upstream(lines)));
        builder
    }

    /// Serves `key`, of Ed25519 or P-256, from the plain file `keys/KID.pem` of the scratch directory.
    #[must_use]
    pub fn development(self, kid: &str, key: &Key) -> Self {
        let file = self.world.scratch.write(&format!("keys/{kid}.pem"), Kms::private_key_pem(key));
        let file = file.display();
        let builder = self.environment("SIGNING_PROXY__DEPLOYMENT__ENVIRONMENT", "development");
        let mut builder = builder.signer(kid, key);
        builder.upstreams.push((
            kid.to_owned(),
            format!("[[signers.upstreams]]\nprovider = \"development\"\nkey_file = \"{file}\"\n"),
        ));
        builder
    }

    /// Has the PIN of its tokens from the systemd credential of that name, not from a file.
    #[must_use]
    pub fn pin_credential(mut self, hsm: &SoftHsm, name: &str) -> Self {
        let file = format!("pin_file = \"{}\"", hsm.pin_file().display());
        let credential = format!("pin_credential = \"{name}\"");
        for (_, lines) in &mut self.upstreams {
            *lines = lines.replace(&file, &credential);
        }
        self
    }

    /// The same, with the same key in the slot of another token as its second upstream.
    #[must_use]
    pub fn tokens(self, kid: &str, hsm: &SoftHsm, key: &Key, other: &str) -> Self {
        let lines = hsm.upstream_in(other, key, "");
        self.token(kid, hsm, key, &lines)
    }

    /// Serves `key` of the KMS as the signer `kid`, with the same key of a token as its
    /// second upstream.
    #[must_use]
    pub fn signer_with_token(self, kid: &str, key: &Key, hsm: &SoftHsm, held: &Key) -> Self {
        let kms = self.kms_upstream(key);
        let mut builder = self.token(kid, hsm, held, "");
        for (_, lines) in builder.upstreams.iter_mut().filter(|(name, _)| name == kid) {
            *lines = format!("{kms}{lines}");
        }
        builder
    }

    /// Gives the signer `kid` another upstream: `key` of `kms`.
    #[must_use]
    pub fn replica(mut self, kid: &str, kms: &Kms, key: &Key) -> Self {
        self.replicas.push((kid.to_owned(), kms.clone(), key.clone()));
        self
    }

    /// Which upstream its signers prefer.
    #[must_use]
    pub fn prefer(mut self, prefer: &str) -> Self {
        self.prefer = prefer.to_owned();
        self
    }

    /// Adds an entry to the registry, for a key that is not served or instead of
    /// the one that a signer got.
    #[must_use]
    pub fn registered(mut self, entry: Value) -> Self {
        self.registry.retain(|other| other["signer_kid"] != entry["signer_kid"]);
        self.registry.push(entry);
        self
    }
}

/// A registry entry of `key` as a batch signer's.
#[must_use]
pub fn batch_entry(kid: &str, key: &Key) -> Value {
    let mut entry = entry(kid, key);
    entry["mode"] = json!("batch");
    entry
}

/// A registry entry of `key`.
#[must_use]
pub fn entry(kid: &str, key: &Key) -> Value {
    json!({
        "signer_kid": kid,
        "algorithm": key.kind.registry_algorithm(),
        "public_key_pem": key.public_key_pem,
        "deployedAt": "2026-01-01T00:00:00Z",
    })
}
