//! What the writer of a journal says by itself: who waits for a release does not wait for more than that to be read.

use signing_core::journal::Head;
use signing_core::tree::SignedCheckpoint;

use super::{Source, SourceError, Write};

/// What the writer of a journal says by itself. An audit key of the registry signed each checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The newest of which all is on disk.
    pub on_disk: Option<SignedCheckpoint>,
    /// The newest of which all is in the files: it is read, and not shipped.
    pub written: Option<SignedCheckpoint>,
}

impl Said {
    /// Whether that very checkpoint was said: then its signature was verified.
    pub(super) fn has(&self, checkpoint: &SignedCheckpoint) -> bool {
        [&self.on_disk, &self.written].into_iter().flatten().any(|said| said == checkpoint)
    }

    /// How far it goes.
    fn size(&self) -> u64 {
        let all = [&self.on_disk, &self.written].into_iter().flatten();
        all.map(|said| said.checkpoint().size).max().unwrap_or(0)
    }
}

/// So many are read at once where somebody waits for them.
const FEW_RECORDS: u64 = 256;

impl Source {
    /// Takes over what its writer says by itself. Whether what is to be read up to there is little.
    pub fn is_said(&mut self, said: Said) -> bool {
        self.said = said;
        let said = self.said_and_not_shipped();
        let read = self.newest.as_ref().map(|newest| newest.checkpoint().size);
        said.zip(read).is_some_and(|(said, read)| said.saturating_sub(read) <= FEW_RECORDS)
    }

    fn said_and_not_shipped(&self) -> Option<u64> {
        let said = self.said.size();
        (said > self.position.shipped).then_some(said)
    }

    /// Whether it was read up to what its writer said: whoever waits for that does not wait for the rest. From time to
    /// time all is read, to the end.
    pub(super) fn is_read_as_said(&mut self) -> bool {
        let said = self.said_and_not_shipped();
        let is_read =
            said.is_some_and(|said| self.ready.binary_search_by_key(&said, Write::size).is_ok());
        if is_read && self.ends.is_recent() {
            (self.is_as_said, self.end) = (true, None);
        }
        self.is_as_said
    }

    /// What its writer said is on disk.
    ///
    /// # Errors
    /// [`SourceError::Other`] if what is there has another root.
    pub fn is_on_disk(&mut self) -> Result<(), SourceError> {
        let on_disk = self.said.on_disk.as_ref();
        let Some(head) = on_disk.map(|said| Head::of(said.checkpoint())) else {
            return Ok(());
        };
        let write = self.ready.iter().rev().find(|write| write.size() == head.size);
        match write.map(|write| Head::of(write.checkpoint.checkpoint())) {
            Some(here) if here == head => self.durable = self.durable.max(head.size),
            Some(here) => {
                return Err(
                    self.other(format!("has the root {} at record {}", here.root, head.size))
                );
            }
            // It is not read yet, or shipped already.
            None => {}
        }
        Ok(())
    }

    /// Whether all is shipped that there was when it was last read, or that its writer had said.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.is_drained() && (self.is_at_end || self.is_as_said)
    }
}
