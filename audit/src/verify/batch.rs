//! Checks a batch of records alone: links, signatures, and what each body says by itself.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::journal::{
    AuditKeys, ChainId, Frame, FrameError, HEADER_BYTES, Head, KeyId, Kind, Outline,
};
use signing_core::{Algorithm, Digest, Hash, Input, Registry, ToBeSigned};

use super::SegmentPath;
use super::keys::{Keys, named};
use super::story::{Event, What};
use crate::walk::Defect;

/// Records that follow each other in one segment.
pub(super) struct Batch {
    pub(super) chain: ChainId,
    /// The record before the first, as it stands there.
    pub(super) before: Head,
    pub(super) file: SegmentPath,
    /// Where the first begins in the file.
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
    pub(super) head: Option<Head>,
    pub(super) events: Vec<Event>,
    pub(super) signatures_checked: u64,
    pub(super) signatures_unchecked: u64,
    pub(super) defect: Option<Defect>,
}

impl Batch {
    /// Checks it; callers' signatures too, if there is a registry.
    pub(super) fn check(&self, registry: Option<&Registry>) -> Checked {
        let mut checked = Checked {
            file: Arc::clone(&self.file),
            first_seq: self.before.seq + 1,
            records: 0,
            head: None,
            events: Vec::new(),
            signatures_checked: 0,
            signatures_unchecked: 0,
            defect: None,
        };
        let mut head = self.before;
        let mut at = self.at;
        let mut rest = self.frames.as_slice();
        while !rest.is_empty() {
            match self.record(head, at, rest, registry, &mut checked) {
                Ok((next, bytes)) => {
                    head = next;
                    at += bytes as u64;
                    rest = rest.get(bytes..).unwrap_or_default();
                    checked.records += 1;
                    checked.head = Some(head);
                }
                Err(what) => {
                    checked.defect = Some(checked.defect_at(head.seq + 1, at, what));
                    break;
                }
            }
        }
        checked
    }

    /// Checks the record at the start of `bytes`; its place in the chain and its length.
    fn record(
        &self,
        before: Head,
        at: u64,
        bytes: &[u8],
        registry: Option<&Registry>,
        checked: &mut Checked,
    ) -> Result<(Head, usize), String> {
        let frame = Frame::parse(bytes).map_err(|error| error.to_string())?;
        let frame = frame.ok_or("its length is zero")?;
        let head = before.then(&self.chain, &frame).map_err(|error| error.to_string())?;
        self.keys.verify(&frame).map_err(|error| self.unsigned(error))?;
        let (outline, kind) =
            Outline::parse(frame.body).ok_or_else(|| FrameError::Body.to_string())?;
        in_its_place(kind, &frame, at)?;
        if let Some(what) = event(kind, &outline)? {
            checked.events.push(Event { seq: frame.seq, at, what });
        }
        if matches!(kind, Kind::Signed | Kind::EmergencySigned) {
            match callers_signature(&outline, registry)? {
                true => checked.signatures_checked += 1,
                false => checked.signatures_unchecked += 1,
            }
        }
        Ok((head, frame.bytes))
    }

    fn unsigned(&self, error: FrameError) -> String {
        match (error, self.whose) {
            (FrameError::UnknownKey(key), Keys::SelfAsserted) => format!(
                "it names the audit key {key}, and no init or start record here says which that \
                 is; give the registry with --signers"
            ),
            _ => error.to_string(),
        }
    }
}

impl Checked {
    /// A defect of its segment.
    pub(super) fn defect_at(&self, record: u64, at: u64, what: String) -> Defect {
        Defect { record, file: self.file.to_path_buf(), at, what }
    }
}

/// Checks what must stand where it stands.
fn in_its_place(kind: Kind, frame: &Frame<'_>, at: u64) -> Result<(), String> {
    let (is_first, begins_segment) = (frame.seq == 1, at == HEADER_BYTES as u64);
    let word = kind.word();
    if is_first != (kind == Kind::Init) {
        return Err(format!("it is `{word}`, and a chain has one `init`, its first record"));
    }
    if (begins_segment && !is_first) != (kind == Kind::Segment) {
        return Err(format!(
            "it is `{word}`, and `segment` is the first record of each later segment, no other"
        ));
    }
    if matches!(kind, Kind::Init | Kind::Start)
        && named(frame.body).is_none_or(|key| KeyId::of(&key) != frame.key)
    {
        return Err(format!("it is signed by {}, and names another audit key", frame.key));
    }
    Ok(())
}

/// What a record means for others.
fn event(kind: Kind, outline: &Outline) -> Result<Option<What>, String> {
    let number = |name| outline.number(name).ok_or_else(|| format!("it has no number `{name}`"));
    Ok(match kind {
        Kind::Intent => Some(What::Intent),
        Kind::Signed => Some(What::Signed { intent: number("intent")? }),
        Kind::Failed => Some(What::Failed { intent: number("intent")? }),
        Kind::Withheld => Some(What::Withheld { signed: number("signed")? }),
        Kind::Init
        | Kind::Start
        | Kind::Stop
        | Kind::Segment
        | Kind::Gate
        | Kind::Freeze
        | Kind::Unfreeze
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::Refusals
        | Kind::SessionActivated
        | Kind::SessionRefused
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals
        | Kind::SessionEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::Unlock
        | Kind::Activation
        | Kind::BreakglassEnded => None,
    })
}

/// Checks the signature that a caller got. False: it can not be checked.
fn callers_signature(signed: &Outline, registry: Option<&Registry>) -> Result<bool, String> {
    let text = |name| signed.text(name).ok_or_else(|| format!("it has no text `{name}`"));
    let (kid, algorithm, digest) = (text("signer_kid")?, text("algorithm")?, text("input_digest")?);
    let signature = STANDARD
        .decode(text("signature")?)
        .map_err(|_| "its `signature` is not base64".to_owned())?;
    let Some(signer) = registry.and_then(|registry| registry.get(kid)) else { return Ok(false) };
    let algorithm = Algorithm::parse(algorithm).ok_or_else(|| {
        format!("its algorithm {algorithm:?} is none of {}", Algorithm::all_names())
    })?;
    if algorithm == Algorithm::Ed25519Sha512 {
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
