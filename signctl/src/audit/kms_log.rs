//! All that the comparison with KMS's own log reads: journals, the files of CloudTrail, the names of keys, and which
//! journals there are. What is decided of it is in `signctl::cloudtrail`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use flate2::bufread::MultiGzDecoder;
use host::{files, section};
use signctl::cloudtrail::call::Reading;
use signctl::cloudtrail::compare::{Compare, Known};
use signctl::cloudtrail::event;
use signctl::cloudtrail::keys::Keys;
use signctl::cloudtrail::read::{File as Kind, NotRead, records};
use signctl::cloudtrail::report::Report;
use signing_core::tree::LogId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trail::postgres;
use trail::source::identify;

use super::each;
use crate::database::runtime;

/// What is sorted in memory at most, before files are used; there are two or three of it.
const SORTED_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Directories below the one that is given. CloudTrail makes eight.
const DEPTH_MAX: usize = 24;
/// Records and files that are named as unreadable.
const UNREAD_MAX: usize = 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// KMS's own log, and what is needed to compare it.
#[derive(clap::Args)]
pub(crate) struct KmsLog {
    /// Files of CloudTrail, .json or .json.gz, or directories that hold such files. CloudTrail has to log KMS's
    /// read-only management events: Sign is one.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    cloudtrail: Vec<PathBuf>,
    /// The journal of another proxy that uses the same keys. Give all of them; repeatable.
    #[arg(long, value_name = "DIR", requires = "cloudtrail")]
    also: Vec<PathBuf>,
    /// A configuration of the proxy, for the names of its keys in KMS; repeatable.
    #[arg(long, value_name = "FILE", requires = "cloudtrail")]
    config: Vec<PathBuf>,
    /// A key of ours in KMS: its ARN or id; repeatable.
    #[arg(long, value_name = "KEY", requires = "cloudtrail")]
    key: Vec<String>,
    /// A journal that there is, by its log (32 hex digits): without it nothing is known for certain; repeatable.
    #[arg(long, value_name = "LOG", value_parser = log, requires = "cloudtrail")]
    known: Vec<String>,
    /// A journal whose process never runs again, though it did not end in order, by its log; repeatable.
    #[arg(long, value_name = "LOG", value_parser = log, requires = "cloudtrail")]
    ended: Vec<String>,
    /// A record, such as the start after a crash, whose lost calls somebody has looked at; repeatable.
    #[arg(long, value_name = "LOG:SEQ", requires = "cloudtrail")]
    explained: Vec<String>,
    /// How late KMS's log may be.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(i64).range(0..=604_800))]
    grace: i64,
    /// Where to sort what does not fit into memory [default: TMPDIR or /tmp]
    #[arg(long, value_name = "DIR", requires = "cloudtrail")]
    scratch: Option<PathBuf>,
}

/// From when to when the comparison has to reach.
#[derive(clap::Args)]
pub(crate) struct Reach {
    /// Fail unless journals and KMS's log reach back to then (RFC 3339, such as 2026-11-26T05:15:00Z).
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "cloudtrail")]
    from: Option<i64>,
    /// Fail unless they reach until then.
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "cloudtrail")]
    until: Option<i64>,
}

impl Reach {
    /// In seconds since 1970.
    pub(super) fn seconds(&self) -> (Option<i64>, Option<i64>) {
        (self.from, self.until)
    }
}

impl KmsLog {
    pub(crate) fn is_given(&self) -> bool {
        !self.cloudtrail.is_empty()
    }

    /// The journals of the other proxies.
    pub(crate) fn also(&self) -> impl Iterator<Item = &Path> {
        self.also.iter().map(PathBuf::as_path)
    }

    /// Compares KMS's log with the journals of proxies, of their emergency signers, and of other proxies.
    /// `place`: a database that knows the members of a fleet. `wanted`: from when to when it has to reach.
    ///
    /// # Errors
    /// If a journal cannot be read. What else cannot be read is in the report.
    pub(crate) fn compare(
        &self,
        (proxies, signers): (&[&Path], &[&Path]),
        place: Option<&postgres::Place>,
        wanted: (Option<i64>, Option<i64>),
    ) -> anyhow::Result<Report> {
        let scratch = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let mut compare = Compare::new(&scratch, SORTED_MAX_BYTES);
        let mut known = Known {
            names: self.known.iter().cloned().collect(),
            ended: self.ended.iter().cloned().collect(),
            explained: self.explained.iter().cloned().collect(),
            grace_s: self.grace,
            wanted,
            keys: self.keys()?,
            ..Known::default()
        };
        let mut deployments = BTreeSet::new();
        for path in proxies.iter().copied().chain(self.also()) {
            read_journal(path, &mut compare, &mut known, &mut deployments)
                .with_context(|| path.display().to_string())?;
        }
        for signer in signers {
            // It asks no KMS, and names the journals of the proxies that it knows.
            let mut reading = Reading::new(0, &identify(signer)?.0.to_string());
            each(signer, |kind, record| {
                let seq = record.place.leaf.seq;
                let _ = reading.note(seq, kind, &record.outline, &mut |_| Ok::<_, ()>(()));
            })
            .with_context(|| signer.display().to_string())?;
            known.names.append(&mut reading.names);
        }
        if let Some(place) = place {
            known.names.extend(members(place, &deployments)?);
        }
        self.read_log(&mut compare, &mut known)?;
        compare.finish(known).with_context(|| scratch.display().to_string())
    }

