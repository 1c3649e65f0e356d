//! What is written from what is known, and what is never written.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(more: &[&str]) -> Flags {
    let base = ["x", "--incident", "INC 7", "--justification", "down", "--out", "r.json"];
    Line::parse_from(base.iter().chain(more)).flags
}

fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// When everything here is asked.
const NOW: &str = "2026-01-01T01:00:00Z";

/// Two signers are out long enough, one is not yet, one is not out.
fn known() -> Value {
    json!({
        "configured": true, "deployment": "d", "callers": ["spiffe://t/a"], "min_outage_s": 1800,
        "signers": ["a", "b", "c", "well"],
        "emergency_keys_registered": {"e": "1".repeat(64)},
        "outages": [
            {"signer_kid": "a", "since": "2026-01-01T00:00:00.042Z", "seconds": 3599, "qualifies": true, "running": true},
            {"signer_kid": "b", "since": "2026-01-01T00:10:00.5Z", "seconds": 2999, "qualifies": true, "running": true},
            {"signer_kid": "c", "since": "2026-01-01T00:50:00.042Z", "seconds": 599, "qualifies": false, "running": true},
        ],
        "signer": {"instance": "0".repeat(64), "required_roles": ["Security", "Finance"], "min_outage_s": 1800,
                   "session_max_s": 14_400, "signatures_max": 100_000,
                   "keys": [{"kid": "e", "sha256": "1".repeat(64), "state": "sealed"},
                            {"kid": "old", "sha256": "2".repeat(64), "state": "destroyed"}]},
    })
}

/// Only `c` is out, for ten minutes of thirty.
fn early() -> Value {
    let mut known = known();
    known["outages"].as_array_mut().unwrap().drain(..2);
    known
}

fn written(more: &[&str], known: &Value) -> Result<Draft, String> {
    let flags = flags(more);
    let draft = draft(&flags, known, at(NOW)).map_err(|error| error.to_string())?;
    draft.to_bytes().map_err(|error| error.to_string())?;
    let never = outlook::never(&draft, known, at(NOW), flags.outage_since.is_some());
    if never.is_empty() { Ok(draft) } else { Err(never.join("\n")) }
}

#[test]
fn what_the_proxy_knows_need_not_be_said() {
    let draft = written(&[], &known()).unwrap();
    assert_eq!((draft.id.as_str(), draft.audience.as_str()), ("INC-7", "d"));
    assert_eq!(draft.replaces, ["a", "b"], "those that are out long enough");
    assert_eq!(draft.outage_since, "2026-01-01T00:10:00Z");
    assert_eq!((draft.emergency_kid.as_str(), draft.max_signatures), ("e", 1000));
    assert_eq!(
        (draft.not_before.as_str(), draft.expires_at.as_str()),
        (NOW, "2026-01-01T02:00:00Z")
    );
    assert!(notes(&draft, &known(), at(NOW)).concat().contains("c is out too"));
}

#[test]
fn a_request_is_valid_as_soon_as_the_outage_is_long_enough_whatever_the_part_of_a_second() {
    let min = Duration::seconds(1800);
    for (lasted, part) in (-15..15).flat_map(|step| (0..10).map(move |part| (step, part))) {
        let now = at(NOW) + Duration::milliseconds(100 * part + 42);
        let since = now - min - Duration::milliseconds(100 * lasted);
        let lasted = u64::try_from((now - since).whole_seconds()).unwrap();
        let mut known = early();
        known["outages"][0]["since"] = since.format(&Rfc3339).unwrap().into();
        known["outages"][0]["seconds"] = lasted.into();
        known["outages"][0]["qualifies"] = (since + min <= now).into();
        let draft = draft(&flags(&[]), &known, now).unwrap();
        assert_eq!(outlook::never(&draft, &known, now, false), [""; 0]);
        let (begins, long_enough) = (at(&draft.not_before), (since + min).max(now));
        assert!(begins < long_enough + Duration::SECOND, "{since} {now} {begins}");
        assert!(now < since + min || begins <= now, "it waits for nothing: {since} {now} {begins}");
        assert!(begins >= at(&draft.outage_since) + min, "the signer takes it");
    }
}

