//! `signctl report`: the post-mortem of an incident or a session, from the journals alone, on any machine that has
//! a copy of them. One HTML file that needs nothing else, and the same in Markdown.

mod ceremony;
mod facts;
mod fleet;
mod forms;
mod health;
mod html;
mod load;
mod markdown;
mod member;
mod page;
mod picture;
mod sections;

use std::collections::BTreeMap;
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
use crate::copies;
use crate::scope::{Finder, Wanted, Window};

use facts::{Facts, RecordOwner};
use member::{Journal, Member};
use sections::{Verified, page};

/// What to report, from which journals.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    about: ReportSubject,
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
    /// Journals of all members of a fleet, in place of --journal and --with: a directory that holds a directory
    /// for each member, with copies of its journals. The report names the member of each line.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["with", "also"])]
    members: Option<PathBuf>,
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
struct ReportSubject {
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

impl ReportSubject {
    fn wanted(&self) -> Option<Wanted> {
        let incident = self.incident.clone().map(Wanted::Incident);
        let session = || self.session.clone().map(Wanted::Session);
        let since = || self.since.clone().map(Wanted::Since);
        incident.or_else(session).or_else(since)
    }
}

pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let wanted = flags.about.wanted().context("--incident, --session or --since")?;
    let sources = flags.sources()?;
    let (window, facts, mut verified) = read(&sources, flags.signers.as_deref(), &wanted)?;
    if flags.kms_log.is_given() {
        let of = |owner| {
            let of = sources.iter().filter(move |source| source.journal == owner);
            of.map(|source| source.path.as_path()).collect::<Vec<_>>()
        };
        let (proxies, signers) = (of(Journal::Proxy), of(Journal::Signer));
        let wanted = (Some(window.since.unix_timestamp()), None);
        verified.kms = Some(flags.kms_log.compare((&proxies, &signers), None, wanted)?);
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
            "members": facts.is_fleet().then(|| fleet::to_json(&window, &facts)),
        }))?;
    } else {
        let wrong = wrong.map(|wrong| format!("\nNOT PROVEN: {wrong}")).unwrap_or_default();
        let kms = verified.kms.as_ref().map(|kms| format!("\nKMS's log: {}", kms.verdict()));
        let kms = kms.unwrap_or_default();
        let members = facts.is_fleet().then(|| fleet::in_words(&window, &facts));
        let members = members.map(|members| format!("\n{members}")).unwrap_or_default();
        out::report(&format!("{html}\n{markdown}{members}{wrong}{kms}"))?;
    }
    Ok(if verified.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A journal to read.
struct Source {
    /// The number of its member, and the member's name if there are several.
    member: usize,
    name: Option<String>,
    journal: Journal,
    path: PathBuf,
}

impl Flags {
    /// The journals, those of one member side by side, its proxy's first.
    fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let Some(directory) = &self.members else {
            let both =
                [(Journal::Proxy, Some(&self.journal)), (Journal::Signer, self.with.as_ref())];
            let given = both.into_iter().filter_map(|(journal, path)| Some((journal, path?)));
            let source = |(journal, path): (_, &PathBuf)| Source {
                member: 0,
                name: None,
                journal,
                path: path.clone(),
            };
            return Ok(given.map(source).collect());
        };
        let members = copies::members(directory)?.into_iter().enumerate();
        let sources = members.flat_map(|(member, copies::Member { name, proxy, signer })| {
            let both = [(Journal::Proxy, proxy), (Journal::Signer, signer)];
            let given = both.into_iter().filter_map(|(journal, copied)| Some((journal, copied?)));
            given.map(move |(journal, copied)| Source {
                member,
                name: Some(name.clone()),
                journal,
                path: copied.path,
            })
        });
        Ok(sources.collect())
    }
}

/// Reads all journals twice: from when to when it is about, then what was so.
fn read(
    sources: &[Source],
    signers: Option<&Path>,
    wanted: &Wanted,
) -> anyhow::Result<(Window, Facts, Verified)> {
    let found = verified(sources, signers);
    let mut finder = Finder::new(wanted.clone());
    let mut unread = None;
    for (number, Source { path, .. }) in sources.iter().enumerate() {
        let read = audit::each(path, |kind, record| finder.note(number, kind, &record.outline));
        unread = unread.or(said(path, read));
    }
    let window = finder.found().map_err(|why| match &unread {
        Some(unread) => anyhow!("{why}; and {unread}"),
        None => anyhow!("{why}"),
    })?;
    let names: BTreeMap<_, _> = sources.iter().map(|it| (it.member, it.name.clone())).collect();
    let mut facts = Facts::of(names.into_values().map(Member::named).collect());
    let of = |journal| sources.iter().filter(move |source| source.journal == journal);
    for Source { member, journal, path, .. } in of(Journal::Signer).chain(of(Journal::Proxy)) {
        let of = RecordOwner { member: *member, journal: *journal };
        let mut is_begun = false;
        let read = audit::each(path, |kind, record| {
            if !std::mem::replace(&mut is_begun, true) {
                facts.begin(of, &record.log);
            }
            let row = row(kind, record);
            let (seq, about) = (record.place.leaf.seq, (wanted, &window));
            facts.note(of, seq, kind, &record.outline, &row, about);
        });
        unread = unread.or(said(path, read));
    }
    facts.sort();
    Ok((window, facts, Verified { found, unread, kms: None }))
}

/// What verifying the journals found: how much was verified, under which keys; or the first defect, of each
/// member that has one. A defect is in the report, and does not keep it from being written.
fn verified(sources: &[Source], signers: Option<&Path>) -> Result<String, String> {
    let keys = match signers {
        Some(_) => "the registry's keys",
        None => "the keys that they name themselves, which proves less",
    };
    let (mut found, mut defects, mut members) = (Vec::new(), Vec::new(), 0_usize);
    let mut rest = sources.iter().peekable();
    while let Some(one) = rest.next() {
        let with = rest.next_if(|next| next.member == one.member);
        let with = with.map(|source| source.path.as_path());
        let verified = audit::verified_whole(&one.path, signers, with);
        members += 1;
        match verified.map_err(|error| format!("{error:#}")).and_then(|found| found) {
            Ok(verified) => found.push(verified),
            Err(defect) => {
                let of = |name: &String| format!("{name}: {defect}");
                defects.push(one.name.as_ref().map_or_else(|| defect.clone(), of));
            }
        }
    }
    match (defects.is_empty(), found.as_slice()) {
        (false, _) => Err(defects.join("; ")),
        (true, [one]) if members == 1 => Ok(format!("{one}, under {keys}")),
        (true, _) => {
            let all = text::counted(members, "member");
            Ok(format!("those of {all} are verified, under {keys}"))
        }
    }
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
