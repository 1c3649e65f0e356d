//! Disks of their own: one that is full, and one that has real errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use system_tests::programs::system;
use system_tests::{Exchange, Process, Proxy, Scratch, Tail, eventually, is_campaign};

use super::{Site, signed_or_unavailable, unseal};

/// A file system in a file; unmounted on drop.
pub(crate) struct Disk {
    mounted: PathBuf,
}

impl Disk {
    pub(crate) fn mount(image: &Path, mounted: &Path) -> Self {
        fs::create_dir_all(mounted).unwrap();
        done(system("mount").args(["-o", "loop"]).args([image, mounted]));
        Self { mounted: mounted.to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

/// Runs it; it has to succeed.
fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} needs a machine that lets root mount: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An image with an empty ext4, of so many MiB.
pub(crate) fn image(path: &Path, mib: u64) {
    image_with(path, mib, "extent");
}

/// One with that feature, or with `^` in front without it.
fn image_with(path: &Path, mib: u64, feature: &str) {
    fs::File::create(path).unwrap().set_len(mib << 20).unwrap();
    done(system("mkfs.ext4").args(["-q", "-m", "0", "-E", "nodiscard", "-O", feature]).arg(path));
}

/// As ext3 has none, and NFS before version 4.2, and much of FUSE.
#[test]
fn a_file_system_that_cannot_set_space_aside_is_named_by_both_daemons() {
    let site = Site::new();
    let scratch = &site.world.scratch;
    let file = scratch.path("disk.img");
    image_with(&file, 32, "^extent,^64bit");
    let _disk = Disk::mount(&file, &scratch.path("disk"));
    let proxy = site.proxy().journal_in("../disk/journal");
    let signer = site.world.signer().replaces("ed", &site.ed25519).directory("disk/signer");
    for (mut init, journal) in [
        (proxy.verb("init", &proxy.write()), "disk/journal"),
        (signer.verb("init", &signer.write()), "disk/signer/journal"),
    ] {
        let output = init.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        for words in [
            journal,
            "this file system (ext2, ext3 or ext4) cannot set space aside",
            "fallocate: Operation not supported",
            "put the journal on one that can, such as ext4 with extents, XFS or btrfs",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        // The next attempt finds nothing in its way.
        let left = fs::read_dir(scratch.path(journal)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{journal}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_says_its_stop_and_goes_on_when_there_is_space() {
    let site = Site::new();
    let scratch = &site.world.scratch;
    let file = scratch.path("disk.img");
    image(&file, 8);
    let disk = Disk::mount(&file, &scratch.path("disk"));
    let proxy = site.proxy().journal_in("../disk/journal");
    drop(proxy.command());
    // What others have on the disk: all but the next segment's space.
    let ballast = disk.mounted.join("ballast");
    let free = audit::file_system_free(&disk.mounted).unwrap();
    let other = fs::File::create(&ballast).unwrap();
    let others = i64::try_from(free.saturating_sub(3 << 19)).unwrap();
    nix::fcntl::fallocate(&other, nix::fcntl::FallocateFlags::empty(), 0, others).unwrap();
    // Its space is free only once nobody holds it.
    drop(other);

    let running = proxy.clone().start().await;
    let mut received = Vec::new();
    fill(&site, &running, &mut received).await;
    signed_or_unavailable(&received);
    running.unhealthy_for("audit_unavailable").await;
    assert_eq!(running.metric("audit_sealed").await, Some(0.0));
    says_that_it_is_full(&site, &running, &mut received).await;
    running.stop().await;
    let checked = site.check_in(&disk.mounted.join("journal"), &received, Tail::Whole);
    assert_eq!(checked["types"]["stop"], 1);

    // Space that was kept for outcomes under way is free again: a few more may fit.
    let running = proxy.try_start(None).await.unwrap();
    fill(&site, &running, &mut received).await;
    running.unhealthy_for("audit_unavailable").await;
    fs::remove_file(&ballast).unwrap();
    running.healthy().await;
    received.extend(site.load(&running).await);
    assert!(received.last().unwrap().seq().is_some());
    running.stop().await;
    site.check_in(&disk.mounted.join("journal"), &received, Tail::Whole);
}

/// Signs until the journal says that it is full.
async fn fill(site: &Site, running: &Proxy<'_>, received: &mut Vec<Exchange>) {
    // It is refused for a moment, too, while the next segment is prepared.
    let is_full = async || {
        let status = running.admin("GET", "/v1/status", json!(null)).await;
        let trouble = status.body["audit"]["trouble"].as_str().unwrap_or_default();
        trouble.contains("cannot be set aside")
    };
    while !is_full().await {
        received.extend(site.load(running).await);
        assert!(received.len() < 20_000, "it refuses without saying that it is full");
    }
}

/// Both gauges do. What outcomes under way gave back takes a few more signatures before.
async fn says_that_it_is_full(site: &Site, running: &Proxy<'_>, received: &mut Vec<Exchange>) {
    let mut is_full = false;
    while !is_full {
        received.extend(site.load(running).await);
        assert!(received.len() < 20_000, "it refuses without saying that it is full");
        is_full = true;
        for gauge in ["audit_journal_full_seconds", "audit_journal_free_bytes"] {
            is_full &= running.metric(gauge).await == Some(0.0);
        }
    }
}

/// A disk whose every write and sync fails while a file is there.
struct Failing {
    export: PathBuf,
    flag: PathBuf,
    _served: Process,
}

impl Failing {
    async fn new(scratch: &Scratch, mib: u64) -> Self {
        let (file, flag) = (scratch.path("disk.img"), scratch.path("errors"));
        let export = scratch.write("export", "");
        image(&file, mib);
        let mut nbd = system("nbdfuse");
        nbd.arg(&export).args(["--command", "nbdkit", "-s", "--filter=error", "file"]);
        nbd.arg(&file).args(["error=EIO", "error-rate=100%"]);
        nbd.arg(format!("error-file={}", flag.display()));
        let served = Process::start(nbd);
        eventually("the disk is there", || {
            let length = fs::metadata(&export).map_or(0, |export| export.len());
            std::future::ready((length > 0).then_some(()))
        })
        .await;
        Self { export, flag, _served: served }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // Ends what serves it, too.
        let _ = Command::new("umount").arg(&self.export).status();
    }
}

#[tokio::test]
async fn a_disk_with_real_errors_loses_nothing_that_was_received() {
    if !is_campaign() {
        return;
    }
    let site = Site::new();
    let failing = Failing::new(&site.world.scratch, 32).await;
    let mounted = site.world.scratch.path("disk");
    let disk = Disk::mount(&failing.export, &mounted);
    let running = site.proxy().journal_in("../disk/journal").start().await;
    let mut received = site.load(&running).await;
    fs::write(&failing.flag, "").unwrap();
    while received.iter().all(|exchange| exchange.seq().is_some()) {
        received.extend(site.load(&running).await);
    }
    signed_or_unavailable(&received);
    running.unhealthy_for("audit_unavailable").await;
    running.audit_seal_stored().await;
    drop(running);

    // Only what reached the disk is left.
    fs::remove_file(&failing.flag).unwrap();
    drop(disk);
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let disk = Disk::mount(&failing.export, &mounted);
    site.check_in(&mounted.join("journal"), &received, Tail::MayBeTorn);
    let running = site.proxy().journal_in("../disk/journal").start_shut().await;
    running.unhealthy_for("audit_unavailable").await;
    unseal(&running).await;
    received.extend(site.load(&running).await);
    assert!(received.last().unwrap().seq().is_some());
    running.stop().await;
    site.check_in(&mounted.join("journal"), &received, Tail::Whole);
    drop(disk);
}
