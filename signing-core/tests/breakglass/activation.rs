//! An activation is refused by each clause of I5 alone, with a sentence; and whatever comes
//! together, it is granted exactly when two people in two roles with two keys approved
//! something that fits.

use proptest::prelude::*;
use signing_core::FreezeId;
use signing_core::breakglass::activation::Hardware;
use signing_core::breakglass::wire::OutageClaim;
use signing_core::breakglass::{Clause, Draft, Request};

use crate::world::{NOW, World, approval, at};

#[test]
fn i5_what_is_right_is_activated() {
    let activation = World::new().decide().unwrap();
    assert_eq!(activation.request().incident(), "INC-7");
    assert_eq!(activation.approvals().len(), 2);
}

#[test]
fn i5_a_session_is_activated_under_the_freeze_that_its_approvers_saw() {
    let mut world = World::new();
    world.draft.under_freeze = Some(FreezeId::new([1; 16]).to_string());
    // Named and not in force: it loosens nothing, and no new approvals are needed once it ended.
    assert!(world.decide().is_ok());
    world.freeze = Some(FreezeId::new([1; 16]));
    let activation = world.decide().unwrap();
    assert_eq!(activation.request().under_freeze(), world.freeze);
}

/// Each clause that a decision asks, and what alone makes it fail.
#[test]
fn i5_each_clause_alone_refuses_and_says_what_to_do() {
    type Change = fn(&mut World);
    let cases: &[(Clause, Change)] = &[
        (Clause::Request, |world| world.bytes = Some(b"{}".to_vec())),
        (Clause::Audience, |world| world.draft.audience = "another".into()),
        (Clause::Instance, |world| world.draft.instances = vec!["9".repeat(64)]),
        (Clause::ApproversChanged, |world| world.unchanged = false),
        (Clause::Approval, |world| world.approvals[1] = Err("it is in another namespace".into())),
        (Clause::SoftwareKey, |world| world.rules.hardware_required = true),
        (Clause::SoftwareKey, |world| world.rules.pin_required = true),
        (Clause::NoTouch, |world| {
            world.rules.touch_required = true;
            world.hardware(Hardware { touched: false, verified: true, counter: 1 });
        }),
        (Clause::NoPin, |world| {
            world.rules.pin_required = true;
            world.hardware(Hardware { touched: true, verified: false, counter: 1 });
        }),
        (Clause::SamePerson, |world| world.approvals[1] = Ok(approval("alice", &["Finance"], "b"))),
        (Clause::SameKey, |world| world.approvals[1] = Ok(approval("bob", &["Finance"], "a"))),
        (Clause::RoleMissing, |world| world.approvals[1] = Ok(approval("bob", &["Security"], "b"))),
        (Clause::RoleMissing, |world| world.approvals[1] = Ok(approval("bob", &[], "b"))),
        (Clause::RoleMissing, |world| drop(world.approvals.pop())),
        (Clause::RoleMissing, |world| world.approvals.clear()),
        // One person with both roles is still one person.
        (Clause::RoleMissing, |world| {
            world.approvals = vec![Ok(approval("alice", &["Security", "Finance"], "a"))];
        }),
        // Two roles of a configuration are two, whatever it says.
        (Clause::RoleMissing, |world| world.rules.required_roles = ["Security".into()].into()),
        (Clause::KeysNotDisjoint, |world| {
            let registered = world.registry.get("payments").unwrap().public_key.sha256_hex();
            let mut other = approval("bob", &["Finance"], "b");
            other.key_sha256 = Some(registered);
            world.approvals[1] = Ok(other);
        }),
        (Clause::KeyUnknown, |world| world.held.clear()),
        (Clause::KeyDestroyed, |world| {
            world.destroyed.insert("emergency".into());
        }),
        (Clause::KeyDestroyed, |world| {
            // The same key under another name is still the key.
            world.destroyed.insert(world.draft.emergency_key_sha256.clone());
        }),
        (Clause::KeyMismatch, |world| world.draft.emergency_key_sha256 = "0".repeat(64)),
        (Clause::KeyNotUsable, |world| world.revoke("emergency")),
        (Clause::KeyNotRegistered, |world| {
            world.draft.emergency_kid = "payments".into();
            world.held.insert("payments".into());
        }),
        (Clause::OtherFreeze, |world| world.freeze = Some(FreezeId::new([1; 16]))),
        (Clause::OtherFreeze, |world| {
            world.freeze = Some(FreezeId::new([1; 16]));
            world.draft.under_freeze = Some(FreezeId::new([2; 16]).to_string());
        }),
        (Clause::Request, |world| world.draft.under_freeze = Some("none".into())),
        (Clause::ReplacesUnknown, |world| world.draft.replaces = vec!["nobody".into()]),
        (Clause::ReplacesUnknown, |world| world.draft.replaces = vec!["emergency".into()]),
        (Clause::ModeMismatch, |world| world.signs_batches("payments")),
        (Clause::ModeMismatch, |world| world.signs_batches("emergency")),
        (Clause::NonceUsed, |world| {
            let nonce = Request::parse(&world.document()).unwrap().nonce();
            world.used.insert(nonce);
        }),
        (Clause::Sealed, |world| {
            (world.sealed, world.latest) = (Some("its clock; unseal it"), NOW + 61)
        }),
        // Before `expired` would be asked: the clock itself is in doubt.
        (Clause::ClockBehind, |world| world.latest = NOW + 61),
        (Clause::ClockBehind, |world| (world.latest, world.now) = (NOW + 7200, NOW + 3700)),
        (Clause::NotYetValid, |world| world.draft.not_before = at(NOW + 1)),
        (Clause::Expired, |world| world.now = NOW + 3600),
        (Clause::SessionTooLong, |world| world.draft.expires_at = at(NOW + 14_401)),
        (Clause::QuotaTooLarge, |world| world.draft.max_signatures = 1001),
        (Clause::OutageTooShort, |world| world.draft.outage_since = at(NOW - 1799)),
        (Clause::OutageNotObserved, |world| world.claims[0].seconds = 1799),
        (Clause::OutageNotObserved, |world| world.claims.clear()),
        (Clause::OutageNotObserved, |world| world.claims[0].signer_kid = "ledger".into()),
        // Every signer in `replaces` has to qualify.
        (Clause::OutageNotObserved, |world| {
            world.draft.replaces = vec!["payments".into(), "ledger".into()];
        }),
        (Clause::SessionInForce, |world| world.active = Some("INC-6-00000000")),
    ];
    let asked_elsewhere =
        [Clause::Locked, Clause::PassphraseWrong, Clause::SelfTestFailed, Clause::NotRecorded];
    for (clause, change) in cases {
        let mut world = World::new();
        change(&mut world);
        let refused = world.decide().unwrap_err();
        assert_eq!(refused.clause, *clause, "{}", refused.sentence);
        assert!(refused.sentence.len() > 30, "{}", refused.sentence);
    }
    for clause in Clause::ALL.iter().filter(|clause| !asked_elsewhere.contains(clause)) {
        assert!(cases.iter().any(|(asked, _)| asked == clause), "{clause:?} has no case");
    }
}

