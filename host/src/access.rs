//! Who can connect to a unix socket. A configuration allows a user, the file system keeps the same user
//! out, and it shows in an emergency: so `check` looks.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};

use crate::user;

/// What connecting to a socket takes, and what entering a directory takes (path_resolution(7)).
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o1;
/// What is made in such a directory has its group.
const SETGID: u32 = 0o2000;
/// As a socket is bound.
const SOCKET_MODE: u32 = 0o660;

/// A socket, and whom its configuration lets in.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'c> {
    /// The keys that allow them, by user and by group, for the sentence.
    pub keys: (&'c str, &'c str),
    /// Where it is, or will be.
    pub socket: &'c Path,
    /// Users.
    pub uids: &'c [u32],
    /// Groups.
    pub gids: &'c [u32],
}

/// A place on the way to a socket, or the socket itself.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    /// What whoever connects needs of it.
    needed: u32,
}

/// A user as this machine knows it.
#[derive(Clone, Debug)]
struct SystemUser {
    uid: u32,
    name: Option<String>,
    gids: BTreeSet<u32>,
}

/// Who is allowed and cannot connect, one sentence each. It goes by owner, group and mode.
#[must_use]
pub fn kept_out(allowed: &Allowed<'_>) -> Vec<String> {
    let Allowed { keys: (uids_key, gids_key), socket, uids, gids } = *allowed;
    // Where its directory is missing, that is said elsewhere.
    let Some(way) = way_to(socket) else { return Vec::new() };
    let mut said = Vec::new();
    // Nothing keeps root out.
    for uid in uids.iter().copied().filter(|uid| *uid != 0) {
        let who = SystemUser::look_up(uid);
        said.extend(way.iter().find_map(|place| place.keeps_out(&who)).map(|why| {
            let who = user::described(uid, who.name.as_deref());
            format!("{uids_key}: {who} cannot connect to {}: {why}", socket.display())
        }));
    }
    let Some(Place { gid: of_socket, .. }) = way.last() else { return said };
    for gid in gids.iter().filter(|gid| *gid != of_socket) {
        let (group, of_socket) = (named(*gid), named(*of_socket));
        let directory = directory_of(socket).display();
        said.push(format!(
            "{gids_key}: users whose primary group is {group} cannot connect to {}, which \
             has the group {of_socket}, unless they are in that group too; give its directory their \
             group: chgrp {gid} {directory} && chmod g+xs {directory}",
            socket.display()
        ));
    }
    said
}

/// Every directory from the root on, and the socket last. None: there is no such directory.
fn way_to(socket: &Path) -> Option<Vec<Place>> {
    let parent = fs::canonicalize(directory_of(socket)).ok()?;
    let mut directories: Vec<_> = parent.ancestors().map(Path::to_owned).collect();
    directories.reverse();
    let mut way = Vec::new();
    for path in directories {
        let found = fs::metadata(&path).ok()?;
        way.push(Place::of(path, &found, ENTER));
    }
    let served = fs::symlink_metadata(socket).ok().filter(|found| found.file_type().is_socket());
    let socket = match served {
        Some(found) => Place::of(socket.to_owned(), &found, WRITE),
        None => way.last()?.to_be(socket),
    };
    way.push(socket);
    Some(way)
}

