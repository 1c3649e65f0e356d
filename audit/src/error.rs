//! Why a journal cannot be opened, or cannot be written any more.

use std::io;
use std::path::{Path, PathBuf};

use host::shortage;
use signing_core::journal::KeyId;
use signing_core::tree::LogId;

use crate::scan::SegmentError;

/// Why a journal is not opened. Nothing is signed without one.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("{}: there is no journal here; if there never was one, make it: signing-proxy init --config FILE (for the emergency signer: breakglass-signer init); if there was, bring it back", .0.display())]
    NoJournal(PathBuf),
    /// There is one already.
    #[error("{}: there is a journal here already; to begin another, move this one away whole", .0.display())]
    Exists(PathBuf),
    /// Another process writes it.
    #[error("{}: another process writes this journal; give each its own", .0.display())]
    Locked(PathBuf),
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory that this is about.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// A segment is not as it was written.
    #[error("{0}; it was changed, so nothing is signed until it is brought back from a copy")]
    Segment(SegmentError),
    /// A segment is of another journal.
    #[error("{}: it belongs to the log {found}, and the first to {expected}; move it away", path.display())]
    OtherLog {
        /// The file or directory that this is about.
        path: PathBuf,
        /// Its log.
        found: LogId,
        /// The journal's.
        expected: LogId,
    },
    /// A segment does not go on where the one before it ends.
    #[error("{}: it is not the next segment: {why}; a segment was taken away, cut or replaced, so nothing is signed until it is brought back from a copy", path.display())]
    Unlinked {
        /// The file or directory that this is about.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A record is damaged, or what stands in its place is no torn write.
    #[error("{}: record {seq} at byte {at} is damaged: {why}; nothing is cut and nothing is signed; keep the file, and bring a copy back, or move the directory away and make a new one with init", path.display())]
    Damaged {
        /// Which segment.
        path: PathBuf,
        /// Which record.
        seq: u64,
        /// Where it begins.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// It is signed with another audit key.
    #[error("{}: its newest checkpoint is signed with the audit key {found}, and audit.key_file holds {given}; to renew the audit key, name the file of the old one in audit.previous_key_file for one start, so that it signs the first checkpoint of the new one too", path.display())]
    OtherKey {
        /// The file or directory that this is about.
        path: PathBuf,
        /// The journal's key.
        found: KeyId,
        /// The process's.
        given: KeyId,
    },
    /// It was the journal's audit key once.
    #[error("{}: audit.key_file holds the audit key {given}, which this journal replaced; a replaced key never comes back: make a new one, and name the file of the key in force in audit.previous_key_file", path.display())]
    ReplacedKey {
        /// The file or directory that this is about.
        path: PathBuf,
        /// The process's.
        given: KeyId,
    },
    /// The start cannot be recorded.
    #[error("{}: the start cannot be recorded: {why}", path.display())]
    Unrecorded {
        /// The file or directory that this is about.
        path: PathBuf,
        /// What is wrong, as a sentence for a person.
        why: String,
    },
    /// The journal lacks a record that was on disk.
    #[error("{}: the newest record that is known to have been here is {expected}, and {found}; an older copy was put in its place, or records were taken away; bring the journal back", path.display())]
    Behind {
        /// The file or directory that this is about.
        path: PathBuf,
        /// What was known.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl JournalError {
    /// Why the next segment, of so many bytes, cannot be made: by its real cause, since what an
    /// operator has to do about it differs.
    pub(crate) fn of_next_segment(bytes: u64, error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let said = format!("{bytes} bytes for the next segment cannot be set aside: {error}");
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full(said),
            _ => Self::NoSegment(shortage::of(error).unwrap_or(said)),
        }
    }
}

impl From<SegmentError> for OpenError {
    fn from(error: SegmentError) -> Self {
        match error {
            // What cannot be read need not have been changed.
            SegmentError::Io { path, error } => Self::Io { path, error },
            other => Self::Segment(other),
        }
    }
}

impl OpenError {
    /// For an IO error at `path`.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

/// Why nothing can be recorded now. Cheap to clone: many wait for the same thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// For good, in this process: a write or a sync failed, or the file is not in its
    /// place. Only a new process that reads the disk anew can go on.
    #[error("the journal is sealed: {0}")]
    Sealed(String),
    /// There is no space but for what ends and stops. It goes on when there is.
    #[error("the journal is full: {0}")]
    Full(String),
    /// The next segment cannot be made, for another reason than space. It goes on when it can.
    #[error("the journal's next segment cannot be made: {0}")]
    NoSegment(String),
    /// The process ends in order: what was taken is still written, and nothing more.
    #[error("the journal is closed: the process is stopping")]
    Stopping,
    /// The disk does not answer, or not fast enough. It goes on when it does.
    #[error("the journal does not keep up: {0}")]
    Stalled(String),
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_segment_that_cannot_be_made_is_told_by_its_real_cause() {
        for (errno, is_full, says) in [
            (Errno::ENOSPC, true, "the journal is full"),
            (Errno::EDQUOT, true, "the journal is full"),
            (Errno::EFBIG, true, "the journal is full"),
            (Errno::EMFILE, false, "raise LimitNOFILE"),
            (Errno::ENFILE, false, "raise fs.file-max"),
            (Errno::EACCES, false, "Permission denied"),
            (Errno::EROFS, false, "Read-only file system"),
            (Errno::ENOMEM, false, "cannot be made"),
            (Errno::EOPNOTSUPP, false, "cannot be made"),
        ] {
            let error = io::Error::from_raw_os_error(errno as i32);
            let error = JournalError::of_next_segment(4096, &error);
            assert_eq!(matches!(error, JournalError::Full(_)), is_full, "{errno}: {error}");
            let said = error.to_string();
            assert!(said.contains(says), "{errno}: {said}");
            assert_eq!(said.contains("full"), is_full, "{errno}: {said}");
        }
    }
}
