//! The size of the pages that memory comes in. An allocator asks for huge ones (2 MiB), and so does a kernel whose
//! `transparent_hugepage/enabled` is `always`. Each is held whole for the few KiB of it that are used: 18 MiB of a
//! proxy at rest were such pages. Without them a signature costs 1 % more CPU, and a refusal 2 %
//! (docs/internals/performance.md).

use nix::sys::prctl;

/// No huge pages for this process and its children (`PR_SET_THP_DISABLE`, prctl(2)). The first thing in `main`: what
/// has a huge page keeps it.
pub fn keep_small() {
    // A kernel that refuses costs memory and nothing else.
    let _ = prctl::set_thp_disable(true);
}
