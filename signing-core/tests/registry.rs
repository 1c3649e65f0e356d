//! The registry reads every form of `signers.json` in the field, and names
//! every entry that it does not take.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signing_core::key::Purpose;
use signing_core::registry::Entry;
use signing_core::{Algorithm, Kid, Reason, Registry};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use support::{entry, signers_json};

mod support;

/// The generator of P-256: a point that everyone can look up.
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";

fn registry(entries: &[Value]) -> Registry {
    Registry::from_json(&signers_json(entries)).unwrap()
}

fn mistakes(entries: &[Value]) -> Vec<String> {
    Registry::from_json(&signers_json(entries)).unwrap_err()
}

fn instant(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// `entry` with `key` set to `value`, or taken away by null.
fn with(mut entry: Value, key: &str, value: Value) -> Value {
    let object = entry.as_object_mut().unwrap();
    if value.is_null() {
        object.remove(key)
    } else {
        object.insert(key.to_owned(), value)
    };
    entry
}

/// An Ed25519 key, the last 32 bytes of its SubjectPublicKeyInfo.
fn raw_key(registry: &Registry, kid: &str) -> Vec<u8> {
    let der = registry.get(kid).unwrap().public_key.spki_der();
    der.last_chunk::<32>().unwrap().to_vec()
}

#[test]
fn a_pem_and_the_raw_bytes_are_the_same_key() {
    let from_pem = registry(&[entry("k", 1)]);
    let raw = raw_key(&from_pem, "k");
    let der = from_pem.get("k").unwrap().public_key.spki_der();
    for bytes in [raw.as_slice(), der] {
        let old_form = json!({
            "signerId": "k",
            "algorithm": "ed25519",
            "publicKey": STANDARD.encode(bytes),
        });
        assert_eq!(registry(&[old_form]).get("k"), from_pem.get("k"));
    }
}

#[test]
fn a_p256_key_is_read_from_pem_and_from_base64() {
    let pem =
        json!({"signer_kid": "k", "algorithm": "ecdsa-p256-sha256", "public_key_pem": P256_PEM});
    let from_pem = registry(&[pem]);
    let der = STANDARD.encode(from_pem.get("k").unwrap().public_key.spki_der());
    let old_form = json!({"signerId": "k", "algorithm": "ECDSA_SHA_256", "publicKey": der});
    assert_eq!(registry(&[old_form]).get("k"), from_pem.get("k"));
    assert_eq!(from_pem.get("k").unwrap().algorithm(), Algorithm::EcdsaSha256);
}

#[test]
fn the_algorithm_of_an_entry_names_the_curve_of_its_key() {
    use p256::pkcs8::EncodePublicKey as _;
    let key = k256::ecdsa::SigningKey::from_slice(&[1; 32]).unwrap();
    let der = STANDARD.encode(key.verifying_key().to_public_key_der().unwrap().as_bytes());
    let entry =
        |algorithm: &str| json!({"signerId": "k", "algorithm": algorithm, "publicKey": der});
    let read = registry(&[entry("ecdsa-secp256k1-sha256")]);
    assert_eq!(registry(&[entry("ECDSA_SHA_256")]).get("k"), read.get("k"));
    let signer = read.get("k").unwrap();
    assert_eq!(Entry::publish(signer).algorithm, "ecdsa-secp256k1-sha256");
    let text = json!({"signers": [entry("ecdsa-p256-sha256")]}).to_string();
    let mistakes = Registry::from_json(&text).unwrap_err();
    assert!(mistakes[0].contains("a key of kind secp256k1"), "{mistakes:?}");
    let batch = with(entry("ecdsa-secp256k1-sha256"), "mode", json!("batch"));
    let text = json!({"signers": [batch]}).to_string();
    let mistakes = Registry::from_json(&text).unwrap_err();
    assert!(mistakes[0].contains("a batch signer has an ed25519 or"), "{mistakes:?}");
}

#[test]
fn fields_that_others_add_are_ignored() {
    let known = with(entry("k", 1), "deployedAt", json!("2026-01-31T00:00:00Z"));
    let unknown = with(known, "rotation", json!({"owner": "treasury", "days": 90}));
    let text = json!({"signers": [unknown], "version": 3}).to_string();
    let registry = Registry::from_json(&text).unwrap();
    assert_eq!(registry.get("k").unwrap().purpose, Purpose::Signing);
    assert_eq!(registry.iter().count(), 1);
}

#[test]
fn purposes_and_instants_are_read() {
    let emergency = with(entry("emergency", 1), "purpose", json!("breakglass"));
    let audit = with(entry("audit", 2), "purpose", json!("audit"));
    let ends = with(entry("ends", 3), "notAfter", json!("2027-01-31T00:00:00Z"));
    let revoked = with(entry("revoked", 4), "revokedAt", json!("2026-01-31T01:00:00+01:00"));
    let registry = registry(&[emergency, audit, ends, revoked]);
    assert_eq!(registry.get("emergency").unwrap().purpose, Purpose::Breakglass);
    assert_eq!(registry.get("audit").unwrap().purpose, Purpose::Audit);
    assert_eq!(registry.get("ends").unwrap().not_after, Some(instant("2027-01-31T00:00:00Z")));
    assert_eq!(registry.get("revoked").unwrap().revoked_at, Some(instant("2026-01-31T00:00:00Z")));
}

#[test]
fn what_is_published_reads_back_as_the_same_signer() {
    let signer = with(entry("k", 1), "notAfter", json!("2027-01-31T00:00:00Z"));
    let signer = with(signer, "revokedAt", json!("2026-01-31T00:00:00Z"));
    let registry = registry(&[with(signer, "purpose", json!("audit"))]);
    let published = Entry::publish(registry.get("k").unwrap());
    let text = json!({ "signers": [published] }).to_string();
    assert_eq!(Registry::from_json(&text).unwrap().get("k"), registry.get("k"));
}

#[test]
fn every_mistake_is_told_at_once_with_its_kid() {
    let wrong = [
        with(entry("purpose", 2), "purpose", json!("Signing")),
        with(entry("ending", 3), "notAfter", json!("2027-01-31")),
        with(entry("revocation", 4), "revokedAt", json!("yesterday")),
        with(entry("no-key", 5), "public_key_pem", Value::Null),
        with(entry("two-keys", 6), "publicKey", json!("AAAA")),
        with(entry("other-key", 7), "public_key_pem", json!(P256_PEM)),
        with(with(entry("no-base64", 8), "public_key_pem", Value::Null), "publicKey", json!("%")),
        entry("not a kid", 9),
        entry("right", 10),
    ];
    let mistakes = mistakes(&wrong);
    assert_eq!(mistakes.len(), wrong.len() - 1, "{mistakes:#?}");
    for (mistake, entry) in mistakes.iter().zip(&wrong) {
        assert!(mistake.starts_with(&format!("signer {}:", entry["signer_kid"])), "{mistake}");
    }
}

#[test]
fn a_mistake_says_what_to_write_instead() {
    for (key, value, fix) in [
        ("purpose", json!("emergency"), "signing, breakglass, audit"),
        ("notAfter", json!("2027-01-31"), "2027-01-31T00:00:00Z"),
        ("public_key_pem", Value::Null, "add public_key_pem"),
    ] {
        let mistakes = mistakes(&[with(entry("k", 1), key, value)]);
        assert!(mistakes.len() == 1 && mistakes[0].contains(fix), "{mistakes:?}");
    }
}

#[test]
fn a_signer_of_another_algorithm_is_listed_and_never_used() {
    let other = with(entry("other", 1), "algorithm", json!("rsa-pss-4096"));
    let registry = registry(&[other, entry("k", 2)]);
    assert!(registry.get("other").is_none());
    assert_eq!(registry.iter().map(|signer| signer.kid.as_str()).collect::<Vec<_>>(), ["k"]);
    let unsupported = |kid| registry.unsupported(&Kid::parse(kid).unwrap());
    assert_eq!(unsupported("other"), Some("rsa-pss-4096"));
    assert_eq!(unsupported("k"), None);
    assert_eq!(unsupported("absent"), None);
    let document = registry.to_document();
    let listed: Vec<_> = document.signers.iter().map(|entry| entry.signer_kid.as_str()).collect();
    assert_eq!(listed, ["k", "other"]);
}

/// What others write to say that a key signs no more: in the entry, in an object of the entry, and beside
/// the entries. Each is a mistake (M), a note (N), or ignored (I).
#[test]
fn i4_whatever_says_that_a_key_signs_no_more_is_heard() {
    const TIME: &str = "2026-01-01T00:00:00Z";
    for (key, value, expected) in [
        ("revokedAt", json!(TIME), "IMM"),
        ("revoked_at", json!(TIME), "MMM"),
        ("revoked", json!(true), "MMM"),
        ("revoked", json!(["k"]), "MMM"),
        ("revoked", json!([]), "MIM"),
        ("revoked", json!(false), "MIM"),
        ("revokedKids", json!(["k"]), "MMM"),
        ("revocations", json!([{"signer_kid": "k"}]), "MMM"),
        ("revocationReason", json!("lost"), "MMM"),
        ("compromised", json!(true), "MMM"),
        ("tags", json!(["revoked"]), "MMM"),
        ("comment", json!("not revoked, see INC-7"), "III"),
        ("metadata", json!({"revokedAt": TIME}), "MMM"),
        ("lifecycle", json!({"revoked_at": TIME}), "MMM"),
        ("a", json!([{"b": {"c": [{"isRevoked": true}]}}]), "MMM"),
        ("a", json!({"revoked": null}), "III"),
        ("status", json!("revoked"), "MMM"),
        ("notAfter", json!(TIME), "INM"),
        ("not_valid_after", json!(TIME), "MNN"),
        ("notValidAfter", json!(TIME), "MNN"),
        ("expiresAt", json!(TIME), "MNN"),
        ("expiry", json!(1_700_000_000), "MNN"),
        ("expires", json!("never"), "III"),
        ("validUntil", json!(TIME), "MNN"),
        ("valid_to", json!(TIME), "MNN"),
        ("disabled", json!(true), "MNN"),
        ("disabled", json!(false), "III"),
        ("enabled", json!(false), "MNN"),
        ("enabled", json!(true), "III"),
        ("enabled", json!(0), "MNN"),
        ("enabled", json!(1), "III"),
        ("active", json!("0"), "MNN"),
        ("enabled", json!("off"), "MNN"),
        ("active", json!("suspended"), "MNN"),
        ("active", json!("revoked"), "MMM"),
        ("valid", json!("compromised"), "MMM"),
        ("keyActive", json!("expired"), "MNN"),
        ("isKeyDisabled", json!(true), "MNN"),
        ("keyIsDisabled", json!(true), "MNN"),
        ("disabledAtTime", json!(TIME), "MNN"),
        ("DeletionDate", json!(TIME), "MNN"),
        ("status", json!("disabled"), "MNN"),
        ("keyState", json!("PendingDeletion"), "MNN"),
        ("status", json!("active"), "III"),
        ("retiredAt", json!(TIME), "MNN"),
        ("certificate", json!({"notAfter": TIME}), "NNN"),
        ("rotation", json!({"enabled": false}), "NNN"),
        ("purpose", json!("audit"), "IIM"),
        ("description", json!("of the payments"), "III"),
        ("owner", json!("payments"), "III"),
        ("labels", json!({"env": "prod", "tier": ["a", 1, null]}), "III"),
        ("validated", json!(true), "III"),
        ("$schema", json!("https://example.com/registry"), "III"),
    ] {
        let (one, field) = (entry("k", 1), json!({key: value}));
        let places = [
            json!({"signers": [with(one.clone(), key, value.clone())]}),
            json!({"signers": [with(one.clone(), "x-tool", field)]}),
            with(json!({"signers": [one.clone()]}), key, value.clone()),
        ];
        for (place, expected) in places.iter().zip(expected.chars()) {
            let read = Registry::from_json(&place.to_string());
            let found = match &read {
                Err(_) => 'M',
                Ok(registry) if registry.notes().is_empty() => 'I',
                Ok(_) => 'N',
            };
            assert_eq!(found, expected, "{place}: {read:?}");
        }
    }
}

#[test]
fn a_key_that_is_revoked_or_ends_may_be_called_so_by_others_too() {
    const TIME: &str = "2026-01-01T00:00:00Z";
    for (ours, others, is_taken) in [
        ("revokedAt", json!({"status": "revoked", "disabled": true, "expiresAt": TIME}), true),
        ("notAfter", json!({"expiresAt": TIME, "metadata": {"validUntil": TIME}}), true),
        ("notAfter", json!({"status": "disabled"}), false),
        ("notAfter", json!({"metadata": {"revoked": true}}), false),
    ] {
        let mut one = with(entry("k", 1), ours, json!(TIME));
        for (key, value) in others.as_object().unwrap() {
            one = with(one, key, value.clone());
        }
        let read = Registry::from_json(&signers_json(&[one]));
        let is_quiet = read.as_ref().is_ok_and(|registry| registry.notes().is_empty());
        assert_eq!(is_quiet, is_taken, "{ours} {others}: {read:?}");
    }
}

#[test]
fn what_stands_beside_a_map_of_kids_and_a_key_that_stands_twice_are_heard() {
    let one = with(entry("k", 1), "signer_kid", Value::Null);
    let beside = json!({"signers": {"k": one}, "revoked": ["k"]});
    let twice = signers_json(&[entry("k", 1)]);
    let in_entry = twice.replacen("\"algorithm\"", "\"x\": 1, \"x\": 2, \"algorithm\"", 1);
    let of_file = twice.replacen('{', "{\"x\": 1, \"x\": 2, ", 1);
    for (text, said) in [
        (beside.to_string(), "stands beside the entries"),
        (in_entry, "stands twice"),
        (of_file, "stands twice"),
    ] {
        let mistakes = Registry::from_json(&text).unwrap_err().join("; ");
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
}

#[test]
fn a_kid_that_appears_twice_is_refused_whatever_the_algorithms() {
    let other = with(entry("k", 1), "algorithm", json!("rsa-pss-4096"));
    for twice in [[other.clone(), entry("k", 2)], [entry("k", 2), other]] {
        let mistakes = mistakes(&twice);
        assert!(mistakes.len() == 1 && mistakes[0].contains("appears twice"), "{mistakes:?}");
    }
}

#[test]
fn what_is_listed_reads_back_with_every_key_as_pem() {
    let raw = STANDARD.encode(raw_key(&registry(&[entry("k", 1)]), "k"));
    let old_form = json!({
        "signerId": "k",
        "algorithm": "ed25519",
        "publicKey": raw,
        "description": "the ledger's",
    });
    let first = registry(&[old_form]);
    let document = first.to_document();
    assert_eq!(document.signers[0].public_key, None);
    assert_eq!(document.signers[0].description.as_deref(), Some("the ledger's"));
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(Registry::from_json(&text).unwrap().get("k"), first.get("k"));
}

#[test]
fn a_bare_array_and_maps_of_kids_are_read_and_so_is_a_pem_in_public_key() {
    let (one, two) = (entry("one", 1), entry("two", 2));
    let expected = registry(&[one.clone(), two.clone()]);
    let bare = |entry: &Value| with(entry.clone(), "signer_kid", Value::Null);
    let pem = |entry: &Value| {
        let pem = entry["public_key_pem"].clone();
        with(with(entry.clone(), "public_key_pem", Value::Null), "publicKey", pem)
    };
    for form in [
        json!([one, two]),
        json!({"one": bare(&one), "two": bare(&two)}),
        json!({"one": one, "two": two}),
        json!({"signers": {"one": bare(&one), "two": two}}),
        json!([pem(&one), pem(&two)]),
    ] {
        let read = Registry::from_json(&form.to_string()).unwrap();
        let text = |registry: &Registry| serde_json::to_string(&registry.to_document()).unwrap();
        assert_eq!(text(&read), text(&expected), "{form}");
    }
    let revoked = |entry: &Value| with(entry.clone(), "revoked_at", json!("2026-01-01T00:00:00Z"));
    for (form, said) in [
        (json!({"one": two}), "duplicate"),
        (json!([one, one]), "appears twice"),
        (json!([[one]]), "is not a registry"),
        (json!([revoked(&one)]), "revokedAt"),
        (json!({"one": revoked(&bare(&one))}), "revokedAt"),
    ] {
        let mistakes = Registry::from_json(&form.to_string()).unwrap_err();
        assert!(mistakes.join("; ").contains(said), "{form}: {mistakes:?}");
    }
}

#[test]
fn a_kid_that_appears_twice_is_refused() {
    let mistakes = mistakes(&[entry("k", 1), entry("k", 2)]);
    assert!(mistakes.len() == 1 && mistakes[0].contains("\"k\": appears twice"), "{mistakes:?}");
}

#[test]
fn i4_one_key_under_two_kids_is_refused_whatever_their_purposes_and_forms() {
    let raw = STANDARD.encode(raw_key(&registry(&[entry("k", 1)]), "k"));
    let same_form = entry("twin", 1);
    let other_form = json!({"signerId": "twin", "algorithm": "ed25519", "publicKey": raw});
    for twin in [same_form, other_form] {
        for purpose in ["signing", "breakglass", "audit"] {
            let twin = with(twin.clone(), "purpose", json!(purpose));
            let mistakes = mistakes(&[entry("k", 1), twin]);
            assert_eq!(mistakes.len(), 1);
            assert!(mistakes[0].starts_with("signer \"twin\":"), "{mistakes:?}");
            assert!(mistakes[0].contains("same key as signer \"k\""), "{mistakes:?}");
        }
    }
}

#[test]
fn a_text_that_is_no_registry_says_what_one_looks_like() {
    for text in ["", "{}", "[]", r#"{"signers": {}}"#, r#"{"signers": [{"signer_kid": "k"}]}"#] {
        let mistakes = Registry::from_json(text).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains("\"signers\""), "{mistakes:?}");
    }
}

#[test]
fn names_that_are_no_kids_are_in_no_registry() {
    let registry = registry(&[entry("k", 1)]);
    for name in ["", "K", "k ", "k\0", "../k", &"k".repeat(129)] {
        assert!(registry.get(name).is_none(), "{name:?}");
    }
}

#[test]
fn a_revoked_signer_is_not_available_even_before_it_ends() {
    let revoked = with(entry("k", 1), "revokedAt", json!("2026-01-31T00:00:00Z"));
    let revoked = with(revoked, "notAfter", json!("2030-01-31T00:00:00Z"));
    let registry = registry(&[revoked]);
    let refusal = registry.get("k").unwrap().usable_at(instant("2026-02-01T00:00:00Z"));
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.reason, Reason::KeyUnavailable);
    assert_eq!(refusal.signer_kid.as_ref().unwrap().as_str(), "k");
    assert!(refusal.detail.ends_with("revoked at 2026-01-31T00:00:00Z (revokedAt)"), "{refusal:?}");
}

#[test]
fn a_signer_is_available_until_the_instant_it_ends() {
    let registry = registry(&[with(entry("k", 1), "notAfter", json!("2027-01-31T00:00:00Z"))]);
    let signer = registry.get("k").unwrap();
    assert!(signer.usable_at(instant("2027-01-30T23:59:59.999999999Z")).is_ok());
    for late in ["2027-01-31T00:00:00Z", "2027-01-31T00:00:00.000000001Z", "2099-01-01T00:00:00Z"] {
        let refusal = signer.usable_at(instant(late)).unwrap_err();
        assert_eq!(refusal.reason, Reason::KeyUnavailable);
        assert!(
            refusal.detail.ends_with("ended at 2027-01-31T00:00:00Z (notAfter)"),
            "{refusal:?}"
        );
    }
}
