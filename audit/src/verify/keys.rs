//! Which audit keys checkpoints have to be signed with.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::journal::{AuditKeys, FrameError, Outline};
use signing_core::key::PublicKey;
use signing_core::{Algorithm, Registry};

use crate::reader::{Item, Reader};
use crate::scan::SegmentError;
use crate::walk::{Stop, Walk};

/// Whose word the audit keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The registry's.
    Registered,
    /// The journal's own `init` and `start` records: whoever could write it could have
    /// made all of it anew.
    SelfAsserted,
}

impl Keys {
    /// Says what is wrong with a checkpoint that these keys did not sign.
    pub(crate) fn unsigned(self, error: FrameError) -> String {
        match (error, self) {
            (FrameError::UnknownKey, Self::SelfAsserted) => {
                "the checkpoint behind it is signed with an audit key that no init or start record \
                 here names; give the registry with --signers"
                    .to_owned()
            }
            _ => error.to_string(),
        }
    }
}

/// The audit keys known so far.
pub(crate) struct Known {
    pub(crate) keys: Arc<AuditKeys>,
    pub(crate) whose: Keys,
}

/// The keys of `registry`; without one, those that are named before the part of the
/// journal that `walk` goes through. None: the registry has none.
///
/// # Errors
/// If a segment cannot be read: what it names is not known then.
pub(super) fn known(registry: Option<&Registry>, walk: &Walk) -> Result<Option<Known>, Stop> {
    if let Some(registry) = registry {
        let keys = AuditKeys::of_registry(registry);
        let known = Known { keys: Arc::new(keys), whose: Keys::Registered };
        return Ok((!known.keys.is_empty()).then_some(known));
    }
    let mut known = Known { keys: Arc::default(), whose: Keys::SelfAsserted };
    for segment in walk.segments().iter().take(walk.index()).rev() {
        let unreadable = |error| Stop::Segment { path: segment.path.clone(), error };
        let mut reader = match Reader::open(segment) {
            Ok(reader) => reader,
            Err(SegmentError::Io { error, .. }) => return Err(unreadable(error)),
            Err(_) => break,
        };
        loop {
            match reader.step().map_err(unreadable)? {
                Item::Record { body, .. } => known.hear(body),
                Item::Sealed { .. } => {}
                Item::End(_) | Item::Broken { .. } => break,
            }
        }
        // Every process names its key before it writes anything else.
        if !known.keys.is_empty() {
            break;
        }
    }
    Ok(Some(known))
}

impl Known {
    /// Learns the key that an `init` or `start` names, if keys are the journal's word.
    pub(super) fn hear(&mut self, body: &[u8]) {
        if let Some((key, _)) = named(body) {
            self.add(key);
        }
    }

    /// Learns a key that the journal names, if keys are the journal's word.
    pub(crate) fn add(&mut self, key: PublicKey) {
        if self.whose == Keys::SelfAsserted {
            Arc::make_mut(&mut self.keys).add(key);
        }
    }
}

/// The audit key and its kid that the body of an `init` or `start` names. In canonical JSON the
/// type comes last, and nothing in the data can look like it.
pub(crate) fn named(body: &[u8]) -> Option<(PublicKey, String)> {
    let names_one = body.ends_with(br#","type":"init"}"#) || body.ends_with(br#","type":"start"}"#);
    let (outline, _) = names_one.then(|| Outline::parse(body)).flatten()?;
    let der = STANDARD.decode(outline.text("audit_key")?).ok()?;
    let key = PublicKey::from_spki_der(&der, Algorithm::Ed25519Sha512).ok()?;
    Some((key, outline.text("audit_kid")?.to_owned()))
}
