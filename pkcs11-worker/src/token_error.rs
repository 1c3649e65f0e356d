//! Why a token cannot be used, as the proxy is told.

use std::io;

use cryptoki::error::Error;
use signing_core::evidence::Fault;
use signing_core::worker::{Login, Started};

use crate::fault;

/// Why a token cannot be used.
#[derive(Debug)]
pub(crate) struct TokenError {
    /// What is known.
    pub(crate) fault: Fault,
    /// What is wrong and what to do.
    pub(crate) detail: String,
    /// What it has to do with the login.
    pub(crate) login: Login,
}

impl TokenError {
    /// What someone has to set right.
    pub(crate) fn key(detail: impl Into<String>) -> Self {
        Self { fault: Fault::KeyUnavailable, detail: detail.into(), login: Login::Other }
    }

    /// What a token said.
    pub(crate) fn new(what: &str, error: &Error) -> Self {
        Self {
            fault: fault::of_start(error),
            detail: format!("{what}: {}", fault::words(error)),
            login: Login::Other,
        }
    }

    /// The proxy does not answer: nobody needs the token any more.
    pub(crate) fn proxy(error: io::Error) -> Self {
        let detail = format!("the proxy did not let the worker log in: {error}");
        Self { fault: Fault::Unavailable, detail, login: Login::Other }
    }

    /// As the proxy is told.
    pub(crate) fn started(&self) -> Started {
        Started::failed(self.fault, &self.detail, self.login)
    }
}
