//! What kind of file system keeps a directory, by the numbers of `statfs(2)`: one that forgets, or
//! whose locks and syncs are another machine's word, keeps no journal.

use std::path::Path;

use nix::sys::statfs::{
    AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, MSDOS_SUPER_MAGIC,
    NCP_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, SMB_SUPER_MAGIC, Statfs, TMPFS_MAGIC,
    statfs,
};

/// Numbers that the C library does not name (`linux/magic.h`, `fs/smb/client/cifsfs.c`).
const RAMFS: u32 = 0x8584_58f6;
const CIFS: u32 = 0xff53_4d42;
const SMB2: u32 = 0xfe53_4d42;
const NINE_P: u32 = 0x0102_1997;
/// File systems of other machines that `statfs` of the crate has no name for (`linux/magic.h`, and of their makers).
const NETWORK: &[(u32, &str)] = &[
    (CIFS, "SMB"),
    (SMB2, "SMB"),
    (NINE_P, "9p"),
    (0x00c3_6400, "CephFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x6b41_4653, "AFS"),
];

/// What a file system does to what is kept in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is on a disk.
    Disk,
    /// It is in memory.
    Memory,
    /// It is a layer over others, as that of a container is.
    Layer,
    /// It is on another machine.
    Network,
    /// A program serves it.
    Program,
}

/// What a directory's file system deserves to be told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What only development may do.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
}

impl Found {
    /// Under development nothing of it is a mistake: what is made there is thrown away.
    #[must_use]
    pub fn under_development(mut self, is_development: bool) -> Self {
        if is_development {
            self.notes.extend(std::mem::take(&mut self.mistakes));
        }
        self
    }
}

/// Looks at the directories of these keys. One that is not there yet is judged by the one that it will be made in. What
/// cannot be asked says nothing here: whoever opens it hears why.
#[must_use]
pub fn inspect(directories: &[(&str, &Path)]) -> Found {
    let mut found = Found::default();
    for (key, directory) in directories {
        let there = directory.ancestors().find(|place| place.is_dir());
        let Some(asked) = there.and_then(|there| statfs(there).ok()) else { continue };
        judge((key, directory), &name_of(&asked), kind_of(number_of(&asked)), &mut found);
    }
    found
}

fn judge((key, directory): (&str, &Path), name: &str, kind: Kind, found: &mut Found) {
    let place = format!("{key}: {} is on {name}", directory.display());
    match kind {
        Kind::Disk => {}
        Kind::Memory => found.mistakes.push(format!(
            "{place}, which is in memory: it is gone after a restart of the machine, and with it every \
             record; use a disk"
        )),
        Kind::Network => found.mistakes.push(format!(
            "{place}, which is on another machine: a lock there may not keep a second process out, and a \
             sync may be lost with that machine; use a disk, or a block device of the network"
        )),
        Kind::Layer => found.notes.push(format!(
            "{place}: if that is the layer of a container, it is gone with the container; mount a volume there"
        )),
        Kind::Program => found.notes.push(format!(
            "{place}: its locks and syncs depend on the program that serves it; use a disk, unless you \
             know that program"
        )),
    }
}

/// What a file system is called, or its number of `statfs(2)`.
#[must_use]
pub fn name_of(found: &Statfs) -> String {
    let kind = found.filesystem_type();
    let known = [
        (NFS_SUPER_MAGIC, "NFS"),
        (FUSE_SUPER_MAGIC, "FUSE"),
        (MSDOS_SUPER_MAGIC, "FAT"),
        (OVERLAYFS_SUPER_MAGIC, "overlayfs"),
        (TMPFS_MAGIC, "tmpfs"),
        (EXT4_SUPER_MAGIC, "ext2, ext3 or ext4"),
    ];
    let name = known.iter().find(|(known, _)| *known == kind).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| {
        let number = number_of(found);
        let name = NETWORK.iter().chain(&[(RAMFS, "ramfs")]).find(|(known, _)| *known == number);
        name.map_or_else(
            || format!("a file system of type {number:#x}"),
            |(_, name)| (*name).to_owned(),
        )
    })
}

/// The number, which has 32 bits, however wide and signed the field is on this machine.
fn number_of(found: &Statfs) -> u32 {
    // Masked: a sign that was extended is cut off.
    u32::try_from(i128::from(found.filesystem_type().0) & 0xffff_ffff).unwrap_or_default()
}

fn kind_of(number: u32) -> Kind {
    let is = |kinds: &[nix::sys::statfs::FsType]| {
        kinds.iter().any(|kind| i128::from(kind.0) & 0xffff_ffff == i128::from(number))
    };
    if is(&[TMPFS_MAGIC]) || number == RAMFS {
        Kind::Memory
    } else if is(&[OVERLAYFS_SUPER_MAGIC]) {
        Kind::Layer
    } else if is(&[FUSE_SUPER_MAGIC]) {
        Kind::Program
    } else if is(&[
        NFS_SUPER_MAGIC,
        SMB_SUPER_MAGIC,
        AFS_SUPER_MAGIC,
        CODA_SUPER_MAGIC,
        NCP_SUPER_MAGIC,
    ]) || NETWORK.iter().any(|(known, _)| *known == number)
    {
        Kind::Network
    } else {
        Kind::Disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_the_kind_that_it_is() {
        for (number, kind) in [
            (0x0102_1994, Kind::Memory),
            (RAMFS, Kind::Memory),
            (0x6969, Kind::Network),
            (CIFS, Kind::Network),
            (SMB2, Kind::Network),
            (0x517b, Kind::Network),
            (NINE_P, Kind::Network),
            (0x00c3_6400, Kind::Network),
            (0x0bd0_0bd0, Kind::Network),
            (0x4750_4653, Kind::Network),
            (0x6b41_4653, Kind::Network),
            (0x794c_7630, Kind::Layer),
            (0x6573_5546, Kind::Program),
            (0xef53, Kind::Disk),
            (0x5846_5342, Kind::Disk),
            (0x9123_683e, Kind::Disk),
        ] {
            assert_eq!(kind_of(number), kind, "{number:#x}");
        }
    }

    #[test]
    fn memory_is_a_mistake_that_only_development_may_make() {
        let shm = Path::new("/dev/shm");
        // Also if the directory is not made yet.
        let found = inspect(&[("audit.dir", &shm.join("not/there"))]);
        assert_eq!((found.mistakes.len(), found.notes.len()), (1, 0), "{found:?}");
        assert!(found.mistakes[0].starts_with("audit.dir: /dev/shm/not/there is on tmpfs, "));
        let found = found.under_development(true);
        assert_eq!((found.mistakes.len(), found.notes.len()), (0, 1), "{found:?}");
    }
}
