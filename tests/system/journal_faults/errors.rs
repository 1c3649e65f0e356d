//! The disk fails: at once nothing is signed any more, nothing was given out that is not
//! on disk, and an operator has to look before it goes on.

use std::time::{Duration, Instant};

use system_tests::{Chance, Exchange, Happens, Proxy, Strace, Tail, When, eventually, is_campaign};

use super::{RENAME, Site, signed_or_unavailable, unseal};

/// Calls on the journal's files and its directory that can fail, with about how many of each
/// there are.
const CALLS: [(&str, usize); 6] = [
    ("pwrite64", 24),
    ("fdatasync", 24),
    ("fsync", 5),
    (RENAME, 1),
    ("fallocate", 2),
    ("unlink", 1),
];

/// How long a disk hangs.
const HANGS_FOR: Duration = Duration::from_secs(6);

/// Lets the `number`th `call` on the journal fail; returns whether there was one.
async fn failed_at(call: &str, errno: &'static str, number: usize) -> bool {
    println!("{errno} at {call} {number}");
    let site = Site::new();
    site.fill_segment();
    let happens = Happens::Fails(errno);
    let strace =
        Strace::inject(call, happens, When::Only(number), &site.world.scratch.path("trace"));
    let strace = site.journal_paths().iter().fold(strace, |strace, path| strace.on(path));
    let mut received = Vec::new();
    match site.proxy().try_start(Some(&strace)).await {
        Err(said) => {
            assert_eq!(strace.injected(), 1, "{said}");
            let journal = site.journal();
            assert!(said.contains(journal.to_str().unwrap()), "it does not say where: {said}");
        }
        Ok(proxy) => {
            eventually("open or sealed", || async {
                let health = proxy.health().await;
                (health.status == 200 || health.body["reason"] == "audit_unavailable").then_some(())
            })
            .await;
            received = site.load(&proxy).await;
            signed_or_unavailable(&received);
            if seals(&strace.recorded()) {
                is_sealed(&site, &proxy).await;
                proxy.audit_seal_stored().await;
                drop(proxy);
                stays_sealed(&site, &mut received).await;
            } else {
                // Space is set aside ahead: failing once is nothing that a caller sees.
                assert!(received.iter().all(|exchange| exchange.seq().is_some()), "{received:?}");
                proxy.stop().await;
                if seals(&strace.recorded()) {
                    // It hit the stop.
                    stays_sealed(&site, &mut received).await;
                } else {
                    site.check(&received, Tail::Whole);
                }
            }
        }
    }
    site.signs_again(&mut received).await;
    strace.injected() > 0
}

/// Whether a call failed that brings records to the disk, as against preparing `next`.
fn seals(trace: &str) -> bool {
    let Some(failed) = trace.lines().find(|line| line.ends_with("(INJECTED)")) else {
        return false;
    };
    let is_record =
        ["pwrite64(", "fdatasync(", "renameat2("].iter().any(|call| failed.contains(call));
    is_record || (failed.contains("fsync(") && !failed.contains("/next>"))
}

/// It says everywhere that it is sealed, and signs nothing, at once.
async fn is_sealed(site: &Site, proxy: &Proxy<'_>) {
    proxy.unhealthy_for("audit_unavailable").await;
    proxy.audit_sealed().await;
    for exchange in site.load(proxy).await {
        assert!(
            matches!(&exchange, Exchange::Refused(503, why) if why == "audit_unavailable"),
            "{exchange:?}"
        );
    }
}

/// A restart does not end the seal, whatever the disk does now; an operator does.
async fn stays_sealed(site: &Site, received: &mut Vec<Exchange>) {
    site.check(received, Tail::MayBeTorn);
    let proxy = site.proxy().try_start(None).await.unwrap();
    is_sealed(site, &proxy).await;
    unseal(&proxy).await;
    site.signs_on(proxy, received).await;
}

