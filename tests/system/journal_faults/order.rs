//! The order of system calls: an answer with a signature goes to its socket after a sync
//! of its record succeeded.

use system_tests::journal::{load, records, segments};
use system_tests::trace::{CALLS, Place, Trace};
use system_tests::{Exchange, Strace, Tail};

use super::{KIDS, Site};
use crate::ALICE;

#[tokio::test]
async fn every_answer_with_a_signature_is_sent_after_its_record_was_synced() {
    let site = Site::new();
    let output = site.world.scratch.path("trace");
    let strace = Strace::record(&CALLS, &output);
    let proxy = site.proxy().try_start(Some(&strace)).await.unwrap();
    proxy.healthy().await;
    let (alice, bob, carol) =
        (proxy.client(ALICE).await, proxy.client(ALICE).await, proxy.client(ALICE).await);
    let ports = [alice.port, bob.port, carol.port];
    let (by_alice, by_bob, by_carol) = tokio::join!(
        load(&alice, KIDS, "alice", 12),
        load(&bob, KIDS, "bob", 12),
        load(&carol, KIDS, "carol", 12)
    );
    let listen_port = proxy.listen.rsplit_once(':').unwrap().1.parse().unwrap();
    proxy.stop().await;
    let received = [by_alice, by_bob, by_carol];
    site.check(&received.concat(), Tail::Whole);

    let places: Vec<(u64, Place)> =
        segments(&site.journal()).iter().flat_map(|segment| records(segment)).collect();
    let place = |exchange: &Exchange| {
        let seq = exchange.seq()?;
        places.iter().find(|(number, _)| *number == seq).map(|(_, place)| place.clone())
    };
    let check = |text: &str| -> Result<usize, String> {
        let trace = Trace::parse(text, listen_port);
        let checked = ports.iter().zip(&received).map(|(port, exchanges)| {
            let places: Vec<_> = exchanges.iter().map(place).collect();
            trace.follows_syncs(*port, &places)
        });
        checked.sum()
    };
    let text = strace.recorded();
    assert_eq!(check(&text), Ok(36));

    // The same trace without what the rule is about.
    let without = |call: &str| -> String {
        let kept = text.lines().filter(|line| !line.contains(call));
        kept.map(|line| format!("{line}\n")).collect()
    };
    assert!(check(&without("fdatasync")).unwrap_err().contains("are synced: written"));
    assert!(check(&without("pwrite64")).unwrap_err().contains("not even written"));
}
