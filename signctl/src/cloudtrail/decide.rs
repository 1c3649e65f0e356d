//! The decisions, without IO: which call of a journal is which call in KMS's log, and what it means where one of the
//! two is missing. One call in a journal accounts for one call in the log at most: a `User-Agent` can be copied. The
//! leaves of a batch have a record each, and are one call.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, Claim, Loss};
use super::event::Event;
use super::keys::Keys;

/// KMS refuses a request whose time differs more from its own.
pub const SKEW_S: i64 = 300;
/// So close to the end of a journal, or to where its older records were moved away, a call may be recorded beyond it.
pub const EDGE_S: i64 = 60;

/// A stretch of time, in seconds since 1970. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first second.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl Span {
    /// Whether a moment belongs to it.
    #[must_use]
    pub const fn holds(self, at: i64) -> bool {
        self.from <= at && at <= self.to
    }
}

/// What was found of one call, or of several that may be one.
#[derive(Debug, Default)]
pub struct Paired {
    /// The same call in both, and whether KMS's name for it says so.
    pub pairs: Vec<(Call, Event, bool)>,
    /// Only in a journal.
    pub calls: Vec<Call>,
    /// Only in KMS's log.
    pub events: Vec<Event>,
    /// Records of a call that another record was of.
    pub duplicates: u64,
}

/// Finds which is which among those of one order, or of one `requestID`: by `requestID`, else by attempt, region, key
/// and time.
#[must_use]
pub fn pair(calls: Vec<Call>, events: Vec<Event>, keys: &Keys) -> Paired {
    let calls = one_each(calls);
    let mut paired = Paired::default();
    let mut rest: Vec<Event> = Vec::new();
    for event in events {
        match rest.iter_mut().find(|other| is_one(other, &event)) {
            // Another account's copy may lack what this one has. That KMS signed is never forgotten.
            Some(other) => {
                paired.duplicates += 1;
                if (event.error.is_none() && other.error.is_some()) || other.key.is_empty() {
                    *other = event;
                }
            }
            None => rest.push(event),
        }
    }
    let mut left = Vec::new();
    for call in calls {
        let named =
            |event: &Event| !call.request_id.is_empty() && event.request_id == call.request_id;
        match rest.iter().position(named) {
            Some(at) => paired.pairs.push((call, rest.remove(at), true)),
            None => left.push(call),
        }
    }
    for call in left {
        // Whoever has a name for it is found by that name alone.
        if !call.request_id.is_empty() {
            paired.calls.push(call);
            continue;
        }
        let mut found = 0;
        while let Some(at) = rest.iter().position(|event| fits(&call, event, keys)) {
            paired.pairs.push((call.clone(), rest.remove(at), false));
            found += 1;
            if call.attempt.number > 0 {
                break;
            }
        }
        if found == 0 {
            paired.calls.push(call);
        }
    }
    paired.events = rest;
    paired
}

/// One of each call: the leaves of a batch have a record each, and share the call. A leaf whose record knows no number
/// of the call, since the process was killed, is of the call that another leaf names.
fn one_each(calls: Vec<Call>) -> Vec<Call> {
    let mut each: Vec<Call> = Vec::new();
    let (numbered, open): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|call| call.attempt.number > 0);
    for call in numbered.into_iter().chain(open) {
        let is_same = |other: &&mut Call| {
            let whose = |it: &Call| (it.journal, it.attempt.order);
            whose(other) == whose(&call)
                && other.kid == call.kid
                && (call.attempt.number == 0 || other.attempt.number == call.attempt.number)
                && (call.request_id.is_empty() || other.request_id == call.request_id)
        };
        match each.iter_mut().find(is_same) {
            Some(other) => {
                (other.from, other.to) = (other.from.min(call.from), other.to.max(call.to));
                if rank(call.claim) < rank(other.claim) && call.attempt.number > 0 {
                    (other.claim, other.outcome) = (call.claim, call.outcome);
                }
            }
            None => each.push(call),
        }
    }
    each
}

/// What says most of a call comes first: one leaf that verified is enough.
const fn rank(claim: Claim) -> u8 {
    match claim {
        Claim::Signed => 0,
        Claim::Open => 1,
        Claim::NotSigned => 2,
    }
}

/// Whether two records are of one call.
fn is_one(one: &Event, other: &Event) -> bool {
    if one.request_id.is_empty() || other.request_id.is_empty() {
        return !one.event_id.is_empty() && one.event_id == other.event_id;
    }
    one.request_id == other.request_id
}

