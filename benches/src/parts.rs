//! What is measured in turn, and what is made of it.

use serde::{Serialize, Serializer};
use signing_core::Algorithm;
use signing_core::key::KeyKind;

use crate::scene::SLOTS;

/// The kinds of keys that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
}

impl Curve {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::P256];

    /// The kind of its keys.
    #[must_use]
    pub fn kind(self) -> KeyKind {
        match self {
            Self::Ed25519 => KeyKind::Ed25519,
            Self::P256 => KeyKind::P256,
        }
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Ed25519 => Algorithm::Ed25519Sha512,
            Self::P256 => Algorithm::EcdsaSha256,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::P256 => "P-256",
        }
    }
}

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The bare server, with the proxy's refusal as its answer.
    CeilingOfRefusals,
    /// The frozen proxy.
    Refusal,
    /// The proxy while its upstream swallows everything.
    Outage,
    /// As many requests at once as the proxy takes, of a KMS that takes its time.
    AtCapacity,
    /// Ten times as many: those that were accepted.
    Overload,
    /// Ten times as many: those that were refused.
    OverloadRefused,
    /// The bare server, with an answer of the proxy that holds a signature.
    CeilingOfSignatures,
    /// The proxy with a key of the development provider.
    Development(Curve),
    /// The same, by KMS's wire form.
    KmsForm,
    /// The same, at a local door with a signature of AWS and without TLS.
    KmsFormAtLocalDoor,
    /// The proxy with a key in the KMS for tests.
    Kms(Curve),
    /// The same, with `client = "sdk"`.
    KmsBySdk,
    /// The bare loop of calls to the KMS for tests, by the SDK.
    KmsLoop(Curve),
    /// The same by our own client, which the proxy has.
    KmsLoopLean,
    /// The journal alone: an intent and its outcome, waited for.
    Journal,
    /// A bare write and fdatasync of as many bytes, one after the other.
    BareSync,
}

use Curve::{Ed25519, P256};

impl Part {
    /// All, so ordered that what is compared comes soon after another.
    pub const ALL: [Self; 19] = [
        Self::CeilingOfRefusals,
        Self::Refusal,
        Self::Outage,
        Self::AtCapacity,
        Self::Overload,
        Self::OverloadRefused,
        Self::BareSync,
        Self::Journal,
        Self::CeilingOfSignatures,
        Self::Development(Ed25519),
        Self::Development(P256),
        Self::KmsForm,
        Self::KmsFormAtLocalDoor,
        Self::Kms(Ed25519),
        Self::KmsBySdk,
        Self::KmsLoop(Ed25519),
        Self::KmsLoopLean,
        Self::Kms(P256),
        Self::KmsLoop(P256),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CeilingOfRefusals => "ceiling, refusal's answer",
            Self::Refusal => "refusal (frozen)",
            Self::Outage => "refusal (outage)",
            Self::AtCapacity => "overload: at capacity",
            Self::Overload => "overload: accepted of ten times",
            Self::OverloadRefused => "overload: refused of ten times",
            Self::CeilingOfSignatures => "ceiling, signature's answer",
            Self::Development(Ed25519) => "sign, development Ed25519",
            Self::Development(P256) => "sign, development P-256",
            Self::KmsForm => "the same, KMS's wire form",
            Self::KmsFormAtLocalDoor => "the same, SigV4, local door",
            Self::Kms(Ed25519) => "sign, KMS Ed25519",
            Self::Kms(P256) => "sign, KMS P-256",
            Self::KmsBySdk => "sign, KMS Ed25519, client = \"sdk\"",
            Self::KmsLoop(Ed25519) => "bare KMS loop, Ed25519",
            Self::KmsLoopLean => "bare KMS loop, our own client",
            Self::KmsLoop(P256) => "bare KMS loop, P-256",
            Self::Journal => "journal, intent + outcome",
            Self::BareSync => "bare write + fdatasync",
        }
    }

    /// How many connections it takes, whatever others take.
    #[must_use]
    pub fn connections(self) -> Option<usize> {
        match self {
            Self::AtCapacity => Some(SLOTS),
            Self::Overload | Self::OverloadRefused => Some(SLOTS * 10),
            _ => None,
        }
    }

    /// The signer that the proxy is asked for.
    #[must_use]
    pub fn kid(self) -> &'static str {
        match self {
            Self::Development(Ed25519) => "dev-ed25519",
            Self::Kms(Ed25519) | Self::KmsLoop(Ed25519) | Self::KmsLoopLean => "kms-ed25519",
            Self::Kms(P256) | Self::KmsLoop(P256) => "kms-p256",
            Self::KmsBySdk => "kms-by-sdk",
            _ => "dev-p256",
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
