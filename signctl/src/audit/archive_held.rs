//! An archive held against the journals: each record that is archived is the journal's, and each record of the journal
//! is archived.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use audit::walk::{Walk, WalkStep};
use host::out;
use signing_core::Registry;
use signing_core::journal::{AuditKeys, Leaf};
use signing_core::tree::LogId;
use tokio::runtime::Runtime;
use trail::archive::read::Archive;
use trail::archive::verify::Verifier;
use trail::event::Owner;
use trail::reconcile::{Found, Rows};
use trail::source::identify;

use super::archived::{Heard, Shows};
use super::finds::Finds;
use crate::archive::ArchiveFlags;

/// How often it looks for objects that it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A journal, and up to which record it has to be archived.
pub(super) struct Asked {
    owner: Owner,
    log: LogId,
    oldest: u64,
    target: u64,
    walk: Walk,
    /// The newest record that was read.
    read: Option<Leaf>,
    is_told: bool,
    /// Why it cannot be read on.
    failed: Option<anyhow::Error>,
}

/// What holds it, and whose word counts.
pub(super) struct ArchiveCheck<'a> {
    pub(super) flags: &'a ArchiveFlags,
    pub(super) registry: &'a Registry,
    pub(super) per_event: bool,
}

/// What was found beside the gaps.
pub(super) struct HeldBy {
    /// Records that are as the journals say.
    pub(super) records: u64,
    /// Of each journal, up to which record the archive holds it.
    pub(super) reaches: Vec<u64>,
    /// Of each journal, why it could not be read to its end.
    pub(super) failed: Vec<Option<anyhow::Error>>,
}

impl Asked {
    pub(super) fn new(path: &Path, owner: Owner, target: u64) -> anyhow::Result<Self> {
        let (log, oldest) = identify(path).context(owner.word())?;
        let walk = Walk::open(path, 1)?;
        Ok(Self { owner, log, oldest, target, walk, read: None, is_told: false, failed: None })
    }

    /// Holds a record of the archive against the journal's. What was moved away is not here to be held against.
    fn hear(&mut self, leaf: Leaf, found: &mut Found) -> anyhow::Result<u64> {
        if leaf.seq < self.oldest {
            return Ok(0);
        }
        while self.read.is_none_or(|read| read.seq < leaf.seq) {
            match self.walk.step()? {
                WalkStep::Record(place) => self.read = Some(place.leaf),
                WalkStep::Sealed(_) => {}
                WalkStep::End | WalkStep::TornWrite(_) => break,
            }
        }
        let is_there = self.read.is_some_and(|read| read.seq == leaf.seq);
        if is_there && self.read == Some(leaf) {
            return Ok(1);
        }
        let (seq, word) = (leaf.seq, self.owner.word());
        if is_there {
            found.gap(format!("record {seq} of {word} is archived other than the journal has it"));
        } else if !std::mem::replace(&mut self.is_told, true) {
            found.gap(format!(
                "record {seq} of {word} is archived, and the journal has no such record"
            ));
        }
        Ok(0)
    }
}

impl ArchiveCheck<'_> {
    /// Holds the archive against the journals, in the order of `finds`; none: that one cannot be read.
    pub(super) fn hold(
        &self,
        runtime: &Runtime,
        mut asked: Vec<Option<Asked>>,
        rows: &mut Rows,
        wait: Duration,
        finds: &mut Finds,
    ) -> anyhow::Result<HeldBy> {
        let archive = self.flags.open(runtime)?;
        self.arrival(runtime, &archive, &asked, wait)?;
        let mut records = 0;
        let heard = |heard: Heard<'_>| match heard {
            Heard::Record(log, leaf) => {
                let all = asked.iter_mut().zip(&mut finds.of);
                let mut all = all.filter_map(|(asked, found)| Some((asked.as_mut()?, found)));
                let Some((asked, found)) = all.find(|(asked, _)| asked.log == log) else { return };
                if asked.failed.is_some() {
                    return;
                }
                match asked.hear(leaf, found) {
                    Ok(one) => records += one,
                    Err(error) => asked.failed = Some(error),
                }
            }
            Heard::Event(payload) => rows.archived(payload, &mut finds.rest),
        };
        let verifier = Verifier::new(self.registry, true);
        let archived = runtime.block_on(archive.verify(verifier, &mut Shows::new(heard)))?;
        for what in &archived.named {
            finds.rest.gap(format!("archive: {what}"));
        }
        let named = u64::try_from(archived.named.len()).unwrap_or(u64::MAX);
        finds.rest.gaps += archived.defects.saturating_sub(named);
        let mut reaches = Vec::new();
        for (asked, found) in asked.iter().zip(&mut finds.of) {
            let Some(Asked { owner, log, target, .. }) = asked else {
                reaches.push(0);
                continue;
            };
            let reach = archived.logs.get(log).map_or(0, |reach| reach.last);
            if reach < *target {
                let (from, word) = (reach + 1, owner.word());
                found.gap(format!("records {from} to {target} of {word} are not archived"));
            }
            reaches.push(reach);
        }
        if self.per_event {
            rows.not_archived(&mut finds.rest);
        }
        let failed = asked.into_iter().map(|asked| asked.and_then(|asked| asked.failed));
        Ok(HeldBy { records, reaches, failed: failed.collect() })
    }

    /// Waits a while until a bucket holds what the journals held: the trail gathers records for some seconds. What
    /// keeps it from being read is said by whoever reads all of it.
    fn arrival(
        &self,
        runtime: &Runtime,
        archive: &Archive,
        asked: &[Option<Asked>],
        wait: Duration,
    ) -> anyhow::Result<()> {
        let Archive::Bucket(bucket) = archive else { return Ok(()) };
        let keys = AuditKeys::of_registry(self.registry);
        let began = Instant::now();
        let mut is_told = false;
        for Asked { log, target, .. } in asked.iter().flatten() {
            loop {
                let head = runtime.block_on(bucket.find(*log, &keys)).map(|found| found.head.size);
                if head.is_err()
                    || head.is_ok_and(|size| size >= *target)
                    || began.elapsed() >= wait
                {
                    break;
                }
                if !std::mem::replace(&mut is_told, true) {
                    out::say(&format!("waiting up to {} s for the newest objects", wait.as_secs()));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }
}
