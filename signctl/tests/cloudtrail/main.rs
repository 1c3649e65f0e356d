//! KMS's own log against journals that are made up from a printed seed: each kind of finding, mixtures of them, and a
//! million calls within a bound of memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says its seed"
)]

mod world;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use serde_json::json;
use signctl::cloudtrail::call::Journal;
use signctl::cloudtrail::compare::{Compare, Known};
use signctl::cloudtrail::event;

use world::{Found, KEY, Random, Scenario, World};

/// `SEED=N` repeats a run.
fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SEED={seed}");
    seed
}

fn is_gap(scenario: Scenario) -> bool {
    use Scenario::{Bypass, Contradicted, CopiedAgent, ForgedAgent, Ghost, Unrecorded};
    [Bypass, Contradicted, CopiedAgent, ForgedAgent, Ghost, Unrecorded].contains(&scenario)
}

#[test]
fn each_kind_alone_is_found_as_what_it_is_and_only_gaps_are_not_good() {
    for scenario in Scenario::ALL {
        let mut world = World::new(7, 1, 1 << 20);
        // Our principal and our key are known by what is certainly ours.
        (0..3).for_each(|_| world.tell(Scenario::Plain));
        world.tell(scenario);
        (0..3).for_each(|_| world.tell(Scenario::Plain));
        let (report, expected, _) = world.finish();
        assert_eq!(Found::of(&report), expected, "{scenario:?}");
        assert_eq!(report.is_good(), !is_gap(scenario), "{scenario:?}: {:#?}", report.lines());
    }
}

#[test]
fn whatever_happens_together_all_of_it_is_found_and_nothing_is_invented() {
    let mut random = Random(seed());
    for run in 0..60 {
        let journals = 1 + u16::try_from(random.below(3)).unwrap();
        // Sometimes nothing fits into memory.
        let most_bytes = [0, 3_000, 1 << 20][usize::try_from(random.below(3)).unwrap()];
        let mut world = World::new(random.next(), journals, most_bytes);
        world.tell(Scenario::Plain);
        for _ in 0..random.below(150) {
            let scenario = Scenario::ALL[usize::try_from(random.below(18)).unwrap()];
            world.tell(scenario);
        }
        let (report, expected, told) = world.finish();
        assert_eq!(Found::of(&report), expected, "run {run}: {told:?}");
        let gaps = told.keys().any(|scenario| is_gap(*scenario));
        assert_eq!(report.is_good(), !gaps, "run {run}: {:#?}", report.lines());
    }
}

