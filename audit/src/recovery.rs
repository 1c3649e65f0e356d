//! Opening a journal: what is on disk is read, and only a torn write is cut.
//!
//! A process can die in the middle of a write, and power can fail in the middle of a
//! sync. What that leaves behind the newest checkpoint was never acknowledged (`tail.rs`), so
//! it is cut, and the `start` record says so. Everything else that is not as it was
//! written is damage, and damage is never cut: it may stand for a signature that somebody
//! holds.
//!
//! Of the newest segment every record is read, of those before it the header and the last
//! checkpoint (`linkage.rs`): a segment that is missing, replaced or cut is found, a change further
//! inside after the start (`older.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use signing_core::journal::{
    AuditKeys, Custody, FrameError, Growing, HEADER_BYTES, Head, InForce, Kind, Outline,
};
use signing_core::json;
use signing_core::tree::{LogId, SignedCheckpoint};

use crate::claims::Claims;
use crate::directory::Directory;
use crate::error::OpenError;
use crate::linkage;
use crate::reader::{Item, Reader};
use crate::scan::{SegmentFile, segments};
use crate::segment::Segment;
use crate::torn_write::{self, Cut};

/// A journal as it was found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    /// All of its segments, in order.
    pub(crate) files: Vec<SegmentFile>,
    pub(crate) segment: Segment,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// All of it, up to its newest checkpoint.
    pub(crate) growing: Growing,
    /// That checkpoint.
    pub(crate) newest: SignedCheckpoint,
    /// Who signed it.
    pub(crate) custody: Custody,
    /// Intents without outcome, by their numbers.
    pub(crate) open: BTreeMap<u64, Outline>,
    /// The freeze and the seals in force.
    pub(crate) in_force: InForce,
    /// When its newest record was written, by the clock of then.
    pub(crate) written_at: String,
    pub(crate) cut: Option<Cut>,
}

impl Found {
    /// The first record that is still there.
    pub(crate) fn first_seq(&self) -> u64 {
        self.files.first().map_or(1, |file| file.first_seq)
    }
}

/// Reads the journal in `directory`, and cuts a torn write, unless one of `claims` says that it was on disk.
/// Who is to be asked is asked only before something is cut.
pub(crate) fn recover(
    directory: &Directory,
    keys: &AuditKeys,
    claims: &mut Claims<'_>,
) -> Result<Found, OpenError> {
    let mut found = read_journal(directory, keys)?;
    let log = found.growing.log();
    if let Some(ask) = claims.ask.take()
        && torn_write::is_torn_write(&found.segment, &found.growing, found.end)?
    {
        claims.known.extend(ask(log));
    }
    let claimed = claims.newest(log);
    found.cut = torn_write::cut(&found.segment, &found.growing, found.end, claimed)?;
    Ok(found)
}

/// What the journal in `path` tells is in force, which log it is and how far it goes. It changes
/// nothing.
///
/// # Errors
/// [`OpenError`], as when it is opened.
pub fn in_force(path: &Path, keys: &AuditKeys) -> Result<(LogId, Head, InForce), OpenError> {
    let Found { growing, in_force, .. } = read_journal(&Directory::open(path)?, keys)?;
    Ok((growing.log(), growing.newest(), in_force))
}

/// What the journal in `path` tells is in force up to its newest checkpoint, also while somebody writes it. It takes no lock,
/// changes nothing and checks no signature: for whoever looks before a start, which does all of that.
///
/// # Errors
/// [`OpenError`], if it cannot be read.
pub fn in_force_unchecked(path: &Path) -> Result<InForce, OpenError> {
    let files = segments(path).map_err(OpenError::io(path))?;
    if files.is_empty() {
        return Err(OpenError::NoJournal(path.to_owned()));
    }
    // A segment that was begun this moment has nothing yet that a checkpoint covers.
    for file in files.iter().rev() {
        if let Some(in_force) = in_force_of(file)? {
            return Ok(in_force);
        }
    }
    Ok(InForce::default())
}

