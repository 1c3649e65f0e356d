//! The proof that one input is in a signed batch (c2sp.org/tlog-proof): a batch signer's signature.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::leaf::{LeafInput, Salt};
use super::name::{BETWEEN, KeyName};
use super::note::{Note, SignedNote};
use crate::key::{Kid, Signer};
use crate::tree::{FRONTIER_MAX, TreeHash, root};

const TITLE: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";

/// Longest proof: 63 hashes, and a note with the longest names.
const PROOF_MAX_BYTES: usize = 8192;

/// A proof as it was read. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProof {
    pub(super) leads: LeafPath,
    pub(super) note: SignedNote,
}

/// What leads from one leaf to the root of its batch: all of a proof that its neighbours' proofs do not have too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeafPath {
    pub(super) salt: Salt,
    pub(super) index: u64,
    /// From the leaf's sibling up.
    pub(super) path: Vec<TreeHash>,
}

/// Whether these bytes begin as a proof does: no signature in another form does.
#[must_use]
pub fn is_proof(bytes: &[u8]) -> bool {
    bytes.strip_prefix(TITLE.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'\n'))
}

/// The deployment that a proof of `kid`'s key says it is from. It is only what the proof says: a
/// verifier that knows the deployment compares it.
#[must_use]
pub fn stated_deployment<'p>(bytes: &'p [u8], kid: &Kid) -> Option<&'p str> {
    let (_, note) = std::str::from_utf8(bytes).ok()?.split_once("\n\n")?;
    let (name, _) = note.split('\n').next()?.rsplit_once('/')?;
    name.strip_suffix(kid.as_str())?.strip_suffix(BETWEEN)
}

impl BatchProof {
    /// Reads the proof of a key with this name. None: it is no such proof, or has a second spelling.
    #[must_use]
    pub fn parse(bytes: &[u8], name: &KeyName) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|it| it.len() <= PROOF_MAX_BYTES)?;
        let (proof, note) = text.split_once("\n\n")?;
        let mut lines = proof.split('\n');
        let is_titled = lines.next()? == TITLE;
        let salt = STANDARD.decode(lines.next()?.strip_prefix(EXTRA)?).ok()?;
        let salt = Salt::new(salt.try_into().ok()?);
        let index = lines.next()?.strip_prefix(INDEX)?.parse().ok()?;
        let path: Vec<_> = lines.map(TreeHash::parse_base64).collect::<Option<_>>()?;
        let note = SignedNote::parse(note, name)?;
        let is_one = is_titled && path.len() < FRONTIER_MAX;
        let parsed = Self { leads: LeafPath { salt, index, path }, note };
        (is_one && parsed.to_text() == text).then_some(parsed)
    }

    /// The proof as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.leads.to_text(&self.note.to_text())
    }

    /// Whether the note is signed by the signer's registered key.
    pub(super) fn is_signed_by(&self, signer: &Signer) -> bool {
        self.note.verifies(&signer.public_key)
    }
}

impl LeafPath {
    /// The proof as text, with `note` as the batch's note.
    pub(super) fn to_text(&self, note: &str) -> String {
        let mut text = String::with_capacity(128 + 45 * self.path.len() + note.len());
        text.push_str(TITLE);
        text.push('\n');
        text.push_str(EXTRA);
        STANDARD.encode_string(self.salt.as_bytes(), &mut text);
        // Writing into a string does not fail.
        let _ = write!(text, "\n{INDEX}{}\n", self.index);
        for hash in &self.path {
            STANDARD.encode_string(hash.as_bytes(), &mut text);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(note);
        text
    }

    /// Whether the path leads from the leaf of `input` to the root of `note`. Whose note it is, is not
    /// looked at.
    pub(super) fn includes(
        &self,
        note: &Note,
        signer: &Signer,
        input: &LeafInput,
    ) -> Option<TreeHash> {
        let leaf = input.hash(&signer.kid, signer.algorithm(), &self.salt);
        if self.index >= note.size {
            return None;
        }
        (root(leaf, self.index, note.size, &self.path)? == note.root).then_some(leaf)
    }
}
