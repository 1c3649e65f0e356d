//! A local door: callers of this machine, without a client certificate. It proves who calls, and
//! nothing else: from there on a request passes what every other request passes.

mod proofs;
mod strangers;

use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use http::request::Parts;
use signing_core::{Caller, Refusal};

use super::connections::Listed;
use super::dialects;
use super::handshakes::Handshake;
use crate::config;
use proofs::Proofs;

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
    /// Whose it is, if the connection itself shows that.
    owner: Option<Arc<Caller>>,
    /// Its place among those that have not proved who calls.
    place: Mutex<Option<Handshake>>,
}

impl LocalDoor {
    /// The door that the configuration describes.
    #[must_use]
    pub fn new(local: &config::Local) -> Self {
        Self { proofs: Proofs::new(&local.callers) }
    }

    /// Whether the user of a connection's other end matters.
    pub(super) fn takes_uids(&self) -> bool {
        self.proofs.take_uids()
    }

    /// Whose a connection is that `uid` made, if that shows.
    pub(super) fn owner(&self, uid: Option<u32>) -> Option<Arc<Caller>> {
        self.proofs.of_connection(uid).cloned()
    }
}

impl Visit {
    pub(super) fn new(
        door: Arc<LocalDoor>,
        listed: Listed,
        owner: Option<Arc<Caller>>,
        place: Handshake,
    ) -> Self {
        // Whoever is known already needs no place among those who are not.
        let place = Mutex::new(Some(place).filter(|_| owner.is_none()));
        Self { door, listed, owner, place }
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

    /// Who calls.
    ///
    /// # Errors
    /// `unauthenticated`; `overloaded` if the caller has too many connections.
    pub(super) fn caller(&self, head: &Parts) -> Result<Arc<Caller>, Refusal> {
        let caller = self.door.proofs.of_request(&head.headers, self.owner.as_ref())?;
        self.listed.belongs_to(&caller)?;
        self.place().take();
        Ok(caller)
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Handshake>> {
        // It is taken as a whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
