//! What the process denies itself before it reads a secret.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// No core dumps and no ptrace by others: the TLS key and credentials stay in
/// this process.
///
/// # Errors
/// If the kernel refuses, which a container's policy may cause.
pub fn harden() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}
