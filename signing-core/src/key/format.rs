//! How a signature is written: an ECDSA signature in two ways, a batch signer's as a proof.

use spki::der::asn1::{AnyRef, UintRef};
use spki::der::{Decode as _, Encode as _, Reader as _, Tag};

use super::Algorithm;
use crate::refusal::{Reason, Refusal};

/// How the pair (r, s) of an ECDSA signature is written. Other algorithms have
/// one encoding only, which `Der` stands for too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureFormat {
    /// ASN.1 DER `Ecdsa-Sig-Value` (RFC 3279 2.2.3): what KMS answers.
    #[default]
    Der,
    /// IEEE P1363: r and s, each as long as the curve's order, one after the other.
    /// What JOSE, WebCrypto and PKCS#11 use.
    P1363,
    /// The text of a proof (c2sp.org/tlog-proof): what a batch signer answers, and no other does.
    TlogProof,
}

impl SignatureFormat {
    /// Its name in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Der => "der",
            Self::P1363 => "p1363",
            Self::TlogProof => "tlog-proof",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Der, Self::P1363, Self::TlogProof].into_iter().find(|format| format.name() == name)
    }

    /// Whether a signature of `algorithm` can be written so.
    ///
    /// # Errors
    /// `invalid_request` if there is no such form of it.
    pub fn fits(self, algorithm: Algorithm) -> Result<(), Refusal> {
        match (self, half_bytes(algorithm)) {
            (Self::Der, _) | (Self::P1363, Some(_)) => Ok(()),
            (Self::P1363, None) => Err(Refusal::new(
                Reason::InvalidRequest,
                format!(
                    "\"signature_format\" \"p1363\" is a form of ECDSA signatures; {algorithm} has \
                     one form only: leave it out"
                ),
            )),
            (Self::TlogProof, _) => Err(Refusal::new(
                Reason::InvalidRequest,
                "\"signature_format\" \"tlog-proof\" is the form of batch signers' signatures; leave it \
                 out, or name a batch signer"
                    .to_owned(),
            )),
        }
    }

    /// Writes a signature that is in `algorithm`'s own form. None if it is not.
    pub(super) fn write(self, algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
        match (self, half_bytes(algorithm)) {
            (Self::Der, _) => Some(signature.to_vec()),
            (Self::P1363, Some(half)) => p1363_from_der(signature, half),
            (Self::P1363, None) | (Self::TlogProof, _) => None,
        }
    }

    /// Reads a signature into `algorithm`'s own form. None if it cannot be one.
    #[must_use]
    pub fn read(self, algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
        match (self, half_bytes(algorithm)) {
            (Self::Der, _) => Some(signature.to_vec()),
            (Self::P1363, Some(half)) => der_from_p1363(signature, half),
            (Self::P1363, None) => None,
            // It is compared as it is.
            (Self::TlogProof, _) => Some(signature.to_vec()),
        }
    }
}

/// Bytes of r and of s; None where a signature is no such pair.
const fn half_bytes(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        // The same for both curves.
        Algorithm::EcdsaSha256 => Some(32),
        Algorithm::EcdsaSha384 => Some(48),
        Algorithm::EcdsaSha512 => Some(66),
        Algorithm::Ed25519Sha512
        | Algorithm::RsaPkcs1(_)
        | Algorithm::RsaPss(_)
        | Algorithm::MlDsaShake256 => None,
    }
}

fn p1363_from_der(signature: &[u8], half: usize) -> Option<Vec<u8>> {
    let pair = AnyRef::from_der(signature).ok()?;
    let (r, s) = pair
        .sequence(|reader| Ok::<_, spki::der::Error>((reader.decode()?, reader.decode()?)))
        .ok()?;
    let padded = |number: UintRef<'_>| {
        let bytes = number.as_bytes();
        let zeros = half.checked_sub(bytes.len())?;
        Some([&vec![0; zeros], bytes].concat())
    };
    Some([padded(r)?, padded(s)?].concat())
}

fn der_from_p1363(signature: &[u8], half: usize) -> Option<Vec<u8>> {
    if signature.len() != half * 2 {
        return None;
    }
    let (r, s) = signature.split_at(half);
    let integer = |bytes| UintRef::new(bytes).and_then(|number| number.to_der()).ok();
    let pair = [integer(r)?, integer(s)?].concat();
    AnyRef::new(Tag::Sequence, &pair).and_then(|sequence| sequence.to_der()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ecdsa_has_two_forms() {
        for algorithm in Algorithm::ALL {
            assert!(SignatureFormat::Der.fits(*algorithm).is_ok());
            let is_ecdsa = algorithm.name().starts_with("ECDSA_");
            assert_eq!(SignatureFormat::P1363.fits(*algorithm).is_ok(), is_ecdsa, "{algorithm}");
        }
    }

    #[test]
    fn p1363_and_der_are_each_others_inverse_whatever_the_leading_bytes() {
        for (algorithm, half) in [
            (Algorithm::EcdsaSha256, 32),
            (Algorithm::EcdsaSha384, 48),
            (Algorithm::EcdsaSha512, 66),
        ] {
            for first in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                for zeros in [0, 1, 5, half - 1] {
                    let mut r = vec![0; half];
                    r[zeros] = first;
                    r[half - 1] |= 1;
                    let both = [r.clone(), vec![0xfe; half]].concat();
                    let der = SignatureFormat::P1363.read(algorithm, &both).unwrap();
                    let back = SignatureFormat::P1363.write(algorithm, &der);
                    assert_eq!(back, Some(both));
                }
            }
        }
    }

    #[test]
    fn what_is_no_pair_of_that_curve_has_no_other_form() {
        let p256 = Algorithm::EcdsaSha256;
        assert_eq!(SignatureFormat::P1363.read(p256, &[1; 63]), None);
        assert_eq!(SignatureFormat::P1363.read(p256, &[1; 96]), None);
        assert_eq!(SignatureFormat::P1363.read(Algorithm::Ed25519Sha512, &[1; 64]), None);
        let p384_pair = SignatureFormat::P1363.read(Algorithm::EcdsaSha384, &[0xfe; 96]).unwrap();
        assert_eq!(SignatureFormat::P1363.write(p256, &p384_pair), None);
        assert_eq!(SignatureFormat::P1363.write(p256, b"no der"), None);
    }
}
