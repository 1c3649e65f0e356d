//! Names of objects, and what each is: `audit/YYYY/MM/DD/<log>-<first>-<last>.jsonl` holds records, the
//! `.checkpoint` of the same name covers them, `<row id>.json` is a row of its own. Everything else is of others.

use signing_core::tree::LogId;
use time::OffsetDateTime;

/// Below the prefix: what a bucket holds of the audit.
pub const ROOT: &str = "audit/";

/// Records of one log, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The log.
    pub log: LogId,
    /// The number of the first record.
    pub first: u64,
    /// The number of the last, which is the size of the checkpoint.
    pub last: u64,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Records, a line each.
    Records(Part),
    /// The checkpoint that covers them.
    Checkpoint(Part),
    /// A row of its own, by its id.
    Event(String),
}

impl Part {
    /// The name of its records.
    #[must_use]
    pub fn records(&self) -> String {
        format!("{self}.jsonl")
    }

    /// The name of its checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        format!("{self}.checkpoint")
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.log, self.first, self.last)
    }
}

impl Name {
    /// What the object at the end of `key` is. None: it is of others.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let name = key.rsplit('/').next()?;
        let (stem, ending) = name.rsplit_once('.')?;
        match ending {
            "jsonl" => part(stem).map(Self::Records),
            "checkpoint" => part(stem).map(Self::Checkpoint),
            "json" => is_uuid(stem).then(|| Self::Event(stem.to_owned())),
            _ => None,
        }
    }
}

/// The directory of a day, in UTC: `audit/2026/11/26/`.
#[must_use]
pub fn directory(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{ROOT}{:04}/{:02}/{:02}/", at.year(), u8::from(at.month()), at.day())
}

/// Whether that is the directory of a day.
#[must_use]
pub fn is_directory(text: &str) -> bool {
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let Some(day) = text.strip_prefix(ROOT).and_then(|rest| rest.strip_suffix('/')) else {
        return false;
    };
    let parts: Vec<_> = day.split('/').collect();
    matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

fn part(stem: &str) -> Option<Part> {
    let mut parts = stem.split('-');
    let log = LogId::parse(parts.next()?)?;
    let (first, last) = (number(parts.next()?)?, number(parts.next()?)?);
    let is_whole = parts.next().is_none() && 0 < first && first <= last;
    is_whole.then_some(Part { log, first, last })
}

/// A decimal with one spelling.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_was_written_and_has_one_spelling() {
        let part = Part { log: LogId::new([0xab; 16]), first: 7, last: 19 };
        let day = directory(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(day, "audit/1970/01/01/");
        assert!(is_directory(&day));
        assert_eq!(Name::parse(&format!("{day}{}", part.records())), Some(Name::Records(part)));
        assert_eq!(Name::parse(&part.checkpoint()), Some(Name::Checkpoint(part)));
        let id = "886313e1-3b8a-5372-9b90-0c9aee199e5d";
        assert_eq!(Name::parse(&format!("x/{id}.json")), Some(Name::Event(id.to_owned())));
        let log = part.log;
        for other in [
            format!("{log}-07-19.jsonl"),
            format!("{log}-0-19.jsonl"),
            format!("{log}-20-19.jsonl"),
            format!("{log}-7-19-20.jsonl"),
            format!("{log}-7-+19.jsonl"),
            format!("{}-7-19.jsonl", log.to_string().to_uppercase()),
            format!("{log}-7-19.json"),
            format!("{log}-7-19"),
            "886313E1-3b8a-5372-9b90-0c9aee199e5d.json".to_owned(),
            String::new(),
        ] {
            assert_eq!(Name::parse(&other), None, "{other}");
        }
        for other in ["audit/1970/1/01/", "audit/1970/01/01", "audit/1970/01/", "1970/01/01/"] {
            assert!(!is_directory(other), "{other}");
        }
    }
}
