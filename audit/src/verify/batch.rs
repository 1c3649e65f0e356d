//! Checks a batch of records: what each body says by itself, callers' signatures, and who signed
//! the checkpoints.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::journal::{
    AuditKeys, BatchLeaf, Frame, FrameError, HEADER_BYTES, Head, KeyId, Kind, Outline, SignedBy,
};
use signing_core::tree::SignedCheckpoint;
use signing_core::{Algorithm, Digest, Hash, Input, Registry, ToBeSigned};

use super::SegmentPath;
use super::clock::Timed;
use super::cross_checks::{Event, LinkedRecord};
use super::keys::{Keys, named};
use super::leaves::Leaf;
use crate::walk::Defect;

/// Whole writes that follow each other in one segment.
pub(super) struct Batch {
    /// The first record that is looked at.
    pub(super) first_seq: u64,
    pub(super) file: SegmentPath,
    /// The checkpoint in the header, if the segment begins here.
    pub(super) header: Option<SignedCheckpoint>,
    /// Where the first write begins in the file.
    pub(super) at: u64,
    pub(super) frames: Vec<u8>,
    pub(super) records: u64,
    pub(super) keys: Arc<AuditKeys>,
    pub(super) whose: Keys,
}

/// What came of a batch, up to its first defect.
pub(super) struct Checked {
    pub(super) file: SegmentPath,
    pub(super) first_seq: u64,
    pub(super) records: u64,
    /// The checkpoints, the header's too.
    pub(super) seals: Vec<Signed>,
    pub(super) events: Vec<Event>,
    pub(super) times: Vec<Timed>,
    pub(super) signatures_checked: u64,
    pub(super) signatures_unchecked: u64,
    pub(super) defect: Option<Defect>,
}

/// A checkpoint whose signatures verify.
pub(super) struct Signed {
    pub(super) head: Head,
    pub(super) at: u64,
    pub(super) signed: SignedBy,
}

impl Batch {
    /// Checks it; callers' signatures too, if there is a registry.
    pub(super) fn check(&self, registry: Option<&Registry>) -> Checked {
        let mut checked = Checked {
            file: Arc::clone(&self.file),
            first_seq: self.first_seq,
            records: 0,
            seals: Vec::new(),
            events: Vec::new(),
            times: Vec::new(),
            signatures_checked: 0,
            signatures_unchecked: 0,
            defect: None,
        };
        if let Some(header) = &self.header
            && let Err(what) = self.seal(header, 0, None, &mut checked)
        {
            checked.defect = Some(checked.defect_at(header.checkpoint().size + 1, 0, what));
            return checked;
        }
        let mut at = self.at;
        let mut rest = self.frames.as_slice();
        // The audit key that a record names, until a checkpoint covers that record.
        let mut names = None;
        let mut newest = self.first_seq;
        while !rest.is_empty() {
            let parsed = Frame::parse(rest).map_err(|error| error.to_string());
            let (bytes, done) = match parsed {
                Ok(Some(Frame::Entry(entry))) => {
                    newest = entry.seq;
                    let done = self.record(entry.seq, entry.body, at, registry, &mut checked);
                    names = named(entry.body).map(|(key, _)| KeyId::of(&key)).or(names);
                    (entry.bytes, done)
                }
                Ok(Some(Frame::Checkpoint(sealing))) => {
                    let done = self.seal(&sealing.checkpoint, at, names.take(), &mut checked);
                    (sealing.bytes, done)
                }
                Ok(None) => (0, Err("its length is zero".to_owned())),
                Err(what) => (0, Err(what)),
            };
            if let Err(what) = done {
                checked.defect = Some(checked.defect_at(newest, at, what));
                break;
            }
            at += bytes as u64;
            rest = rest.get(bytes..).unwrap_or_default();
        }
        checked
    }

    /// Checks the body of a record.
    fn record(
        &self,
        seq: u64,
        body: &[u8],
        at: u64,
        registry: Option<&Registry>,
        checked: &mut Checked,
    ) -> Result<(), String> {
        let (outline, kind) = Outline::parse(body).ok_or_else(|| FrameError::Body.to_string())?;
        in_its_place(kind, seq, body, at)?;
        // Of the same write, and before what was asked for.
        if seq < self.first_seq {
            return Ok(());
        }
        checked.times.extend(Timed::parse(seq, &outline.at));
        if let Some(what) = event(kind, &outline)? {
            checked.events.push(Event { seq, at, what });
        }
        if matches!(kind, Kind::Signed | Kind::EmergencySigned) {
            match callers_signature(&outline, registry)? {
                true => checked.signatures_checked += 1,
                false => checked.signatures_unchecked += 1,
            }
        }
        checked.records += 1;
        Ok(())
    }

    /// Checks who signed a checkpoint; `names`: the audit key that a record in it says it is.
    fn seal(
        &self,
        checkpoint: &SignedCheckpoint,
        at: u64,
        names: Option<KeyId>,
        checked: &mut Checked,
    ) -> Result<(), String> {
        let signed = self.keys.verify(checkpoint).map_err(|error| self.whose.unsigned(error))?;
        if let Some(named) = names.filter(|named| *named != signed.key) {
            return Err(format!(
                "it names the audit key {named}, and the checkpoint behind it is signed by {}",
                signed.key
            ));
        }
        checked.seals.push(Signed { head: Head::of(checkpoint.checkpoint()), at, signed });
        Ok(())
    }
}