#[tokio::test]
async fn a_call_that_fails_gives_out_nothing_that_is_not_on_disk() {
    let mut chance = Chance::of("errors");
    for (call, about) in CALLS {
        let errno = ["EIO", "ENOSPC"][chance.below(2)];
        if is_campaign() {
            for errno in ["EIO", "ENOSPC"] {
                let mut number = 1;
                while failed_at(call, errno, number).await {
                    number += 1;
                }
                println!("{call}: {} calls", number - 1);
            }
        } else {
            failed_at(call, errno, 1 + chance.below(about)).await;
        }
    }
}

#[tokio::test]
async fn an_error_at_a_call_that_is_not_made_leaves_all_well() {
    assert!(!failed_at("fdatasync", "EIO", 60_000).await);
}

#[tokio::test]
async fn a_disk_that_does_not_answer_holds_up_nobody_and_seals_nothing() {
    let site = Site::new();
    let hangs = Happens::Delays(HANGS_FOR);
    let strace =
        Strace::inject("fdatasync", hangs, When::Only(12), &site.world.scratch.path("trace"));
    let proxy = site.proxy().try_start(Some(&strace)).await.unwrap();
    proxy.healthy().await;
    let mut received = Vec::new();
    while received.iter().all(|exchange: &Exchange| exchange.seq().is_some()) {
        received.push(site.ask(&proxy).await);
    }
    println!("{:?}", received.last());
    proxy.unhealthy_for("audit_unavailable").await;
    let began = Instant::now();
    signed_or_unavailable(&[site.ask(&proxy).await]);
    assert!(began.elapsed() < HANGS_FOR, "a refusal waits for nothing");
    assert_eq!(proxy.metric("audit_sealed").await, Some(0.0));
    proxy.healthy().await;
    assert_eq!(strace.injected(), 1);
    site.signs_on(proxy, &mut received).await;
}

/// A call hangs while another segment begins, on that file or, for a directory's fsync, there.
async fn hangs_in_a_segments_change(call: &str) {
    let site = Site::new();
    site.fill_segment();
    let hangs = Happens::Delays(HANGS_FOR);
    let strace = Strace::inject(call, hangs, When::Only(1), &site.world.scratch.path("trace"));
    let place = if call == "fsync" { site.journal() } else { site.journal().join("next") };
    let strace = strace.on(&place);
    let proxy = site.proxy().try_start(Some(&strace)).await.unwrap();
    proxy.healthy().await;
    assert_eq!(strace.injected(), 0, "{}", strace.recorded());
    let mut received = Vec::new();
    let noticed = async {
        eventually("it is unavailable while the disk hangs", || async {
            let health = proxy.health().await;
            (health.body["reason"] == "audit_unavailable").then_some(())
        })
        .await;
        let began = Instant::now();
        let exchange = site.ask(&proxy).await;
        (exchange, began.elapsed())
    };
    // Those that wait when it hangs have to wait; it is those that come then that must not.
    let loads = async {
        let mut loads = Vec::new();
        while strace.recorded().is_empty() {
            loads.extend(site.load(&proxy).await);
        }
        loads
    };
    let ((refused, took), loads) = tokio::join!(noticed, loads);
    received.extend(loads);
    assert!(
        matches!(&refused, Exchange::Refused(503, why) if why == "audit_unavailable"),
        "{call}: {refused:?}"
    );
    assert!(took < Duration::from_secs(1), "{call}: a refusal waits for nothing: {took:?}");
    assert_eq!(proxy.metric("audit_sealed").await, Some(0.0));
    proxy.healthy().await;
    assert_eq!(strace.injected(), 1, "{}", strace.recorded());
    site.signs_on(proxy, &mut received).await;
}

#[tokio::test]
async fn a_write_of_a_new_segment_that_hangs_is_noticed() {
    hangs_in_a_segments_change("pwrite64").await;
}

#[tokio::test]
async fn a_sync_of_a_new_segment_that_hangs_is_noticed() {
    hangs_in_a_segments_change("fdatasync").await;
}

#[tokio::test]
async fn a_renaming_of_a_new_segment_that_hangs_is_noticed() {
    hangs_in_a_segments_change(RENAME).await;
}

#[tokio::test]
async fn a_sync_of_the_directory_that_hangs_is_noticed() {
    hangs_in_a_segments_change("fsync").await;
}
