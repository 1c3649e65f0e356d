//! `signctl audit reconcile`: journal = the other journal = rows = archive, and nobody signed around the journals by
//! KMS's own log.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use audit::compare::compare;
use audit::verify::{Options, verify};
use host::out;
use serde_json::{Value, json};
use signctl::cloudtrail::report::Report;
use signing_core::Registry;
use signing_core::journal::AuditKeys;
use tokio::runtime::Runtime;
use trail::event::{Event, Owner};
use trail::plan::Position;
use trail::postgres::{Place, positions, read};
use trail::reconcile::{Found, Rows};
use trail::source::{Makes, Source, look};

use super::annotations::Annotations;
use super::archive_held::{Asked, By};
use super::kms_log::{self, KmsLog};
use super::registry;
use crate::archive::ArchiveFlags;
use crate::database::{Database, Table, runtime};

/// How often it looks for rows that it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it waits for rows, unless somebody says otherwise.
const WAIT_S: u64 = 10;
/// The same for objects: one ends half a minute after its first record, by default.
const WAIT_FOR_OBJECTS_S: u64 = 60;
/// Rows that are read at once.
const ROWS_MAX: usize = 1_000;

/// What to hold against what.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The emergency signer's journal; --journal is the proxy's.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    #[command(flatten)]
    held: Held,
    #[command(flatten)]
    database: Option<Database>,
    #[command(flatten)]
    kms_log: KmsLog,
    #[command(flatten)]
    reach: kms_log::Reach,
}

/// How journals are held against rows, and whose word counts.
#[derive(clap::Args)]
pub(super) struct Held {
    /// The registry that holds the audit keys.
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
    /// How long to wait for the rows and objects of what is in the journals now; 0 compares what is there. Default: 10
    /// for rows, 60 for objects.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    #[command(flatten)]
    table: Table,
    #[command(flatten)]
    archive: Option<ArchiveFlags>,
    /// Every row of the emergency signer has an object of its own: archive.per_event of signing-trail.
    #[arg(long, requires = "archive")]
    per_event: bool,
}

/// What came of it.
struct Outcome {
    positions: Vec<(String, Position)>,
    /// Records of the archive that are as the journals say, if one was named.
    archived: Option<u64>,
    /// Of each journal, up to which record the archive holds it.
    reaches: Vec<u64>,
}

