//! The files that credentials are read from: whoever replaces one has something new to say, long
//! before what was read from it has ended.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html>

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Variables that name such a file.
const VARIABLES: [&str; 4] = [
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// What stands for the first two where they are not set, in the home directory.
const AT_HOME: [&str; 2] = [".aws/credentials", ".aws/config"];

/// What is known of the files without reading them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Identity>>);

/// Device, inode, size, and when it was changed: a file that was written to or replaced has another.
type Identity = (u64, u64, u64, i64, i64);

impl Seen {
    /// The files as they are now.
    pub(super) fn now() -> Self {
        Self(files().iter().map(identity).collect())
    }
}

fn files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let files = VARIABLES.iter().enumerate().filter_map(|(at, variable)| {
        let named = std::env::var_os(variable).filter(|file| !file.is_empty()).map(PathBuf::from);
        named.or_else(|| Some(home.as_ref()?.join(AT_HOME.get(at)?)))
    });
    files.collect()
}

/// None: there is no such file, which may change.
fn identity(file: &PathBuf) -> Option<Identity> {
    let file = std::fs::metadata(file).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}
