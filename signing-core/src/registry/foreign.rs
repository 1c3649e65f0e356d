//! Keys of a registry that are none of ours. Third-party tools keep theirs there, and they are
//! ignored. But one that looks like ours was meant to be ours: a key that somebody revoked with
//! `revoked_at` would sign. So would one whose revocation stands beside the entries, or in an object of
//! others.

use serde_json::{Map, Value};

use super::forms;
use super::restrictions::{self, Found, Restriction, folded, is_of_revocation};
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
/// Ours of an entry, which is for people, and so may stand beside the entries too.
const FOR_PEOPLE: &[&str] = &["deployedAt", "description"];
const REVOKED: &str = "revokedAt";
const ENDS: &str = "notAfter";

/// A key that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The entry's kid; None: of the file itself.
    pub signer_kid: Option<String>,
    /// The key.
    pub key: String,
}

/// What foreign keys say, one sentence each.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// They were meant for us: ours misspelt, or a revocation where nobody reads it.
    pub mistakes: Vec<String>,
    /// They may say that a key signs no more, or something else.
    pub notes: Vec<String>,
}

/// Every key of a registry's text that is none of ours, in order. None if it is no registry.
#[must_use]
pub fn foreign_keys(text: &str) -> Option<Vec<Foreign>> {
    let text = forms::as_document(text);
    let document: Map<String, Value> = json::from_str(&text).ok()?;
    let of_file = others(&document, OF_FILE).map(|(key, _)| (None, key));
    let of_entries = entries(&document)
        .flat_map(|entry| others(entry, OF_ENTRY).map(|(key, _)| (Some(kid(entry)), key)));
    let all = of_file.chain(of_entries);
    Some(all.map(|(signer_kid, key)| Foreign { signer_kid, key: key.clone() }).collect())
}

/// What the foreign keys of a document in our own form say. Nothing if it is no registry: whoever reads
/// it says so.
pub(super) fn said(text: &str) -> Said {
    let mut said = Said::default();
    let Ok(document) = json::from_str::<Map<String, Value>>(text) else { return said };
    for (key, value) in others(&document, OF_FILE) {
        of_file(key, value, &mut said);
    }
    for entry in entries(&document) {
        of_entry(entry, &mut said);
    }
    said
}

fn entries(document: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let entries = document.get("signers").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Value::as_object)
}

fn kid(entry: &Map<String, Value>) -> String {
    let kid = entry.get("signer_kid").or_else(|| entry.get("signerId")).and_then(Value::as_str);
    kid.unwrap_or_default().to_owned()
}

fn others<'d>(
    fields: &'d Map<String, Value>,
    ours: &'static [&str],
) -> impl Iterator<Item = (&'d String, &'d Value)> {
    fields.iter().filter(|(key, _)| !ours.contains(&key.as_str()))
}

fn of_file(key: &str, value: &Value, said: &mut Said) {
    let shown = text::line(key);
    if let Some(meant) = text::meant(key, OF_FILE) {
        return said.mistakes.push(format!("the key {shown:?} is unknown; write {meant:?}"));
    }
    if let Some(meant) = text::meant(key, OF_ENTRY).filter(|meant| !FOR_PEOPLE.contains(meant)) {
        return said.mistakes.push(format!(
            "the key {shown:?} stands beside the entries, where nothing reads it; write {meant:?} into \
             the entry of the signer that it is about, and remove this one"
        ));
    }
    for (path, restriction) in restrictions::restrictions(key, value) {
        let path = text::line(&path);
        match restriction {
            Restriction::Revoked => said.mistakes.push(format!(
                "the key {path:?} says that a key is revoked, and nothing reads it; write {REVOKED:?} \
                 into the entry of that signer, and remove this one"
            )),
            Restriction::Ends | Restriction::Off => said.notes.push(format!(
                "the key {path:?} is ignored; if it says that a key signs no more, write {ENDS:?} or \
                 {REVOKED:?} into the entry of that signer"
            )),
        }
    }
}

fn of_entry(entry: &Map<String, Value>, said: &mut Said) {
    let of = format!("signer {:?}", kid(entry));
    let has = |key: &str| entry.get(key).is_some_and(Value::is_string);
    let is_said = |restriction| match restriction {
        Restriction::Revoked | Restriction::Off => has(REVOKED),
        Restriction::Ends => has(REVOKED) || has(ENDS),
    };
    for (key, value) in others(entry, OF_ENTRY) {
        let shown = text::line(key);
        let meant = text::meant(key, OF_ENTRY)
            .filter(|_| !BESIDE.contains(&folded(key).as_str()))
            // Whatever says that a key is revoked, and how, it is not.
            .or((is_of_revocation(key) && !has(REVOKED)).then_some(REVOKED));
        if let Some(meant) = meant {
            said.mistakes.push(format!("{of}: the key {shown:?} is unknown; write {meant:?}"));
            continue;
        }
        let own = restrictions::of(key, value);
        let own = own.filter(|own| !is_said(*own));
        if own.is_some() {
            said.mistakes.push(format!(
                "{of}: the key {shown:?} says that the key signs no more, and nothing reads it; write \
                 {ENDS:?} with the time when it ends, or {REVOKED:?}; or remove this one"
            ));
        }
        let inside = restrictions::inside(key, value).into_iter();
        for found in inside.filter(|(_, restriction)| !is_said(*restriction)) {
            in_entry(&of, &found, said);
        }
    }
}

/// What an object of others in an entry says: that may be about something else.
fn in_entry(of: &str, (path, restriction): &Found, said: &mut Said) {
    let path = text::line(path);
    match restriction {
        Restriction::Revoked => said.mistakes.push(format!(
            "{of}: the key {path:?} says that the key is revoked, and nothing reads it; write \
             {REVOKED:?} into the entry itself, or remove this one"
        )),
        Restriction::Ends | Restriction::Off => said.notes.push(format!(
            "{of}: the key {path:?} is ignored, so the signer signs; if it says that the key signs no \
             more, write {ENDS:?} or {REVOKED:?} into the entry itself"
        )),
    }
}
