//! The emergency signer as a process: real keys of approvers, real approvals by
//! `ssh-keygen -Y sign`, the real passphrase over the operator socket, and a client of its
//! socket that shares no code with it.

mod activation;
mod approvals;
mod approve;
mod arming;
mod configuration;
mod destruction;
mod faults;
mod hanging;
mod hostile;
mod kernel;
mod secrets;
mod session;
mod sha1;
mod state;

use system_tests::breakglass::SignerBuilder;
use system_tests::{Key, Kind, World};

/// The signing key that is out.
const KID: &str = "payments";

/// A world with one signing key.
struct Site {
    world: World,
    key: Key,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        Self { world, key }
    }

    fn signer(&self) -> SignerBuilder<'_> {
        self.world.signer().replaces(KID, &self.key)
    }
}
