//! Copies of the journals of many members, as somebody gathered them on one machine: a directory for each
//! member, and in it that member's journals, however they are called there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use audit::scan::segments;
use audit::walk::{Stop, Walk, WalkStep, newest};
use signing_core::journal::{Kind, Outline};
use signing_core::tree::LogId;
use trail::event::Owner;
use trail::source::identify;

/// Directories below that of a member: `signing-proxy/journal` is two.
const DEPTH_MAX: usize = 6;
/// Whoever has more members reports or reconciles them in parts.
const MEMBERS_MAX: usize = 1_000;

/// A member, and where the copies of its journals are. At least one of them is there.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The name of its directory.
    pub(crate) name: String,
    pub(crate) proxy: Option<Copied>,
    pub(crate) signer: Option<Copied>,
}

/// A copy of a journal.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    /// Its log; none: it is damaged at its beginning, as whoever verifies it will say.
    pub(crate) log: Option<LogId>,
    pub(crate) path: PathBuf,
}

/// The members whose directories are in this one, in the order of their names.
///
/// # Errors
/// If a directory cannot be read, if one holds no journal or two of one kind, or if two hold the same one.
pub(crate) fn members(directory: &Path) -> anyhow::Result<Vec<Member>> {
    let shown = directory.display();
    if is_journal(directory)? {
        bail!(
            "--members {shown}: this is a journal; name the directory that holds a directory for each member"
        );
    }
    let mut members = Vec::new();
    for path in directories(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::new();
        find(&path, 0, &mut found)?;
        members.push(member(name, found).with_context(|| path.display().to_string())?);
        if members.len() > MEMBERS_MAX {
            bail!("--members {shown}: more than {MEMBERS_MAX} members; do it in parts");
        }
    }
    if members.is_empty() {
        bail!("--members {shown}: no directory of a member is in it");
    }
    let mut logs = BTreeMap::new();
    for Copied { log, path } in members.iter().flat_map(Member::copies) {
        let Some(log) = log else { continue };
        if let Some(other) = logs.insert(log, path) {
            let (one, other) = (path.display(), other.display());
            bail!("{other} and {one} are the same journal, {log}: keep the newer copy");
        }
    }
    Ok(members)
}

impl Member {
    /// All copies of its journals.
    pub(crate) fn copies(&self) -> impl Iterator<Item = &Copied> {
        [&self.proxy, &self.signer].into_iter().flatten()
    }
}

fn member(name: String, found: Vec<PathBuf>) -> anyhow::Result<Member> {
    let mut member = Member { name, proxy: None, signer: None };
    for path in found {
        let shown = path.display().to_string();
        let log = identify(&path).ok().map(|(log, _)| log);
        let owner = owner(&path);
        let place = match owner {
            Owner::Proxy => &mut member.proxy,
            Owner::Signer => &mut member.signer,
        };
        if let Some(other) = place {
            bail!(
                "{} and {shown} are both journals of {}: give each journal the directory of a member of its own",
                other.path.display(),
                owner.word()
            );
        }
        *place = Some(Copied { log, path });
    }
    if member.copies().next().is_none() {
        bail!("no journal is in it: copy one there, or take this directory away");
    }
    Ok(member)
}

/// Whose journal it is, by the first record that only one of them writes. A journal that has no such record,
/// or none that can be read, is whose its directory says.
fn owner(path: &Path) -> Owner {
    let is_signers = path.to_string_lossy().contains("signer");
    let said = if is_signers { Owner::Signer } else { Owner::Proxy };
    written(path).ok().flatten().unwrap_or(said)
}

fn written(path: &Path) -> Result<Option<Owner>, Stop> {
    let last = newest(path)?.size;
    let mut walk = Walk::open(path, 1)?;
    loop {
        match walk.step()? {
            WalkStep::Record(place) if place.leaf.seq > last => return Ok(None),
            WalkStep::Record(place) => {
                let kind = Outline::parse(walk.body(&place)).map(|(_, kind)| kind);
                if let Some(owner) = kind.and_then(written_by) {
                    return Ok(Some(owner));
                }
            }
            WalkStep::Sealed(_) => {}
            WalkStep::End | WalkStep::TornWrite(_) => return Ok(None),
        }
    }
}

/// Who writes such records; none: both.
const fn written_by(kind: Kind) -> Option<Owner> {
    match kind {
        Kind::Init | Kind::Start | Kind::Stop | Kind::Segment | Kind::Unseal => None,
        Kind::SessionActivated
        | Kind::SessionRefused
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals
        | Kind::SessionEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::ProxyLog => Some(Owner::Signer),
        Kind::Intent
        | Kind::Signed
        | Kind::Failed
        | Kind::Withheld
        | Kind::Gate
        | Kind::Freeze
        | Kind::Unfreeze
        | Kind::Reload
        | Kind::Drill
        | Kind::Probes
        | Kind::Refusals
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::Rehearsal
        | Kind::IncidentBegun
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::IncidentEnded
        | Kind::SignerLog
        | Kind::FleetFreeze
        | Kind::FleetUnfreeze
        | Kind::FleetLink => Some(Owner::Proxy),
    }
}

/// The journals in a directory and below it. A link is not followed: it may lead back here.
fn find(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if is_journal(directory)? {
        found.push(directory.to_owned());
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        bail!("{}: its journals are nested too deep", directory.display());
    }
    directories(directory)?.iter().try_for_each(|below| find(below, depth + 1, found))
}

fn is_journal(directory: &Path) -> anyhow::Result<bool> {
    let segments = segments(directory).with_context(|| directory.display().to_string())?;
    Ok(!segments.is_empty())
}

fn directories(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = || directory.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        if entry.file_type().with_context(shown)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