#[test]
fn i11_an_outage_of_exactly_the_minimum_is_one() {
    let mut world = World::new();
    world.draft.outage_since = at(NOW - 1800);
    world.claims[0].seconds = 1800;
    assert!(world.decide().is_ok());
}

#[test]
fn i5_the_limits_themselves_are_allowed() {
    let mut world = World::new();
    world.draft.expires_at = at(NOW + 14_400);
    world.draft.max_signatures = 1000;
    assert!(world.decide().is_ok());
    world.now = NOW + 14_399;
    assert!(world.decide().is_ok());
    world.now = NOW + 14_400;
    assert_eq!(world.decide().unwrap_err().clause, Clause::Expired);
}

#[test]
fn i5_any_byte_of_a_document_that_is_not_one_is_refused() {
    let good = String::from_utf8(World::new().document()).unwrap();
    assert!(Request::parse(good.as_bytes()).is_ok());
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (what, document) in [
        ("an unknown key", changed("\"id\"", "\"more\": 1, \"id\"")),
        ("a key twice", changed("\"id\": \"INC-7\"", "\"id\": \"INC-7\", \"id\": \"INC-7\"")),
        ("a missing key", changed("\"incident\": \"INC-7\",", "")),
        ("trailing data", format!("{good}{{}}")),
        ("another type", changed("request/v1", "request/v2")),
        ("a wrong id", changed("\"id\": \"INC-7\"", "\"id\": \"INC 7\"")),
        ("an empty incident", changed("\"incident\": \"INC-7\"", "\"incident\": \"\"")),
        ("two lines", changed("KMS is down", "KMS is\\ndown")),
        ("NUL", changed("KMS is down", "KMS is\\u0000down")),
        ("blank around", changed("KMS is down", " KMS is down")),
        ("an upper-case hash", changed(&"1".repeat(64), &"A".repeat(64))),
        ("a caller twice", changed("\"spiffe://t/a\"", "\"spiffe://t/a\", \"spiffe://t/a\"")),
        ("no caller", changed("\"spiffe://t/a\"", "")),
        ("a caller that is none", changed("spiffe://t/a", "SPIFFE://t/a")),
        ("no quota", changed("\"max_signatures\": 900", "\"max_signatures\": 0")),
        ("half a quota", changed("\"max_signatures\": 900", "\"max_signatures\": 1.5")),
        ("a short nonce", changed("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA")),
        (
            "a nonce of another base64",
            changed("AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAA"),
        ),
        ("a time without zone", changed(&at(NOW), at(NOW).trim_end_matches('Z'))),
        ("too long", good.replacen("KMS is down", &"x".repeat(7000), 1)),
    ] {
        let error = Request::parse(document.as_bytes());
        assert!(error.is_err(), "{what}");
        assert!(error.unwrap_err().to_string().len() > 20, "{what}");
    }
    let mut draft = World::new().draft;
    draft.expires_at.clone_from(&draft.not_before);
    assert!(draft.to_bytes().is_err(), "it ends before it begins");
}

