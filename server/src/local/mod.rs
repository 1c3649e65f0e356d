//! A local door: callers of this machine, without a client certificate. It proves who calls, and
//! nothing else: from there on a request passes what every other request passes.

mod claim;
mod fault;
mod proofs;
mod strangers;

use std::sync::{Arc, Mutex, PoisonError};

use host::clock::wall_now;
use host::peer_address::PeerAddress;
use http::Method;
use http::request::Parts;
use signing_core::{Caller, Refusal};
use time::OffsetDateTime;

use super::connections::Listed;
use super::dialects;
use super::handshakes::Handshake;
use claim::Claim;
use proofs::{Proofs, Shown};
use sigv4::Secret;

pub(super) use fault::{Fault, NotProven};

/// A local door.
#[derive(Debug)]
pub struct LocalDoor {
    proofs: Proofs,
}

/// One connection to a local door.
#[derive(Debug)]
pub(super) struct Visit {
    door: Arc<LocalDoor>,
    listed: Listed,
    /// Where it comes from.
    source: PeerAddress,
    /// Whose it is, if the connection itself shows that.
    owner: Option<Arc<Caller>>,
    /// Its place among those that have not proved who calls.
    place: Mutex<Option<Handshake>>,
}

/// What a request shows of its caller.
#[derive(Debug)]
pub(super) enum Calls {
    /// Who calls.
    Known(Arc<Caller>),
    /// A signature over the whole request.
    Signed(Box<Signed>),
}

/// A signature that was not checked yet, of a request whose head is right as far as that shows.
#[derive(Debug)]
pub(super) struct Signed {
    visit: Arc<Visit>,
    claim: Claim,
}

impl Signed {
    /// Who signed the request.
    ///
    /// # Errors
    /// `unauthenticated`; `overloaded` if the caller has too many connections.
    pub(super) fn caller(&self, head: &Parts, body: &[u8]) -> Result<Arc<Caller>, NotProven> {
        let proofs = &self.visit.door.proofs;
        proofs
            .of_claim(&self.claim, (head, body), wall_now())
            .and_then(|caller| self.visit.proven(caller))
    }

    /// Where the request comes from.
    pub(super) fn source(&self) -> PeerAddress {
        self.visit.source
    }
}

impl LocalDoor {
    /// The doors that the configuration describes, in its order.
    ///
    /// # Errors
    /// Every mistake of the files that they name.
    pub fn load(doors: &[configuration::Local]) -> Result<Vec<Arc<Self>>, Vec<String>> {
        let (mut loaded, mut mistakes) = (Vec::new(), Vec::new());
        for door in doors {
            match Proofs::load(&door.callers) {
                Ok(proofs) => loaded.push(Arc::new(Self { proofs })),
                Err(found) => mistakes.extend(found),
            }
        }
        if mistakes.is_empty() { Ok(loaded) } else { Err(mistakes) }
    }

    /// Whose a connection is that comes from `source`, if that shows.
    pub(super) fn owner(&self, source: PeerAddress) -> Option<Arc<Caller>> {
        let uid = match source {
            PeerAddress::User(uid) => Some(uid),
            PeerAddress::V4(_) | PeerAddress::V6(_) => None,
        };
        self.proofs.of_connection(uid).cloned()
    }
}

impl Visit {
    pub(super) fn new(
        door: Arc<LocalDoor>,
        listed: Listed,
        (source, owner): (PeerAddress, Option<Arc<Caller>>),
        place: Handshake,
    ) -> Self {
        // Whoever is known already needs no place among those who are not.
        let place = Mutex::new(Some(place).filter(|_| owner.is_none()));
        Self { door, listed, source, owner, place }
    }

    pub(super) fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Ends once another connection, whose caller is not known yet either, has this one's place.
    pub(super) fn other_took_its_place(&self) -> impl Future<Output = ()> + use<> {
        let taken = self.place().as_ref().map(Handshake::other_took_it);
        async {
            match taken {
                Some(taken) => taken.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Refuses what a local door takes from nobody.
    ///
    /// # Errors
    /// `unauthenticated`, or `unsupported_media_type` where anyone may ask: a page can have its
    /// browser send other types without asking first (Fetch, "CORS-safelisted request-header").
    pub(super) fn admits(&self, head: &Parts) -> Result<(), Refusal> {
        strangers::refuse(head)?;
        if self.door.proofs.take_anyone() && head.method == Method::POST {
            dialects::json_of_any_kind(dialects::content_type(&head.headers))?;
        }
        Ok(())
    }

    /// Who calls, or by which signature it would show. What the head alone shows to be wrong with that is
    /// refused before any of the body is read.
    ///
    /// # Errors
    /// `unauthenticated`; `overloaded` if the caller has too many connections.
    pub(super) fn caller(self: &Arc<Self>, head: &Parts) -> Result<Calls, NotProven> {
        match self.door.proofs.of_request(head, self.owner.as_ref())? {
            Shown::Caller(caller) => self.proven(caller).map(Calls::Known),
            Shown::Claim(claim) => {
                self.door.proofs.check_head(&claim, head, wall_now())?;
                Ok(Calls::Signed(Box::new(Signed { visit: Arc::clone(self), claim })))
            }
        }
    }

    fn proven(&self, caller: Arc<Caller>) -> Result<Arc<Caller>, NotProven> {
        self.listed.belongs_to(&caller)?;
        self.place().take();
        Ok(caller)
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Handshake>> {
        // It is taken as a whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom the signature of a request names, and whether a secret that nobody has made it: for those
/// who look at the parser alone. None: it has no such signature.
pub(super) fn claimed(
    head: &Parts,
    body: &[u8],
    now: OffsetDateTime,
) -> Result<Option<(String, bool)>, NotProven> {
    let claim = Claim::read(head)?;
    Ok(claim.map(|claim| {
        let holds = claim.check(&Secret::new("nobody's"), head, body, now).is_ok();
        (claim.access_key_id, holds)
    }))
}
