//! How far a log is in a bucket, as the bucket itself says: its newest object with a checkpoint.
//!
//! Days of one log never go back, whatever the clock did, so its newest object is in its newest day.

use std::collections::BTreeSet;

use signing_core::journal::{AuditKeys, Head};
use signing_core::tree::{LogId, SignedCheckpoint, TreeHash};

use super::bucket::Bucket;
use super::error::ArchiveError;
use super::name::{Name, Part, ROOT, is_directory};

/// How far a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest record that is archived, and the root there.
    pub head: Head,
    /// Records that were gone before they were archived.
    pub missing: u64,
    /// Records without a checkpoint: a run before wrote them and was killed.
    pub(super) begun: Option<Part>,
    /// The newest directory with anything of this log.
    pub(super) directory: Option<String>,
}

impl Bucket {
    /// Where `log` is. Its checkpoint has to be by one of `keys`.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub async fn find(&self, log: LogId, keys: &AuditKeys) -> Result<Found, ArchiveError> {
        let mut found = Found {
            head: Head { size: 0, root: TreeHash::empty() },
            missing: 0,
            begun: None,
            directory: None,
        };
        for directory in self.days().await? {
            let keys_there = self.list(&format!("{directory}{log}-"), true).await?.keys;
            let names: BTreeSet<_> = keys_there.iter().filter_map(|key| Name::parse(key)).collect();
            if names.is_empty() {
                continue;
            }
            found.directory.get_or_insert_with(|| directory.clone());
            let parts = names.iter().filter_map(|name| match name {
                Name::Records(part) => Some(*part),
                Name::Checkpoint(_) | Name::Event(_) => None,
            });
            let (whole, begun): (Vec<_>, Vec<_>) =
                parts.partition(|part| names.contains(&Name::Checkpoint(*part)));
            found.begun = begun.into_iter().chain(found.begun).max_by_key(|part| part.last);
            if let Some(part) = whole.into_iter().max_by_key(|part| part.last) {
                self.read_head(&directory, part, keys, &mut found).await?;
                found.begun = found.begun.filter(|begun| begun.first > part.last);
                break;
            }
        }
        Ok(found)
    }

    /// The days that hold anything, the newest first.
    async fn days(&self) -> Result<Vec<String>, ArchiveError> {
        let mut level = vec![ROOT.to_owned()];
        for _ in ["year", "month", "day"] {
            let mut below = Vec::new();
            for directory in level {
                below.extend(self.list(&directory, false).await?.directories);
            }
            level = below;
        }
        level.retain(|directory| is_directory(directory));
        level.sort_unstable_by(|one, other| other.cmp(one));
        Ok(level)
    }

    async fn read_head(
        &self,
        directory: &str,
        part: Part,
        keys: &AuditKeys,
        found: &mut Found,
    ) -> Result<(), ArchiveError> {
        let key = format!("{directory}{}", part.checkpoint());
        let wrong = |what: String| ArchiveError::object(&key, what);
        let kept = self.kept(&key).await?;
        let body = self.read(&key, None).await?;
        let (Some(kept), Some(body)) = (kept, body) else {
            return Err(wrong("the bucket lists it, and does not have it".to_owned()));
        };
        let note =
            std::str::from_utf8(&body).ok().and_then(|note| SignedCheckpoint::parse(note).ok());
        let checkpoint = note.ok_or_else(|| wrong("it is no checkpoint".to_owned()))?;
        let said = *checkpoint.checkpoint();
        if said.log != part.log || said.size != part.last {
            return Err(wrong("its checkpoint is of another log or size".to_owned()));
        }
        keys.verify(&checkpoint).map_err(|error| wrong(error.to_string()))?;
        found.head = Head::of(&said);
        found.missing = kept.missing;
        Ok(())
    }
}
