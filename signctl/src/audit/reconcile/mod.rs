//! `signctl audit reconcile`: journal = the other journal = rows = archive, and nobody signed around the journals by
//! KMS's own log. Of one proxy, or of all members of a fleet.

mod hold;
mod journal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use host::out;
use serde_json::{Value, json};
use signctl::cloudtrail::report::Report;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trail::event::Owner;
use trail::reconcile::Found;

use super::finds::Finds;
use super::kms_log::{self, KmsLog};
use super::registry;
use crate::copies;
use crate::database::{Database, Table};
use crate::show::table;

pub(super) use hold::Held;
use hold::{Given, Outcome, sound};
use journal::Journal;

/// What to hold against what.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The emergency signer's journal; --journal is the proxy's.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Journals of all members of a fleet, in place of --journal and --with: a directory that holds a directory
    /// for each member, with copies of its journals. With --database-url every journal that has rows there, and
    /// every member that the fleet knows, has to be in it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["with", "also"])]
    members: Option<PathBuf>,
    /// A journal that is left out of --members, by its log: its rows are not compared; repeatable.
    #[arg(long, value_name = "LOG", value_parser = kms_log::log, requires = "members")]
    without: Vec<String>,
    /// When copying into --members began (RFC 3339), if the members run on: rows of records since then that are
    /// not in a copy yet are counted, and are no gap. Without it each of them is one.
    #[arg(long, value_name = "TIME", value_parser = instant, requires = "members")]
    copied: Option<OffsetDateTime>,
    #[command(flatten)]
    held: Held,
    #[command(flatten)]
    database: Option<Database>,
    #[command(flatten)]
    kms_log: KmsLog,
    #[command(flatten)]
    reach: kms_log::Reach,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    if flags.database.is_none() && !flags.kms_log.is_given() {
        bail!("nothing to hold the journals against: name --database-url, --cloudtrail or both");
    }
    if flags.database.is_none() && flags.held.archive.is_some() {
        bail!("--archive: the objects are held against rows too; name --database-url as well");
    }
    let members = flags.members.as_deref().map(copies::members).transpose()?;
    let journals = match &members {
        None => of_one(journal, flags.with.as_deref()),
        Some(members) => members.iter().flat_map(of_member).collect(),
    };
    let (registry, mut finds) = (registry(&flags.held.signers)?, Finds::of(journals.len()));
    sound(&registry, (&journals, flags.copied.is_some()), &mut finds)?;
    let given = Given { journals: &journals, without: &flags.without, copied: flags.copied };
    let held = flags
        .database
        .as_ref()
        .map(|database| flags.held.hold(database, &registry, given, &mut finds));
    let held = held.transpose()?;
    let mut kms = None;
    if flags.kms_log.is_given() {
        for path in flags.kms_log.also() {
            let also = Journal { owner: Owner::Proxy, path, member: None };
            also.is_sound(&registry, false, &mut finds.rest)?;
        }
        let place = flags.database.as_ref().map(|database| database.place(&flags.held.table));
        let of = |owner| {
            let of = journals.iter().filter(move |journal| journal.owner == owner);
            of.map(|journal| journal.path).collect::<Vec<_>>()
        };
        let (proxies, signers, reach) =
            (of(Owner::Proxy), of(Owner::Signer), flags.reach.seconds());
        kms = Some(flags.kms_log.compare(
            (&proxies, &signers),
            place.transpose()?.as_ref(),
            reach,
        )?);
    }
    let found = finds.all();
    let is_good = found.gaps == 0 && kms.as_ref().is_none_or(Report::is_good);
    let archived = held.as_ref().and_then(|held| held.archived);
    let by_member = members.is_some().then(|| by_member(&journals, &finds, held.as_ref()));
    if as_json {
        let kms = kms.as_ref().map(Report::to_json);
        let members: Option<Vec<_>> =
            by_member.as_ref().map(|rows| rows.iter().map(MemberFindings::to_json).collect());
        out::report_json(&json!({
            "ok": is_good, "matched": found.matched, "archived": archived, "gaps": found.gaps, "gap": found.named,
            "annotated": found.annotated, "kms": kms, "members": members, "gap_of_no_member": finds.rest.named,
        }))?;
    } else {
        let mut lines = match &by_member {
            None => gaps("GAP", &found),
            Some(rows) => in_words(rows, &finds.rest),
        };
        if flags.database.is_some() || found.gaps > 0 {
            let verdict = if found.gaps == 0 { "no gap" } else { "NOT WHOLE" };
            lines.push(format!("{verdict}: {} rows are as the journals say", found.matched));
        }
        if found.newer > 0 {
            let newer = text::counted(found.newer, "row");
            lines.push(format!(
                "{newer} are of records that are newer than the copies: not compared"
            ));
        }
        if let Some(archived) = archived {
            lines.push(format!("{archived} records of the archive are as the journals say"));
        }
        if let Some(annotated) = found.annotated {
            lines.push(format!("annotations of the policy service: {annotated}"));
        }
        lines.extend(kms.iter().flat_map(Report::lines));
        out::report(&text::lines(&lines.join("\n")))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found of a journal of a member.
struct MemberFindings<'f> {
    member: &'f str,
    owner: Owner,
    log: String,
    /// Its newest record; none: it was held against no rows.
    records: Option<u64>,
    found: &'f Found,
}

