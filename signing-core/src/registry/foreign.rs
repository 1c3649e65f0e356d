//! Keys of a registry that are none of ours. Third-party tools keep theirs there, and they are
//! ignored. But one that looks like ours was meant to be ours: a key that somebody revoked with
//! `revoked_at` would sign.

use serde_json::{Map, Value};

use super::forms;
use crate::json;

/// Ours, of an entry.
const OF_ENTRY: &[&str] = &[
    "signer_kid",
    "signerId",
    "algorithm",
    "public_key_pem",
    "publicKey",
    "deployedAt",
    "description",
    "purpose",
    "mode",
    "notAfter",
    "revokedAt",
];
/// Ours, of the whole file.
const OF_FILE: &[&str] = &["signers"];
/// What others put beside ours, though it looks like ours.
const BESIDE: &[&str] = &["revokedby", "deployedby"];
const REVOKED: &str = "revokedAt";

/// A key that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The entry's kid; None: of the file itself.
    pub signer_kid: Option<String>,
    /// The key.
    pub key: String,
    /// Which of ours was meant.
    pub meant: Option<&'static str>,
}

/// Every key of a registry's text that is none of ours, in order. None if it is no registry.
#[must_use]
pub fn foreign_keys(text: &str) -> Option<Vec<Foreign>> {
    let text = forms::as_document(text);
    let document: Map<String, Value> = json::from_str(&text).ok()?;
    let of_file = document.keys().filter(|key| !OF_FILE.contains(&key.as_str())).map(|key| {
        let meant = text::meant(key, OF_FILE);
        Foreign { signer_kid: None, key: key.clone(), meant }
    });
    let entries = document.get("signers").and_then(Value::as_array).into_iter().flatten();
    let of_entries = entries.filter_map(Value::as_object).flat_map(of_entry);
    Some(of_file.chain(of_entries).collect())
}

fn of_entry(entry: &Map<String, Value>) -> impl Iterator<Item = Foreign> {
    let kid = entry.get("signer_kid").or_else(|| entry.get("signerId")).and_then(Value::as_str);
    let is_revoked = entry.get(REVOKED).is_some_and(Value::is_string);
    let others = entry.keys().filter(|key| !OF_ENTRY.contains(&key.as_str()));
    others.map(move |key| {
        let folded: String = key.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
        let meant = text::meant(key, OF_ENTRY).filter(|_| !BESIDE.contains(&folded.as_str()));
        // Whatever says that a key is revoked, and how, it is not.
        let says_revoked = folded.contains("revok") || folded.contains("revoc");
        let meant = meant.or((says_revoked && !is_revoked).then_some(REVOKED));
        let signer_kid = Some(kid.unwrap_or_default().to_owned());
        Foreign { signer_kid, key: key.clone(), meant }
    })
}

/// A sentence for each that was meant to be ours.
pub(super) fn mistakes(text: &str) -> Vec<String> {
    let misspelt = foreign_keys(text).unwrap_or_default().into_iter().filter_map(|foreign| {
        let Foreign { signer_kid, key, meant } = foreign;
        let what = format!("the key {:?} is unknown; write {:?}", text::line(&key), meant?);
        Some(match signer_kid {
            Some(kid) => format!("signer {kid:?}: {what}"),
            None => what,
        })
    });
    misspelt.collect()
}
