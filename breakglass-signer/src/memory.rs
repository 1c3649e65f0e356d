//! Whether the opening of each emergency key has room in the memory that this process may have. The file of a key says
//! without its passphrase how much that takes, and the kernel would say so in the emergency, by ending the process.

use std::collections::BTreeMap;
use std::path::Path;

use host::limits;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use signing_core::Kid;

use crate::keyfile;
use crate::materials::Held;

/// What the process takes before it opens a key, of memory and of address space (`topologies.md` has both).
const AT_REST_BYTES: u64 = 24 << 20;
const ADDRESS_SPACE_BYTES: u64 = 600 << 20;

/// What this process may have, in bytes; None: there is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Of its control group.
    group: Option<u64>,
    /// Of address space.
    address_space: Option<u64>,
    /// Of locked memory, which counts address space.
    locked: Option<u64>,
}

impl Room {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let of = |resource| {
            let (soft, _) = getrlimit(resource).ok()?;
            (soft != libc::RLIM_INFINITY).then_some(soft)
        };
        // Root may lock as much as it likes.
        let locked = of(Resource::RLIMIT_MEMLOCK).filter(|_| !geteuid().is_root());
        Self { group: limits::memory_bytes(), address_space: of(Resource::RLIMIT_AS), locked }
    }

    /// The tightest limit that `asked` more bytes do not fit below: its name, how large it is and how large it has to be.
    fn too_tight_for(self, asked: u64) -> Option<(&'static str, u64, u64)> {
        let (rest, space) =
            (AT_REST_BYTES.saturating_add(asked), ADDRESS_SPACE_BYTES.saturating_add(asked));
        // Below its address space nothing is locked, and the start says so.
        let locked = self.locked.filter(|limit| *limit >= ADDRESS_SPACE_BYTES);
        let limits = [
            (
                "the memory of its control group (MemoryMax=, resources.limits.memory)",
                self.group,
                rest,
            ),
            ("its address space (LimitAS=)", self.address_space, space),
            ("its locked memory (LimitMEMLOCK=)", locked, space),
        ];
        let limits =
            limits.into_iter().filter_map(|(name, limit, need)| Some((name, limit?, need)));
        limits.filter(|(_, limit, need)| limit < need).min_by_key(|(_, limit, _)| *limit)
    }
}

/// Keys that cannot be opened within the memory that this process may have.
#[must_use]
pub fn notes(keys: &BTreeMap<Kid, Held>, room: Room) -> Vec<String> {
    let notes = keys.iter().filter_map(|(kid, held)| {
        // What cannot be read is said elsewhere.
        let asked = keyfile::load(&held.file).ok()?.memory_bytes();
        note(kid, &held.file, asked, room)
    });
    notes.collect()
}

fn note(kid: &Kid, file: &Path, asked: u64, room: Room) -> Option<String> {
    let (limit, has, needs) = room.too_tight_for(asked)?;
    Some(format!(
        "emergency_keys: {kid}: opening {} takes {} MiB of memory, and {limit} is limited to {} MiB: this process \
         would end at the activation; raise that to {} MiB, or seal the key again with a smaller N of scrypt",
        file.display(),
        asked.div_ceil(1 << 20),
        has >> 20,
        needs.div_ceil(1 << 20),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_key_that_does_not_fit_is_noted_with_the_limit_and_what_it_needs() {
        let kid = Kid::parse("emergency").unwrap();
        let said = |asked: u64, room| note(&kid, Path::new("/e.pem"), asked * MIB, room);
        let of = |group, address_space, locked| {
            let [group, address_space, locked] =
                [group, address_space, locked].map(|limit: Option<u64>| limit.map(|mib| mib * MIB));
            Room { group, address_space, locked }
        };
        assert_eq!(said(1024, Room::default()), None);
        assert_eq!(said(16, of(Some(40), Some(616), Some(616))), None);
        // Too little to lock anything: the start says so.
        assert_eq!(said(16, of(None, None, Some(8))), None);
        for (asked, room, limit, needs) in [
            (
                17,
                of(Some(40), None, None),
                "MemoryMax=, resources.limits.memory) is limited to 40 MiB",
                41,
            ),
            (1024, of(Some(128), Some(4096), None), "is limited to 128 MiB", 1048),
            (1024, of(Some(2048), Some(1000), None), "LimitAS=) is limited to 1000 MiB", 1624),
            (1024, of(None, None, Some(700)), "LimitMEMLOCK=) is limited to 700 MiB", 1624),
        ] {
            let said = said(asked, room).unwrap();
            for part in [limit, "/e.pem", &format!("takes {asked} MiB"), &format!("to {needs} MiB")]
            {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
}
