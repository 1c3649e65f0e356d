//! Documents that people sign: one JSON object, read whole, with every mistake named. What a person
//! would not see in it is refused, so that nobody signs what they did not read.

use std::collections::BTreeSet;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Entries of one list.
const LIST_MAX: usize = 32;

/// Reads fields and collects mistakes.
pub(crate) struct Reader<'m>(pub(crate) &'m mut Vec<String>);

impl Reader<'_> {
    pub(crate) fn mistake(&mut self, key: &str, value: &str, fix: &str) {
        let value: String = value.chars().take(80).collect();
        self.0.push(format!("{key}: is {value:?}, {fix}"));
    }

    /// The document has to say what it is: a signature over another kind of document is not taken.
    pub(crate) fn is_type(&mut self, found: &str, expected: &str) {
        if found != expected {
            self.mistake("type", found, &format!("expected {expected:?}"));
        }
    }

    pub(crate) fn line(&mut self, key: &str, text: &str, most: usize) {
        let is_blank = text.trim().is_empty() || text.trim() != text;
        if text.len() > most || is_blank || text.chars().any(char::is_control) {
            self.mistake(key, text, &format!("expected one line of 1 to {most} bytes"));
        }
        if let Some(c) = text.chars().find(|c| text::is_unseen(*c)) {
            self.0.push(format!(
                "{key}: has U+{:04X}, which shows nothing, turns the direction or looks like a space, so \
                 that approvers do not see what they sign; leave it out",
                u32::from(c)
            ));
        }
    }

    /// A list without repetition, and not an empty one.
    pub(crate) fn list<T: Ord>(
        &mut self,
        key: &str,
        items: &[String],
        read: impl Fn(&mut Self, &String) -> Option<T>,
    ) -> Option<BTreeSet<T>> {
        if !(1..=LIST_MAX).contains(&items.len()) {
            self.0.push(format!("{key}: has {} entries, expected 1 to {LIST_MAX}", items.len()));
            return None;
        }
        let read: Vec<_> = items.iter().map(|item| read(self, item)).collect();
        let distinct = read.into_iter().collect::<Option<BTreeSet<T>>>()?;
        if distinct.len() != items.len() {
            self.0.push(format!("{key}: names something twice; name it once"));
        }
        Some(distinct)
    }

    pub(crate) fn instant(&mut self, key: &str, text: &str) -> Option<OffsetDateTime> {
        let read = OffsetDateTime::parse(text, &Rfc3339);
        let fix = "expected an RFC 3339 time such as 2026-11-24T09:30:00Z";
        read.map_err(|_| self.mistake(key, text, fix)).ok()
    }

    pub(crate) fn in_order(
        &mut self,
        first: &str,
        earlier: Option<OffsetDateTime>,
        then: &str,
        later: Option<OffsetDateTime>,
    ) {
        if let (Some(earlier), Some(later)) = (earlier, later)
            && earlier >= later
        {
            self.0.push(format!("{first}: is not before {then}; give {first} an earlier time"));
        }
    }
}
