//! What is written from what is known, and what is never written.

use clap::Parser;

use super::super::examples::{key, known, outage};
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

/// Only `c` is out, for ten minutes of thirty.
fn early() -> Breakglass {
    let mut known = known();
    known.outages.drain(..2);
    known
}

fn signer(known: &mut Breakglass) -> &mut State {
    known.signer.as_mut().unwrap()
}

fn written(more: &[&str], known: &Breakglass) -> Result<Draft, String> {
    let flags = flags(more);
    let draft = draft(&flags, known, None, at(NOW)).map_err(|error| error.to_string())?;
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
    assert!(notes(&draft, &known(), at(NOW)).concat().contains("c has an outage too"));
}

#[test]
fn a_request_is_valid_as_soon_as_the_outage_is_long_enough_whatever_the_part_of_a_second() {
    let min = Duration::seconds(1800);
    for (lasted, part) in (-15..15).flat_map(|step| (0..10).map(move |part| (step, part))) {
        let now = at(NOW) + Duration::milliseconds(100 * part + 42);
        let since = now - min - Duration::milliseconds(100 * lasted);
        let lasted = u64::try_from((now - since).whole_seconds()).unwrap();
        let mut known = early();
        let since_text = since.format(&Rfc3339).unwrap();
        let qualifies = since + min <= now;
        known.outages = vec![Outage { qualifies, ..outage("c", &since_text, lasted) }];
        let draft = draft(&flags(&[]), &known, None, now).unwrap();
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
    just.outages = vec![outage("c", "2026-01-01T01:00:00.4Z", 0)];
    let draft = written(&[], &just).unwrap();
    assert_eq!(draft.not_before, "2026-01-01T01:30:01Z");
    // The one that went out last decides, and the longer minimum.
    let mut known = known();
    signer(&mut known).min_outage_s = 2400;
    let draft = written(&["--replaces", "a,c"], &known).unwrap();
    assert_eq!(draft.outage_since, "2026-01-01T00:50:01Z");
    assert_eq!(draft.not_before, "2026-01-01T01:30:01Z");
    // What a proxy forgot by a restart is attested; its own clock still has to say enough.
    known.outages = vec![outage("c", "2026-01-01T00:59:00Z", 60)];
    let attested = ["--replaces", "c", "--outage-since", "2026-01-01T00:00:00Z"];
    let draft = written(&attested, &known).unwrap();
    assert_eq!(
        (draft.outage_since.as_str(), draft.not_before.as_str()),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:29:01Z")
    );
}

#[test]
fn what_nobody_knows_is_named_with_its_flag() {
    let silent = draft(&flags(&[]), &Breakglass::default(), Some("no proxy"), at(NOW));
    let said = silent.unwrap_err().to_string();
    assert!(said.contains("no proxy") && said.contains("--emergency-kid"), "{said}");
    let mut lonely = Breakglass { configured: true, ..Breakglass::default() };
    let said = written(&[], &lonely).unwrap_err();
    assert!(said.contains("is not connected to the proxy"), "{said}");
    lonely.configured = false;
    let said = written(&[], &lonely).unwrap_err();
    assert!(said.contains("[breakglass] signer_socket"), "{said}");
    let mut known = known();
    known.outages.clear();
    let said = written(&[], &known).unwrap_err();
    assert!(said.contains("--replaces") && said.ends_with("and one has to last 1800 s"), "{said}");
    known.outages = vec![Outage { running: false, ..outage("a", NOW, 1200) }];
    let said = written(&[], &known).unwrap_err();
    assert!(said.ends_with("600 s are left, if it lasts"), "{said}");
    signer(&mut known).keys = ["e", "f"].map(|kid| key(kid, "1", KeyState::Sealed)).into();
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
            "which is in the past",
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
            let draft = draft(&flags, &known(), None, at(NOW)).unwrap();
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
    for (registered, word) in [
        (None, "the proxy's registry has no usable key"),
        (Some("4".repeat(64)), "has another public key under that name"),
    ] {
        let mut known = known();
        known.emergency_keys_registered =
            registered.into_iter().map(|sha256| ("e".to_owned(), sha256)).collect();
        let said = written(&[], &known).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
    let mut known = known();
    signer(&mut known).cannot_arm = vec!["approvers.roles: nobody".to_owned()];
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
