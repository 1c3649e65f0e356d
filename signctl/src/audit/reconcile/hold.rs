//! Journals held against their rows, and against the archive. What is wrong with one of several members is
//! a gap of that member, and keeps nobody from looking at the others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use host::out;
use signing_core::Registry;
use signing_core::journal::AuditKeys;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use trail::event::Owner;
use trail::plan::Position;
use trail::postgres::{Place, positions, read};
use trail::reconcile::{Found, Rows};
use trail::verify::RowCheck;

use super::super::archive_held::{ArchiveCheck, Asked, HeldBy};
use super::super::finds::Finds;
use super::journal::{Journal, ReconciledJournal, each_names_the_other};
use crate::archive::ArchiveFlags;
use crate::database::{Database, Table, runtime};

/// What stands before the name of a log in rows.
const PREFIX: &str = "signing-journal/";
/// How often it looks for rows that it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it waits for rows, unless somebody says otherwise.
const WAIT_S: u64 = 10;
/// The same for objects: one ends half a minute after its first record, by default.
const WAIT_FOR_OBJECTS_S: u64 = 60;

/// How journals are held against rows, and whose word counts.
#[derive(clap::Args)]
pub(in super::super) struct Held {
    /// The registry that holds the audit keys, that of signing-trail too.
    #[arg(long, value_name = "FILE")]
    pub(super) signers: PathBuf,
    /// How long to wait for the rows and objects of what is in the journals now; 0 compares what is there. Default: 10
    /// for rows, 60 for objects.
    #[arg(long, value_name = "SECONDS")]
    pub(super) wait: Option<u64>,
    #[command(flatten)]
    pub(super) table: Table,
    #[command(flatten)]
    pub(super) archive: Option<ArchiveFlags>,
    /// Every row of the emergency signer has an object of its own: archive.per_event of signing-trail.
    #[arg(long, requires = "archive")]
    pub(super) per_event: bool,
}

/// What is held against rows.
#[derive(Clone, Copy)]
pub(super) struct Given<'g> {
    pub(super) journals: &'g [Journal<'g>],
    /// Logs of journals that are left out.
    pub(super) without: &'g [String],
    /// Since when the journals are copies that others write on.
    pub(super) copied: Option<OffsetDateTime>,
}

impl<'g> Given<'g> {
    /// All journals that there are, as they are now.
    pub(super) fn all(journals: &'g [Journal<'g>]) -> Self {
        Self { journals, without: &[], copied: None }
    }
}

/// What came of it.
pub(super) struct Outcome {
    /// Of each journal, up to which record the rows that were read cover it.
    pub(super) covered: Vec<u64>,
    /// The newest record of each journal.
    pub(super) targets: Vec<u64>,
    /// Records of the archive that are as the journals say, if one was named.
    pub(super) archived: Option<u64>,
    /// Of each journal, up to which record the archive holds it.
    pub(super) reaches: Vec<u64>,
}