/// What is said of one approval.
#[derive(Clone, Debug)]
struct Said {
    person: usize,
    key: usize,
    roles: usize,
    valid: bool,
}

fn said() -> impl Strategy<Value = Said> {
    (0_usize..3, 0_usize..3, 0_usize..4, prop::bool::weighted(0.9))
        .prop_map(|(person, key, roles, valid)| Said { person, key, roles, valid })
}

/// Who approved, said in another way than the product does: every pair is looked at.
fn enough(said: &[Said]) -> bool {
    let distinct = |part: fn(&Said) -> usize| {
        let mut seen: Vec<_> = said.iter().map(part).collect();
        seen.sort_unstable();
        seen.windows(2).all(|pair| pair[0] != pair[1])
    };
    let pairs = said.iter().flat_map(|one| said.iter().map(move |other| (one, other)));
    let two = pairs
        .filter(|(one, other)| one.person != other.person)
        .any(|(one, other)| one.roles & 1 == 1 && other.roles & 2 == 2);
    said.iter().all(|one| one.valid) && distinct(|one| one.person) && distinct(|one| one.key) && two
}

proptest! {
    #[test]
    fn i5_two_people_two_keys_two_roles_and_nothing_else(
        approvals in prop::collection::vec(said(), 0..4),
        seconds in 1790_u64..1810, outage in 1790_i64..1810, lasts in 14_390_i64..14_410,
        quota in 995_u64..1005, late in -2_i64..2,
    ) {
        let mut world = World::new();
        world.approvals = approvals.iter().map(|one| {
            let all = ["Security", "Finance"];
            let roles: Vec<_> = (0..2).filter(|bit| one.roles >> bit & 1 == 1).map(|bit| all[bit]).collect();
            let name = ["alice", "bob", "carol"][one.person];
            if one.valid { Ok(approval(name, &roles, ["a", "b", "c"][one.key])) } else { Err("no".into()) }
        }).collect();
        world.claims = vec![OutageClaim { signer_kid: "payments".into(), since: at(0), seconds }];
        world.draft.outage_since = at(NOW - outage);
        world.draft.expires_at = at(NOW + lasts);
        world.draft.max_signatures = quota;
        world.now = NOW + late;
        let fits = seconds >= 1800 && outage >= 1800 && lasts <= 14_400 && quota <= 1000 && late >= 0;
        let decided = world.decide();
        prop_assert_eq!(decided.is_ok(), fits && enough(&approvals), "{:?}", decided);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..900, to in any::<u8>()) {
        let _ = Request::parse(&bytes);
        let mut document = World::new().document();
        let place = at % document.len();
        document[place] = to;
        let _ = Request::parse(&document);
    }
}