/// The same of one segment. None: no checkpoint in it covers anything.
fn in_force_of(file: &SegmentFile) -> Result<Option<InForce>, OpenError> {
    let mut reader = Reader::open(file)?;
    let (mut covered, mut heard, mut written_at) = (None, InForce::default(), String::new());
    loop {
        match reader.step().map_err(OpenError::io(&file.path))? {
            Item::End(_) | Item::Broken { .. } => return Ok(covered),
            Item::Record { at, leaf, body, .. } => {
                follow(leaf.seq, body, &mut heard, &mut written_at)
                    .ok_or_else(|| damaged(file, leaf.seq, at, FrameError::Body))?;
            }
            Item::Sealed { .. } => covered = Some(heard.clone()),
        }
    }
}

/// Reads the journal in `directory` up to its newest checkpoint.
fn read_journal(directory: &Directory, keys: &AuditKeys) -> Result<Found, OpenError> {
    let path = directory.path();
    let files = segments(path).map_err(OpenError::io(path))?;
    let Some(last) = files.last() else {
        return Err(OpenError::NoJournal(path.to_owned()));
    };
    let headers = linkage::check(&files)?;
    let segment = Segment::open(&last.path).map_err(OpenError::io(&last.path))?;
    let mut open = BTreeMap::new();
    let handle = segment.reader().map_err(OpenError::io(&last.path))?;
    let mut reader = Reader::of(handle, last)?;
    let custody = custody(&files, &headers, keys)?;
    let Read { growing, newest, custody, in_force, written_at, oldest_open, end } =
        read(&mut reader, last, keys, custody, &mut open)?;
    // What the last segment knows to be still open began in one before it.
    if let Some(oldest) = oldest_open.filter(|oldest| *oldest < last.first_seq) {
        earlier(&files, oldest, keys, &mut open)?;
    }
    Ok(Found {
        files,
        segment,
        end,
        growing,
        newest,
        custody,
        open,
        in_force,
        written_at,
        cut: None,
    })
}

/// Whose the audit keys were, by the headers of the segments before the newest. One whose key is
/// not registered any more is passed over: the newest header, which is signed, covers it.
fn custody(
    files: &[SegmentFile],
    headers: &[SignedCheckpoint],
    keys: &AuditKeys,
) -> Result<Custody, OpenError> {
    let mut custody = Custody::default();
    for (file, header) in files.iter().zip(headers) {
        if let Ok(signed) = keys.verify(header) {
            custody.pass(signed).map_err(|error| damaged(file, file.first_seq, 0, error))?;
        }
    }
    Ok(custody)
}

fn damaged(file: &SegmentFile, seq: u64, at: u64, error: FrameError) -> OpenError {
    OpenError::Damaged { path: file.path.clone(), seq, at, why: error.to_string() }
}

/// Finds the checkpoint that covers exactly `size` records, as far as the files are readable.
pub(crate) fn find(path: &Path, size: u64) -> Result<Option<Head>, OpenError> {
    let files = segments(path).map_err(OpenError::io(path))?;
    let Some(file) = files.iter().rev().find(|file| file.first_seq <= size) else {
        return Ok(None);
    };
    let mut reader = Reader::open(file)?;
    loop {
        match reader.step().map_err(OpenError::io(&file.path))? {
            Item::Sealed { sealing, .. } if sealing.checkpoint.checkpoint().size == size => {
                return Ok(Some(Head::of(sealing.checkpoint.checkpoint())));
            }
            Item::Record { .. } | Item::Sealed { .. } => {}
            Item::End(_) | Item::Broken { .. } => return Ok(None),
        }
    }
}

/// What a segment holds.
struct Read {
    growing: Growing,
    newest: SignedCheckpoint,
    custody: Custody,
    in_force: InForce,
    written_at: String,
    oldest_open: Option<u64>,
    /// Where the last checkpoint ends.
    end: u64,
}

/// The little that recovery needs of a body.
#[derive(Deserialize)]
struct RecoveryFields<'b> {
    at: &'b str,
    data: RecoveryData,
    r#type: &'b str,
}

#[derive(Deserialize)]
struct RecoveryData {
    intent: Option<u64>,
    oldest_open: Option<u64>,
}

