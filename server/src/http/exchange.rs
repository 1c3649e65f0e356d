//! One request on one connection: who asks, and in which words the answer is said.

use std::sync::Arc;

use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use signing_core::{Caller, Door, Refusal};

use crate::DataPlane;
use crate::answer::{self, Answer, json_answer, problem};
use crate::bodies::Body;
use crate::connection::Connection;
use crate::dialects;
use crate::kms;
use crate::local::Fault;
use crate::reading::Unread;

/// One request on one connection.
pub(super) struct Exchange {
    pub(super) plane: Arc<DataPlane>,
    pub(super) connection: Arc<Connection>,
    pub(super) door: Door,
    pub(super) caller: Result<Arc<Caller>, Refusal>,
    pub(super) words: RefusalForm,
    pub(super) request_id: String,
}

/// In which words a refusal is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum RefusalForm {
    /// RFC 9457.
    Problem,
    /// KMS's own. What is wrong with a proof has words of its own there.
    Kms(Option<Fault>),
}

impl Exchange {
    /// Who calls.
    ///
    /// # Errors
    /// `unauthenticated`, or whatever else kept the caller from being proved.
    pub(super) fn caller(&self) -> Result<&Arc<Caller>, Refusal> {
        self.caller.as_ref().map_err(Clone::clone)
    }

    /// Who asks what: the caller, within its rate, and the body of a type that its path takes.
    ///
    /// # Errors
    /// The refusal of the first of these that fails.
    pub(super) async fn asked(
        &self,
        head: &Parts,
        body: &mut Unread<'_>,
    ) -> Result<(&Arc<Caller>, Body), Refusal> {
        let caller = self.caller()?;
        self.plane.rates.take(caller)?;
        dialects::takes(head)?;
        let body = self.read(caller, body).await?;
        Ok((caller, body))
    }

    /// Reads the body of a request of `caller`.
    ///
    /// # Errors
    /// The refusal, if a limit is reached or it does not arrive.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        body: &mut Unread<'_>,
    ) -> Result<Body, Refusal> {
        let shared = self.connection.shared();
        body.take(&self.plane.limits, &shared.bodies, caller).await
    }

    /// An answer that is no refusal, in the dialect's content type.
    pub(super) fn good(&self, body: &impl Serialize) -> Response<Answer> {
        match self.words {
            RefusalForm::Problem => json_answer(StatusCode::OK, body),
            RefusalForm::Kms(_) => answer::with_type(StatusCode::OK, kms::CONTENT_TYPE_JSON, body),
        }
    }

    pub(super) fn refuse(&self, refusal: &Refusal) -> Response<Answer> {
        match self.words {
            RefusalForm::Problem => problem(refusal, Some(&self.request_id)),
            RefusalForm::Kms(fault) => kms::refusal(refusal, fault),
        }
    }

    /// Whoever does not take answers gets refusals in their place.
    pub(super) fn counted(&self, response: Response<Answer>) -> Response<Answer> {
        let counted = |response| answer::counted(response, &self.connection);
        counted(response)
            .or_else(|refusal| counted(self.refuse(&refusal)))
            .unwrap_or_else(|refusal| self.refuse(&refusal))
    }
}
