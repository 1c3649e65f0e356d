//! A directory of its own for each test, removed with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// A scratch directory.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Makes a new one under the system's temporary directory, or, if that is in memory, where no journal
    /// may be, in `/var/tmp`. Short, since a
    /// unix socket's path has at most 107 bytes.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = on_disk().join(format!("sp-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it, directories included. A key is for its owner only.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        if path.extension().is_some_and(|ending| ending == "key") {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        path
    }
}

fn on_disk() -> PathBuf {
    let usual = std::env::temp_dir();
    let is_memory = statfs(&usual).is_ok_and(|it| it.filesystem_type() == TMPFS_MAGIC);
    if is_memory { PathBuf::from("/var/tmp") } else { usual }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
