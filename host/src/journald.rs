//! Whether standard error is a stream of systemd's journal, and how a line names its level there
//! (`sd-daemon(3)`): `journalctl -p warning` finds it by that.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

/// The variable with the device and the inode of the stream.
const STREAM: &str = "JOURNAL_STREAM";

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong.
    Error,
    /// Something deserves attention.
    Warn,
    /// Something happened.
    Info,
    /// For whoever looks for a cause.
    Debug,
}

impl Level {
    /// Its word in a line of the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// What stands before a line of this level; the journal takes it away.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warn => "<4>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }
}

/// Whether standard error goes to the journal now. It does not where it was led elsewhere since.
#[must_use]
pub fn takes_stderr() -> bool {
    let found = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let named = std::env::var_os(STREAM);
    found.is_ok_and(|found| is_named(named.as_deref(), (found.dev(), found.ino())))
}

fn is_named(named: Option<&OsStr>, (device, inode): (u64, u64)) -> bool {
    named.is_some_and(|named| named == OsStr::new(&format!("{device}:{inode}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_is_named_takes_levels() {
        let named = |text: &str| is_named(Some(OsStr::new(text)), (8, 123));
        assert!(named("8:123"));
        for other in ["8:124", "9:123", "", "8", "8:123 ", "08:123"] {
            assert!(!named(other), "{other:?}");
        }
        assert!(!is_named(None, (8, 123)));
    }
}