/// Makes an error of one journal among those of several members a gap of that member. None: it was one.
///
/// # Errors
/// The same error, where it is about the only member.
fn or_gap<T>(
    journal: &Journal<'_>,
    found: &mut Found,
    result: anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if journal.member.is_some() => {
            found.gap(format!("{}: {error:#}", journal.path.display()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the journals are as they were written, and those of one member name each other rightly.
pub(super) fn sound(
    registry: &Registry,
    (journals, are_copies): (&[Journal<'_>], bool),
    finds: &mut Finds,
) -> anyhow::Result<()> {
    for (journal, found) in journals.iter().zip(&mut finds.of) {
        let sound = journal.is_sound(registry, are_copies, found);
        or_gap(journal, found, sound)?;
    }
    // A member's journals stand side by side, the proxy's first.
    let mut rest = journals.iter().zip(&mut finds.of).peekable();
    while let Some((proxy, of_proxy)) = rest.next() {
        let is_beside = |(signer, _): &(&Journal<'_>, &mut Found)| {
            proxy.owner == Owner::Proxy
                && signer.owner == Owner::Signer
                && signer.member == proxy.member
        };
        if let Some((signer, of_signer)) = rest.next_if(is_beside) {
            let named =
                each_names_the_other((proxy.path, &mut *of_proxy), (signer.path, of_signer));
            or_gap(proxy, of_proxy, named)?;
        }
    }
    Ok(())
}

impl Held {
    /// Without an archive, and with the usual wait.
    pub(super) fn rows_only(signers: PathBuf, table: Table) -> Self {
        Self { signers, wait: None, table, archive: None, per_event: false }
    }

    pub(super) fn hold(
        &self,
        database: &Database,
        registry: &Registry,
        Given { journals, without, copied }: Given<'_>,
        finds: &mut Finds,
    ) -> anyhow::Result<Outcome> {
        let place = database.place(&self.table)?;
        let runtime = runtime()?;
        let targets =
            self.arrival(&runtime, &place, (journals, registry, copied.is_some()), finds)?;
        // The rows first: what is shipped from here on is not asked for.
        let mut rows = Rows::of(copied.map(|at| (at, AuditKeys::of_registry(registry))));
        // Other journals' rows are for whoever gives these journals: their keys may not be in this registry.
        let logs: BTreeSet<_> = journals.iter().filter_map(|it| it.origin().ok()).collect();
        let check = RefCell::new(None);
        let reading = runtime.block_on(read(
            &place,
            None,
            |reading| {
                *check.borrow_mut() = Some(RowCheck::new(registry, reading.shape.clone()));
            },
            |row| {
                rows.take(row, |log| match &*check.borrow() {
                    _ if !logs.contains(log) => Ok(()),
                    Some(check) => check.is_as_written(row),
                    None => Err("nobody looked at the table".to_owned()),
                });
                true
            },
        ))?;
        let positions = reading.positions;
        let (mut logs, mut covers) = (Vec::new(), Vec::new());
        for ((journal, target), found) in journals.iter().zip(&targets).zip(&mut finds.of) {
            let against = journal.against(registry, &mut rows, &positions, *target, found);
            let Some(against) = or_gap(journal, found, against)? else {
                logs.push(None);
                covers.push(0);
                continue;
            };
            let ReconciledJournal { log, oldest, covered, annotations } = against;
            logs.push(Some((log, oldest)));
            covers.push(covered);
            annotations.hold(&runtime, &place, self.wait_for_rows(), found)?;
        }
        let (mut archived, mut reaches) = (None, Vec::new());
        if let Some(flags) = &self.archive {
            let mut asked = Vec::new();
            for ((journal, target), found) in journals.iter().zip(&targets).zip(&mut finds.of) {
                let one = Asked::new(journal.path, journal.owner, *target);
                asked.push(or_gap(journal, found, one)?);
            }
            let by = ArchiveCheck { flags, registry, per_event: self.per_event };
            let wait = Duration::from_secs(self.wait.unwrap_or(WAIT_FOR_OBJECTS_S));
            let held = by.hold(&runtime, asked, &mut rows, wait, finds)?;
            let HeldBy { records, reaches: of_each, failed } = held;
            for ((journal, failed), found) in journals.iter().zip(failed).zip(&mut finds.of) {
                or_gap(journal, found, failed.map_or(Ok(()), Err))?;
            }
            (archived, reaches) = (Some(records), of_each);
        }
        for ((log, target), found) in logs.iter().zip(&targets).zip(&mut finds.of) {
            if let Some((log, oldest)) = log {
                rows.finish(log, *oldest, copied.map(|at| (*target, at)), found);
            }
        }
        if journals.iter().any(|journal| journal.member.is_some()) {
            let given: BTreeSet<_> = journals.iter().filter_map(|it| it.origin().ok()).collect();
            all_are_given(&runtime, &place, (&given, without), &rows, &positions, finds)?;
        }
        Ok(Outcome { covered: covers, targets, archived, reaches })
    }

    const fn wait_for_rows(&self) -> Duration {
        Duration::from_secs(match self.wait {
            Some(seconds) => seconds,
            None => WAIT_S,
        })
    }

    /// Waits a while until the rows hold what the journals hold now: the trail is a moment behind. What
    /// each journal holds now, as far as it is known to be on disk.
    fn arrival(
        &self,
        runtime: &Runtime,
        place: &Place,
        (journals, registry, are_copies): (&[Journal<'_>], &Registry, bool),
        finds: &mut Finds,
    ) -> anyhow::Result<Vec<u64>> {
        let mut known = runtime.block_on(positions(place))?;
        let mut targets = Vec::new();
        for (journal, found) in journals.iter().zip(&mut finds.of) {
            let on_disk = journal.on_disk(registry, &known, are_copies);
            targets.push(or_gap(journal, found, on_disk)?.unwrap_or_default());
        }
        let began = Instant::now();
        let mut is_told = false;
        loop {
            let mut all = journals.iter().zip(&targets);
            let are_there = all.all(|(journal, target)| {
                let known = journal.known(&known).map_or(0, |position| position.covered);
                known >= *target
            });
            if are_there || began.elapsed() >= self.wait_for_rows() {
                return Ok(targets);
            }
            if !is_told {
                let most = self.wait_for_rows().as_secs();
                out::say(&format!("waiting up to {most} s for the newest rows"));
                is_told = true;
            }
            std::thread::sleep(LOOK_EVERY);
            known = runtime.block_on(positions(place))?;
        }
    }
}

/// Every journal that has rows here, and every member that the fleet knows, has to be given or be named as
/// one that is not: of the others nothing is known.
fn all_are_given(
    runtime: &Runtime,
    place: &Place,
    (given, without): (&BTreeSet<String>, &[String]),
    rows: &Rows,
    positions: &[(String, Position)],
    finds: &mut Finds,
) -> anyhow::Result<()> {
    let known = runtime.block_on(async {
        let client = place.connect().await?;
        place.members(&client).await
    })?;
    let bare = |log: &str| log.strip_prefix(PREFIX).unwrap_or(log).to_owned();
    let members = known.iter().map(|member| bare(&member.instance));
    let shipped = positions.iter().map(|(log, _)| bare(log));
    let left: BTreeMap<_, _> = rows.left().into_iter().map(|(log, n)| (bare(log), n)).collect();
    let all: BTreeSet<_> = members.chain(shipped).chain(left.keys().cloned()).collect();
    let given: BTreeSet<_> = given.iter().map(|log| bare(log)).collect();
    let without: BTreeSet<_> = without.iter().map(|log| bare(log)).collect();
    for log in all.iter().filter(|log| !given.contains(*log) && !without.contains(*log)) {
        let count = left.get(log).copied().unwrap_or_default();
        let rows = text::counted(count, "row");
        finds.rest.gap(format!(
            "the journal {log} has {rows} here and is not given: put a copy of it into the directory, or \
             say that it is left out: --without {log}"
        ));
    }
    Ok(())
}
