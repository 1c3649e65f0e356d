//! A batch on its way: its leaves are gathered, its note is signed once, and each leaf is proved.

use std::sync::Arc;

use super::leaf::Salt;
use super::name::{BatchId, KeyName};
use super::note::{Note, SignedNote};
use super::proof::{BatchProof, LeafPath};
use crate::key::{BadSignature, Signer, ToBeSigned, VerifiedSignature};
use crate::tree::{TreeHash, WholeTree};

/// Gathered leaves, which nobody signed yet.
#[derive(Debug)]
pub struct Batch {
    tree: WholeTree,
    note: Note,
    input: ToBeSigned,
}

/// A batch whose note verified under the registered key. Made by [`Batch::signed`] only:
///
/// ```compile_fail
/// fn forge(note: signing_core::batch::Batch) -> signing_core::batch::SignedBatch {
///     signing_core::batch::SignedBatch { note }
/// }
/// ```
#[derive(Debug)]
pub struct SignedBatch {
    tree: WholeTree,
    note: SignedNote,
    /// Written once: it stands in the proof of every leaf, and its origin in every record.
    note_text: String,
    origin: Arc<str>,
    signer: Signer,
}

/// What the record of a leaf has of its proof: the proof itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The origin of the batch's note.
    pub origin: Arc<str>,
    /// The leaf's index.
    pub index: u64,
    /// The leaf's hash.
    pub leaf: TreeHash,
    /// The batch's leaves.
    pub size: u64,
    /// The batch's root.
    pub root: TreeHash,
    /// The key's signature over the note.
    pub note_signature: Vec<u8>,
}

impl Batch {
    /// The batch of these leaves of `signer`. None: it is no batch signer with a name, or there is no
    /// leaf.
    #[must_use]
    pub fn new(
        signer: &Signer,
        id: BatchId,
        leaves: impl IntoIterator<Item = TreeHash>,
    ) -> Option<Self> {
        let name = signer.batch.key_name()?.clone();
        let tree = WholeTree::new(leaves);
        let (size, root) = (tree.size(), tree.root());
        if size == 0 {
            return None;
        }
        let note = Note { name, id, size, root };
        let input = note.to_be_signed(&signer.public_key)?;
        Some(Self { tree, note, input })
    }

    /// The batch of one input, such as a canary.
    #[must_use]
    pub fn of_one(signer: &Signer, id: BatchId, salt: &Salt, input: &ToBeSigned) -> Option<Self> {
        Self::new(signer, id, [signer.leaf(input, salt)?])
    }

    /// What the key is given to sign.
    #[must_use]
    pub fn to_be_signed(&self) -> &ToBeSigned {
        &self.input
    }

    /// Verifies the signature over the note.
    ///
    /// # Errors
    /// [`BadSignature`] if it is not the registered key's: doubt, which seals.
    pub fn signed(self, signer: &Signer, signature: Vec<u8>) -> Result<SignedBatch, BadSignature> {
        let bad = BadSignature { signature_bytes: signature.len() };
        let note = self.note.signed(&signer.public_key, signature);
        if note.verifies(&signer.public_key) {
            let (note_text, origin) = (note.to_text(), note.note.origin().into());
            let (tree, signer) = (self.tree, signer.clone());
            Ok(SignedBatch { tree, note, note_text, origin, signer })
        } else {
            Err(bad)
        }
    }
}

impl SignedBatch {
    /// The proof of the leaf with that index, once the path from `input` has led to the root that was
    /// signed.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not: it is another leaf.
    pub fn prove(
        &self,
        (input, salt): (&ToBeSigned, Salt),
        index: u64,
    ) -> Result<VerifiedSignature, BadSignature> {
        let none = BadSignature { signature_bytes: 0 };
        let Some(path) = self.tree.path(index) else { return Err(none) };
        let leads = LeafPath { salt, index, path };
        let text = leads.to_text(&self.note_text).into_bytes();
        let of_note = (&self.note, &self.origin);
        proved(&self.signer, input, (&leads, of_note), text).ok_or(none)
    }

    /// The name of the key.
    #[must_use]
    pub const fn key_name(&self) -> &KeyName {
        &self.note.note.name
    }
}

/// The proof of a batch signer's key, read and verified whole. None: it is no proof.
pub(crate) fn verify(
    signer: &Signer,
    name: &KeyName,
    input: &ToBeSigned,
    bytes: &[u8],
) -> Option<VerifiedSignature> {
    let proof = BatchProof::parse(bytes, name)?;
    // The cheap half first: whoever sends what fits nowhere gets no signature verified.
    let origin = proof.note.note.origin().into();
    let of_note = (&proof.note, &origin);
    let verified = proved(signer, input, (&proof.leads, of_note), bytes.to_vec())?;
    proof.is_signed_by(signer).then_some(verified)
}

/// What is proved if the note, which has that origin, is the signer's: that is for whoever calls this to know.
fn proved(
    signer: &Signer,
    input: &ToBeSigned,
    (leads, (note, origin)): (&LeafPath, (&SignedNote, &Arc<str>)),
    text: Vec<u8>,
) -> Option<VerifiedSignature> {
    let leaf = leads.includes(&note.note, signer, input.leaf()?)?;
    let record = Proved {
        origin: Arc::clone(origin),
        index: leads.index,
        leaf,
        size: note.note.size,
        root: note.note.root,
        note_signature: note.signature.clone(),
    };
    Some(VerifiedSignature::of_leaf(signer, text, record))
}
