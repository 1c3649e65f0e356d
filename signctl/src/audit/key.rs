//! `signctl audit key`: who signed the journal, from where to where.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use audit::tenure::{self, Tenure, Trust};
use aws_lc_rs::digest;
use host::out;
use serde_json::{Value, json};
use signing_core::Registry;
use signing_core::key::Purpose;
use signing_core::tree::{LogId, note_key_id, verifier_key};

use super::registry;

/// What to hold the keys against.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The registry that should hold each of them, with the purpose audit.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
}

/// A key, and what is known of it.
struct Found {
    /// As the journal names it; None: what names it was moved away.
    kid: Option<String>,
    verifier_key: String,
    key_id: String,
    sha256: String,
    from: u64,
    to: u64,
    is_in_force: bool,
    registered: Registered,
}

/// What the registry says of a key.
enum Registered {
    /// There is no registry to ask.
    NotAsked,
    No,
    As(String),
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let registry = flags.signers.as_deref().map(registry).transpose()?;
    let registry = registry.as_ref();
    let signed = tenure::read(journal, Trust::Journal(registry), |_, _| anyhow::Ok(()))?;
    let last = signed.tenures.len().saturating_sub(1);
    let keys = signed.tenures.into_iter().enumerate();
    let keys = keys.map(|(at, tenure)| Found::of(tenure, signed.log, at == last, registry));
    let keys: Vec<_> = keys.collect::<anyhow::Result<_>>()?;
    let ok = !keys.iter().any(|key| matches!(key.registered, Registered::No));
    if as_json {
        let keys: Vec<_> = keys.iter().map(Found::to_json).collect();
        out::report_json(&json!({"ok": ok, "log": signed.log.origin(), "keys": keys}))?;
    } else {
        let log = row("log", &signed.log.origin());
        let tables = [log].into_iter().chain(keys.iter().map(Found::table));
        out::report(&tables.collect::<Vec<_>>().join("\n\n"))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Found {
    fn of(
        tenure: Tenure,
        log: LogId,
        is_in_force: bool,
        registry: Option<&Registry>,
    ) -> anyhow::Result<Self> {
        let Tenure { key, kid, from, to } = tenure;
        let registered = match registry {
            None => Registered::NotAsked,
            Some(registry) => registry
                .iter()
                .filter(|signer| signer.purpose == Purpose::Audit)
                .find(|signer| signer.public_key.spki_der() == key.spki_der())
                .map_or(Registered::No, |signer| Registered::As(signer.kid.to_string())),
        };
        Ok(Self {
            kid,
            verifier_key: verifier_key(log, &key)
                .ok_or_else(|| anyhow!("an audit key is not an Ed25519 key"))?,
            key_id: hex::encode(note_key_id(log, &key)),
            sha256: hex::encode(digest::digest(&digest::SHA256, key.spki_der())),
            from,
            to,
            is_in_force,
            registered,
        })
    }

    fn table(&self) -> String {
        let until = if self.is_in_force { "in force" } else { "replaced" };
        let registered = match &self.registered {
            Registered::NotAsked => "not asked; give --signers".to_owned(),
            Registered::No => "does NOT hold it with the purpose audit".to_owned(),
            Registered::As(kid) => format!("holds it as {kid}"),
        };
        let rows = [
            (
                "key",
                self.kid
                    .clone()
                    .unwrap_or_else(|| "unknown: its start records are not here".into()),
            ),
            ("verifier key", self.verifier_key.clone()),
            ("key id", self.key_id.clone()),
            ("SHA-256", self.sha256.clone()),
            ("signed", format!("checkpoints from size {} to {}; {until}", self.from, self.to)),
            ("registry", registered),
        ];
        rows.iter().map(|(name, value)| row(name, value)).collect::<Vec<_>>().join("\n")
    }

    fn to_json(&self) -> Value {
        let (registered, registered_as) = match &self.registered {
            Registered::NotAsked => (None, None),
            Registered::No => (Some(false), None),
            Registered::As(kid) => (Some(true), Some(kid)),
        };
        json!({
            "kid": self.kid,
            "verifier_key": self.verifier_key,
            "key_id": self.key_id,
            "spki_sha256": self.sha256,
            "from_size": self.from,
            "to_size": self.to,
            "in_force": self.is_in_force,
            "registered": registered,
            "registered_kid": registered_as,
        })
    }
}

fn row(name: &str, value: &str) -> String {
    format!("{name:<14}{}", text::line(value))
}
