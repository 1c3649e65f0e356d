//! `Idempotency-Key`: a caller that asks again with the same key and the same
//! input gets the same signature, without a second call to the upstream.
//!
//! In memory, bounded, for ten minutes; a restart forgets. Only signatures that
//! were released are kept: what failed, is unknown or was withheld is asked
//! anew. A kept signature takes the place of the upstream's answer and nothing
//! else: policy, gate, verification and release are passed again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use breakglass::emergency::Witness;
use http::{HeaderMap, HeaderName};
use signing_core::gate::Admitted;
use signing_core::{Caller, Moment, Reason, Refusal, SignatureFormat, ToBeSigned};

use crate::headers::sole;

/// The header.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a signature is kept.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Signatures kept for one caller; the oldest goes first. Only callers of the
/// policy get here, so that all together are bounded too.
const OF_CALLER_MAX: usize = 1_000;
/// Longest key, in bytes.
const KEY_MAX_BYTES: usize = 128;

/// What is kept, by caller.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    callers: Arc<Mutex<HashMap<Arc<Caller>, CallerKeys>>>,
}

#[derive(Debug, Default)]
struct CallerKeys {
    entries: HashMap<String, Entry>,
    /// Keys of kept signatures, oldest first.
    kept: VecDeque<(Moment, String)>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: [u8; 32],
    /// The break-glass session whose key signed, if one did.
    session: Option<String>,
    /// None while the first request is being answered.
    kept: Option<(Moment, Kept)>,
}

/// What was given out.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The signature.
    pub signature: Vec<u8>,
    /// The emergency signer's record of it, if it made it.
    pub witnessed: Option<Witness>,
}

/// What a key stands for.
#[derive(Debug)]
pub enum Claimed {
    /// A request that has to be carried out.
    Fresh(Claim),
    /// One that was.
    Kept(Kept),
}

/// The right to say what a key stands for. Dropped without
/// [`Claim::keep`], the key stands for nothing again.
#[derive(Debug)]
pub struct Claim {
    idempotency: Idempotency,
    caller: Arc<Caller>,
    key: String,
    settled: bool,
}

/// Reads the header.
///
/// # Errors
/// `invalid_request` if it is not 1 to 128 visible ASCII characters, or is there twice.
pub fn read_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    if !headers.contains_key(&HEADER) {
        return Ok(None);
    }
    let key = sole(headers, &HEADER).filter(|key| {
        (1..=KEY_MAX_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    });
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Refusal::new(
            Reason::InvalidRequest,
            format!(
                "Idempotency-Key is not 1 to {KEY_MAX_BYTES} visible ASCII characters; send one such key, once"
            ),
        )
    })
}

impl Idempotency {
    /// Claims `key` for the request that `permit` admitted, with `input`.
    ///
    /// # Errors
    /// `idempotency_conflict` if it stands for other input, or for a request
    /// that is still being answered.
    pub fn claim(
        &self,
        key: String,
        permit: &impl Admitted,
        input: &ToBeSigned,
        format: SignatureFormat,
        now: Moment,
    ) -> Result<Claimed, Refusal> {
        let fingerprint = fingerprint(permit, input, format);
        let session = permit.session().map(|armed| armed.session.clone());
        let conflict = |why: &str| {
            let kid = &permit.signer().kid;
            Err(Refusal::new(Reason::IdempotencyConflict, why).about(kid))
        };
        let caller = Arc::clone(permit.grant().shared_caller());
        let mut callers = self.lock();
        let of_caller = callers.entry(Arc::clone(&caller)).or_default();
        of_caller.forget(now);
        match of_caller.entries.get(&key) {
            // It was given out in another mode, which nothing crosses: asked anew.
            Some(Entry { kept: Some(_), session: other, .. }) if *other != session => {}
            Some(entry) if entry.fingerprint != fingerprint => {
                return conflict("this Idempotency-Key was used with other input; use another key");
            }
            Some(Entry { kept: None, .. }) => {
                return conflict("a request with this Idempotency-Key is still being answered");
            }
            // What was kept before the signer was sealed is not trusted after.
            Some(Entry { kept: Some((at, kept)), .. }) if *at >= permit.trusted_from() => {
                return Ok(Claimed::Kept(kept.clone()));
            }
            Some(Entry { kept: Some(_), .. }) | None => {}
        }
        of_caller.kept.retain(|(_, kept)| *kept != key);
        of_caller.entries.insert(key.clone(), Entry { fingerprint, session, kept: None });
        Ok(Claimed::Fresh(Claim { idempotency: self.clone(), caller, key, settled: false }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Caller>, CallerKeys>> {
        // A panic in between could leave a key in one place and not the other: it
        // would be claimed for ever or forgotten early, and never mistaken.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallerKeys {
    /// Forgets what is too old or too much.
    fn forget(&mut self, now: Moment) {
        while let Some((at, _)) = self.kept.front()
            && (now.since(*at) >= KEPT_FOR || self.kept.len() >= OF_CALLER_MAX)
            && let Some((_, key)) = self.kept.pop_front()
        {
            self.entries.remove(&key);
        }
    }
}

impl Claim {
    /// Keeps the signature that was released.
    pub fn keep(mut self, kept: Kept, now: Moment) {
        self.settled = true;
        let mut callers = self.idempotency.lock();
        let Some(of_caller) = callers.get_mut(&self.caller) else { return };
        if let Some(entry) = of_caller.entries.get_mut(&self.key) {
            entry.kept = Some((now, kept));
            of_caller.kept.push_back((now, self.key.clone()));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled
            && let Some(of_caller) = self.idempotency.lock().get_mut(&self.caller)
        {
            of_caller.entries.remove(&self.key);
        }
    }
}

/// Names the canonical input: signer, algorithm, format and bytes, each unmistakable.
fn fingerprint(permit: &impl Admitted, input: &ToBeSigned, format: SignatureFormat) -> [u8; 32] {
    let kid = permit.grant().signer().kid.as_str();
    let (form, bytes) = input.identity();
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [kid, permit.algorithm().name(), format.name(), form] {
        // None of these can hold a NUL.
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.update(bytes);
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}