    /// The names of our keys.
    fn keys(&self) -> anyhow::Result<Keys> {
        let mut keys = Keys::default();
        self.key.iter().for_each(|key| keys.give(None, key));
        for config in &self.config {
            let text = files::read_text(config).with_context(|| config.display().to_string())?;
            let table =
                section::table(&text).map_err(|why| anyhow!("{}: {why}", config.display()))?;
            let list = |table: &toml::Table, name: &str| {
                let list = table.get(name).and_then(toml::Value::as_array).cloned();
                let tables = list.into_iter().flatten();
                tables.filter_map(|one| one.as_table().cloned()).collect::<Vec<_>>()
            };
            let text = |table: &toml::Table, name: &str| {
                table.get(name).and_then(toml::Value::as_str).map(str::to_owned)
            };
            for signer in list(&table, "signers") {
                for upstream in list(&signer, "upstreams") {
                    let is_kms = text(&upstream, "provider").as_deref() == Some("aws-kms");
                    let Some(key) = text(&upstream, "key_id").filter(|_| is_kms) else { continue };
                    keys.give(text(&signer, "kid").zip(text(&upstream, "region")), &key);
                }
            }
        }
        Ok(keys)
    }

    fn read_log(&self, compare: &mut Compare, known: &mut Known) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for path in &self.cloudtrail {
            if let Err(error) = list(path, 0, &mut found) {
                unread(known, &format!("{}: {error}", path.display()));
            }
        }
        if found.is_empty() {
            unread(known, "no file of CloudTrail was found");
        }
        for path in found {
            let mut number = 0_u64;
            let read = open(&path).map_err(Failed::from).and_then(|file| {
                records(file, |record| {
                    number += 1;
                    match event::read(record) {
                        Ok(logged) => compare.logged(&logged).map_err(Failed::Sort)?,
                        Err(why) => {
                            unread(known, &format!("{}: record {number}: {why}", path.display()));
                        }
                    }
                    Ok(())
                })
            });
            match read {
                Ok(Kind::Records(_) | Kind::Digest) => {}
                Err(Failed::File(why)) => unread(known, &format!("{}: {why}", path.display())),
                Err(Failed::Sort(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Why a file was not read to its end.
enum Failed {
    /// Something is wrong with it.
    File(NotRead),
    /// What it says cannot be kept.
    Sort(io::Error),
}

impl From<NotRead> for Failed {
    fn from(error: NotRead) -> Self {
        Self::File(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::File(NotRead::Io(error))
    }
}

fn read_journal(
    path: &Path,
    compare: &mut Compare,
    known: &mut Known,
    deployments: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    let log = identify(path)?.0.to_string();
    if known.journals.iter().any(|journal| journal.log == log) {
        bail!("the journal {log} is given twice: give each journal once");
    }
    let number = u16::try_from(known.journals.len()).context("too many journals")?;
    let mut reading = Reading::new(number, &log);
    let mut kept: io::Result<()> = Ok(());
    each(path, |kind, record| {
        if let Some(deployment) = record.outline.text("deployment")
            && !deployments.contains(deployment)
        {
            deployments.insert(deployment.to_owned());
        }
        if kept.is_ok() {
            let seq = record.place.leaf.seq;
            kept = reading.note(seq, kind, &record.outline, &mut |call| compare.call(&call));
        }
    })?;
    kept?;
    let journal = reading.finish(&mut |call| compare.call(&call))?;
    known.journals.push(journal);
    known.replaced.extend(reading.replaces.take());
    known.names.append(&mut reading.names);
    known.losses.append(&mut reading.losses);
    known.places.append(&mut reading.places);
    Ok(())
}

/// The journals of all members of the fleets of these deployments.
fn members(place: &postgres::Place, deployments: &BTreeSet<String>) -> anyhow::Result<Vec<String>> {
    let runtime = runtime()?;
    let members = runtime.block_on(async {
        let client = place.connect().await?;
        place.members(&client).await
    })?;
    let ours = members.into_iter().filter(|member| {
        let deployment = member.status.get("deployment").and_then(serde_json::Value::as_str);
        deployment.is_none_or(|deployment| deployments.contains(deployment))
    });
    Ok(ours.filter_map(|member| log(&member.instance).ok()).collect())
}

/// The files of CloudTrail at `path`.
fn list(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(io::Error::other("directories are nested too deep"));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A link to a directory may lead back here.
        entries.push((entry.path(), entry.file_type()?.is_dir()));
    }
    entries.sort();
    for (entry, is_directory) in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_log = name.ends_with(".json") || name.ends_with(".json.gz");
        if is_directory || (is_log && !entry.is_dir()) {
            list(&entry, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Opens a file, and unpacks it if it is packed.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    // Whatever is no file may never come to an end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut begin = Vec::new();
    files::open(path)?.take(2).read_to_end(&mut begin)?;
    let file = BufReader::with_capacity(1 << 16, files::open(path)?);
    Ok(if begin == GZIP {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// Something cannot be read: so many are named, and one line says that there are more.
fn unread(known: &mut Known, what: &str) {
    match known.unread.len() {
        ..UNREAD_MAX => known.unread.push(what.to_owned()),
        UNREAD_MAX => known.unread.push("and more cannot be read".to_owned()),
        _ => {}
    }
}

/// Reads the name of a log, with or without `signing-journal/`.
pub(super) fn log(text: &str) -> Result<String, String> {
    let log = LogId::parse_origin(text).or_else(|| LogId::parse(text));
    let log = log.ok_or("expected a log: 32 hex digits, as signctl audit key shows it")?;
    Ok(log.to_string())
}

/// Reads a moment.
fn seconds(text: &str) -> Result<i64, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp);
    at.map_err(|_| "expected RFC 3339, such as 2026-11-26T05:15:00Z".to_owned())
}
