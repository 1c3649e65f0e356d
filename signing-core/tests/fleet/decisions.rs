//! What one member decides.

use std::time::Duration;

use signing_core::Moment;
use signing_core::breakglass::activation::Hardware;
use signing_core::fleet::{
    Clause, Draft, ENDED_MAX, Evidence, FreezeId, HELD_MAX, Member, Memory, NotVerified, Obeyed,
    OnLoss, Rules, Statement, Stop, Verified, errands, judge,
};
use signing_core::journal::Frozen;

use crate::people::{NOW, Signature, draft, id, judged, registry, rules, when};

const LEASE: Duration = Duration::from_secs(60);

fn freeze(reason: &str) -> Frozen {
    Frozen { at: when(NOW), by: "uid 0 (root)".to_owned(), id: None, reason: reason.to_owned() }
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

fn member(on_loss: OnLoss, has_read: bool) -> Member {
    let memory = Memory { has_read, ..Memory::default() };
    Member::new(Some(Rules { on_loss, lease: LEASE }), memory)
}

/// A statement that counts.
fn statement(ends: &[FreezeId]) -> Verified {
    let bytes = draft(ends, NOW, 600).to_bytes().unwrap();
    judged(&bytes, &Signature::of("alice", "Security", &bytes), &registry(), when(NOW)).unwrap()
}

fn end(member: &mut Member, ends: &[FreezeId]) -> usize {
    let ending = member.ending(statement(ends));
    ending.map_or(0, |ending| member.end(&ending).len())
}

#[test]
fn i2_a_member_that_never_read_the_fleet_is_shut_until_its_first_reading_is_stored() {
    for on_loss in [OnLoss::Keep, OnLoss::Freeze] {
        let mut member = member(on_loss, false);
        assert_eq!(member.stop(at(1)), Some(Stop::NeverRead), "{on_loss:?}");
        let joining = member.hear(at(1)).unwrap();
        assert_eq!(member.stop(at(1)), Some(Stop::NeverRead), "not stored yet");
        assert!(joining.applied_to(member.memory()).has_read);
        member.join(joining);
        assert_eq!(member.stop(at(1)), None);
        assert!(member.hear(at(2)).is_none(), "it has joined");
    }
}

#[test]
fn without_a_word_of_the_fleet_the_last_word_stands_or_signing_stops_as_configured() {
    let mut kept = member(OnLoss::Keep, true);
    let mut lost = member(OnLoss::Freeze, true);
    // A restart is no word of the fleet.
    assert_eq!((kept.stop(at(0)), lost.stop(at(0))), (None, Some(Stop::Lost)));
    for member in [&mut kept, &mut lost] {
        assert!(member.hear(at(100)).is_none());
        assert_eq!((member.stop(at(159)), member.is_lost(at(159))), (None, false));
        assert!(member.is_lost(at(160)));
        // An earlier word that comes late shortens nothing.
        assert!(member.hear(at(50)).is_none());
        assert_eq!(member.silent_for(at(160)), Some(LEASE));
    }
    assert_eq!((kept.stop(at(160)), lost.stop(at(160))), (None, Some(Stop::Lost)));
    assert!(lost.hear(at(161)).is_none());
    assert_eq!(lost.stop(at(161)), None, "it ends by itself");
}

#[test]
fn a_freeze_is_obeyed_from_anybody_and_ends_by_a_signed_statement_that_names_it() {
    let mut member = member(OnLoss::Keep, true);
    assert_eq!(member.obey(id(1), freeze("one")), Obeyed::Now);
    assert_eq!(member.obey(id(1), freeze("one again")), Obeyed::Already);
    let stop = member.stop(at(0)).unwrap();
    let (reason, by) = stop.reason_and_author();
    assert!(reason == "one" && by.contains(&id(1).to_string()), "{by}");
    assert_eq!(end(&mut member, &[id(2)]), 0);
    assert!(member.stop(at(0)).is_some(), "another one ended");
    assert_eq!(end(&mut member, &[id(1)]), 1);
    assert_eq!(member.stop(at(0)), None);
    // A database that was restored brings both again.
    assert_eq!(member.obey(id(1), freeze("one")), Obeyed::Ended);
    assert_eq!(member.obey(id(2), freeze("came later than its end")), Obeyed::Ended);
    assert_eq!(member.obey(id(3), freeze("three")), Obeyed::Now);
    assert!(member.ending(statement(&[id(1), id(2)])).is_none(), "there is nothing to end");
}

#[test]
fn a_freeze_that_comes_while_another_one_ends_holds() {
    let mut member = member(OnLoss::Keep, true);
    member.obey(id(1), freeze("one"));
    let ending = member.ending(statement(&[id(1)])).unwrap();
    let stored = ending.applied_to(member.memory());
    assert!(
        stored.held.is_empty() && member.stop(at(0)).is_some(),
        "stored first, in force second"
    );
    member.obey(id(2), freeze("two"));
    assert_eq!(member.end(&ending).len(), 1);
    assert!(matches!(member.stop(at(0)), Some(Stop::Frozen(two, _)) if two == id(2)));
}

#[test]
fn what_is_remembered_is_bounded_and_forgetting_freezes() {
    let mut member = member(OnLoss::Keep, true);
    let number = |number: usize| FreezeId::new((number as u128).to_be_bytes());
    for held in 0..HELD_MAX {
        assert_eq!(member.obey(number(held), freeze("one of many")), Obeyed::Now);
    }
    assert_eq!(member.obey(number(HELD_MAX), freeze("one too many")), Obeyed::TooMany);
    for first in (0..ENDED_MAX + 32).step_by(32) {
        let ids: Vec<_> = (first..first + 32).map(number).collect();
        end(&mut member, &ids);
    }
    assert_eq!(member.memory().ended.len(), ENDED_MAX);
    assert_eq!(member.obey(number(0), freeze("forgotten")), Obeyed::Now);
    assert_eq!(member.obey(number(ENDED_MAX), freeze("remembered")), Obeyed::Ended);
}

#[test]
fn what_is_of_no_fleet_holds_what_it_held_and_nothing_more() {
    let held: std::collections::BTreeMap<_, _> = [(id(1), freeze("of before"))].into();
    let mut member = Member::new(None, Memory { held, ..Memory::default() });
    assert!(matches!(member.stop(at(0)), Some(Stop::Frozen(..))) && !member.is_lost(at(1_000)));
    // A journal that told of a freeze which was ended is no reason to hold it for ever.
    assert_eq!(end(&mut member, &[id(1)]), 1);
    assert_eq!(member.stop(at(1_000)), None);
    let both = Memory { held: [(id(1), freeze("told"))].into(), ..member.memory().clone() };
    assert_eq!(end(&mut Member::new(None, both), &[id(1)]), 1);
}

#[test]
fn a_journal_adds_freezes_to_what_was_stored_and_takes_none_away() {
    let stored = Memory { held: [(id(1), freeze("stored"))].into(), ..Memory::default() };
    let told = [(id(1), freeze("told")), (id(2), freeze("told"))];
    let both = stored.with(told.into());
    assert_eq!(both.held.len(), 2);
    assert_eq!(both.held[&id(1)].reason, "stored");
}

#[test]
fn a_held_freeze_is_posted_again_and_an_ended_one_removed_once_nobody_holds_it() {
    let set = |numbers: &[u8]| numbers.iter().copied().map(id).collect();
    let found = errands(&set(&[1, 2]), &set(&[3, 4, 5]), &set(&[2, 3, 4, 9]), &set(&[4]));
    assert_eq!((found.post, found.remove), (vec![id(1)], vec![id(3)]));
}

#[test]
fn every_clause_of_a_statement_is_needed() {
    let good = draft(&[id(1)], NOW, 600);
    let bytes = good.to_bytes().unwrap();
    let (parsed, registry, rules) = (Statement::parse(&bytes), registry(), rules());
    let approval = Signature::of("alice", "Security", &bytes).verified(&bytes).unwrap();
    let evidence = Evidence {
        statement: parsed.as_ref(),
        signed: Ok(&approval),
        approvers_unchanged: true,
        rules: &rules,
        fleet: crate::people::FLEET,
        registry: &registry,
        now: when(NOW),
    };
    assert_eq!(judge(&evidence).unwrap().approval().principal, "alice");
    let clause =
        |evidence: &Evidence<'_>| judge(evidence).map_err(|no: NotVerified| no.clause).err();
    for (seconds, expected) in
        [(-301, Some(Clause::NotYetValid)), (-300, None), (599, None), (600, Some(Clause::Expired))]
    {
        assert_eq!(
            clause(&Evidence { now: when(NOW + seconds), ..evidence }),
            expected,
            "{seconds}"
        );
    }
    let damaged = Statement::parse(b"{}");
    let long = Statement::parse(&draft(&[id(1)], NOW, 86_401).to_bytes().unwrap());
    let mut finance = approval.clone();
    finance.roles = ["Finance".to_owned()].into();
    let mut twin = approval.clone();
    twin.key_sha256 = registry.iter().next().map(|signer| signer.public_key.sha256_hex());
    let strict = signing_core::breakglass::activation::ApprovalRules {
        hardware_required: true,
        touch_required: true,
        ..rules.clone()
    };
    let mut untouched = approval.clone();
    untouched.hardware = Some(Hardware { touched: false, verified: false, counter: 1 });
    for (changed, expected) in [
        (Evidence { statement: damaged.as_ref(), ..evidence }, Clause::Statement),
        (Evidence { fleet: "other", ..evidence }, Clause::Fleet),
        (Evidence { approvers_unchanged: false, ..evidence }, Clause::ApproversChanged),
        (Evidence { signed: Err("by nobody"), ..evidence }, Clause::Signature),
        (Evidence { rules: &strict, ..evidence }, Clause::Key),
        (Evidence { rules: &strict, signed: Ok(&untouched), ..evidence }, Clause::Key),
        (Evidence { signed: Ok(&twin), ..evidence }, Clause::Key),
        (Evidence { signed: Ok(&finance), ..evidence }, Clause::Role),
        (Evidence { statement: long.as_ref(), ..evidence }, Clause::LifetimeTooLong),
    ] {
        assert_eq!(clause(&changed), Some(expected));
    }
    let wrong = judge(&Evidence { signed: Ok(&finance), ..evidence }).unwrap_err().sentence;
    assert!(wrong.contains("alice (Finance)") && wrong.contains("role Security"), "{wrong}");
}

#[test]
fn a_document_that_hides_something_or_repeats_itself_is_no_statement() {
    let mistakes = |change: fn(&mut Draft)| {
        let mut draft = draft(&[id(1)], NOW, 600);
        change(&mut draft);
        draft.to_bytes().map_err(|error| error.to_string()).err()
    };
    assert_eq!(mistakes(|_| {}), None);
    for (change, named) in [
        (
            (|draft: &mut Draft| draft.r#type = "signing-proxy/breakglass-request/v1".into())
                as fn(&mut Draft),
            "type",
        ),
        (|draft| draft.ends.clear(), "ends"),
        (|draft| draft.ends.push(draft.ends[0].clone()), "ends"),
        (|draft| draft.ends[0] = "AB".repeat(16), "ends"),
        (|draft| draft.reason = "two\nlines".into(), "reason"),
        (|draft| draft.fleet = "pay\u{200b}ments".into(), "fleet"),
        (|draft| draft.expires_at = draft.issued_at.clone(), "issued_at"),
        (|draft| draft.issued_at = "yesterday".into(), "issued_at"),
    ] {
        let found = mistakes(change).unwrap();
        assert!(found.contains(named), "{named}: {found}");
    }
    let text = String::from_utf8(draft(&[id(1)], NOW, 600).to_bytes().unwrap()).unwrap();
    for odd in [text.replace("\"ends\"", "\"id\": 1, \"ends\""), format!("[{text}]")] {
        assert!(Statement::parse(odd.as_bytes()).is_err(), "{odd}");
    }
}