/// What a record says of those without outcome.
enum Follows {
    Intent(u64, Outline),
    Outcome(u64),
    Segment(Option<u64>),
}

/// Reads a segment to its end: every record and every checkpoint against the tree, and the
/// signature of the last checkpoint, which covers everything before it.
fn read(
    reader: &mut Reader,
    file: &SegmentFile,
    keys: &AuditKeys,
    mut custody: Custody,
    open: &mut BTreeMap<u64, Outline>,
) -> Result<Read, OpenError> {
    let damaged = |seq, at, error| damaged(file, seq, at, error);
    let mut newest = reader.header().checkpoint.clone();
    let signed = keys.verify(&newest).and_then(|signed| custody.pass(signed));
    signed.map_err(|error| damaged(file.first_seq, 0, error))?;
    let mut growing = reader.growing().clone();
    let (mut oldest_open, mut end) = (None, HEADER_BYTES as u64);
    let (mut in_force, mut written_at) = (InForce::default(), String::new());
    // What no checkpoint covers yet.
    let (mut pending, mut heard) = (Vec::new(), in_force.clone());
    let mut at_last = String::new();
    // The last one's signature is checked once it is known to be the last, and where the audit key
    // is renewed.
    let mut last: Option<u64> = None;
    loop {
        match reader.step().map_err(OpenError::io(&file.path))? {
            Item::End(_) | Item::Broken { .. } => break,
            Item::Record { at, leaf, body, .. } => {
                let follows = follow(leaf.seq, body, &mut heard, &mut at_last)
                    .ok_or_else(|| damaged(leaf.seq, at, FrameError::Body))?;
                pending.extend(follows);
            }
            Item::Sealed { at, sealing } => {
                if sealing.checkpoint.signatures() > 1 {
                    custody
                        .take(keys, &sealing.checkpoint)
                        .map_err(|error| damaged(growing.size() + 1, at, error))?;
                }
                end = at + sealing.bytes as u64;
                growing.clone_from(reader.growing());
                in_force.clone_from(&heard);
                written_at.clone_from(&at_last);
                for follows in pending.drain(..) {
                    match follows {
                        Follows::Intent(seq, outline) => drop(open.insert(seq, outline)),
                        Follows::Outcome(intent) => drop(open.remove(&intent)),
                        Follows::Segment(oldest) => oldest_open = oldest,
                    }
                }
                last = (sealing.checkpoint.signatures() == 1).then_some(at);
                newest = sealing.checkpoint;
            }
        }
    }
    if let Some(at) = last {
        let checked = custody.take(keys, &newest);
        checked.map_err(|error| damaged(growing.size(), at, error))?;
    }
    Ok(Read { growing, newest, custody, in_force, written_at, oldest_open, end })
}

/// What a record says of those without outcome; `in_force` hears it, and `at` is when it was written.
/// None if the body is no record.
fn follow(
    seq: u64,
    body: &[u8],
    in_force: &mut InForce,
    at: &mut String,
) -> Option<Option<Follows>> {
    let fields: RecoveryFields<'_> = json::from_slice(body).ok()?;
    at.replace_range(.., fields.at);
    in_force.hear(Kind::parse(fields.r#type)?, body)?;
    Some(match fields.r#type {
        "intent" => Some(Follows::Intent(seq, Outline::parse(body)?.0)),
        "signed" | "failed" => Some(Follows::Outcome(fields.data.intent?)),
        "segment" => Some(Follows::Segment(fields.data.oldest_open)),
        _ => None,
    })
}

/// Finds, in the segments before the last, the intents that were still open.
fn earlier(
    files: &[SegmentFile],
    oldest: u64,
    keys: &AuditKeys,
    open: &mut BTreeMap<u64, Outline>,
) -> Result<(), OpenError> {
    let from = files.iter().rposition(|file| file.first_seq <= oldest).unwrap_or(0);
    let mut all = BTreeMap::new();
    // The last segment's outcomes come after all of the others.
    for file in files.get(from..).unwrap_or_default() {
        read(&mut Reader::open(file)?, file, keys, Custody::default(), &mut all)?;
    }
    *open = all;
    Ok(())
}
