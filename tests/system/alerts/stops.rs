//! An operator's freeze, and a journal that is full, slow or in doubt.

use std::time::Duration;

use system_tests::{Happens, Kind, Prometheus, ProxyBuilder, Strace, When, World};

use crate::ALICE;
use crate::journal_faults::disks::{Disk, image};

pub(super) async fn fire(prometheus: &Prometheus) {
    tokio::join!(freeze(prometheus), full(prometheus), slow(prometheus), failing(prometheus));
}

fn builder(world: &World) -> ProxyBuilder<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(ALICE, &["ec"])
}

async fn freeze(prometheus: &Prometheus) {
    let world = World::new();
    let mut proxy = builder(&world).start().await;
    prometheus.scrape("frozen", &proxy.metrics).await;
    let (code, said, _) = proxy.signctl(&["freeze", "--reason", "INC-42: KMS outage"]);
    assert_eq!(code, 0, "{said}");
    prometheus.fires("SigningFrozen", "frozen").await;
    proxy.process.signal(nix::sys::signal::Signal::SIGKILL);
    proxy.process.ended().await;
    prometheus.fires("SigningProxyDown", "frozen").await;
}

async fn full(prometheus: &Prometheus) {
    let world = World::new();
    let file = world.scratch.path("disk.img");
    image(&file, 12);
    let _disk = Disk::mount(&file, &world.scratch.path("disk"));
    let proxy = builder(&world).segment_bytes(1 << 20).journal_in("../disk/journal");
    let proxy = proxy.start().await;
    prometheus.scrape("full", &proxy.metrics).await;
    let alice = proxy.http2_client(ALICE).await;
    let sign = async |count: usize| {
        let ask = |_| {
            let alice = alice.clone();
            async move { alice.sign_message("ec", b"hi").await }
        };
        let mut all: tokio::task::JoinSet<_> = (0..count).map(ask).collect();
        while all.join_next().await.is_some() {}
    };
    // It takes ten seconds until a rate is known.
    prometheus.fires_while("JournalFillsSoon", "full", async || sign(16).await).await;
    prometheus.fires_while("JournalFull", "full", async || sign(200).await).await;
    drop(proxy);
}

/// A proxy whose every `fdatasync` of the journal from the 40th on has that.
async fn traced<'w>(world: &'w World, happens: Happens) -> system_tests::Proxy<'w> {
    let builder = builder(world);
    drop(builder.command());
    let trace = world.scratch.path("trace");
    let strace = Strace::inject("fdatasync", happens, When::From(40), &trace);
    let segments = system_tests::journal::segments(&builder.journal());
    let strace = segments.iter().fold(strace, |strace, path| strace.on(path));
    builder.try_start(Some(&strace)).await.unwrap()
}

async fn slow(prometheus: &Prometheus) {
    let world = World::new();
    let proxy = traced(&world, Happens::Delays(Duration::from_millis(400))).await;
    prometheus.scrape("slow-disk", &proxy.metrics).await;
    let alice = proxy.client(ALICE).await;
    prometheus
        .fires_while("JournalSlow", "slow-disk", async || {
            alice.sign_message("ec", b"hi").await;
        })
        .await;
}

async fn failing(prometheus: &Prometheus) {
    let world = World::new();
    let proxy = traced(&world, Happens::Fails("EIO")).await;
    prometheus.scrape("failing-disk", &proxy.metrics).await;
    let alice = proxy.client(ALICE).await;
    prometheus
        .fires_while("JournalSealed", "failing-disk", async || {
            alice.sign_message("ec", b"hi").await;
        })
        .await;
}
