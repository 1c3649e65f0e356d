//! `signctl report`: the post-mortem of an incident or a session, from the journals alone, on any machine that has
//! a copy of them. One HTML file that needs nothing else, and the same in Markdown.

mod ceremony;
mod facts;
mod forms;
mod health;
mod html;
mod load;
mod markdown;
mod page;
mod picture;
mod sections;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use host::clock::{rfc3339_seconds, wall_now};
use host::out;
use serde_json::json;
use signctl::cloudtrail::report::Report;
use signing_core::journal::Kind;
use signing_core::tree::LogId;
use trail::uuid;

use crate::audit::{self, KmsLog, Record};
use crate::scope::{Finder, Wanted, Window};

use facts::{Facts, Journal};
use sections::{Verified, page};

/// What to report, from which journals.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    about: About,
    /// The proxy's journal: audit.dir in its configuration, or a copy of it.
    #[arg(
        long,
        value_name = "DIR",
        env = "SIGNCTL_JOURNAL",
        default_value = "/var/lib/signing-proxy/journal"
    )]
    journal: PathBuf,
    /// The emergency signer's journal, or a copy of it. Without it the report has no approvals and no emergency
    /// signatures.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// The registry that holds the audit keys; else the keys that the journals name, which proves less.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// The files to write, without .html and .md; they must not exist [default: report-NAME-TIME]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    #[command(flatten)]
    kms_log: KmsLog,
}

/// What the report is about.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct About {
    /// An incident, from the outage that it is about to its end.
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// A break-glass session, from the outage that its approvers attest to its end.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// All since then (RFC 3339, such as 2026-11-26T05:15:00Z).
    #[arg(long, value_name = "TIME", value_parser = audit::moment)]
    since: Option<String>,
}

impl About {
    fn wanted(&self) -> Option<Wanted> {
        let incident = self.incident.clone().map(Wanted::Incident);
        let session = || self.session.clone().map(Wanted::Session);
        let since = || self.since.clone().map(Wanted::Since);
        incident.or_else(session).or_else(since)
    }
}

pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let wanted = flags.about.wanted().context("--incident, --session or --since")?;
    let (window, facts, mut verified) = read(flags, &wanted)?;
    if flags.kms_log.is_given() {
        let signers: Vec<_> = flags.with.as_deref().into_iter().collect();
        let wanted = (Some(window.since.unix_timestamp()), None);
        let journals = (&[flags.journal.as_path()][..], &signers[..]);
        verified.kms = Some(flags.kms_log.compare(journals, None, wanted)?);
    }
    let page = page(&wanted, &window, &facts, &verified)?;
    let at = rfc3339_seconds(wall_now()).replace(':', "");
    let stem = || PathBuf::from(format!("report-{}-{at}", wanted.stem()));
    let stem = flags.out.clone().unwrap_or_else(stem);
    let (html, markdown) = (with_end(&stem, ".html"), with_end(&stem, ".md"));
    write(&html, &html::html(&page))?;
    write(&markdown, &markdown::markdown(&page))?;
    let (html, markdown) = (html.display().to_string(), markdown.display().to_string());
    let wrong = verified.found.as_ref().err().or(verified.unread.as_ref());
    if as_json {
        out::report_json(&json!({
            "html": html, "markdown": markdown, "verified": wrong.is_none(), "defect": wrong,
            "over": window.is_over, "kms": verified.kms.as_ref().map(Report::to_json),
        }))?;
    } else {
        let wrong = wrong.map(|wrong| format!("\nNOT PROVEN: {wrong}")).unwrap_or_default();
        let kms = verified.kms.as_ref().map(|kms| format!("\nKMS's log: {}", kms.verdict()));
        let kms = kms.unwrap_or_default();
        out::report(&format!("{html}\n{markdown}{wrong}{kms}"))?;
    }
    Ok(if verified.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads both journals twice: from when to when it is about, then what was so.
fn read(flags: &Flags, wanted: &Wanted) -> anyhow::Result<(Window, Facts, Verified)> {
    let journals: Vec<_> =
        [(Journal::Proxy, Some(flags.journal.as_path())), (Journal::Signer, flags.with.as_deref())]
            .into_iter()
            .filter_map(|(journal, directory)| Some((journal, directory?)))
            .collect();
    // A defect is in the report, and does not keep it from being written.
    let found =
        audit::verified_whole(&flags.journal, flags.signers.as_deref(), flags.with.as_deref());
    let found = found.map_err(|error| format!("{error:#}")).and_then(|found| found);
    let keys = if flags.signers.is_some() {
        "the registry's keys"
    } else {
        "the keys that they name themselves, which proves less"
    };
    let found = found.map(|found| format!("{found}, under {keys}"));
    let mut finder = Finder::new(wanted.clone());
    let mut unread = None;
    for (number, (_, directory)) in journals.iter().enumerate() {
        let read =
            audit::each(directory, |kind, record| finder.note(number, kind, &record.outline));
        unread = unread.or(said(directory, read));
    }
    let window = finder.found().map_err(|why| match &unread {
        Some(unread) => anyhow!("{why}; and {unread}"),
        None => anyhow!("{why}"),
    })?;
    let mut facts = Facts::default();
    for (journal, directory) in &journals {
        let read = audit::each(directory, |kind, record| {
            let row = row(kind, record);
            let (seq, about) = (record.place.leaf.seq, (wanted, &window));
            facts.note(*journal, seq, kind, &record.outline, &row, about);
        });
        unread = unread.or(said(directory, read));
    }
    facts.sort();
    Ok((window, facts, Verified { found, unread, kms: None }))
}

/// Why a journal could not be read whole.
fn said(directory: &Path, read: anyhow::Result<()>) -> Option<String> {
    read.err().map(|error| format!("{}: {error:#}", directory.display()))
}

/// The name of the row of an activation, which a sign-off has.
fn row(kind: Kind, record: &Record) -> String {
    let log = LogId::parse_origin(&record.log);
    match (kind, log) {
        (Kind::SessionActivated, Some(log)) => uuid::v5(log, &record.place.leaf.seq.to_string()),
        _ => String::new(),
    }
}

fn with_end(stem: &Path, end: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A report is evidence: it replaces none, and others on the machine do not read it.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = made.with_context(|| format!("{}: it must not exist", file.display()))?;
    let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
    written.with_context(|| file.display().to_string())
}
