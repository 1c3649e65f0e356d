//! `signctl audit export`: records as JSON lines, and the checkpoint that covers them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use audit::walk::{Walk, WalkStep, newest};
use host::out;

use super::{Record, registry, tiles};

/// What to write, and where.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The first record; without it, the oldest there is.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// The last record; without it, the newest there is.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// The file, which must not be there yet; without it, standard output. It gets its name
    /// once it is whole and on disk.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the whole log as tiles, entry bundles and its checkpoint instead (c2sp.org/tlog-tiles),
    /// into this directory. Nothing may be in it yet. It gets its name once it is whole and on disk.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from", "to", "output"])]
    tiles: Option<PathBuf>,
    /// The registry that holds the audit key of the checkpoint. Without it the keys that the journal
    /// itself names are taken, which proves less.
    #[arg(long, value_name = "FILE", requires = "tiles")]
    signers: Option<PathBuf>,
}

pub(super) fn run(journal: &Path, flags: &Flags) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &flags.tiles {
        let registry = flags.signers.as_deref().map(registry).transpose()?;
        tiles::export(journal, directory, registry.as_ref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(file) = &flags.output else {
        let mut out = out::Stream::default();
        let written = write(journal, flags, |line| Ok(out.collect(line)?));
        // What came before a defect is of use.
        out.flush()?;
        return written.map(|_| ExitCode::SUCCESS);
    };
    let name = file.display();
    if file.symlink_metadata().is_ok() {
        bail!("{name}: is there already; name another file or remove it");
    }
    let new = PathBuf::from(format!("{name}.new"));
    let made_now = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new);
    // Not what somebody else put there, nor what a link of that name points to.
    let made_now = made_now.with_context(|| {
        format!("{}: cannot be made (if an export was interrupted, remove it)", new.display())
    })?;
    let made = whole(journal, flags, made_now).and_then(|count| {
        // A rename would replace what came there meanwhile without a word.
        fs::hard_link(&new, file)?;
        fs::remove_file(&new)?;
        super::sync_parent(file)?;
        Ok(count)
    });
    if made.is_err() {
        // Half of it is of no use.
        let _ = fs::remove_file(&new);
    }
    let count = made.with_context(|| format!("{name} is not written"))?;
    out::say(&format!("{name}: {}", text::counted(count, "record")));
    Ok(ExitCode::SUCCESS)
}

/// Writes a file whole, and on disk.
fn whole(journal: &Path, flags: &Flags, new: File) -> anyhow::Result<u64> {
    let mut out = BufWriter::new(new);
    let count = write(journal, flags, |line| Ok(writeln!(out, "{line}")?))?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(count)
}

/// Writes the records up to the end that was asked for, or that there was when it began: who
/// writes may be faster. A defect ends it with an error, since what follows is not what was
/// written.
fn write(
    journal: &Path,
    flags: &Flags,
    mut take: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let last = newest(journal)?.size;
    let to = flags.to.map_or(last, |to| to.min(last));
    let mut walk = Walk::open(journal, flags.from)?;
    let oldest = walk.segments().first().map_or(1, |segment| segment.first_seq);
    if to < flags.from.max(oldest) {
        let asked = flags.to.map_or_else(|| "on".to_owned(), |to| format!("to {to}"));
        bail!(
            "there are no records from {} {asked}: the journal holds {oldest} to {last}",
            flags.from
        );
    }
    let (mut count, mut covered) = (0, None);
    loop {
        let place = match walk.step()? {
            WalkStep::Record(place) => place,
            WalkStep::Sealed(seal) => {
                let is_last = seal.checkpoint.checkpoint().size >= to;
                covered = Some(seal.checkpoint);
                if is_last {
                    break;
                }
                continue;
            }
            WalkStep::End => break,
            WalkStep::TornWrite(torn) => {
                out::say(&format!("signctl: the export ends with the last whole record: {torn}"));
                break;
            }
        };
        let seq = place.leaf.seq;
        if seq < flags.from || seq > to {
            continue;
        }
        let Some(record) = Record::read(&walk, place) else {
            bail!("record {seq}: its body is no record")
        };
        take(&text::json(&record.to_json().to_string()))?;
        count += 1;
    }
    if let Some(covered) = covered {
        take(&text::json(&serde_json::json!({"checkpoint": covered.note()}).to_string()))?;
    }
    Ok(count)
}
