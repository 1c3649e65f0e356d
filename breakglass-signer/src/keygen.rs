//! `breakglass-signer keygen`: a fresh emergency key in a sealed file, and the entry that
//! publishes it. It needs no configuration, so that it can run on a machine without a network.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::bail;
use host::passphrase;
use signing_core::key::{Batching, Purpose};
use signing_core::registry::Entry;
use signing_core::{Kid, Signer};

use crate::key::{Kind, Unproven};
use crate::keyfile;
use crate::sandbox;

/// A shorter passphrase is guessed from a stolen file.
const PASSPHRASE_MIN_BYTES: usize = 12;

/// Makes the key; returns its registry entry.
///
/// # Errors
/// If it cannot be made; a file that is there stays as it is.
pub fn keygen(kid: Kid, kind: Kind, out: &Path) -> anyhow::Result<Entry> {
    sandbox::harden()?;
    if out.exists() {
        bail!("{} is there already; name another file", out.display());
    }
    let passphrase = passphrase::read("Passphrase for the new key: ")?;
    if passphrase.len() < PASSPHRASE_MIN_BYTES {
        bail!(
            "the passphrase has {} bytes; take at least {PASSPHRASE_MIN_BYTES}",
            passphrase.len()
        );
    }
    if io::stdin().is_terminal() && passphrase::read("The same again: ")? != passphrase {
        bail!("the two passphrases differ; nothing was made");
    }
    let key = Unproven::generate(kind)?;
    let public_key = key.public()?;
    keyfile::create(out, key.to_der()?.as_bytes(), &passphrase)?;
    let signer = Signer {
        kid,
        public_key,
        purpose: Purpose::Breakglass,
        batch: Batching::No,
        not_after: None,
        revoked_at: None,
    };
    // What was written is read once more before anybody relies on it.
    let reread = Unproven::from_der(&keyfile::load(out)?.open(&passphrase)?)?;
    reread.prove(&std::sync::Arc::new(signer.clone()))?;
    Ok(Entry::publish(&signer))
}
