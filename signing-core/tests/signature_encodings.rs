//! One signature has one encoding: whatever else a lax reader would take for
//! it is bad (I10). Only a high S is as good as a low one, since KMS makes both.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::iter;

use ed25519_dalek::Signer as _;
use p256::ecdsa::Signature as P256Signature;
use signing_core::key::SIGNATURE_MAX_BYTES;
use signing_core::{Algorithm, Hash, Input, Signer, ToBeSigned};

use key_pairs::{ed25519, p256};

mod key_pairs;

/// The order of P-256's group (FIPS 186-5, D.1.2.3), big-endian.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// The order of Ed25519's group, L (RFC 8032 5.1), little-endian.
const ED25519_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;

/// A P-256 signature as its two numbers, big-endian, with what it verifies under.
struct Ecdsa {
    signer: Signer,
    input: ToBeSigned,
    r: Vec<u8>,
    s: Vec<u8>,
}

impl Ecdsa {
    /// A signature over the first message for which `wanted` holds of its numbers.
    fn find(wanted: impl Fn(&[u8], &[u8]) -> bool) -> Self {
        let (private, signer) = p256(1);
        let found = (0..u32::MAX).map(u32::to_be_bytes).find_map(|said| {
            let signature: P256Signature = private.sign(&said);
            let (r, s) = signature.split_bytes();
            wanted(&r, &s).then(|| (said, r.to_vec(), s.to_vec()))
        });
        let (said, r, s) = found.unwrap();
        let input = ToBeSigned::prepare(&Input::Message(said.to_vec()), Algorithm::EcdsaSha256);
        Self { signer, input: input.unwrap(), r, s }
    }

    fn any() -> Self {
        Self::find(|_, _| true)
    }

    fn accepts(&self, signature: &[u8]) -> bool {
        self.signer.verify(&self.input, signature.to_vec()).is_ok()
    }
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 0x80, "the short form of a length");
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A DER INTEGER: no more leading zeros than keep it from being negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let positive = significant.first().is_none_or(|byte| *byte >= 0x80);
    let zero = iter::once(0).take(usize::from(positive));
    tagged(INTEGER, &zero.chain(significant).collect::<Vec<_>>())
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, &parts.concat())
}

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    sequence(&[&integer(r), &integer(s)])
}

/// `a - b` of big-endian numbers of equal length, `a` the larger.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut bytes: Vec<u8> = iter::zip(a, b)
        .rev()
        .map(|(a, b)| {
            let digit = 0x100 + i32::from(*a) - i32::from(*b) - borrow;
            borrow = i32::from(digit < 0x100);
            u8::try_from(digit & 0xff).unwrap()
        })
        .collect();
    bytes.reverse();
    bytes
}

/// `a + b` of big-endian numbers of equal length, one byte longer.
fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut bytes: Vec<u8> = iter::zip(a, b)
        .rev()
        .map(|(a, b)| {
            let digit = u16::from(*a) + u16::from(*b) + carry;
            carry = digit >> 8;
            u8::try_from(digit & 0xff).unwrap()
        })
        .collect();
    bytes.push(u8::try_from(carry).unwrap());
    bytes.reverse();
    bytes
}

fn p256_order() -> Vec<u8> {
    hex::decode(P256_ORDER).unwrap()
}

fn is_negative(number: &[u8]) -> bool {
    number.first().is_some_and(|byte| *byte >= 0x80)
}

#[test]
fn i10_high_s_and_low_s_are_both_good() {
    for seen in 0..8 {
        let signature = Ecdsa::find(|r, _| r[31] % 8 == seen);
        let other_s = difference(&p256_order(), &signature.s);
        assert_ne!(is_negative(&other_s), is_negative(&signature.s));
        assert!(signature.accepts(&der(&signature.r, &signature.s)));
        assert!(signature.accepts(&der(&signature.r, &other_s)));
    }
}

#[test]
fn i10_short_numbers_are_good_in_their_shortest_form_only() {
    let is_short = |number: &[u8]| number[0] == 0 && !is_negative(&number[1..]);
    for short in [Ecdsa::find(|r, _| is_short(r)), Ecdsa::find(|_, s| is_short(s))] {
        let (r, s) = (&short.r, &short.s);
        assert!(short.accepts(&der(r, s)));
        let full_width = |number: &[u8]| match is_negative(number) {
            true => integer(number),
            false => tagged(INTEGER, number),
        };
        assert!(!short.accepts(&sequence(&[&full_width(r), &full_width(s)])));
    }
}

#[test]
fn i10_a_leading_zero_that_nothing_needs_is_bad() {
    let Ecdsa { ref r, ref s, .. } = Ecdsa::any();
    let padded = |number: &[u8]| tagged(INTEGER, &[&[0], &integer(number)[2..]].concat());
    for signature in [
        sequence(&[&padded(r), &integer(s)]),
        sequence(&[&integer(r), &padded(s)]),
        sequence(&[&padded(r), &padded(s)]),
    ] {
        assert!(!Ecdsa::any().accepts(&signature));
    }
}

#[test]
fn i10_a_negative_number_is_bad() {
    let signature = Ecdsa::find(|r, s| is_negative(r) && is_negative(s));
    let (r, s) = (&signature.r, &signature.s);
    assert!(signature.accepts(&der(r, s)));
    assert!(!signature.accepts(&sequence(&[&tagged(INTEGER, r), &integer(s)])));
    assert!(!signature.accepts(&sequence(&[&integer(r), &tagged(INTEGER, s)])));
    // -s as two's complement: what a reader of magnitudes would take for n - s.
    let minus_s = difference(&[&[1][..], &[0; 32]].concat(), &[&[0], s.as_slice()].concat());
    assert!(!signature.accepts(&sequence(&[&integer(r), &tagged(INTEGER, &minus_s)])));
    let minus_s = [&[0xff], &minus_s[1..]].concat();
    assert!(!signature.accepts(&sequence(&[&integer(r), &tagged(INTEGER, &minus_s)])));
}