/// A journal, as far as it is known to be on disk.
struct Journal<'p> {
    owner: Owner,
    path: &'p Path,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    if flags.database.is_none() && !flags.kms_log.is_given() {
        bail!("nothing to hold the journals against: name --database-url, --cloudtrail or both");
    }
    if flags.database.is_none() && flags.held.archive.is_some() {
        bail!("--archive: the objects are held against rows too; name --database-url as well");
    }
    let signer = flags.with.as_deref().map(|path| Journal { owner: Owner::Signer, path });
    let proxy = Journal { owner: Owner::Proxy, path: journal };
    let journals: Vec<_> = [proxy].into_iter().chain(signer).collect();
    let registry = registry(&flags.held.signers)?;
    let mut found = Found::default();
    sound(&registry, &journals, &mut found)?;
    let held = flags
        .database
        .as_ref()
        .map(|database| flags.held.hold(database, &registry, &journals, &mut found));
    let archived = held.transpose()?.and_then(|held| held.archived);
    let mut kms = None;
    if flags.kms_log.is_given() {
        for path in flags.kms_log.also() {
            Journal { owner: Owner::Proxy, path }.is_sound(&registry, &mut found)?;
        }
        let place = flags.database.as_ref().map(|database| database.place(&flags.held.table));
        let (signer, reach) = (flags.with.as_deref(), flags.reach.seconds());
        kms = Some(flags.kms_log.compare((journal, signer), place.transpose()?.as_ref(), reach)?);
    }
    let is_good = found.gaps == 0 && kms.as_ref().is_none_or(Report::is_good);
    if as_json {
        let kms = kms.as_ref().map(Report::to_json);
        out::report_json(&json!({
            "ok": is_good, "matched": found.matched, "archived": archived, "gaps": found.gaps, "gap": found.named,
            "annotated": found.annotated, "kms": kms,
        }))?;
    } else {
        let mut lines: Vec<_> = found.named.iter().map(|what| format!("GAP: {what}")).collect();
        let named = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if found.gaps > named {
            lines.push(format!("and {} more", found.gaps - named));
        }
        if flags.database.is_some() || found.gaps > 0 {
            let verdict = if found.gaps == 0 { "no gap" } else { "NOT WHOLE" };
            lines.push(format!("{verdict}: {} rows are as the journals say", found.matched));
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

/// Holds the journals against their rows for a recovery: how many rows are as the journals say, or the first gap.
///
/// # Errors
/// If nothing can be said of them.
pub(crate) fn rows(
    (journal, signer): (&Path, Option<&Path>),
    signers: &Path,
    (database, table): (&Database, &Table),
) -> anyhow::Result<Result<String, String>> {
    let signer = signer.map(|path| Journal { owner: Owner::Signer, path });
    let proxy = Journal { owner: Owner::Proxy, path: journal };
    let journals: Vec<_> = [proxy].into_iter().chain(signer).collect();
    let (registry, mut found) = (registry(signers)?, Found::default());
    let held = Held {
        signers: signers.to_owned(),
        wait: None,
        table: table.clone(),
        archive: None,
        per_event: false,
    };
    held.hold(database, &registry, &journals, &mut found)?;
    Ok(match found.named.first() {
        None => Ok(format!("{} rows are as the journals say", found.matched)),
        Some(gap) => {
            Err(format!("{} in the rows; the first: {gap}", text::counted(found.gaps, "gap")))
        }
    })
}

/// Whether the journals are as they were written, and name each other rightly.
fn sound(registry: &Registry, journals: &[Journal<'_>], found: &mut Found) -> anyhow::Result<()> {
    for journal in journals {
        journal.is_sound(registry, found)?;
    }
    if let [proxy, signer] = journals {
        each_names_the_other(proxy.path, signer.path, found)?;
    }
    Ok(())
}

impl Held {
    /// What is found when the proxy's journal alone is held against its rows and the archive, and up to which
    /// record both hold it.
    pub(super) fn proxys(
        &self,
        journal: &Path,
        database: &Database,
    ) -> anyhow::Result<(Found, u64)> {
        let journal = Journal { owner: Owner::Proxy, path: journal };
        let (registry, mut found) = (registry(&self.signers)?, Found::default());
        let journals = std::slice::from_ref(&journal);
        sound(&registry, journals, &mut found)?;
        let Outcome { positions, reaches, .. } =
            self.hold(database, &registry, journals, &mut found)?;
        let covered = journal.known(&positions).map_or(0, |position| position.covered);
        let archived = reaches.first().copied().unwrap_or(u64::MAX);
        Ok((found, covered.min(archived)))
    }

    fn hold(
        &self,
        database: &Database,
        registry: &Registry,
        journals: &[Journal<'_>],
        found: &mut Found,
    ) -> anyhow::Result<Outcome> {
        let place = database.place(&self.table)?;
        let runtime = runtime()?;
        let targets = self.arrival(&runtime, &place, journals, registry)?;
        // The rows first: what is shipped from here on is not asked for.
        let mut rows = Rows::default();
        let reading = runtime.block_on(read(
            &place,
            None,
            |_| {},
            |row| {
                rows.take(row);
                true
            },
        ))?;
        let positions = reading.positions;
        let mut logs = Vec::new();
        for (journal, target) in journals.iter().zip(&targets) {
            let (log, annotations) =
                journal.against(registry, &mut rows, &positions, *target, found)?;
            logs.push(log);
            annotations.hold(&runtime, &place, self.wait_for_rows(), found)?;
        }
        let (mut archived, mut reaches) = (None, Vec::new());
        if let Some(flags) = &self.archive {
            let journals = journals.iter().zip(targets);
            let asked: Vec<_> = journals
                .map(|(journal, target)| Asked::new(journal.path, journal.owner, target))
                .collect::<Result<_, _>>()?;
            let by = By { flags, registry, per_event: self.per_event };
            let wait = Duration::from_secs(self.wait.unwrap_or(WAIT_FOR_OBJECTS_S));
            let held = by.hold(&runtime, asked, &mut rows, wait, found)?;
            archived = Some(held.records);
            reaches = held.reaches;
        }
        rows.finish(&logs, found);
        Ok(Outcome { positions, archived, reaches })
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
        journals: &[Journal<'_>],
        registry: &Registry,
    ) -> anyhow::Result<Vec<u64>> {
        let mut known = runtime.block_on(positions(place))?;
        let mut targets = Vec::new();
        for journal in journals {
            targets.push(journal.on_disk(registry, &known)?);
        }
        let began = Instant::now();
        let mut is_told = false;
        loop {
            let mut all = journals.iter().zip(&targets);
            let are_there = all.all(|(journal, target)| {
                journal.known(&known).is_some_and(|position| position.covered >= *target)
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

fn each_names_the_other(proxy: &Path, signer: &Path, found: &mut Found) -> anyhow::Result<()> {
    for (one, other) in [(proxy, signer), (signer, proxy)] {
        let from = look(one)?.1;
        if let Some(defect) = compare(one, from, other)?.defect {
            found.gap(defect.to_string());
        }
    }
    Ok(())
}

impl Journal<'_> {
    fn is_sound(&self, registry: &Registry, found: &mut Found) -> anyhow::Result<()> {
        let options = Options { limit: None, registry: Some(registry), heads: &[], receipt: None };
        let report = verify(self.path, &options, |_| {})?;
        if let Some(defect) = report.defect {
            found.gap(defect.to_string());
        }
        Ok(())
    }

    fn known(&self, positions: &[(String, Position)]) -> Option<Position> {
        let origin = look(self.path).ok()?.0.origin();
        positions.iter().find(|(log, _)| *log == origin).map(|(_, position)| *position)
    }

    /// The newest record that is known to be on disk.
    fn on_disk(&self, registry: &Registry, known: &[(String, Position)]) -> anyhow::Result<u64> {
        let keys = AuditKeys::of_registry(registry);
        let position = self.known(known).unwrap_or_else(Position::begin);
        let mut source = Source::open(self.path, self.owner, keys, Makes::Rows, position)?;
        let mut size = position.shipped;
        loop {
            source.read(ROWS_MAX)?;
            let mut is_end = true;
            while let Some(write) = source.take_write() {
                (is_end, size) = (false, write.checkpoint.checkpoint().size);
            }
            if is_end {
                return Ok(size);
            }
        }
    }

    /// Holds the journal against its rows; its log, the oldest record that is here, and what the policy
    /// service was to be asked about.
    fn against(
        &self,
        registry: &Registry,
        rows: &mut Rows,
        positions: &[(String, Position)],
        target: u64,
        found: &mut Found,
    ) -> anyhow::Result<((String, u64), Annotations)> {
        let keys = AuditKeys::of_registry(registry);
        let begin =
            |position| Source::open(self.path, self.owner, keys.clone(), Makes::Rows, position);
        let (log, oldest) = look(self.path).context(self.owner.word())?;
        let origin = log.origin();
        let mut position = Position::begin();
        if oldest > 1 {
            // What was moved away is not here to be held against anything.
            position.shipped = oldest - 1;
            position.root = begin(position)?.root_before()?;
        }
        let known = self.known(positions).unwrap_or_else(Position::begin);
        let mut source = begin(position)?;
        let mut first = position.shipped + 1;
        let mut annotations = Annotations::of(&origin, oldest == 1, known.shipped);
        loop {
            source.read(ROWS_MAX)?;
            let mut is_end = true;
            while let Some(write) = source.take_write() {
                is_end = false;
                let size = write.checkpoint.checkpoint().size;
                let seq = |event: &Event| event.payload.get("seq").and_then(Value::as_u64);
                for event in write.events {
                    if seq(&event).is_some_and(|seq| seq <= known.shipped) {
                        rows.record(&event, found);
                        annotations.expect(self.owner, &event);
                    }
                }
                let begins = oldest > 1 && first == oldest;
                let note = write.checkpoint.note();
                if rows.checkpoint(&origin, size, note, (first, begins), found) {
                    first = size + 1;
                }
            }
            if is_end {
                break;
            }
        }
        if known.covered < target {
            let (from, word) = (known.covered + 1, self.owner.word());
            found.gap(format!("records {from} to {target} of {word} are not covered by a row"));
        }
        Ok(((origin, oldest), annotations))
    }
}
