//! The trail: real journals, a real PostgreSQL, and what auditors find there.

mod archive;
mod archive_faults;
mod changes;
mod config;
mod database_faults;
mod dev;
mod faults;
mod kills;
mod proves;
mod prunes;
mod required;
mod required_faults;
mod shared;
mod ships;
mod status;

use std::path::PathBuf;

use system_tests::breakglass::Signer;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Kind, Proxy, World};

use crate::ALICE;

/// The signer of these tests.
const KID: &str = "payments";

/// A world with one proxy that signs.
async fn proxy_in(world: &World) -> Proxy<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer(KID, &key).caller(ALICE, &[KID]).start().await
}

/// The proxy's journal.
fn journal_of(world: &World) -> PathBuf {
    world.scratch.path("proxy/journal")
}

/// A trail of the proxy's journal.
fn trail_of(world: &World, postgres: &Postgres) -> Trail {
    let registry = world.scratch.path("proxy/signers.json");
    Trail::new(&[("proxy", &journal_of(world))], &registry, postgres)
}

/// A trail of both journals.
fn trail_of_both(world: &World, signer: &Signer<'_>, postgres: &Postgres) -> Trail {
    let registry = world.scratch.path("proxy/signers.json");
    let (proxys, signers) = (journal_of(world), signer.builder.journal());
    Trail::new(&[("proxy", &proxys), ("signer", &signers)], &registry, postgres)
}

/// The newest record of a journal.
fn newest(journal: &std::path::Path) -> u64 {
    audit::walk::newest(journal).unwrap().size
}