#[test]
fn i10_zero_and_numbers_beyond_the_order_are_bad() {
    let signature = Ecdsa::any();
    let (r, s) = (&signature.r, &signature.s);
    let order = p256_order();
    let (zero, all_ones) = ([0; 32], [0xff; 32]);
    let none: &[u8] = &tagged(INTEGER, &[]);
    for bad in [
        der(&zero, s),
        der(r, &zero),
        der(&zero, &zero),
        der(&order, s),
        der(r, &order),
        der(r, &all_ones),
        der(&all_ones, s),
        der(&sum(r, &order), s),
        der(r, &sum(s, &order)),
        sequence(&[none, &integer(s)]),
        sequence(&[&integer(r), none]),
        sequence(&[none, none]),
    ] {
        assert!(!signature.accepts(&bad), "{}", hex::encode(bad));
    }
}

#[test]
fn i10_other_lengths_of_lengths_are_bad() {
    let signature = Ecdsa::any();
    let (r, s) = (integer(&signature.r), integer(&signature.s));
    let body = [r.clone(), s.clone()].concat();
    let length = u8::try_from(body.len()).unwrap();
    let long_form = |number: &[u8]| [&[INTEGER, 0x81], &number[1..]].concat();
    for bad in [
        [&[SEQUENCE, 0x81, length], body.as_slice()].concat(),
        [&[SEQUENCE, 0x82, 0, length], body.as_slice()].concat(),
        [&[SEQUENCE, 0x84, 0, 0, 0, length], body.as_slice()].concat(),
        sequence(&[&long_form(&r), &s]),
        sequence(&[&r, &long_form(&s)]),
        // BER's indefinite length, with and without the end of contents.
        [&[SEQUENCE, 0x80], body.as_slice(), &[0, 0]].concat(),
        [&[SEQUENCE, 0x80], body.as_slice()].concat(),
        [&[SEQUENCE, length + 1], body.as_slice()].concat(),
        [&[SEQUENCE, length - 1], body.as_slice()].concat(),
    ] {
        assert!(!signature.accepts(&bad), "{}", hex::encode(bad));
    }
}

#[test]
fn i10_anything_more_than_two_integers_in_a_sequence_is_bad() {
    let signature = Ecdsa::any();
    let (r, s) = (integer(&signature.r), integer(&signature.s));
    let good = sequence(&[&r, &s]);
    let with_tag = |tag: u8, part: &[u8]| [&[tag], &part[1..]].concat();
    for bad in [
        [good.as_slice(), &[0]].concat(),
        [good.as_slice(), &[0; 500]].concat(),
        sequence(&[&r, &s, &[0]]),
        sequence(&[&r, &s, &[5, 0]]),
        sequence(&[&r, &s, &integer(&[1])]),
        sequence(&[&integer(&[1]), &r, &s]),
        sequence(&[&r]),
        sequence(&[]),
        sequence(&[&s, &r]),
        sequence(&[&good]),
        with_tag(0x31, &good),
        with_tag(0x10, &good),
        sequence(&[&with_tag(0x03, &r), &s]),
        sequence(&[&r, &with_tag(0x22, &s)]),
        [signature.r.as_slice(), &signature.s].concat(),
        vec![0; SIGNATURE_MAX_BYTES + 1],
    ] {
        assert!(!signature.accepts(&bad), "{}", hex::encode(bad));
    }
}

#[test]
fn i10_an_ed25519_s_that_is_not_reduced_is_bad() {
    let order: Vec<u8> = hex::decode(ED25519_ORDER).unwrap().into_iter().rev().collect();
    for seed in 0..16 {
        let (private, signer) = ed25519(seed);
        let input = ToBeSigned::prepare(&Input::Message(vec![seed]), Algorithm::Ed25519Sha512);
        let input = input.unwrap();
        let signature = private.sign(&[seed]).to_bytes();
        let (r, s) = signature.split_at(32);
        assert!(signer.verify(&input, signature.to_vec()).is_ok());
        let mut s: Vec<u8> = s.iter().rev().copied().collect();
        // S + L, S + 2 L, ... as long as they fit: the same number to a reader that reduces.
        let mut equal_numbers = 0;
        loop {
            let larger = sum(&s, &order);
            if larger[0] != 0 {
                break;
            }
            s = larger[1..].to_vec();
            let little_endian: Vec<u8> = s.iter().rev().copied().collect();
            assert!(signer.verify(&input, [r, &little_endian].concat()).is_err());
            equal_numbers += 1;
        }
        assert!(equal_numbers > 10);
    }
}

#[test]
fn i10_an_ed25519_signature_of_nothing_is_bad() {
    let (_, signer) = ed25519(1);
    let input =
        ToBeSigned::prepare(&Input::Digest(Hash::Sha256.of(b"1")), Algorithm::Ed25519Sha512)
            .unwrap();
    // The neutral point and the point of order 2 as R, with S = 0.
    let order_two = [&[0xec][..], &[0xff; 30], &[0x7f]].concat();
    for r in [vec![0; 32], [&[1][..], &[0; 31]].concat(), order_two] {
        assert!(signer.verify(&input, [r.as_slice(), &[0; 32]].concat()).is_err());
    }
}
