//! Who is at the other end of the admin socket: SO_PEERCRED (unix(7)).

use std::time::Duration;

use host::user;
use tokio::net::unix::UCred;

use crate::config;

/// How long a user's name is looked up; a directory service may be down.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// Where seconds count: files answer at once, a directory service that is well nearly so.
const LOOKUP_SOON: Duration = Duration::from_millis(50);

/// A peer as the kernel names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
}

impl Peer {
    pub(super) fn new(credentials: &UCred) -> Self {
        Self { uid: credentials.uid(), gid: credentials.gid() }
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// By the peer's user and primary group: the kernel tells no others.
    pub(super) fn may_use(self, access: &config::Admin) -> bool {
        access.allowed_uids.contains(&self.uid) || access.allowed_gids.contains(&self.gid)
    }

    /// `uid 1000 (alice)`, for the record. The number counts, the name explains.
    pub(super) async fn name(self) -> String {
        self.name_within(LOOKUP_MAX).await
    }

    /// The same for what must not wait for a name, as a freeze.
    pub(super) async fn name_soon(self) -> String {
        self.name_within(LOOKUP_SOON).await
    }

    async fn name_within(self, most: Duration) -> String {
        let look_up = tokio::task::spawn_blocking(move || user::named(self.uid));
        match tokio::time::timeout(most, look_up).await {
            Ok(Ok(named)) => named,
            Ok(Err(_)) | Err(_) => user::nameless(self.uid),
        }
    }
}