impl Checked {
    /// A defect of its segment.
    pub(super) fn defect_at(&self, record: u64, at: u64, what: String) -> Defect {
        Defect { record, file: self.file.to_path_buf(), at, what }
    }
}

/// Checks what must stand where it stands.
fn in_its_place(kind: Kind, seq: u64, body: &[u8], at: u64) -> Result<(), String> {
    let (is_first, begins_segment) = (seq == 1, at == HEADER_BYTES as u64);
    let word = kind.word();
    if is_first != (kind == Kind::Init) {
        return Err(format!("it is `{word}`, and a log has one `init`, its first record"));
    }
    if (begins_segment && !is_first) != (kind == Kind::Segment) {
        return Err(format!(
            "it is `{word}`, and `segment` is the first record of each later segment, no other"
        ));
    }
    if matches!(kind, Kind::Init | Kind::Start) && named(body).is_none() {
        return Err(format!("it is `{word}`, and names no audit key"));
    }
    Ok(())
}

/// What a record means for others.
fn event(kind: Kind, outline: &Outline) -> Result<Option<LinkedRecord>, String> {
    let number = |name| outline.number(name).ok_or_else(|| format!("it has no number `{name}`"));
    Ok(match kind {
        Kind::Intent => Some(LinkedRecord::Intent),
        Kind::Signed => {
            let leaf = Leaf::of(outline)?.map(Box::new);
            Some(LinkedRecord::Signed { intent: number("intent")?, leaf })
        }
        // Of one leaf, which says all by itself.
        Kind::EmergencySigned => Leaf::of(outline).map(|_| None)?,
        Kind::Start => {
            let deployment = outline.text("deployment").unwrap_or_default().to_owned();
            Some(LinkedRecord::Start { deployment })
        }
        Kind::Failed => Some(LinkedRecord::Failed { intent: number("intent")? }),
        Kind::Withheld => Some(LinkedRecord::Withheld { signed: number("signed")? }),
        Kind::Init
        | Kind::Stop
        | Kind::Segment
        | Kind::Gate
        | Kind::Freeze
        | Kind::Unfreeze
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::Probes
        | Kind::Refusals
        | Kind::SessionActivated
        | Kind::SessionRefused
        | Kind::EmergencyRefusals
        | Kind::SessionEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::Rehearsal
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::IncidentBegun
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::IncidentEnded
        | Kind::SignerLog
        | Kind::ProxyLog
        | Kind::FleetFreeze
        | Kind::FleetUnfreeze
        | Kind::FleetLink => None,
    })
}

/// Checks the signature that a caller got. False: it cannot be checked.
fn callers_signature(signed: &Outline, registry: Option<&Registry>) -> Result<bool, String> {
    let text = |name| signed.text(name).ok_or_else(|| format!("it has no text `{name}`"));
    let (kid, algorithm, digest) = (text("signer_kid")?, text("algorithm")?, text("input_digest")?);
    let signature = STANDARD
        .decode(text("signature")?)
        .map_err(|_| "its `signature` is not base64".to_owned())?;
    let Some(signer) = registry.and_then(|registry| registry.get(kid)) else { return Ok(false) };
    let algorithm = Algorithm::parse(algorithm).ok_or_else(|| {
        format!("its algorithm {algorithm:?} is not one of {}", Algorithm::all_names())
    })?;
    let batch = signed.data.get("batch");
    if signer.batch.is_batch() != batch.is_some() {
        return Err(format!("it and the registry differ about whether {kid} is a batch signer"));
    }
    if let Some(batch) = batch {
        let leaf = BatchLeaf::parse(batch).ok_or("its `batch` is no leaf of a batch")?;
        let note = leaf.note_to_be_signed(&signer.public_key).ok_or("its `batch` has no root")?;
        let holds = signer.public_key.verifies(&note, &signature);
        return holds.then_some(true).ok_or_else(|| {
            format!("the signature in it is not {kid}'s, by the registry, over its batch's note")
        });
    }
    // What they sign is the message, which no record holds.
    if algorithm.signs_messages() {
        return Ok(false);
    }
    let no_digest =
        || format!("its input_digest {digest:?} is not a digest that {algorithm} signs");
    let input = parse_digest(digest).map(Input::Digest).ok_or_else(no_digest)?;
    let input = ToBeSigned::prepare(&input, algorithm).map_err(|_| no_digest())?;
    if signer.public_key.verifies(&input, &signature) {
        Ok(true)
    } else {
        Err(format!("the signature in it is not {kid}'s, by the registry, over its input_digest"))
    }
}

/// Reads `sha256:hex`.
fn parse_digest(text: &str) -> Option<Digest> {
    let (hash, digits) = text.split_once(':')?;
    Digest::new(Hash::parse(hash)?, &hex::decode(digits).ok()?).ok()
}