#[test]
fn a_request_of_an_outage_that_is_not_long_enough_is_valid_when_it_is() {
    let draft = written(&[], &early()).unwrap();
    assert_eq!(draft.replaces, ["c"]);
    // Never a moment too early: the outage began within that second.
    assert_eq!(draft.outage_since, "2026-01-01T00:50:01Z");
    assert_eq!(draft.not_before, "2026-01-01T01:20:01Z");
    assert_eq!(draft.expires_at, "2026-01-01T02:20:01Z");
    let notes = notes(&draft, &early(), at(NOW)).concat();
    assert!(notes.contains("before 2026-01-01T01:20:01Z, in 1201 s"), "{notes}");
    // Also in the first second of the outage.
    let mut just = early();
    just["outages"][0]["since"] = json!("2026-01-01T01:00:00.4Z");
    just["outages"][0]["seconds"] = json!(0);
    let draft = written(&[], &just).unwrap();
    assert_eq!(draft.not_before, "2026-01-01T01:30:01Z");
    // The one that went out last decides, and the longer minimum.
    let mut known = known();
    known["signer"]["min_outage_s"] = json!(2400);
    let draft = written(&["--replaces", "a,c"], &known).unwrap();
    assert_eq!(draft.outage_since, "2026-01-01T00:50:01Z");
    assert_eq!(draft.not_before, "2026-01-01T01:30:01Z");
    // What a proxy forgot by a restart is attested; its own clock still has to say enough.
    known["outages"] = json!([{"signer_kid": "c", "since": "2026-01-01T00:59:00Z", "seconds": 60, "running": true}]);
    let attested = ["--replaces", "c", "--outage-since", "2026-01-01T00:00:00Z"];
    let draft = written(&attested, &known).unwrap();
    assert_eq!(
        (draft.outage_since.as_str(), draft.not_before.as_str()),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:29:01Z")
    );
}

#[test]
fn what_nobody_knows_is_named_with_its_flag() {
    let said = written(&[], &json!({"error": "no proxy"})).unwrap_err();
    assert!(said.contains("no proxy") && said.contains("--emergency-kid"), "{said}");
    let said = written(&[], &json!({"configured": true})).unwrap_err();
    assert!(said.contains("is not connected to the proxy"), "{said}");
    let said = written(&[], &json!({"configured": false})).unwrap_err();
    assert!(said.contains("[breakglass] signer_socket"), "{said}");
    let mut known = known();
    known["outages"] = json!([]);
    let said = written(&[], &known).unwrap_err();
    assert!(said.contains("--replaces") && said.ends_with("and one has to last 1800 s"), "{said}");
    known["outages"] =
        json!([{"signer_kid": "a", "seconds": 1200, "qualifies": false, "running": false}]);
    let said = written(&[], &known).unwrap_err();
    assert!(said.ends_with("600 s are left, if it lasts"), "{said}");
    known["signer"]["keys"] =
        json!([{"kid": "e", "state": "sealed"}, {"kid": "f", "state": "sealed"}]);
    let said = written(&[], &known).unwrap_err();
    assert!(
        said.contains("which emergency key of e, f is not known; give --emergency-kid"),
        "{said}"
    );
}

