//! What the process denies itself before it starts a thread or takes a connection: core
//! dumps, tracing, swapped memory, every file but its own, the network, other programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::keyfile;

/// What of landlock is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// All that is asked for.
    Full,
    /// The kernel is older and knows part of it.
    Partial,
    /// The kernel has none.
    None,
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No core dumps, no tracing.
    #[error(
        "core dumps and tracing cannot be turned off, and nothing secret is read before they are: \
         {what}: {error}; a container's seccomp profile may be in the way: allow it"
    )]
    Harden {
        /// Which of its limits.
        what: &'static str,
        /// What the system answered.
        error: nix::Error,
    },
    /// Secrets could be swapped out.
    #[error(
        "the memory cannot be locked: mlockall: {error}, while RLIMIT_MEMLOCK is {limit}; give the \
         process LimitMEMLOCK=infinity (systemd), or CAP_IPC_LOCK"
    )]
    Lock {
        /// What the system answered.
        error: nix::Error,
        /// How much may be locked.
        limit: String,
    },
    /// Files.
    #[error("landlock cannot be set up: {0}")]
    Landlock(String),
    /// System calls.
    #[error(
        "seccomp cannot be set up, and nothing is signed without it: {0}; run it on a kernel with \
         CONFIG_SECCOMP_FILTER and, in a container, under a profile that allows seccomp(2) and prctl(2)"
    )]
    Seccomp(String),
}

/// No core dumps, and no reading of its memory by others of its user.
///
/// # Errors
/// [`SandboxError::Harden`].
pub fn harden() -> Result<(), SandboxError> {
    let failed = |what| move |error| SandboxError::Harden { what, error };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("RLIMIT_CORE to 0"))?;
    prctl::set_dumpable(false).map_err(failed("PR_SET_DUMPABLE to 0"))
}

/// All memory stays out of swap, also what comes later.
///
/// # Errors
/// [`SandboxError::Lock`].
pub fn lock_memory() -> Result<(), SandboxError> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(|error| {
        let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
            Ok((libc::RLIM_INFINITY, _)) => "infinite".to_owned(),
            Ok((bytes, _)) => format!("{bytes} bytes"),
            Err(_) => "unknown".to_owned(),
        };
        SandboxError::Lock { error, limit }
    })
}

/// From here on this thread, and every one that it starts, reaches the files `read`,
/// changes what is below `write`, overwrites and removes the files `keys`, connects nowhere, and
/// runs nothing else. What else is in a key's directory can be read and removed, not written.
/// A socket can be bound in the directories of `sockets`, so that a lost path is bound again.
///
/// # Errors
/// [`SandboxError`]; landlock may be missing, seccomp may not.
pub fn confine(
    read: &[&Path],
    write: &[PathBuf],
    keys: &[&Path],
    sockets: &[&Path],
) -> Result<Landlock, SandboxError> {
    let landlock = files(read, write, keys, sockets).map_err(SandboxError::Landlock)?;
    let filter = calls().map_err(|error| SandboxError::Seccomp(error.to_string()))?;
    seccompiler::apply_filter(&filter).map_err(|error| SandboxError::Seccomp(error.to_string()))?;
    Ok(landlock)
}

/// What `check` says where landlock is missing.
#[must_use]
pub fn note() -> Option<String> {
    let supported = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    supported.is_err().then(|| {
        "this kernel has no landlock: which files the signer reaches is not bounded there; seccomp, \
         which is required, still keeps it from the network and from other programs"
            .to_owned()
    })
}

fn files(
    read: &[&Path],
    write: &[PathBuf],
    keys: &[&Path],
    sockets: &[&Path],
) -> Result<Landlock, String> {
    let described = |error: &dyn std::fmt::Display| error.to_string();
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(|error| described(&error))?;
    let changes = AccessFs::from_read(abi)
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Refer
        | AccessFs::Truncate;
    let read = read.iter().map(|path| (*path, AccessFs::ReadFile.into()));
    let write = write.iter().map(|path| (path.as_path(), changes & !AccessFs::Execute));
    // A right to remove is one of the directory; the right to write is the file's alone. A key that
    // is brought back later can still be read, and removed.
    let directories = keys.iter().map(|file| {
        (directory(file), AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::RemoveFile)
    });
    let there = keys.iter().filter(|file| keyfile::is_there(file));
    let files =
        there.map(|file| (*file, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate));
    let sockets = sockets.iter().map(|path| (directory(path), AccessFs::MakeSock.into()));
    for (path, access) in read.chain(write).chain(directories).chain(files).chain(sockets) {
        let opened = PathFd::new(path).map_err(|error| format!("{}: {error}", path.display()))?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(opened, access))
            .map_err(|error| described(&error))?;
    }
    let restricted = ruleset.restrict_self().map_err(|error| described(&error))?;
    Ok(match restricted.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::None,
    })
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The calls that it makes; any other fails with EPERM. The sockets that it may open are a pair, and
/// a stream socket of the machine to listen on. There is no call that connects, and none that runs a
/// program.
fn calls() -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        PLAIN.iter().map(|call| (*call, Vec::new())).collect();
    let is = |argument, operator, value: i32| {
        let value = u64::try_from(value).unwrap_or_default();
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    // The runtime wakes itself through a pair of sockets.
    let pair = is(0, SeccompCmpOp::Eq, libc::AF_UNIX)?;
    rules.insert(libc::SYS_socketpair, vec![pair]);
    // A socket whose path was lost is bound again. A stream cannot send without connecting.
    let stream = SeccompRule::new(vec![
        SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::try_from(libc::AF_UNIX)?,
        )?,
        SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::try_from(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?,
        )?,
    ])?;
    rules.insert(libc::SYS_socket, vec![stream]);
    // Threads get names.
    rules.insert(libc::SYS_prctl, vec![is(0, SeccompCmpOp::Eq, libc::PR_SET_NAME)?]);
    // Memory that is executable is not made.
    let executable = u64::try_from(libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![is(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    let eperm = u32::try_from(libc::EPERM)?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(eperm),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Allowed with any arguments.
const PLAIN: &[libc::c_long] = &[
    // What is open already, and what comes in.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_umask,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    // Files, which landlock bounds.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    // Memory, threads, time, the end.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_prlimit64,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Older ways of the above, on machines that have them.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_gettimeofday,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];
