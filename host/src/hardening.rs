//! What a process denies itself before it reads a secret: core dumps, tracing by others of its
//! user, and swap as far as it may.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// No limit (`RLIM_INFINITY`).
const UNLIMITED: rlim_t = rlim_t::MAX;

/// No core dumps, and no reading of its memory by others of its user.
///
/// # Errors
/// If the kernel refuses, which a container's policy may cause.
pub fn harden() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}

/// Keeps memory out of swap where this user may: for programs that a person runs, who cannot be
/// asked for a limit. What comes later is locked too only without a limit, since with one an
/// allocation beyond it would fail.
pub fn lock_memory_where_allowed() {
    let is_unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(most, _)| most == UNLIMITED);
    let later = if is_unlimited { MlockAllFlags::MCL_FUTURE } else { MlockAllFlags::empty() };
    // Best effort: a machine without swap needs none.
    let _ = mlockall(MlockAllFlags::MCL_CURRENT | later);
}