#[test]
fn what_is_missing_is_no_answer_and_what_others_chose_makes_no_line() {
    let compare = || Compare::new(&std::env::temp_dir(), 1 << 20);
    let journal = |first_seq, from, to, is_ended| Journal {
        log: "00".repeat(16),
        first_seq,
        from,
        to,
        is_ended,
    };
    let known = |journal| {
        let mut known = Known { journals: vec![journal], ..Known::default() };
        known.keys.give(Some(("k".to_owned(), "eu-1".to_owned())), KEY);
        known
    };
    let lacks = |known| compare().finish(known).unwrap().lacks();
    // A region in which the proxy has a key is needed, though it never signed there.
    assert!(lacks(known(journal(1, 0, 1000, true)))[0].contains("no log of KMS in eu-1"));
    assert!(
        lacks(Known { journals: vec![journal(1, 0, 9, true)], ..Known::default() })[0]
            .contains("no key")
    );
    for (journal, compared) in [
        (journal(1, 0, 1000, true), Some((0, 1000))),
        (journal(1, 0, 1000, false), Some((0, 940))),
        (journal(9, 0, 1000, true), Some((60, 1000))),
        (journal(9, 0, 100, false), None),
    ] {
        let report = compare().finish(known(journal)).unwrap();
        assert_eq!(report.compared.map(|span| (span.from, span.to)), compared);
        assert!(!report.is_good());
    }
    // What somebody asks for is there, or its journal had not begun yet.
    for (first_seq, wanted, uncovered) in
        [(1, (Some(-5), Some(1000)), 0), (1, (None, Some(1001)), 1), (9, (Some(-5), None), 1)]
    {
        let known = Known { wanted, ..known(journal(first_seq, 0, 1000, true)) };
        assert_eq!(compare().finish(known).unwrap().uncovered.len(), uncovered, "{wanted:?}");
    }
    // Replaced while it is compared, or before.
    for (since, missing) in [(0, 0), (500, 1)] {
        let replaced = vec![("old".to_owned(), since)];
        let known = Known { replaced, ..known(journal(1, 0, 1000, true)) };
        assert_eq!(compare().finish(known).unwrap().missing.len(), missing);
    }
    let mut hostile = compare();
    let record = json!({
        "eventTime": "1970-01-01T00:05:00Z", "awsRegion": "eu-1", "eventSource": "kms.amazonaws.com",
        "eventName": "Sign", "userAgent": "a\nnobody signed", "requestID": "r", "resources": [{"ARN": KEY}],
        "userIdentity": {"arn": "eve\nnobody signed"},
    });
    hostile.logged(&event::read(record.to_string().as_bytes()).unwrap()).unwrap();
    let report = hostile.finish(known(journal(1, 0, 1000, true))).unwrap();
    let lines = report.lines();
    assert_eq!(report.bypass.count, 1, "{lines:#?}");
    assert!(
        lines.iter().all(|line| !line.contains('\n') && !line.starts_with("nobody")),
        "{lines:#?}"
    );
}

#[test]
fn i8_a_million_calls_with_a_thousand_of_each_planted_take_bounded_memory() {
    // A campaign takes all of it, and any other run a tenth, with a tenth of the memory to sort in.
    let is_campaign = std::env::var("CAMPAIGN").is_ok_and(|campaign| campaign == "1");
    let part = if is_campaign { 1 } else { 10 };
    let (calls, each, most_bytes) = (1_000_000 / part, 1_000 / part, (32 << 20) / part);
    let planted = BTreeMap::from([
        (Scenario::Bypass, each),
        (Scenario::CopiedAgent, each),
        (Scenario::ForgedAgent, each),
        (Scenario::Ghost, each),
        (Scenario::Retried, each),
        (Scenario::TimedOutSigned, each),
        (Scenario::TimedOutUnsigned, each),
        (Scenario::Contradicted, each),
        (Scenario::Twice, each),
        (Scenario::StrangerDenied, each),
    ]);
    let began = Instant::now();
    let mut world = World::new(seed(), 3, usize::try_from(most_bytes).unwrap());
    world.tell(Scenario::Plain);
    let every = calls / planted.values().sum::<u64>();
    let mut left: Vec<Scenario> =
        planted.iter().flat_map(|(scenario, count)| (0..*count).map(|_| *scenario)).collect();
    for call in 0..calls {
        if call % every == 0 && !left.is_empty() {
            let at = usize::try_from(world.random.below(left.len() as u64)).unwrap();
            let scenario = left.swap_remove(at);
            world.tell(scenario);
        } else {
            world.tell(if call % 50 == 0 { Scenario::Canary } else { Scenario::Plain });
        }
    }
    let (report, expected, told) = world.finish();
    println!("{} s, VmHWM {} MiB, {} events", began.elapsed().as_secs(), peak_mib(), report.events);
    for (scenario, count) in &planted {
        assert_eq!(told.get(scenario), Some(count), "{scenario:?}");
    }
    assert_eq!(u64::try_from(expected.bypass.len()).unwrap(), 3 * each);
    assert!(Found::of(&report) == expected, "{:#?}", report.lines());
    assert!(peak_mib() < 128, "{} MiB", peak_mib());
}

/// The most memory that this process ever had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