fn directory_of(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Place {
    fn of(path: PathBuf, found: &Metadata, needed: u32) -> Self {
        Self { path, uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777, needed }
    }

    /// A socket that is not bound yet, in this directory. root checks for others: a daemon's
    /// directory is its user's, and of its group.
    fn to_be(&self, socket: &Path) -> Self {
        let (uid, gid) = if geteuid().is_root() && self.uid != 0 {
            (self.uid, self.gid)
        } else {
            (geteuid().as_raw(), getegid().as_raw())
        };
        let gid = if self.mode & SETGID == 0 { gid } else { self.gid };
        Self { path: socket.to_owned(), uid, gid, mode: SOCKET_MODE, needed: WRITE }
    }

    /// Why, and what to do about it.
    fn keeps_out(&self, who: &SystemUser) -> Option<String> {
        let Self { uid, gid, mode, needed, .. } = *self;
        let shift = match () {
            () if uid == who.uid => 6,
            () if who.gids.contains(&gid) => 3,
            () => 0,
        };
        if (mode >> shift) & needed != 0 {
            return None;
        }
        let (path, group) = (self.path.display(), named(gid));
        let owner = user::named(uid);
        let what = if needed == ENTER { "it may not enter" } else { "it may not use" };
        let why = format!("{what} {path} (owner {owner}, group {group}, mode {mode:04o})");
        let letter = if needed == ENTER { 'x' } else { 'w' };
        let name_of_group = name_of(gid).unwrap_or_else(|| gid.to_string());
        Some(match (shift, &who.name) {
            (6, _) => format!("{why}; chmod u+{letter} {path}"),
            (3, _) => format!("{why}; chmod g+{letter} {path}"),
            (_, _) if (mode >> 3) & needed == 0 => format!("{why}; chmod o+{letter} {path}"),
            (_, Some(name)) => format!(
                "{why}, and is not in that group; add it: usermod -aG {name_of_group} {name} (for a \
                 service: SupplementaryGroups={name_of_group})"
            ),
            (_, None) => format!(
                "{why}, and this machine does not know that user; correct the number, or give its \
                 container the group: --group-add {gid}"
            ),
        })
    }
}

impl SystemUser {
    /// By whatever this machine looks users up in, and by what runs as that user: a service has groups
    /// that stand in its unit alone.
    fn look_up(uid: u32) -> Self {
        let mut gids = groups_of_processes(Path::new("/proc"), uid);
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        if let Some(user) = &user {
            gids.insert(user.gid.as_raw());
            let groups = CString::new(user.name.as_str())
                .ok()
                .and_then(|name| getgrouplist(&name, user.gid).ok());
            gids.extend(groups.unwrap_or_default().into_iter().map(Gid::as_raw));
        }
        Self { uid, name: user.map(|user| user.name), gids }
    }
}

/// The groups of every process that runs as that user, as far as it can be seen.
fn groups_of_processes(proc: &Path, uid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let statuses = entries.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    statuses.filter_map(|status| groups_in(&status, uid)).flatten().collect()
}

/// Of `/proc/PID/status`; None: another user's. The second number of a line is the effective one.
fn groups_in(status: &str, uid: u32) -> Option<Vec<u32>> {
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    if numbers("Uid:").get(1) != Some(&uid) {
        return None;
    }
    let mut groups = numbers("Groups:");
    groups.extend(numbers("Gid:").get(1));
    Some(groups)
}

/// `998 (signing-proxy)`.
fn named(gid: u32) -> String {
    format!("{gid} ({})", name_of(gid).as_deref().unwrap_or("no name"))
}

fn name_of(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: u32, gids: &[u32]) -> SystemUser {
        SystemUser { uid, name: Some("alice".to_owned()), gids: gids.iter().copied().collect() }
    }

    #[test]
    fn the_owners_the_groups_or_the_others_bit_counts_and_no_other() {
        for (mode, needed, alice, expected) in [
            (0o660, WRITE, who(7, &[]), None),
            (0o660, WRITE, who(8, &[9]), None),
            (0o660, WRITE, who(8, &[1]), Some("usermod -aG 4000000009 alice")),
            (0o060, WRITE, who(7, &[9]), Some("chmod u+w")),
            (0o606, WRITE, who(8, &[9]), Some("chmod g+w")),
            (0o606, WRITE, who(8, &[]), None),
            (0o700, ENTER, who(8, &[9]), Some("chmod g+x")),
            (0o700, ENTER, who(8, &[]), Some("chmod o+x")),
            (0o750, ENTER, who(8, &[]), Some("usermod -aG 4000000009 alice")),
            (0o755, ENTER, who(8, &[]), None),
        ] {
            let gids = alice.gids.iter().map(|gid| if *gid == 9 { 4_000_000_009 } else { *gid });
            let alice = SystemUser { gids: gids.collect(), ..alice };
            let path = PathBuf::from("/a");
            let place = Place { path, uid: 7, gid: 4_000_000_009, mode, needed };
            let said = place.keeps_out(&alice);
            assert_eq!(said.is_some(), expected.is_some(), "{mode:o} {alice:?}: {said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{mode:o}");
        }
    }

    #[test]
    fn a_processes_groups_are_its_effective_ones() {
        let status = "Name:\tx\nUid:\t1\t2\t1\t1\nGid:\t3\t4\t3\t3\nGroups:\t5 6 \nNgid:\t0\n";
        assert_eq!(groups_in(status, 2), Some(vec![5, 6, 4]));
        assert_eq!(groups_in(status, 1), None);
        assert_eq!(groups_in("", 1), None);
    }

    #[test]
    fn this_process_is_seen() {
        let groups = groups_of_processes(Path::new("/proc"), geteuid().as_raw());
        assert!(groups.contains(&getegid().as_raw()));
    }
}
