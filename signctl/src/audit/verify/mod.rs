//! `signctl audit verify`: is the journal as it was written?

mod show;
mod state;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use audit::compare::{Compared, compare};
use audit::verify::{KeptHead, Options, Progress, Report, verify};
use audit::walk::Defect;
use host::out;
use serde_json::Value;
use signing_core::Registry;
use signing_core::journal::{Head, Leaf};
use signing_core::tree::TreeHash;

use super::{archived, registry, rows};
use crate::archive::ArchiveFlags;
use crate::database::{Database, Table};

/// What to check, against what.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The registry that holds the proxy's audit key. Without it the keys that the journal
    /// itself names are taken, which proves less.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// Only the newest N records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// A receipt that was kept elsewhere, audit.seq and audit.leaf of an answer: that record has to
    /// be there.
    #[arg(long, value_name = "SEQ:LEAF", value_parser = receipt)]
    receipt: Option<Leaf>,
    /// A head that was kept elsewhere, as `signctl status` shows it: so many records have to be there,
    /// with that root.
    #[arg(long, value_name = "SIZE:ROOT", value_parser = head)]
    head: Option<Head>,
    /// The journal of the other process: the emergency signer's beside the proxy's, or the proxy's
    /// beside the signer's. It is verified too, and what each says of the other has to be there.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// The process's state directory, state.dir in its configuration: the head that is noted there has
    /// to be in the journal.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Verify the rows that signing-trail wrote to this database, instead of a journal.
    #[command(flatten)]
    database: Option<Database>,
    #[command(flatten)]
    table: Table,
    /// Verify the archive that signing-trail wrote, instead of a journal.
    #[command(flatten)]
    archive: Option<ArchiveFlags>,
    /// The archive's files are a part of it: what is before the first record of each log is not asked for.
    #[arg(long, requires = "archive")]
    partial: bool,
}

/// What was found in the journal, and in the other one.
struct Found {
    report: Report,
    /// The record that had to be there.
    receipt: Option<Leaf>,
    /// The head that had to be there.
    kept: Option<Head>,
    /// The head that the state directory notes, which is in the journal if nothing is wrong.
    state: Option<KeptHead>,
    with: Option<OtherJournal>,
}

