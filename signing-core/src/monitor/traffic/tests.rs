//! What is reported arrives whole, once, whoever else reports.

use super::*;

const THREADS: u32 = 8;
const CALLS: u32 = 20_000;

fn kid() -> Kid {
    Kid::parse("ledger").unwrap()
}

fn traffic() -> Traffic {
    Traffic::new([Watched::from(kid())].into_iter(), Duration::from_millis(100))
}

fn at(ms: u64) -> Moment {
    Moment::default().after(Duration::from_millis(ms))
}

fn failed(fault: Fault) -> Evidence {
    Evidence::Failed { fault, detail: "detail".into() }
}

impl Traffic {
    /// A call that began at `started` and was known at `known`, in milliseconds.
    fn tell(&self, started: u64, known: u64, evidence: Evidence) {
        let _ = self.urgency(started, known, evidence);
    }

    fn urgency(&self, started: u64, known: u64, evidence: Evidence) -> Urgency {
        let took = Duration::from_millis(known - started);
        self.report(&kid(), 0, (at(started), took), at(known), evidence)
    }

    fn folded(&self, now: u64) -> Folded {
        self.take(at(now)).pop().unwrap()
    }
}

/// Faults that are told, with how many calls each stands for.
fn told(folded: &Folded) -> Vec<(Fault, u32)> {
    let fault = |observation: &Observation| match observation.evidence {
        Evidence::Failed { fault, .. } => Some((fault, observation.count)),
        Evidence::Signed | Evidence::Doubt { .. } => None,
    };
    folded.observations.iter().filter_map(fault).collect()
}

#[test]
fn failures_in_a_row_are_one_observation_with_their_number_and_told_once() {
    let traffic = traffic();
    traffic.tell(10, 20, failed(Fault::Unavailable));
    traffic.tell(12, 30, failed(Fault::Unavailable));
    traffic.tell(11, 25, failed(Fault::Throttled));
    let folded = traffic.folded(40);
    assert_eq!(told(&folded), [(Fault::Unavailable, 2), (Fault::Throttled, 1)]);
    assert_eq!(folded.observations[0].started, at(12));
    assert!(folded.observations.iter().all(|observation| observation.at == at(40)));
    assert_eq!((folded.tally.failed, folded.tally.newest_fault), (3, Some(Fault::Throttled)));
    let empty = traffic.folded(50);
    assert!(empty.observations.is_empty() && empty.tally == Tally::default());
}

#[test]
fn a_success_ends_the_row_only_of_failures_that_were_known_when_it_began() {
    for (began, left) in [(19, vec![(Fault::Unavailable, 1)]), (20, vec![]), (21, vec![])] {
        let traffic = traffic();
        traffic.tell(10, 20, failed(Fault::Unavailable));
        traffic.tell(began, 30, Evidence::Signed);
        let folded = traffic.folded(40);
        assert_eq!(told(&folded), left, "began at {began}");
        // The row is over; that a call failed is not forgotten.
        assert_eq!((folded.tally.failed, folded.tally.signed), (1, 1));
    }
}

#[test]
fn successes_come_first_so_that_a_failure_told_with_them_weighs_in_full() {
    let traffic = traffic();
    traffic.tell(10, 20, Evidence::Signed);
    traffic.tell(10, 30, failed(Fault::Indeterminate));
    traffic.tell(15, 31, Evidence::Signed);
    let folded = traffic.folded(40);
    let first = folded.observations.first().unwrap();
    assert_eq!((&first.evidence, first.started), (&Evidence::Signed, at(15)));
    assert_eq!(told(&folded), [(Fault::Indeterminate, 1)]);
}

#[test]
fn i10_a_key_that_can_not_be_used_and_doubt_are_told_whatever_succeeds_after() {
    let traffic = traffic();
    traffic.tell(10, 20, failed(Fault::KeyUnavailable));
    traffic.tell(10, 20, Evidence::Doubt { detail: "first".into() });
    traffic.tell(10, 21, Evidence::Doubt { detail: "second".into() });
    for began in 30..40 {
        traffic.tell(began, 50, Evidence::Signed);
    }
    let folded = traffic.folded(60);
    assert_eq!(told(&folded), [(Fault::KeyUnavailable, 1)]);
    let doubt = folded.observations.last().unwrap();
    assert_eq!(doubt.evidence, Evidence::Doubt { detail: "first".into() });
}

#[test]
fn what_is_rejected_of_callers_is_no_call_that_failed() {
    let traffic = traffic();
    traffic.tell(10, 20, failed(Fault::Rejected));
    assert_eq!(traffic.folded(30).tally, Tally::default());
}

#[test]
fn what_was_never_asked_is_told_to_nobody() {
    let traffic = traffic();
    traffic.tell(10, 20, failed(Fault::Unavailable));
    traffic.tell(10, 21, failed(Fault::Overloaded));
    let folded = traffic.folded(30);
    assert_eq!(told(&folded), [(Fault::Unavailable, 1)]);
    assert_eq!(folded.tally.failed, 1);
}