fn by_member<'f>(
    journals: &[Journal<'f>],
    finds: &'f Finds,
    held: Option<&Outcome>,
) -> Vec<MemberFindings<'f>> {
    let targets = held.map(|held| held.targets.iter().copied().map(Some));
    let targets = targets.into_iter().flatten().chain(std::iter::repeat(None));
    let of = journals.iter().zip(&finds.of).zip(targets).map(|((journal, found), records)| {
        let log = journal.origin().unwrap_or_else(|_| "unknown".to_owned());
        let member = journal.member.unwrap_or_default();
        MemberFindings { member, owner: journal.owner, log, records, found }
    });
    of.collect()
}

impl MemberFindings<'_> {
    fn to_json(&self) -> Value {
        let Self { member, owner, log, records, found } = self;
        json!({
            "member": member, "journal": owner.word(), "log": log, "records": records,
            "matched": found.matched, "newer": found.newer, "gaps": found.gaps, "gap": found.named,
        })
    }
}

/// A line for each journal, and under it each gap with its member.
fn in_words(rows: &[MemberFindings<'_>], rest: &Found) -> Vec<String> {
    let head = ["MEMBER", "JOURNAL", "RECORDS", "ROWS", "NEWER", "GAPS", "LOG"].map(str::to_owned);
    let cells = rows.iter().map(|MemberFindings { member, owner, log, records, found }| {
        vec![
            (*member).to_owned(),
            owner.word().to_owned(),
            records.map_or_else(|| "-".to_owned(), |records| records.to_string()),
            found.matched.to_string(),
            found.newer.to_string(),
            found.gaps.to_string(),
            log.clone(),
        ]
    });
    let all: Vec<_> = std::iter::once(head.to_vec()).chain(cells).collect();
    let of = rows.iter().flat_map(|row| gaps(&format!("GAP of {}", row.member), row.found));
    std::iter::once(table(&all)).chain(of).chain(gaps("GAP", rest)).collect()
}

/// A line for each gap that is named, and how many more there are.
fn gaps(head: &str, found: &Found) -> Vec<String> {
    let mut lines: Vec<_> = found.named.iter().map(|what| format!("{head}: {what}")).collect();
    let named = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    if found.gaps > named {
        lines.push(format!("{head}: and {} more", found.gaps - named));
    }
    lines
}

/// Holds the journals against their rows for a recovery: how many rows are as the journals say, or the first gap.
///
/// # Errors
/// If nothing can be said of them.
pub(crate) fn rows(
    (journal, signer): (&Path, Option<&Path>),
    signers: &Path,
    (database, table): (&Database, &Table),
) -> anyhow::Result<Result<String, String>> {
    let journals = of_one(journal, signer);
    let (registry, mut finds) = (registry(signers)?, Finds::of(journals.len()));
    let held = Held::rows_only(signers.to_owned(), table.clone());
    held.hold(database, &registry, Given::all(&journals), &mut finds)?;
    let found = finds.all();
    Ok(match found.named.first() {
        None => Ok(format!("{} rows are as the journals say", found.matched)),
        Some(gap) => {
            Err(format!("{} in the rows; the first: {gap}", text::counted(found.gaps, "gap")))
        }
    })
}

/// Reads a moment.
fn instant(text: &str) -> Result<OffsetDateTime, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339);
    at.map_err(|_| "expected RFC 3339, such as 2026-11-26T05:15:00Z".to_owned())
}

/// The journals of one proxy.
fn of_one<'p>(journal: &'p Path, signer: Option<&'p Path>) -> Vec<Journal<'p>> {
    let signer = signer.map(|path| Journal { owner: Owner::Signer, path, member: None });
    let proxy = Journal { owner: Owner::Proxy, path: journal, member: None };
    [proxy].into_iter().chain(signer).collect()
}

/// The journals of a member, the proxy's first.
fn of_member(member: &copies::Member) -> impl Iterator<Item = Journal<'_>> {
    let copies = [(Owner::Proxy, &member.proxy), (Owner::Signer, &member.signer)];
    copies.into_iter().filter_map(|(owner, copied)| {
        Some(Journal { owner, path: &copied.as_ref()?.path, member: Some(&member.name) })
    })
}

impl Held {
    /// What is found when the proxy's journal alone is held against its rows and the archive, and up to which
    /// record both hold it.
    pub(super) fn proxys(
        &self,
        journal: &Path,
        database: &Database,
    ) -> anyhow::Result<(Found, u64)> {
        let journals = of_one(journal, None);
        let (registry, mut finds) = (registry(&self.signers)?, Finds::of(journals.len()));
        sound(&registry, (&journals, false), &mut finds)?;
        let Outcome { covered, reaches, .. } =
            self.hold(database, &registry, Given::all(&journals), &mut finds)?;
        let covered = covered.first().copied().unwrap_or_default();
        let archived = reaches.first().copied().unwrap_or(u64::MAX);
        Ok((finds.all(), covered.min(archived)))
    }
}