/// The other journal, and what each says of the other, if both are without a defect.
struct OtherJournal {
    directory: PathBuf,
    report: Report,
    /// What the journal's records say of it.
    named: Compared,
    /// What its records say of the journal.
    names: Compared,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    match (&flags.database, &flags.archive) {
        (Some(_), Some(_)) => bail!("--database-url and --archive: verify one, then the other"),
        (Some(database), None) => return flags.rows(database, as_json),
        (None, Some(archive)) => return flags.archived(archive, as_json),
        (None, None) => {}
    }
    let registry = flags.signers.as_deref().map(registry).transpose()?;
    // Before the journal is read: it may go on, and never back.
    let state = flags.state.as_deref().map(state::head).transpose()?;
    let kept = flags.head.map(|head| {
        let whose = "the head that was kept".to_owned();
        KeptHead { whose, log: None, head }
    });
    let heads: Vec<_> = kept.into_iter().chain(state.clone()).collect();
    let Flags { limit, receipt, .. } = *flags;
    let options =
        Options { limit, registry: registry.as_ref(), heads: &heads, receipt, is_copy: false };
    let began = Instant::now();
    let report = with_progress(journal, &options, began)?;
    let seconds = began.elapsed().as_secs_f64();
    let speed = per_second(report.records, began);
    let with =
        flags.with.as_deref().map(|other| OtherJournal::of(journal, &report, other, &options));
    let found = Found { report, receipt, kept: flags.head, state, with: with.transpose()? };
    if as_json {
        out::report_json(&found.to_json(seconds, speed))?;
    } else {
        out::report(&found.table(seconds, speed))?;
    }
    Ok(if found.defect().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Verifies the newest records of a journal: the report as JSON, and the defect if there is one.
///
/// # Errors
/// If nothing can be said about the journal.
pub(super) fn newest(
    journal: &Path,
    signers: Option<&Path>,
    limit: u64,
) -> anyhow::Result<(Value, Option<String>)> {
    let registry = signers.map(registry).transpose()?;
    let options = Options { limit: Some(limit), registry: registry.as_ref(), ..Options::default() };
    let began = Instant::now();
    let report = with_progress(journal, &options, began)?;
    let speed = per_second(report.records, began);
    let found = Found::of(report, None);
    let defect = found.defect().map(ToString::to_string);
    Ok((found.to_json(began.elapsed().as_secs_f64(), speed), defect))
}

/// Verifies all of a journal, and the other one if there is one: how much, or the defect.
///
/// # Errors
/// If nothing can be said about a journal.
pub(super) fn whole(
    journal: &Path,
    signers: Option<&Path>,
    with: Option<&Path>,
) -> anyhow::Result<Result<String, String>> {
    let registry = signers.map(registry).transpose()?;
    let options = Options { registry: registry.as_ref(), ..Options::default() };
    let report = with_progress(journal, &options, Instant::now())?;
    let with = with.map(|other| OtherJournal::of(journal, &report, other, &options)).transpose()?;
    let mut verified = format!("{} records verified", report.records);
    if let Some(OtherJournal { report, .. }) = &with {
        verified.push_str(&format!(", and {} of the other journal", report.records));
    }
    let found = Found::of(report, with);
    Ok(found.defect().map_or(Ok(verified), |defect| Err(defect.to_string())))
}

/// Verifies a journal, and shows a person how far it is.
fn with_progress(journal: &Path, options: &Options<'_>, began: Instant) -> anyhow::Result<Report> {
    let shows = io::stderr().is_terminal();
    let report = verify(journal, options, |Progress { records, of }| {
        if shows {
            let speed = per_second(records, began);
            out::say_for_now(&format!("{records} of {of} records, {speed:.0}/s "));
        }
    });
    if shows {
        out::say_for_now("");
    }
    Ok(report?)
}

impl Flags {
    fn rows(&self, database: &Database, as_json: bool) -> anyhow::Result<ExitCode> {
        let registry = self.registry_beside("--database-url")?;
        rows::run(&database.place(&self.table)?, &registry, self.limit, as_json)
    }

    fn archived(&self, archive: &ArchiveFlags, as_json: bool) -> anyhow::Result<ExitCode> {
        let registry = self.registry_beside("--archive")?;
        if self.limit.is_some() {
            bail!("--archive has no --limit: the root of a tree needs all records before it");
        }
        archived::run(archive, &registry, self.partial, as_json)
    }

    /// The registry, which what is no journal needs, and nothing that is about a journal.
    fn registry_beside(&self, flag: &str) -> anyhow::Result<Registry> {
        let others = [
            self.receipt.is_some(),
            self.head.is_some(),
            self.with.is_some(),
            self.state.is_some(),
        ];
        if others.contains(&true) {
            bail!(
                "--receipt, --head, --with and --state are about a journal: use them without {flag}"
            );
        }
        match self.signers.as_deref() {
            Some(signers) => registry(signers),
            None => {
                bail!("{flag} needs --signers: what is there proves nothing without the registry")
            }
        }
    }
}

impl OtherJournal {
    /// Verifies the other journal, and compares the two in both directions.
    fn of(
        journal: &Path,
        report: &Report,
        other: &Path,
        options: &Options<'_>,
    ) -> anyhow::Result<Self> {
        let options = Options { heads: &[], receipt: None, ..*options };
        let others = with_progress(other, &options, Instant::now())?;
        let (mut named, mut names) = (Compared::default(), Compared::default());
        // What a defective journal says proves nothing.
        if report.defect.is_none() && others.defect.is_none() {
            named = compare(journal, report.first_seq, other)?;
            names = compare(other, others.first_seq, journal)?;
        }
        Ok(Self { directory: other.to_owned(), report: others, named, names })
    }

    fn defect(&self) -> Option<&Defect> {
        let of_either = self.named.defect.as_ref().or(self.names.defect.as_ref());
        self.report.defect.as_ref().or(of_either)
    }
}

impl Found {
    /// What was found where nothing kept elsewhere had to be there.
    fn of(report: Report, with: Option<OtherJournal>) -> Self {
        Self { report, receipt: None, kept: None, state: None, with }
    }

    /// The first defect: of the journal, of the other one, or of what they say of each other.
    fn defect(&self) -> Option<&Defect> {
        let of_other = self.with.as_ref().and_then(OtherJournal::defect);
        self.report.defect.as_ref().or(of_other)
    }
}

fn head(text: &str) -> Result<Head, String> {
    let pair = pair(text).map(|(size, root)| Head { size, root });
    pair.ok_or_else(|| "expected SIZE:ROOT, audit.size and audit.root of signctl status".to_owned())
}

fn receipt(text: &str) -> Result<Leaf, String> {
    let pair = pair(text).map(|(seq, hash)| Leaf { seq, hash });
    pair.ok_or_else(|| "expected SEQ:LEAF, audit.seq and audit.leaf of an answer".to_owned())
}

/// Reads `17:1f3c...`.
fn pair(text: &str) -> Option<(u64, TreeHash)> {
    let (number, hash) = text.split_once(':')?;
    Some((number.parse().ok().filter(|number| *number > 0)?, TreeHash::parse(hash)?))
}

#[expect(clippy::cast_precision_loss, reason = "a speed is shown, not each record of it")]
fn per_second(records: u64, began: Instant) -> f64 {
    records as f64 / began.elapsed().as_secs_f64().max(1e-9)
}