/// Whether a call without KMS's name for it is this one.
fn fits(call: &Call, event: &Event, keys: &Keys) -> bool {
    let is_attempt = event.attempt.is_some_and(|attempt| {
        attempt.order == call.attempt.order
            && (call.attempt.number == 0 || call.attempt.number == attempt.number)
    });
    let during =
        Span { from: call.from.saturating_sub(SKEW_S), to: call.to.saturating_add(SKEW_S) };
    let place = (call.kid.clone(), event.region.clone());
    is_attempt
        && (call.region == event.region || call.attempt.number == 0)
        && during.holds(event.at)
        && keys.may_be(&place, &event.key, &event.region)
}

/// What is known besides a call, once all that is certainly ours was found.
#[derive(Debug)]
pub struct Context {
    /// What the journals tell of.
    pub compared: Span,
    /// What the log tells of, by region: less the grace at both ends.
    pub logged: BTreeMap<String, Span>,
    /// Our keys.
    pub keys: Keys,
    /// Who made calls that are certainly ours.
    pub issuers: BTreeSet<String>,
    /// Where calls may have been made whose records are lost.
    pub losses: Vec<Loss>,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both say that KMS signed.
    Agreed,
    /// KMS refused it, or it was throttled.
    Refused,
    /// Nobody knew whether KMS signed: its log says so. False: it did not.
    Settled(bool),
    /// Nobody knows whether KMS signed, and its log cannot say so yet.
    Unsettled,
    /// Nothing says anything else.
    Nothing,
    /// The journal says that KMS signed, and the log does not.
    Ghost(&'static str),
    /// The journal says that KMS certainly did not sign, and the log says that it did.
    Contradicted,
    /// KMS signed with our key, and no journal asked for it.
    Bypass(&'static str),
    /// KMS signed with our key, and the record is lost that should say so: the number of the loss.
    Unrecorded(usize),
    /// The journals do not tell of that time.
    Outside,
    /// A signature that the log cannot have yet, or has no more.
    Late,
    /// It is under a key that is not ours.
    OtherKey,
}

/// What both say of one call.
#[must_use]
pub fn of_pair(call: &Call, event: &Event) -> Verdict {
    match (call.claim, &event.error) {
        (Claim::Signed, None) => Verdict::Agreed,
        (Claim::Signed, Some(_)) => Verdict::Ghost("KMS logged an error in place of a signature"),
        (Claim::Open, error) => Verdict::Settled(error.is_none()),
        (Claim::NotSigned, None) => Verdict::Contradicted,
        (Claim::NotSigned, Some(_)) => Verdict::Refused,
    }
}

/// What a journal alone says of a call.
#[must_use]
pub fn of_call(call: &Call, context: &Context) -> Verdict {
    let logged = context.logged.get(&call.region);
    let is_due = logged.is_some_and(|logged| logged.holds(call.from) && logged.holds(call.to));
    match (call.claim, is_due) {
        (Claim::Signed, true) => Verdict::Ghost("KMS's log has no such call"),
        (Claim::Signed, false) => Verdict::Late,
        (Claim::Open, true) => Verdict::Settled(false),
        (Claim::Open, false) => Verdict::Unsettled,
        (Claim::NotSigned, _) => Verdict::Nothing,
    }
}

/// What KMS's log alone says of a call. A loss that accounts for it accounts for one call less.
pub fn of_event(event: &Event, context: &mut Context) -> Verdict {
    if !context.keys.holds(&event.key, &event.region) {
        return Verdict::OtherKey;
    }
    if event.error.is_some() {
        return Verdict::Refused;
    }
    if !context.compared.holds(event.at) {
        return Verdict::Outside;
    }
    if event.attempt.is_none() {
        return Verdict::Bypass("its User-Agent names no attempt of a signing proxy");
    }
    if !context.issuers.contains(&event.issuer) {
        return Verdict::Bypass(
            "its User-Agent names an attempt, and its principal makes no calls of ours",
        );
    }
    let accounts =
        |loss: &Loss| Span { from: loss.from, to: loss.to }.holds(event.at) && loss.most != Some(0);
    match context.losses.iter().position(accounts) {
        None => Verdict::Bypass("its User-Agent names an attempt that no journal has made"),
        Some(at) => {
            if let Some(most) = context.losses.get_mut(at).and_then(|loss| loss.most.as_mut()) {
                *most -= 1;
            }
            Verdict::Unrecorded(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Attempt;
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-1:1:key/k";
    const OURS: &str = "arn:aws:iam::1:role/proxy";

    fn attempt(order: u8, number: u8) -> Attempt {
        let order = super::super::event::Order::parse(&format!("{order:032x}")).unwrap();
        Attempt { order, number }
    }

    fn call(claim: Claim, number: u8, request_id: &str) -> Call {
        Call {
            attempt: attempt(1, number),
            claim,
            outcome: String::new(),
            from: 1000,
            to: 1002,
            journal: 0,
            seq: 7,
            kid: "s".to_owned(),
            region: "eu-1".to_owned(),
            request_id: request_id.to_owned(),
        }
    }

    fn leaves(count: u64, claim: Claim, number: u8, request_id: &str) -> Vec<Call> {
        (0..count).map(|seq| Call { seq, ..call(claim, number, request_id) }).collect()
    }

    fn event(number: u8, request_id: &str, error: Option<&str>) -> Event {
        Event {
            at: 1001,
            region: "eu-1".to_owned(),
            key: KEY.to_owned(),
            request_id: request_id.to_owned(),
            event_id: format!("e-{request_id}"),
            attempt: (number > 0).then(|| attempt(1, number)),
            error: error.map(str::to_owned),
            principal: OURS.to_owned(),
            issuer: OURS.to_owned(),
            agent: String::new(),
            source: String::new(),
        }
    }

    fn context() -> Context {
        let mut keys = Keys::default();
        keys.give(None, KEY);
        Context {
            compared: Span { from: 500, to: 2000 },
            logged: BTreeMap::from([("eu-1".to_owned(), Span { from: 600, to: 1900 })]),
            keys,
            issuers: BTreeSet::from([OURS.to_owned()]),
            losses: Vec::new(),
        }
    }

    fn paired(calls: &[Call], events: &[Event]) -> (usize, usize, usize, u64) {
        let Paired { pairs, calls, events, duplicates } =
            pair(calls.to_vec(), events.to_vec(), &Keys::default());
        (pairs.len(), calls.len(), events.len(), duplicates)
    }

    #[test]
    fn one_call_accounts_for_one_call_by_its_name_in_kms_else_by_its_attempt() {
        let (named, unnamed) = (call(Claim::Signed, 1, "r"), call(Claim::Open, 1, ""));
        let any = call(Claim::Open, 0, "");
        for (calls, events, expected) in [
            (vec![named.clone()], vec![event(1, "r", None)], (1, 0, 0, 0)),
            // By its name also where the User-Agent is lost.
            (vec![named.clone()], vec![event(0, "r", None)], (1, 0, 0, 0)),
            // A copied User-Agent is no call of ours.
            (vec![named.clone()], vec![event(1, "r", None), event(1, "x", None)], (1, 0, 1, 0)),
            (vec![named.clone()], vec![event(1, "x", None)], (0, 1, 1, 0)),
            // Delivered twice, or to two accounts.
            (vec![named], vec![event(1, "r", None), event(1, "r", None)], (1, 0, 0, 1)),
            (vec![unnamed.clone()], vec![event(1, "r", None)], (1, 0, 0, 0)),
            (vec![unnamed.clone()], vec![event(2, "r", None)], (0, 1, 1, 0)),
            (vec![unnamed.clone()], vec![event(1, "r", None), event(1, "x", None)], (1, 0, 1, 0)),
            (vec![any], vec![event(1, "r", None), event(2, "x", None)], (2, 0, 0, 0)),
            (vec![unnamed.clone()], vec![Event { at: 1302, ..event(1, "r", None) }], (1, 0, 0, 0)),
            (vec![unnamed.clone()], vec![Event { at: 1303, ..event(1, "r", None) }], (0, 1, 1, 0)),
            (
                vec![unnamed],
                vec![Event { region: "us-1".to_owned(), ..event(1, "r", None) }],
                (0, 1, 1, 0),
            ),
            // The leaves of a batch share its call, also those whose outcome a kill left open.
            (leaves(40, Claim::Signed, 1, "r"), vec![event(1, "r", None)], (1, 0, 0, 0)),
            (leaves(8, Claim::Open, 0, ""), vec![event(1, "r", None)], (1, 0, 0, 0)),
            (
                [leaves(3, Claim::Signed, 1, "r"), leaves(5, Claim::Open, 0, "")].concat(),
                vec![event(1, "r", None)],
                (1, 0, 0, 0),
            ),
            (leaves(4, Claim::Signed, 1, "r"), vec![], (0, 1, 0, 0)),
            // What was tried twice was two calls.
            (
                vec![call(Claim::NotSigned, 1, "r"), call(Claim::Signed, 2, "x")],
                vec![event(1, "r", Some("KMSInternalException")), event(2, "x", None)],
                (2, 0, 0, 0),
            ),
        ] {
            assert_eq!(paired(&calls, &events), expected, "{calls:?} {events:?}");
        }
    }

    #[test]
    fn a_copy_of_a_record_never_hides_that_kms_signed() {
        for events in [
            [event(1, "r", Some("AccessDenied")), event(1, "r", None)],
            [event(1, "r", None), event(1, "r", Some("AccessDenied"))],
        ] {
            let paired = pair(Vec::new(), events.to_vec(), &Keys::default());
            assert_eq!((paired.events.len(), &paired.events[0].error), (1, &None));
        }
    }

    #[test]
    fn what_both_say_of_a_call_agrees_settles_or_contradicts() {
        let denied = Some("AccessDenied");
        for (claim, error, expected) in [
            (Claim::Signed, None, Verdict::Agreed),
            (Claim::Open, None, Verdict::Settled(true)),
            (Claim::Open, denied, Verdict::Settled(false)),
            (Claim::NotSigned, None, Verdict::Contradicted),
            (Claim::NotSigned, denied, Verdict::Refused),
        ] {
            assert_eq!(of_pair(&call(claim, 1, "r"), &event(1, "r", error)), expected);
        }
        let found = of_pair(&call(Claim::Signed, 1, "r"), &event(1, "r", denied));
        assert!(matches!(found, Verdict::Ghost(_)));
    }

    #[test]
    fn a_missing_call_is_a_ghost_only_where_the_log_must_have_it_by_now() {
        let context = context();
        let at = |from, to, region: &str, claim| Call {
            from,
            to,
            region: region.to_owned(),
            ..call(claim, 1, "r")
        };
        let found = |call| of_call(&call, &context);
        assert!(matches!(found(at(600, 1900, "eu-1", Claim::Signed)), Verdict::Ghost(_)));
        for (from, to, region) in [(599, 700, "eu-1"), (1890, 1901, "eu-1"), (700, 700, "us-1")] {
            assert_eq!(found(at(from, to, region, Claim::Signed)), Verdict::Late);
            assert_eq!(found(at(from, to, region, Claim::Open)), Verdict::Unsettled);
        }
        assert_eq!(found(at(700, 700, "eu-1", Claim::Open)), Verdict::Settled(false));
        assert_eq!(found(at(700, 700, "eu-1", Claim::NotSigned)), Verdict::Nothing);
    }

    #[test]
    fn a_call_that_no_journal_has_is_a_bypass_unless_it_cannot_be_known() {
        let mut context = context();
        let bypass = |event: &Event, context: &mut Context| {
            matches!(of_event(event, context), Verdict::Bypass(_))
        };
        assert!(bypass(&event(1, "r", None), &mut context));
        assert!(bypass(&event(0, "r", None), &mut context));
        assert_eq!(of_event(&event(1, "r", Some("AccessDenied")), &mut context), Verdict::Refused);
        for at in [499, 2001] {
            let outside = Event { at, ..event(0, "r", None) };
            assert_eq!(of_event(&outside, &mut context), Verdict::Outside);
        }
        let other = Event { key: "arn:aws:kms:eu-1:1:key/other".to_owned(), ..event(1, "r", None) };
        assert_eq!(of_event(&other, &mut context), Verdict::OtherKey);

        // A crash accounts for calls of our principals, of our form, at that time.
        let loss = |most| Loss { from: 1000, to: 1030, record: "l:9".to_owned(), most };
        context.losses.push(loss(None));
        assert_eq!(of_event(&event(1, "r", None), &mut context), Verdict::Unrecorded(0));
        assert!(bypass(&event(0, "r", None), &mut context));
        let stranger =
            Event { issuer: "arn:aws:iam::1:user/eve".to_owned(), ..event(1, "r", None) };
        assert!(bypass(&stranger, &mut context));
        assert!(bypass(&Event { at: 1031, ..event(1, "r", None) }, &mut context));
        // And one that says how many, for so many.
        context.losses = vec![loss(Some(1))];
        assert_eq!(of_event(&event(1, "r", None), &mut context), Verdict::Unrecorded(0));
        assert!(bypass(&event(1, "r", None), &mut context));
    }
}
