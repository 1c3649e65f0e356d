//! Who is at the other end of the admin socket: SO_PEERCRED (unix(7)).

use std::fmt;

use nix::unistd::{Uid, User};
use tokio::net::unix::UCred;

use crate::config;

/// A peer as the kernel names it, with its user name for the record.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
    user: Option<String>,
}

impl Peer {
    pub(super) fn new(credentials: &UCred) -> Self {
        let uid = credentials.uid();
        // The name only explains the number; a user without entry has none.
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        Self { uid, gid: credentials.gid(), user }
    }

    pub(super) fn may_use(&self, access: &config::Admin) -> bool {
        access.allowed_uids.contains(&self.uid) || access.allowed_gids.contains(&self.gid)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} ({})", self.uid, self.user.as_deref().unwrap_or("no name"))
    }
}
