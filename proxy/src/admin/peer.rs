//! Who is at the other end of the admin socket: SO_PEERCRED (unix(7)), and who logged in before
//! they became that user.

use std::time::Duration;

use host::user;
use signing_core::admin::Role;
use tokio::net::unix::UCred;

/// How long a user's name is looked up; a directory service may be down.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// Where seconds count: files answer at once, a directory service that is well nearly so.
const LOOKUP_SOON: Duration = Duration::from_millis(50);

/// A peer as the kernel names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
    /// Who logged in, if that is another user: sudo and su leave it as it is.
    login: Option<u32>,
}

impl Peer {
    pub(super) fn new(credentials: &UCred) -> Self {
        let uid = credentials.uid();
        let login = credentials.pid().and_then(user::login_of).filter(|login| *login != uid);
        Self { uid, gid: credentials.gid(), login }
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// By the peer's user and primary group: the kernel tells no others.
    pub(super) fn roles(self, access: &configuration::Admin) -> Vec<Role> {
        access.roles_of(self.uid, self.gid)
    }

    /// `uid 1000 (alice)`, or `uid 0 (root) for uid 1000 (alice)` behind sudo, for the record. The
    /// numbers count, the names explain. Who logged in is what the kernel keeps of the process that
    /// asks; it decides nothing.
    pub(super) async fn name(self) -> String {
        self.name_within(LOOKUP_MAX).await
    }

    /// The same for what must not wait for a name, as a freeze.
    pub(super) async fn name_soon(self) -> String {
        self.name_within(LOOKUP_SOON).await
    }

    async fn name_within(self, most: Duration) -> String {
        let described = move |named: fn(u32) -> String| match self.login {
            Some(login) => format!("{} for {}", named(self.uid), named(login)),
            None => named(self.uid),
        };
        let look_up = tokio::task::spawn_blocking(move || described(user::named));
        match tokio::time::timeout(most, look_up).await {
            Ok(Ok(named)) => named,
            Ok(Err(_)) | Err(_) => described(user::nameless),
        }
    }
}
