//! A public key is of the kind that the registry says, in its one encoding,
//! or it is no key.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ml_dsa::Keypair as _;
use p256::pkcs8::EncodePublicKey as _;
use signing_core::key::{KeyError, KeyKind, PublicKey};
use signing_core::{Algorithm, Input, ToBeSigned};

const ED25519: Algorithm = Algorithm::Ed25519Sha512;
const ECDSA: Algorithm = Algorithm::EcdsaSha256;

/// DER of `AlgorithmIdentifier`s (RFC 8410 3, RFC 5480 2.1).
const ID_ED25519: &str = "300506032b6570";
const ID_ED25519_WITH_NULL: &str = "300706032b65700500";
const ID_ED448: &str = "300506032b6571";
const ID_P256: &str = "301306072a8648ce3d020106082a8648ce3d030107";
const ID_P384: &str = "301006072a8648ce3d020106052b81040022";
const ID_SECP256K1: &str = "301006072a8648ce3d020106052b8104000a";
const ID_EC_WITHOUT_CURVE: &str = "300906072a8648ce3d0201";
const ID_EC_IMPLICIT_CURVE: &str = "300b06072a8648ce3d02010500";
const ID_RSA: &str = "300d06092a864886f70d0101010500";

/// A point of P-384, made by `openssl ecparam -name secp384r1 -genkey`.
const P384_POINT: &str = "045aa4e2969188f49b0f845916f55753da78b4bd5a249ff5cbc65ab72d6a6791a5\
                          8bd24d93e1d1f7ed4f3c264b5b0351ff514f7ccf1a5b6abd7824680128f9dc35aa\
                          2c78d8207aa3f14dc59c1d7c6199092e89e3273d486bccccda9a664e838f11";

fn ed25519_point() -> Vec<u8> {
    ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes().to_vec()
}

fn p256_point(compress: bool) -> Vec<u8> {
    let private = p256::ecdsa::SigningKey::from_slice(&[1; 32]).unwrap();
    private.verifying_key().to_sec1_point(compress).as_bytes().to_vec()
}

fn hexed(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 0x80, "the short form of a length");
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A SubjectPublicKeyInfo (RFC 5280 4.1).
fn spki(algorithm: &str, point: &[u8]) -> Vec<u8> {
    let bits = tagged(0x03, &[&[0], point].concat());
    tagged(0x30, &[hexed(algorithm), bits].concat())
}

fn read(der: &[u8], algorithm: Algorithm) -> Result<PublicKey, KeyError> {
    PublicKey::from_spki_der(der, algorithm)
}

fn is_other_kind(read: Result<PublicKey, KeyError>) -> bool {
    matches!(read, Err(KeyError::OtherKind { .. }))
}

fn is_no_spki(read: Result<PublicKey, KeyError>) -> bool {
    matches!(read, Err(KeyError::Spki(_)))
}

fn is_no_point(read: Result<PublicKey, KeyError>) -> bool {
    matches!(read, Err(KeyError::Point))
}

/// A good key of each kind.
fn good() -> [(Vec<u8>, Algorithm); 2] {
    [(spki(ID_ED25519, &ed25519_point()), ED25519), (spki(ID_P256, &p256_point(false)), ECDSA)]
}

#[test]
fn a_key_is_read_as_other_implementations_write_it() {
    let edwards = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
    let weierstrass = *p256::ecdsa::SigningKey::from_slice(&[1; 32]).unwrap().verifying_key();
    let written = [edwards.to_public_key_der().unwrap(), weierstrass.to_public_key_der().unwrap()];
    for ((der, algorithm), written) in good().into_iter().zip(written) {
        assert_eq!(der, written.as_bytes());
        let key = read(&der, algorithm).unwrap();
        assert_eq!(key.spki_der(), der);
        assert_eq!(key.algorithm(), algorithm);
    }
}

#[test]
fn a_key_reads_back_from_its_pem() {
    for (der, algorithm) in good() {
        let key = read(&der, algorithm).unwrap();
        let pem = key.to_pem();
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        for text in [pem.clone(), pem.replace('\n', "\r\n"), format!("\n\t{pem}\n\n")] {
            assert_eq!(PublicKey::from_pem(&text, algorithm), Ok(key.clone()));
        }
    }
}

#[test]
fn a_pem_is_read_whatever_the_length_of_its_lines() {
    for (der, algorithm) in good() {
        let key = read(&der, algorithm).unwrap();
        let body: String = key.to_pem().lines().filter(|line| !line.starts_with('-')).collect();
        // `base64` writes 76, `base64 -w0` one line.
        for columns in [1, 4, 60, 63, 64, 65, 76, 1000] {
            let lines: Vec<_> =
                body.as_bytes().chunks(columns).map(String::from_utf8_lossy).collect();
            let pem = format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                lines.join("\n")
            );
            assert_eq!(PublicKey::from_pem(&pem, algorithm), Ok(key.clone()), "{columns} columns");
        }
    }
}