/// What `signctl` writes is read back as it was meant.
#[test]
fn a_draft_comes_back_as_a_request() {
    let draft: Draft = World::new().draft;
    let request = Request::parse(&draft.to_bytes().unwrap()).unwrap();
    assert_eq!(request.session(), format!("INC-7-{}", &request.sha256()[..8]));
    assert_eq!(request.max_signatures(), draft.max_signatures);
}

/// Values without their names would be read too, and nobody sees in them what they approve.
#[test]
fn i5_a_list_of_the_values_is_no_request() {
    let mut world = World::new();
    world.draft.under_freeze = Some(FreezeId::new([1; 16]).to_string());
    let bytes = world.draft.to_bytes().unwrap();
    let named: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let draft: Draft = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(serde_json::to_value(&draft).unwrap(), named);
    let in_order = (
        (&draft.r#type, &draft.id, &draft.audience, &draft.instances),
        (&draft.incident, &draft.justification, &draft.emergency_kid),
        (&draft.emergency_key_sha256, &draft.replaces, &draft.callers),
        (&draft.outage_since, &draft.not_before, &draft.expires_at),
        (draft.max_signatures, &draft.under_freeze, &draft.nonce),
    );
    let list: Vec<serde_json::Value> = serde_json::to_value(in_order)
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|part| part.as_array().unwrap().clone())
        .collect();
    let list = serde_json::to_vec(&list).unwrap();
    assert_eq!(serde_json::from_slice::<Draft>(&list).unwrap(), draft);
    let error = Request::parse(&list).unwrap_err().to_string();
    assert!(error.contains("a list in the place of an object"), "{error}");
}

#[test]
fn i5_a_request_of_before_the_journal_began_may_have_been_used() {
    let mut world = World::new();
    for (since, refused) in [(-1, false), (0, false), (1, true), (3000, true)] {
        world.since = NOW + since;
        world.now = NOW + since.max(0);
        let decided = world.decide();
        assert_eq!(decided.is_err(), refused, "{since}");
        if let Err(no) = decided {
            assert_eq!(no.clause, Clause::NonceUsed, "{no}");
            assert!(no.sentence.contains("the oldest record of this signer's journal"), "{no}");
        }
    }
    // What is over is over: no other sentence is more to the point.
    (world.since, world.now) = (NOW + 4000, NOW + 5000);
    assert_eq!(world.decide().unwrap_err().clause, Clause::Expired);
}

proptest! {
    #[test]
    fn i5_what_approvers_do_not_see_is_in_no_request(
        before in "[a-zA-Z0-9\u{e4}\u{6c7a}]{1,20}", after in "[a-z ]{0,20}[a-z]", key in 0..3,
        hidden in prop_oneof![
            Just('\u{202e}'), Just('\u{2066}'), Just('\u{200b}'), Just('\u{2028}'), Just('\u{2029}'),
            Just('\u{a0}'), Just('\u{3000}'), Just('\u{ad}'), Just('\u{feff}'), Just('\u{61c}'),
            (0x2000_u32..0x2010).prop_map(|c| char::from_u32(c).unwrap()),
            (0xe0020_u32..0xe0080).prop_map(|c| char::from_u32(c).unwrap()),
        ],
    ) {
        let mut world = World::new();
        let mut write = |text: String| match key {
            0 => world.draft.incident = text,
            1 => world.draft.justification = text,
            _ => world.draft.audience = text,
        };
        write(format!("{before}{after}"));
        let bytes = serde_json::to_vec(&world.draft).unwrap();
        prop_assert!(Request::parse(&bytes).is_ok(), "{:?}", Request::parse(&bytes));
        let mut write = |text: String| match key {
            0 => world.draft.incident = text,
            1 => world.draft.justification = text,
            _ => world.draft.audience = text,
        };
        write(format!("{before}{hidden}{after}"));
        let bytes = serde_json::to_vec(&world.draft).unwrap();
        let said = Request::parse(&bytes).unwrap_err().to_string();
        prop_assert!(said.contains(&format!("U+{:04X}", u32::from(hidden))), "{said}");
    }
}
