//! One emergency signature: permitted, made, recorded. What leaves is what its
//! caller waits for until the record is on disk (I6).

use audit::Appending;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{now, wall_now};
use signing_core::breakglass::Ask;
use signing_core::breakglass::wire::{JUSTIFICATION_MAX_BYTES, Reason, Refused, Sign};
use signing_core::journal::{ACTOR, EmergencySigned, Record};
use signing_core::key::names_of;
use signing_core::tree::LogId;
use signing_core::{Algorithm, Caller, Kid};

use super::{Armory, Service, refused};
use crate::key::Made;

/// Longest request id; the proxy's own has fewer.
const REQUEST_ID_MAX_BYTES: usize = 256;

/// A signature that may leave once its record is on disk, and not before.
#[derive(Debug)]
pub struct Unreleased {
    /// The ask's.
    pub id: u64,
    /// Base64.
    pub signature: String,
    /// Signatures that are left.
    pub remaining: u64,
    /// Its record on the way to the disk.
    pub appending: Appending,
    /// Whether it took milliseconds, so that others wait.
    pub is_slow: bool,
}

impl Service {
    /// Signs for the connection `owner`.
    ///
    /// # Errors
    /// [`Refused`]; it is counted, and recorded with others.
    pub fn sign(&self, owner: u64, ask: &Sign) -> Result<Unreleased, Refused> {
        let mut armory = self.armory.borrow_mut();
        let signed = self.signed(&mut armory, owner, ask);
        match &signed {
            // Its record is in the journal, and so is known at the next start too.
            Ok(_) => {
                if let Some((log, head)) = ask.proxy_head.parse() {
                    armory.history.proxies.advance(log, head);
                }
            }
            Err(no) => {
                let Armory { active, refusals, .. } = &mut *armory;
                refusals.count(active.as_ref().map(|active| &active.session), ask, no);
            }
        }
        signed
    }

    fn signed(&self, armory: &mut Armory, owner: u64, ask: &Sign) -> Result<Unreleased, Refused> {
        let no = |reason, detail: String| refused(ask.id, reason, detail);
        let active = armory.active.as_mut().filter(|active| active.owner == owner);
        let Some(active) = active else {
            let why = "no session is in force on this connection; activate one".to_owned();
            return Err(no(Reason::NoSession, why));
        };
        let (caller, replaces) =
            read(ask, active.proxy_log).map_err(|why| no(Reason::Invalid, why))?;
        let registered = active.key.registered();
        let algorithm = Algorithm::parse(&ask.algorithm)
            .filter(|algorithm| registered.signs_with(*algorithm).is_ok())
            .ok_or_else(|| {
                let known: Vec<_> = registered.public_key.algorithms().collect();
                let why = format!(
                    "the emergency key {} signs with {}, not {}",
                    registered.kid,
                    names_of(&known),
                    ask.algorithm
                );
                no(Reason::OutOfScope, why)
            })?;
        let prepared = ask.input.prepare(algorithm);
        let input = prepared.map_err(|refusal| no(Reason::InputRefused, refusal.detail))?;
        // A batch key signs nothing but leaves: other bytes could be a note that nobody gathered.
        registered.takes(&input).map_err(|refusal| no(Reason::InputRefused, refusal.detail))?;
        if let Some(error) = self.journal.error() {
            return Err(no(Reason::AuditUnavailable, error.to_string()));
        }
        let asked = Ask { session: ask.session.clone(), caller, replaces, input };
        let permit = active
            .session
            .permit(asked, now(), wall_now())
            .map_err(|denied| no(denied.reason(), denied.to_string()))?;
        let remaining = permit.remaining();
        let made =
            active.key.sign(permit).map_err(|error| no(Reason::KeyFailed, error.to_string()))?;
        let registered = active.key.registered();
        // The proxy verifies it before it leaves, and seals if it is wrong (I10).
        let Made { signature, recorded, input, leaf } = made;
        let (signature, recorded) = (STANDARD.encode(signature), STANDARD.encode(recorded));
        let request = active.session.request();
        let (input_digest, proxy_head) =
            (input.fingerprint().to_string(), ask.proxy_head.to_text());
        let record = Record::EmergencySigned(EmergencySigned {
            actor: ACTOR,
            algorithm: algorithm.name(),
            batch: leaf,
            caller: &ask.caller,
            incident: request.incident(),
            input_digest: &input_digest,
            justification: ask.justification.as_deref(),
            mode: "breakglass",
            proxy_head: &proxy_head,
            remaining,
            replaces: &ask.signer_kid,
            request_id: &ask.request_id,
            session: active.session.id(),
            session_justification: request.justification(),
            signature: &recorded,
            signer_kid: registered.kid.as_str(),
        });
        let appending = match ask.proves {
            true => self.journal.begin_prove(&record),
            false => self.journal.begin_append(&record),
        };
        let appending =
            appending.map_err(|error| no(Reason::AuditUnavailable, error.to_string()))?;
        active.signatures += 1;
        let is_slow = active.key.is_slow();
        Ok(Unreleased { id: ask.id, signature, remaining, appending, is_slow })
    }
}

/// What the proxy says of a request, read again.
fn read(ask: &Sign, proxy_log: LogId) -> Result<(Caller, Kid), String> {
    let is_line = |text: &str, most: usize| text.len() <= most && !text.chars().any(|c| c == '\0');
    let caller = Caller::parse(&ask.caller).map_err(|error| error.to_string())?;
    let replaces = Kid::parse(&ask.signer_kid).map_err(|error| error.to_string())?;
    if ask.request_id.is_empty() || !is_line(&ask.request_id, REQUEST_ID_MAX_BYTES) {
        return Err(format!("request_id has to have 1 to {REQUEST_ID_MAX_BYTES} bytes"));
    }
    if let Some(justification) = &ask.justification
        && !is_line(justification, JUSTIFICATION_MAX_BYTES)
    {
        return Err(format!("justification has to have at most {JUSTIFICATION_MAX_BYTES} bytes"));
    }
    if ask.proxy_head.parse().is_none_or(|(log, _)| log != proxy_log) {
        return Err("proxy_head is no head of the log that the proxy showed".to_owned());
    }
    Ok((caller, replaces))
}