#[test]
fn a_pem_block_of_another_kind_is_refused() {
    for (der, algorithm) in good() {
        let pem = read(&der, algorithm).unwrap().to_pem();
        for label in ["PRIVATE KEY", "EC PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "public key"]
        {
            let read = PublicKey::from_pem(&pem.replace("PUBLIC KEY", label), algorithm);
            assert!(matches!(read, Err(KeyError::Pem(_))), "{label}");
        }
    }
}

#[test]
fn a_text_that_is_not_one_whole_pem_block_is_refused() {
    for (der, algorithm) in good() {
        let pem = read(&der, algorithm).unwrap().to_pem();
        let cut = &pem[..pem.len() / 2];
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let twice = format!("{pem}{pem}");
        let text_after = format!("{pem}and so on\n");
        let one_end = pem.replace("END PUBLIC KEY", "END PRIVATE KEY");
        for text in ["", "PUBLIC KEY", cut, &body, &twice, &text_after, &one_end] {
            let read = PublicKey::from_pem(text, algorithm);
            assert!(matches!(read, Err(KeyError::Pem(_))), "{text}");
        }
    }
}

#[test]
fn a_key_of_another_kind_than_registered_is_refused() {
    let [(ed25519, _), (p256, _)] = good();
    assert!(is_other_kind(read(&ed25519, ECDSA)));
    assert!(is_other_kind(read(&p256, ED25519)));
    // The right bytes under another name.
    for id in [ID_ED448, ID_P256, ID_RSA] {
        assert!(is_other_kind(read(&spki(id, &ed25519_point()), ED25519)), "{id}");
    }
    for id in [ID_P384, ID_EC_WITHOUT_CURVE, ID_EC_IMPLICIT_CURVE, ID_RSA, ID_ED25519] {
        assert!(is_other_kind(read(&spki(id, &p256_point(false)), ECDSA)), "{id}");
    }
    // A point of P-256 under the name of the other curve that this algorithm has.
    assert!(is_no_point(read(&spki(ID_SECP256K1, &p256_point(false)), ECDSA)));
}

#[test]
fn a_p384_key_is_no_p256_key() {
    let point = hexed(P384_POINT);
    let refused = read(&spki(ID_P384, &point), ECDSA);
    assert!(is_other_kind(refused));
    // And neither is its point under the name of P-256.
    assert!(is_no_point(read(&spki(ID_P256, &point), ECDSA)));
}

#[test]
fn the_curve_of_a_key_says_its_kind_where_an_algorithm_has_two() {
    let secp256k1 = k256::ecdsa::SigningKey::from_slice(&[1; 32]).unwrap();
    let der = secp256k1.verifying_key().to_public_key_der().unwrap();
    assert_eq!(read(der.as_bytes(), ECDSA).unwrap().kind(), KeyKind::Secp256k1);
    let [_, (p256, _)] = good();
    assert_eq!(read(&p256, ECDSA).unwrap().kind(), KeyKind::P256);
    let p521 =
        p521::ecdsa::SigningKey::from_slice(&[[0, 1].as_slice(), &[1; 64]].concat()).unwrap();
    let der = p521.verifying_key().to_public_key_der().unwrap();
    assert!(is_other_kind(read(der.as_bytes(), ECDSA)));
    let key = read(der.as_bytes(), Algorithm::EcdsaSha512).unwrap();
    assert_eq!((key.kind(), key.registry_name()), (KeyKind::P521, "ecdsa-p521-sha512"));
}

#[test]
fn an_ml_dsa_key_has_the_length_of_its_parameter_set_and_no_parameters() {
    const ML_DSA: Algorithm = Algorithm::MlDsaShake256;
    let key = ml_dsa::SigningKey::<ml_dsa::MlDsa44>::from_seed(&ml_dsa::Seed::from([1; 32]));
    let der = key.verifying_key().to_public_key_der().unwrap().into_vec();
    let read_key = read(&der, ML_DSA).unwrap();
    assert_eq!((read_key.kind(), read_key.spki_der()), (KeyKind::MlDsa44, der.as_slice()));
    assert!(is_other_kind(read(&der, ECDSA)));
    // The same bytes under the name of another parameter set: 2.16.840.1.101.3.4.3.17 ends there.
    let mut other = der.clone();
    let at = other.windows(3).position(|window| window == [4, 3, 17]).unwrap();
    other[at + 2] = 18;
    assert_eq!(read(&other, ML_DSA), Err(KeyError::MlDsa));
    other[at + 2] = 20;
    assert!(is_other_kind(read(&other, ML_DSA)));
}

/// FIPS 204: mu, made by the implementation of the keys above.
#[test]
fn what_stands_for_a_message_before_an_ml_dsa_key_is_what_another_implementation_makes() {
    let key = ml_dsa::SigningKey::<ml_dsa::MlDsa65>::from_seed(&ml_dsa::Seed::from([2; 32]));
    let der = key.verifying_key().to_public_key_der().unwrap();
    let read_key = read(der.as_bytes(), Algorithm::MlDsaShake256).unwrap();
    let message = vec![7; 10_000];
    let mu = read_key.external_mu(&message).unwrap();
    let signature = key.expanded_key().sign_mu_deterministic(&mu.into()).encode();
    let input = ToBeSigned::prepare(&Input::Message(message), Algorithm::MlDsaShake256).unwrap();
    assert!(read_key.verifies(&input, &signature));
    let [(ed25519, _), _] = good();
    assert_eq!(read(&ed25519, ED25519).unwrap().external_mu(b"m"), None);
}

#[test]
fn a_refusal_names_both_kinds() {
    let [(ed25519, _), _] = good();
    let sentence = read(&ed25519, ECDSA).unwrap_err().to_string();
    assert!(sentence.contains("Ed25519") && sentence.contains("P-256"), "{sentence}");
}

#[test]
fn i4_only_the_uncompressed_point_is_read_so_that_one_key_has_one_encoding() {
    let point = p256_point(false);
    let hybrid = |tag: u8| [&[tag], &point[1..]].concat();
    for other in [p256_point(true), hybrid(0x06), hybrid(0x07), hybrid(0x02), vec![0], vec![]] {
        assert!(is_no_point(read(&spki(ID_P256, &other), ECDSA)), "{}", hex::encode(other));
    }
}

#[test]
fn a_point_that_is_not_on_the_curve_is_refused() {
    let point = p256_point(false);
    let mut beside = point.clone();
    beside[64] ^= 1;
    let beyond = [&[0x04][..], &[0xff; 64]].concat();
    let longer = [point.as_slice(), &[0]].concat();
    for wrong in
        [&beside, &beyond, &longer, &point[..64].to_vec(), &[&[0x04][..], &[0; 64]].concat()]
    {
        assert!(is_no_point(read(&spki(ID_P256, wrong), ECDSA)), "{}", hex::encode(wrong));
    }
}

#[test]
fn an_ed25519_key_of_another_length_is_refused() {
    for length in [0, 1, 31, 33, 57, 64] {
        assert!(is_no_point(read(&spki(ID_ED25519, &vec![1; length]), ED25519)), "{length}");
    }
}

#[test]
fn ed25519_takes_no_parameters() {
    assert!(is_other_kind(read(&spki(ID_ED25519_WITH_NULL, &ed25519_point()), ED25519)));
}

#[test]
fn bytes_that_are_not_exactly_one_spki_are_refused() {
    for (der, algorithm) in good() {
        for length in 0..der.len() {
            assert!(is_no_spki(read(&der[..length], algorithm)), "cut at {length}");
        }
        for garbage in [&[0][..], &[0x30, 0], &der] {
            assert!(is_no_spki(read(&[&der, garbage].concat(), algorithm)));
        }
        let long_form = [&[0x30, 0x81], &der[1..]].concat();
        assert!(is_no_spki(read(&long_form, algorithm)));
        let indefinite = [&[0x30, 0x80], &der[2..], &[0, 0]].concat();
        assert!(is_no_spki(read(&indefinite, algorithm)));
    }
}

#[test]
fn garbage_inside_an_spki_is_refused() {
    for (der, algorithm) in good() {
        let inside = tagged(0x30, &[&der[2..], &[0x05, 0]].concat());
        assert!(is_no_spki(read(&inside, algorithm)));
    }
}

#[test]
fn a_bit_string_with_unused_bits_is_no_key() {
    let [(mut ed25519, _), (mut p256, _)] = good();
    let (ed25519_unused, p256_unused) = (ed25519.len() - 33, p256.len() - 66);
    ed25519[ed25519_unused] = 1;
    p256[p256_unused] = 1;
    assert!(is_no_spki(read(&ed25519, ED25519)));
    assert!(is_no_spki(read(&p256, ECDSA)));
}

#[test]
fn i4_an_spki_inside_an_spki_is_no_second_encoding_of_a_key() {
    let inner = spki(ID_ED25519, &ed25519_point());
    assert!(is_no_point(read(&spki(ID_ED25519, &inner), ED25519)));
}

#[test]
fn i1_an_ed25519_key_of_small_order_is_refused_whatever_its_sign() {
    // y of the points of order 1, 2, 4 and 8, and the same beyond p (eprint 2020/1244).
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut point = hexed(y);
        assert!(is_no_point(read(&spki(ID_ED25519, &point), ED25519)), "{y}");
        point[31] |= 0x80;
        assert!(is_no_point(read(&spki(ID_ED25519, &point), ED25519)), "{y} with its sign");
    }
}

#[test]
fn i4_an_ed25519_coordinate_beyond_p_is_no_second_encoding_of_a_key() {
    for above in 0xed..=0xff_u8 {
        let mut point = vec![0xff; 32];
        (point[0], point[31]) = (above, 0x7f);
        assert!(is_no_point(read(&spki(ID_ED25519, &point), ED25519)), "{above:x}");
    }
}
