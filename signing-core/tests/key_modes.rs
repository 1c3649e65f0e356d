//! A key keeps its mode for good, as far as one journal reaches: what signed single inputs signs no batches later.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use serde_json::{Value, json};
use signing_core::Registry;
use signing_core::journal::{InForce, KeyModes, KeyModesSnapshot, Record, Reload, SignersChanged};
use time::OffsetDateTime;

use key_pairs::{ed25519, p256};
use support::{entry, signers_json};

mod key_pairs;
mod support;

/// The entry of a key in that mode, under that kid.
fn of(kid: &str, spki_der: &[u8], algorithm: &str, is_batch: bool) -> Value {
    use base64::Engine as _;
    let mut entry = entry(kid, 1);
    entry["algorithm"] = json!(algorithm);
    entry["publicKey"] = json!(base64::engine::general_purpose::STANDARD.encode(spki_der));
    entry.as_object_mut().unwrap().remove("public_key_pem");
    if is_batch {
        entry["mode"] = json!("batch");
    }
    entry
}

fn registry(entries: &[Value]) -> Registry {
    Registry::from_json(&signers_json(entries)).unwrap()
}

fn after(first: &[Value], next: &[Value]) -> Result<KeyModes, Vec<String>> {
    let known = KeyModes::default().with(&registry(first)).unwrap();
    // What the journal tells of it is what the next start knows.
    let told = Reload {
        by: "a",
        generation: 2,
        key_modes: known.snapshot(),
        registry_sha256: "0a",
        signers: SignersChanged::default(),
    };
    let body = Record::Reload(told).encode(OffsetDateTime::UNIX_EPOCH).unwrap();
    let mut in_force = InForce::default();
    in_force
        .hear(
            Record::Reload(Reload {
                by: "a",
                generation: 2,
                key_modes: None,
                registry_sha256: "0a",
                signers: SignersChanged::default(),
            })
            .kind(),
            &body,
        )
        .unwrap();
    assert_eq!(in_force.key_modes, known);
    in_force.key_modes.with(&registry(next))
}

#[test]
fn a_key_keeps_its_mode_under_whatever_kid() {
    let keys = [(ed25519(1).1, "ed25519"), (p256(1).1, "ecdsa-p256-sha256")];
    for (signer, algorithm) in keys {
        let of = |kid, is_batch| of(kid, signer.public_key.spki_der(), algorithm, is_batch);
        for kid in ["k", "other"] {
            let single = after(&[of("k", false)], &[of(kid, true)]).unwrap_err();
            assert!(single.join("").contains("make a new key for the batch signer"), "{single:?}");
            let batch = after(&[of("k", true)], &[of(kid, false)]).unwrap_err();
            assert!(batch.join("").contains("signs nothing else, ever"), "{batch:?}");
            for is_batch in [false, true] {
                let same = after(&[of("k", is_batch)], &[of(kid, is_batch)]).unwrap();
                let told = same.snapshot().unwrap();
                assert_eq!(
                    (told.single.len(), told.batch.len()),
                    (usize::from(!is_batch), usize::from(is_batch))
                );
            }
        }
        // One that was taken out meanwhile is known still.
        let gone = KeyModes::default().with(&registry(&[of("k", false)])).unwrap();
        let gone = gone.with(&registry(&[])).unwrap();
        assert!(gone.with(&registry(&[of("new", true)])).is_err());
    }
}

#[test]
fn a_journal_that_knows_too_many_keys_takes_no_new_batch_signer() {
    let key = ed25519(7).1;
    let of = |is_batch| registry(&[of("k", key.public_key.spki_der(), "ed25519", is_batch)]);
    let single = (0..192_u64).map(|number| format!("{number:016x}")).collect();
    let told = KeyModesSnapshot { batch: Vec::new(), single };
    let record = Record::Reload(Reload {
        by: "a",
        generation: 2,
        key_modes: Some(told),
        registry_sha256: "0a",
        signers: SignersChanged::default(),
    });
    let mut in_force = InForce::default();
    in_force.hear(record.kind(), &record.encode(OffsetDateTime::UNIX_EPOCH).unwrap()).unwrap();
    let full = in_force.key_modes;
    assert_eq!(full.with(&of(false)).unwrap(), full);
    assert!(full.with(&of(true)).unwrap_err().join("").contains("begin another journal"));
}
