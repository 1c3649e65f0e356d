//! What a record says of another journal: how far that one went, or which record it holds.

use std::fmt;
use std::path::PathBuf;

use signing_core::journal::{Head, Leaf, Outline};
use signing_core::tree::{LogId, TreeHash};

use crate::walk::Defect;

/// Members of a record's data that name a head of another journal, `log:size:root`.
const HEADS: [&str; 2] = ["proxy_head", "signer_head"];
/// Those that name a record of it, `log:seq:leaf`.
const RECORDS: [&str; 1] = ["signer_record"];

/// A head or a record of another journal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Head(Head),
    Record(Leaf),
}

/// What a record says, and where that record is.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) said: Said,
    pub(super) seq: u64,
    pub(super) file: PathBuf,
    pub(super) at: u64,
}

impl Said {
    /// How many records the other journal needs to have for it.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Head(head) => head.size,
            Self::Record(leaf) => leaf.seq,
        }
    }

    /// What it gives of that record.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Head(_) => "root",
            Self::Record(_) => "leaf",
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(Head { size, root }) => write!(f, "the head {size}:{root}"),
            Self::Record(Leaf { seq, hash }) => write!(f, "the record {seq}:{hash}"),
        }
    }
}

impl Claim {
    /// The defect that what it says is not so.
    pub(super) fn defect(&self, what: String) -> Defect {
        Defect { record: self.seq, file: self.file.clone(), at: self.at, what }
    }
}

/// What the record with this body says of other journals, and of which.
///
/// # Errors
/// What it says is no head and no record.
pub(super) fn claims(body: &[u8]) -> Result<Vec<(LogId, Said)>, String> {
    // Nearly all bodies name none, so they are not read as JSON. A name in quotes and a colon is
    // nothing that a text in JSON can hold.
    let is_named = |name: &&str| {
        let name = format!("\"{name}\":");
        body.windows(name.len()).any(|part| part == name.as_bytes())
    };
    if !HEADS.iter().chain(&RECORDS).any(is_named) {
        return Ok(Vec::new());
    }
    let Some((outline, _)) = Outline::parse(body) else { return Ok(Vec::new()) };
    let mut claims = Vec::new();
    for (names, of) in [(&HEADS[..], head as Read), (&RECORDS[..], record)] {
        for name in names {
            let Some(text) = outline.text(name) else { continue };
            let claim = read(text, of);
            claims.push(claim.ok_or_else(|| format!("its {name} {text:?} names no journal"))?);
        }
    }
    Ok(claims)
}

type Read = fn(u64, TreeHash) -> Said;

fn head(size: u64, root: TreeHash) -> Said {
    Said::Head(Head { size, root })
}

fn record(seq: u64, hash: TreeHash) -> Said {
    Said::Record(Leaf { seq, hash })
}

fn read(text: &str, of: Read) -> Option<(LogId, Said)> {
    let mut parts = text.split(':');
    let (log, number, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let said = of(number.parse().ok()?, TreeHash::parse(hash)?);
    parts.next().is_none().then_some((LogId::parse(log)?, said))
}