#[test]
fn what_could_never_be_activated_is_not_written() {
    let since = "2026-01-01T00:00:00Z";
    for (given, word) in [
        (&["--minutes", "241"][..], "240 minutes at most"),
        (&["--max-signatures", "100001"], "makes 100000 in a session"),
        (
            &["--not-before", "2025-12-31T00:00:00Z", "--outage-since", "2025-12-30T00:00:00Z"],
            "which is over",
        ),
        (&["--not-before", "2026-01-01T00:00:00Z"], "not before not_before"),
        (
            &["--not-before", "2026-01-01T00:20:00Z", "--minutes", "90"],
            "600 s after the outage began",
        ),
        (
            &["--not-before", "2026-01-01T00:39:59Z", "--minutes", "90"],
            "give 2026-01-01T00:40:00Z or later",
        ),
        (&["--not-before", "2026-01-03T00:00:00Z"], "more than 24 hours ahead"),
        (&["--outage-since", "2026-01-01T02:00:00Z"], "is in the future"),
        (&["--emergency-kid", "nobody"], "the emergency key's hash is not known"),
        (
            &["--emergency-kid", "nobody", "--emergency-key-sha256", &"3".repeat(64)],
            "does not hold it; it holds: e, old",
        ),
        (&["--emergency-kid", "old"], "is destroyed, so no session can use it"),
        (&["--emergency-key-sha256", &"3".repeat(64)], "is not the key that the signer holds"),
        (
            &["--replaces", "a,nobody", "--outage-since", since],
            "--replaces nobody: this proxy has none",
        ),
        (&["--replaces", "a,well"], "--replaces well: the proxy sees no outage of it"),
        (&["--replaces", "a,a"], "names something twice"),
        (
            &["--callers", "spiffe://t/a,spiffe://t/b"],
            "--callers spiffe://t/b: this proxy has none",
        ),
        (
            &[
                "--replaces",
                "well",
                "--outage-since",
                since,
                "--not-before",
                NOW,
                "--minutes",
                "29",
            ],
            "the proxy has not seen an outage of 1800 s",
        ),
        (&["--incident", " "], "incident"),
    ] {
        // A flag that is given twice is refused; the base gives the incident.
        let said = if given[0] == "--incident" {
            let mut flags = flags(&[]);
            flags.incident = given[1].to_owned();
            let draft = draft(&flags, &known(), at(NOW)).unwrap();
            draft.to_bytes().unwrap_err().to_string()
        } else {
            written(given, &known()).unwrap_err()
        };
        assert!(said.contains(word), "{given:?}: {said}");
    }
    // A session that would be over before the outage is long enough.
    let said =
        written(&["--not-before", NOW, "--minutes", "20", "--outage-since", since], &early())
            .unwrap_err();
    assert!(said.contains("the proxy has not seen an outage of 1800 s"), "{said}");
    for (change, word) in [
        (json!({"emergency_keys_registered": {}}), "the proxy's registry has no usable key"),
        (
            json!({"emergency_keys_registered": {"e": "4".repeat(64)}}),
            "has another public key under that name",
        ),
    ] {
        let mut known = known();
        known.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let said = written(&[], &known).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
    let mut known = known();
    known["signer"]["cannot_arm"] = json!(["approvers.roles: nobody"]);
    let said = written(&[], &known).unwrap_err();
    assert!(said.contains("cannot be armed: approvers.roles: nobody"), "{said}");
}

#[test]
fn flags_override_what_is_known_and_another_signers_limits_are_not_looked_at() {
    let given = ["--replaces", "a", "--minutes", "5", "--callers", "spiffe://t/a"];
    let draft = written(&given, &known()).unwrap();
    assert_eq!(draft.replaces, ["a"]);
    assert_eq!(draft.outage_since, "2026-01-01T00:00:00Z");
    assert_eq!(draft.expires_at, "2026-01-01T01:05:00Z");
    // Another proxy knows other signers and callers.
    let elsewhere = "5".repeat(64);
    let given = [
        "--instance",
        &elsewhere,
        "--replaces",
        "theirs",
        "--callers",
        "spiffe://t/z",
        "--outage-since",
        "2026-01-01T00:00:00Z",
    ];
    let draft = written(&given, &known()).unwrap();
    assert_eq!(
        (draft.instances.as_slice(), draft.replaces.as_slice()),
        (&[elsewhere.clone()][..], &["theirs".to_owned()][..])
    );
    assert!(
        notes(&draft, &known(), at(NOW))
            .concat()
            .contains("another emergency signer than the one here")
    );
}