#[test]
fn slow_calls_are_counted_by_the_limit_in_force() {
    let traffic = traffic();
    traffic.tell(0, 100, Evidence::Signed);
    traffic.tell(0, 101, Evidence::Signed);
    assert_eq!(traffic.folded(200).tally.slow, 1);
    traffic.set_slow_call(Duration::from_millis(200));
    traffic.tell(0, 101, Evidence::Signed);
    assert_eq!(traffic.folded(200).tally, Tally { signed: 1, ..Tally::default() });
}

#[test]
fn a_clock_that_can_not_be_read_proves_nothing_and_strangers_are_nobody() {
    let traffic = traffic();
    let took = Duration::ZERO;
    let stranger = Kid::parse("stranger").unwrap();
    let told = [
        traffic.report(&kid(), 0, (Moment::END, took), Moment::END, Evidence::Signed),
        traffic.report(&kid(), 1, (at(1), took), at(1), failed(Fault::Unavailable)),
        traffic.report(&stranger, 0, (at(1), took), at(1), failed(Fault::Unavailable)),
    ];
    assert_eq!(told, [Urgency::NextFold; 3]);
    let folded = traffic.folded(10);
    assert!(folded.observations.is_empty() && folded.tally == Tally::default());
    assert_eq!(traffic.newest_success(&kid(), 0), None);
}

/// Threads report, another one takes; not one call is counted twice or lost, and no failure
/// that no success could have outweighed goes untold.
#[test]
fn i8_counts_are_exact_however_many_threads_report() {
    let traffic = traffic();
    let taken = Mutex::new((Tally::default(), 0_u32, 0_u32));
    let take = || {
        let folded = traffic.folded(1_000_000);
        let mut taken = taken.lock().unwrap();
        taken.0 = taken.0.and(folded.tally);
        for (fault, count) in told(&folded) {
            match fault {
                Fault::KeyUnavailable => taken.1 += count,
                Fault::Throttled => taken.2 += count,
                Fault::Rejected | Fault::Unavailable | Fault::Indeterminate | Fault::Overloaded => {
                    panic!("{fault:?}")
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let reporters: Vec<_> = (0..THREADS)
            .map(|thread| {
                let traffic = &traffic;
                scope.spawn(move || {
                    for call in 0..CALLS {
                        match (thread + call) % 4 {
                            0 => traffic.tell(500, 500, failed(Fault::KeyUnavailable)),
                            1 => traffic.tell(500, 500, failed(Fault::Throttled)),
                            // Began before any failure was known.
                            2 => traffic.tell(499, 1_000, Evidence::Signed),
                            _ => traffic.tell(490, 500, Evidence::Signed),
                        }
                    }
                })
            })
            .collect();
        while reporters.iter().any(|reporter| !reporter.is_finished()) {
            take();
        }
    });
    take();
    let (tally, key_unavailable, throttled) = *taken.lock().unwrap();
    let quarter = THREADS * CALLS / 4;
    assert_eq!((tally.failed, tally.signed, tally.slow), (2 * quarter, 2 * quarter, quarter));
    assert_eq!((key_unavailable, throttled), (quarter, quarter));
}

#[test]
fn failures_and_doubt_are_folded_in_at_once_and_successes_wait() {
    let traffic = traffic();
    let urgency = |evidence| traffic.urgency(10, 20, evidence);
    assert_eq!(urgency(Evidence::Signed), Urgency::NextFold);
    assert_eq!(urgency(Evidence::Doubt { detail: "detail".into() }), Urgency::AtOnce);
    for fault in [Fault::Unavailable, Fault::Indeterminate, Fault::Throttled, Fault::Rejected] {
        assert_eq!(urgency(failed(fault)), Urgency::AtOnce, "{fault:?}");
        assert_eq!(urgency(failed(fault)), Urgency::AtOnce, "{fault:?} again");
    }
}

#[test]
fn upstreams_that_stay_keep_what_was_reported_and_others_begin_with_nothing() {
    let before = traffic();
    before.tell(1, 2, Evidence::Signed);
    let same = before.succeeded_by([Watched::from(kid())].into_iter());
    // Whoever holds the old one still is heard.
    before.tell(3, 4, Evidence::Signed);
    assert_eq!(same.newest_success(&kid(), 0), Some(at(3)));
    assert_eq!(same.folded(5).tally.signed, 2);
    let other = Watched { made_in: 2, ..Watched::from(kid()) };
    let other = same.succeeded_by([other].into_iter());
    before.tell(6, 7, Evidence::Signed);
    assert_eq!(other.newest_success(&kid(), 0), None);
    assert!(other.succeeded_by(std::iter::empty()).take(at(8)).is_empty());
}
