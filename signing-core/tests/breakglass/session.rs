//! A session against an oracle that knows nothing of how it works: whatever is asked, when, and
//! however the clocks go, it signs only in scope, never more than its quota or rate,
//! never after its end, and ends once. A crash forgets the session and nothing else.

use std::time::Duration;

use proptest::prelude::*;
use signing_core::breakglass::{Ask, Clause, End, NoPermit, Request, Session};
use signing_core::request::Input;
use signing_core::{Algorithm, Caller, Kid, Moment, ToBeSigned};
use time::OffsetDateTime;

use crate::world::{CAPS, NOW, World};

const BOOT: u64 = 5_000;

fn moment(nanos: u64) -> Moment {
    Moment::from_nanos(BOOT * 1_000_000_000 + nanos)
}

fn wall(nanos: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + time::Duration::nanoseconds(nanos)
}

fn begin(world: &World) -> Session {
    Session::begin(world.decide().unwrap(), &CAPS, moment(0), wall(0))
}

fn ask(session: &Session) -> Ask {
    let message = Input::Message(b"pay".to_vec());
    Ask {
        session: session.id().to_owned(),
        caller: Caller::parse("spiffe://t/a").unwrap(),
        replaces: Kid::parse("payments").unwrap(),
        input: ToBeSigned::prepare(&message, Algorithm::Ed25519Sha512).unwrap(),
    }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn i12_a_session_ends_by_whichever_clock_comes_first() {
    let second = i64::try_from(SECOND).unwrap();
    for (nanos, calendar, over) in [
        (3599 * SECOND, 3599 * second, false),
        // Somebody set the calendar back: the other clock counts on.
        (3600 * SECOND, 10 * second, true),
        // The machine was asleep, or the calendar was set ahead.
        (10 * SECOND, 3600 * second, true),
    ] {
        let mut session = begin(&World::new());
        let asked = ask(&session);
        let permit = session.permit(asked, moment(nanos), wall(calendar));
        assert_eq!(permit.is_err(), over, "{permit:?}");
        assert_eq!(session.end_if_due(moment(nanos), wall(calendar)), over.then_some(End::Expired));
        // And what is over stays over, whatever the clocks say then.
        let asked = ask(&session);
        assert_eq!(session.permit(asked, moment(1), wall(1)).is_err(), over);
    }
}

#[test]
fn i12_a_calendar_that_was_set_back_before_makes_no_session_longer_than_the_cap() {
    let world = World::new();
    let session =
        Session::begin(world.decide().unwrap(), &CAPS, moment(0), wall(-1_000_000 * 1_000_000_000));
    assert!(session.lasts(moment(0)) <= CAPS.session_max);
}

#[test]
fn i12_the_first_end_stays() {
    let mut session = begin(&World::new());
    for end in End::ALL.iter().copied() {
        assert_eq!(session.end(end), End::Expired);
    }
}

#[test]
fn i12_what_the_approvers_did_not_name_is_out_of_scope() {
    let mut session = begin(&World::new());
    let mut other = ask(&session);
    other.caller = Caller::parse("spiffe://t/b").unwrap();
    let refused = session.permit(other, moment(0), wall(0)).unwrap_err();
    assert!(
        matches!(refused, NoPermit::Caller { .. }) && refused.to_string().contains("spiffe://t/a")
    );
    let mut other = ask(&session);
    other.replaces = Kid::parse("ledger").unwrap();
    assert!(matches!(session.permit(other, moment(0), wall(0)), Err(NoPermit::Signer { .. })));
    let mut other = ask(&session);
    other.session = "INC-7-00000000".to_owned();
    assert!(matches!(session.permit(other, moment(0), wall(0)), Err(NoPermit::Other { .. })));
    assert_eq!(session.remaining(), 900, "a refusal costs nothing");
}

#[derive(Clone, Debug)]
enum Step {
    Sign {
        caller: bool,
        signer: bool,
        named: bool,
    },
    Wait(u64),
    SetCalendar(i64),
    End,
    /// The process dies; somebody activates the same request again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let often = prop::bool::weighted(0.95);
    prop_oneof![
        20 => (often, often, often)
            .prop_map(|(caller, signer, named)| Step::Sign { caller, signer, named }),
        4 => (0_u64..40_000_000).prop_map(Step::Wait),
        1 => (0_u64..2_000 * SECOND).prop_map(Step::Wait),
        1 => (-4_000_000_000_000_i64..4_000_000_000_000).prop_map(Step::SetCalendar),
        1 => Just(Step::End),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn i12_no_history_signs_more_or_longer_than_was_approved(
        steps in prop::collection::vec(step(), 1..120), quota in 1_u64..60,
    ) {
        let mut world = World::new();
        world.draft.max_signatures = quota;
        let mut session = Some(begin(&world));
        world.used.insert(Request::parse(&world.document()).unwrap().nonce());
        // The oracle: what was approved, in numbers.
        let (mut boot, mut offset) = (0_u64, 0_i64);
        let (mut over, mut signed) = (false, Vec::<u64>::new());
        for step in steps {
            match step {
                Step::Wait(nanos) => boot += nanos,
                Step::SetCalendar(to) => offset = to,
                Step::End => {
                    over = true;
                    if let Some(session) = &mut session {
                        session.end(End::Operator);
                    }
                }
                Step::Crash => {
                    over = true;
                    session = None;
                    // The nonce is on disk since the activation.
                    let again = world.decide();
                    prop_assert_eq!(again.unwrap_err().clause, Clause::NonceUsed);
                }
                Step::Sign { caller, signer, named } => {
                    let Some(session) = &mut session else { continue };
                    let calendar = i64::try_from(boot).unwrap() + offset;
                    over |= boot >= 3600 * SECOND || calendar >= 3600 * 1_000_000_000;
                    let mut asked = ask(session);
                    if !caller { asked.caller = Caller::parse("x.test").unwrap(); }
                    if !signer { asked.replaces = Kid::parse("ledger").unwrap(); }
                    if !named { asked.session.push('x'); }
                    let permit = session.permit(asked, moment(boot), wall(calendar));
                    let in_scope = caller && signer && named;
                    if let Ok(permit) = permit {
                        prop_assert!(in_scope && !over, "signed out of scope or after the end");
                        signed.push(boot);
                        prop_assert_eq!(permit.remaining(), quota - signed.len() as u64);
                        // In no second more than may be, wherever it begins.
                        let lately = signed.iter().filter(|at| **at + SECOND > boot).count();
                        prop_assert!(lately <= CAPS.signatures_per_second_max as usize, "{lately} in a second");
                    } else if in_scope && !over && (signed.len() as u64) < quota {
                        prop_assert!(matches!(permit, Err(NoPermit::Rate { .. })), "{:?}", permit);
                    }
                    over |= signed.len() as u64 == quota;
                }
            }
            prop_assert!(signed.len() as u64 <= quota);
        }
        let lasts = session.map_or(Duration::ZERO, |session| session.lasts(moment(0)));
        prop_assert!(lasts <= Duration::from_secs(3600), "never longer than approved");
    }
}
