//! `signctl audit`: reads the journal from its files, beside the proxy or on a copy.

mod annotations;
mod archive_held;
mod archived;
mod each;
mod export;
mod finds;
mod key;
mod kms_log;
mod newest;
mod prune;
mod reconcile;
mod rows;
mod tail;
mod tiles;
mod used;
mod verify;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use audit::walk::{Place, Walk};
use clap::{Args, Subcommand};
use host::files;
use serde_json::Value;
use signing_core::Registry;
use signing_core::journal::Outline;

pub(crate) use each::each;
pub(crate) use kms_log::KmsLog;
pub(crate) use newest::{newest_records, verified, verified_whole};
pub(crate) use reconcile::rows as reconcile_rows;
pub(crate) use used::{ANSWERS, Uses, since as moment, since_incident as used};
pub(crate) use words::words;

/// The journal to read, and what to do with it.
#[derive(Args)]
pub(crate) struct Flags {
    /// The journal's directory: audit.dir in the configuration, or a copy of it.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SIGNCTL_JOURNAL",
        default_value = "/var/lib/signing-proxy/journal"
    )]
    journal: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

impl Flags {
    /// Whether its verb goes on until it is interrupted.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(&self.verb, Verb::Tail(flags) if flags.follow)
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Show the newest records, and with --follow those that come.
    #[command(
        after_help = "Example: signctl audit tail --follow --type signed --signer payments-2026"
    )]
    Tail(tail::Flags),
    /// Check every record against the signed checkpoints; exit 0 only if nothing is wrong.
    /// The first defect is named exactly.
    #[command(
        after_help = "Example: signctl audit verify --signers /etc/signing-proxy/signers.json\n         \
                      signctl audit verify --journal /mnt/copy --signers signers.json --receipt 17:1f3c...\n         \
                      signctl audit verify --database-url postgres://auditor@db/audit --signers signers.json\n         \
                      signctl audit verify --archive s3://audit-archive/prod --archive-region eu-central-1 --signers signers.json\n         \
                      signctl audit verify --state /var/lib/signing-proxy --with /var/lib/breakglass-signer/journal"
    )]
    Verify(verify::Flags),
    /// Write records as JSON lines, and the signed checkpoint that covers them (docs/reference/journal.md); or
    /// the whole log as tiles.
    #[command(
        after_help = "Example: signctl audit export --from 1 --to 5000 --output records.jsonl\n         \
                      signctl audit export --tiles log --signers /etc/signing-proxy/signers.json"
    )]
    Export(export::Flags),
    /// Show the audit keys that signed the journal, as lines for clients of such logs (c2sp.org/signed-note),
    /// and from which size on to which each signed; exit 0 only if --signers, if given, holds all.
    #[command(
        after_help = "Example: signctl audit key --signers /etc/signing-proxy/signers.json\n         \
                      signctl audit key --json | jq -r '.keys[].verifier_key'"
    )]
    Key(key::Flags),
    /// Show which credentials were used since an incident began: upstreams, callers, operators, emergency keys
    /// and approvers. Each is to be replaced, or somebody says why not.
    #[command(
        after_help = "Example: signctl audit used --incident INC-42 --with /var/lib/breakglass-signer/journal\n         \
                      signctl audit used --since 2026-11-26T05:15:00Z --json"
    )]
    Used(used::Flags),
    /// Hold the journals against each other, against the rows that signing-trail wrote, against its archive, and
    /// against KMS's own log (CloudTrail). Exit 0 only if every record has its row and is archived, as it is in the
    /// journal, nothing else is there, and nobody signed with our keys around the journals.
    #[command(
        after_help = "Example: signctl audit reconcile --database-url postgres://auditor@db/audit --signers signers.json\n         \
                      signctl audit reconcile --database-url postgres://auditor@db/audit --signers signers.json --with /var/lib/breakglass-signer/journal \\\n         \
                        --archive s3://audit-archive/prod --archive-region eu-central-1 --wait 60\n         \
                      signctl audit reconcile --database-url postgres://auditor@db/audit --signers signers.json --members copies\n         \
                      signctl audit reconcile --signers signers.json --cloudtrail AWSLogs --config /etc/signing-proxy/signing-proxy.toml\n         \
                      signctl audit reconcile --signers signers.json --cloudtrail logs/*.json.gz --also /mnt/copy-of-b --key arn:aws:kms:eu-central-1:111122223333:key/mrk-9f8e"
    )]
    Reconcile(reconcile::Flags),
    /// Say which of the oldest segments of the proxy's journal may go, and with --remove remove them: whole, and
    /// only what the rows of signing-trail hold. It reconciles first, and removes nothing if there is a gap.
    #[command(
        after_help = "Example: signctl audit prune --database-url postgres://auditor@db/audit --signers signers.json\n         \
                      signctl audit prune --database-url postgres://auditor@db/audit --signers signers.json --keep 24 --remove"
    )]
    Prune(prune::Flags),
}

/// Carries out one verb.
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let journal = flags.journal.as_path();
    match &flags.verb {
        Verb::Tail(flags) => tail::run(journal, flags, as_json),
        Verb::Verify(flags) => verify::run(journal, flags, as_json),
        Verb::Export(flags) => export::run(journal, flags),
        Verb::Key(flags) => key::run(journal, flags, as_json),
        Verb::Used(flags) => used::run(journal, flags, as_json),
        Verb::Reconcile(flags) => reconcile::run(journal, flags, as_json),
        Verb::Prune(flags) => prune::run(journal, flags, as_json),
    }
}

/// What was renamed or linked to `file` stays there, also after a crash of the machine.
fn sync_parent(file: &Path) -> std::io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a registry.
///
/// # Errors
/// If it cannot be read, with every mistake in it.
pub(crate) fn registry(file: &Path) -> anyhow::Result<Registry> {
    let text = std::fs::read(file)
        .and_then(files::text)
        .with_context(|| format!("--signers {}", file.display()))?;
    Registry::from_json(&text)
        .map_err(|mistakes| anyhow!("--signers {}: {}", file.display(), mistakes.join("; ")))
}

/// A record that was read.
pub(crate) struct Record {
    pub(crate) place: Place,
    pub(crate) outline: Outline,
    /// The origin of its log.
    pub(crate) log: String,
}

impl Record {
    /// The record at `place`, which the last step gave. None: its body is no record.
    fn read(walk: &Walk, place: Place) -> Option<Self> {
        let (outline, _) = Outline::parse(walk.body(&place))?;
        Some(Self { place, outline, log: walk.log()?.origin() })
    }

    /// One JSON line of it.
    fn to_json(&self) -> Value {
        trail::lines::value(&self.log, &self.place.leaf, &self.outline)
    }
}
