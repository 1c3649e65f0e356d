//! Who the KMS for tests lets in: everyone, until a test names the access keys that it knows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use http::HeaderMap;

/// What it knows of those who ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// None: everyone is let in.
    let_in: Option<(BTreeSet<String>, &'static str)>,
    refused: u64,
}

impl Clients {
    pub(super) fn let_in(&self, keys: &[&str], else_code: &'static str) {
        let keys = keys.iter().map(ToString::to_string).collect();
        self.0.lock().unwrap().let_in = Some((keys, else_code));
    }

    /// The error for whoever sent these headers, if there is one.
    pub(super) fn refuse(&self, headers: &HeaderMap) -> Option<&'static str> {
        let mut known = self.0.lock().unwrap();
        let (keys, code) = known.let_in.as_ref()?;
        if access_key(headers).is_some_and(|key| keys.contains(key)) {
            return None;
        }
        let code = *code;
        known.refused += 1;
        Some(code)
    }

    pub(super) fn refused(&self) -> u64 {
        self.0.lock().unwrap().refused
    }
}

/// `Authorization: AWS4-HMAC-SHA256 Credential=KEY/...`
pub(super) fn access_key(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get("authorization")?.to_str().ok()?;
    authorization.split_once("Credential=")?.1.split('/').next()
}
