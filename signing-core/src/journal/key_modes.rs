//! Which keys were registered for single inputs and which for batches, as a journal tells. A key keeps its mode
//! for good, under whatever kid: what a key signs for single inputs may be a digest of the callers' choice, and
//! that digest may be of a note which nobody gathered. So the journal is the witness against a key whose mode
//! changes over a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::Outline;
use crate::key::{Algorithm, Purpose, Signer};
use crate::registry::Registry;

/// Keys that one journal knows. What a record tells of them has to fit beside all else that it tells.
const KNOWN_MAX: usize = 192;
/// Hex digits of a key's SHA-256. Two keys that share them are taken for one, which refuses more than it has to.
const DIGITS: usize = 16;

/// The keys that could sign a batch's note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyModes(BTreeMap<String, Mode>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Single,
    Batch,
}

/// The form in which records tell them: the first 16 hex digits of the SHA-256 of each public key (DER), sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyModesSnapshot {
    /// Keys of batch signers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch: Vec<String>,
    /// Keys of all other signers that could be one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub single: Vec<String>,
}

impl KeyModes {
    /// What is known once `registry` is in force.
    ///
    /// # Errors
    /// One sentence for each signer whose key had the other mode before.
    pub fn with(&self, registry: &Registry) -> Result<Self, Vec<String>> {
        let (mut next, mut mistakes) = (self.clone(), Vec::new());
        for signer in registry.iter().filter(|signer| could_sign_notes(signer)) {
            let mode = if signer.batch.is_batch() { Mode::Batch } else { Mode::Single };
            let digits = digits(signer);
            let known = next.0.get(&digits).copied();
            let why = match (known, mode) {
                (None, Mode::Single) if next.is_full() => continue,
                (None, Mode::Batch) if next.is_full() => format!(
                    "the journal knows the modes of {KNOWN_MAX} keys and cannot take one more, so that nothing \
                     tells whether this key signed single inputs before; begin another journal for a new batch signer"
                ),
                (None, _) => {
                    next.0.insert(digits, mode);
                    continue;
                }
                (Some(known), mode) if known == mode => continue,
                (Some(Mode::Single), _) => "its key was registered without \"mode\": \"batch\" before, by this \
                     journal: what it signed then could be the note of a batch; make a new key for the batch signer"
                    .to_owned(),
                (Some(Mode::Batch), _) => "its key was registered with \"mode\": \"batch\" before, by this \
                     journal: a key that signs batches signs nothing else, ever; make a new key, or give the \
                     entry its mode again"
                    .to_owned(),
            };
            mistakes.push(format!("signer {:?}: {why}", signer.kid.as_str()));
        }
        if mistakes.is_empty() { Ok(next) } else { Err(mistakes) }
    }

    /// The form for records. None: no such key is known.
    #[must_use]
    pub fn snapshot(&self) -> Option<KeyModesSnapshot> {
        let of = |mode| {
            let keys = self.0.iter().filter(move |(_, known)| **known == mode);
            keys.map(|(digits, _)| digits.clone()).collect()
        };
        let told = KeyModesSnapshot { batch: of(Mode::Batch), single: of(Mode::Single) };
        (!self.0.is_empty()).then_some(told)
    }

    /// Reads what a record tells. None: it is no such list.
    pub(super) fn from_snapshot(outline: &Outline) -> Option<Self> {
        let Some(told) = outline.data.get("key_modes") else { return Some(Self::default()) };
        let KeyModesSnapshot { batch, single } = KeyModesSnapshot::deserialize(told).ok()?;
        let batch = batch.into_iter().map(|digits| (digits, Mode::Batch));
        let all: BTreeMap<_, _> =
            single.into_iter().map(|digits| (digits, Mode::Single)).chain(batch).collect();
        let is_hex = |digits: &String| {
            digits.len() == DIGITS && digits.bytes().all(|b| b"0123456789abcdef".contains(&b))
        };
        (all.len() <= KNOWN_MAX && all.keys().all(is_hex)).then_some(Self(all))
    }

    /// What both know. Where they differ, the first is believed.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        for (digits, mode) in other.0 {
            if self.0.len() < KNOWN_MAX {
                self.0.entry(digits).or_insert(mode);
            }
        }
        self
    }

    fn is_full(&self) -> bool {
        self.0.len() >= KNOWN_MAX
    }
}

/// Whether the registry would take the key for a batch signer's, if it said so.
fn could_sign_notes(signer: &Signer) -> bool {
    signer.purpose != Purpose::Audit
        && matches!(signer.algorithm(), Algorithm::Ed25519Sha512 | Algorithm::EcdsaSha256)
}

fn digits(signer: &Signer) -> String {
    let mut digits = signer.public_key.sha256_hex();
    digits.truncate(DIGITS);
    digits
}
