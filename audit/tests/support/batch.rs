//! Records behind a small journal, as they were written in one go and never acknowledged.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use signing_core::journal::{Chain, Freeze, KeyId, Record};
use time::OffsetDateTime;

use crate::places::places;
use crate::support::{SEED, key, open, small_journal_in, writable};

/// A journal with a record for each length of its reason, none of which knows of another; its
/// segment, where they begin, and their bytes.
pub(crate) fn with_batch(path: &Path, segment: u64, reasons: &[usize]) -> (PathBuf, u64, Vec<u8>) {
    let file = small_journal_in(path, segment);
    let end = *places(path).last().unwrap();
    let opened = open(path).unwrap();
    let mut chain = Chain::new(opened.chain(), opened.head(), KeyId::of(key().public()));
    let durable = opened.head().seq;
    drop(opened);
    let mut batch = Vec::new();
    for reason in reasons {
        frame(&mut chain, &"xé".repeat(*reason / 3 + 1)[..], durable, &mut batch);
    }
    writable(&file).write_all_at(&batch, end).unwrap();
    (file, end, batch)
}

/// Adds a record with that reason.
pub(crate) fn frame(chain: &mut Chain, reason: &str, durable: u64, out: &mut Vec<u8>) {
    let private = SigningKey::from_bytes(&SEED);
    let record = Record::Freeze(Freeze { by: "uid 0", reason });
    let body = record.encode(OffsetDateTime::UNIX_EPOCH).unwrap();
    chain.append(&body, durable, |hash| private.sign(hash).to_bytes(), out);
}
