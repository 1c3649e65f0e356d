//! Reads one table of a config file, key by key, and collects every mistake
//! instead of stopping at the first. Keys that nobody asked for are mistakes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use toml::{Table, Value};

use crate::identifier;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Mistakes found so far, each a sentence: the key, the value, the fix.
#[derive(Clone, Debug, Default)]
pub struct Mistakes(Rc<RefCell<Vec<String>>>);

impl Mistakes {
    /// Adds one.
    pub fn add(&self, mistake: impl Into<String>) {
        self.0.borrow_mut().push(mistake.into());
    }

    /// All of them.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Reads a config file's text.
///
/// # Errors
/// Where it is not TOML, without the line itself: what is named as a config file by mistake may be
/// a key.
pub fn table(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("is not TOML: line {line}, column {column}: {}", error.message())
    })
}

/// One table, consumed key by key.
#[derive(Debug)]
pub struct Section {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    /// Keys with a mistake of their own, whose values are not those of the file.
    mistaken: RefCell<BTreeSet<String>>,
    mistakes: Mistakes,
}

impl Section {
    /// The whole file.
    #[must_use]
    pub fn root(table: Table, mistakes: &Mistakes) -> Self {
        Self::new(String::new(), table, mistakes)
    }

    /// Whether none of `keys` has a mistake so far: only then does a relation
    /// between their values say something about the file.
    pub fn sound(&self, keys: &[&str]) -> bool {
        let mistaken = self.mistaken.borrow();
        !keys.iter().any(|key| mistaken.contains(*key))
    }

    /// The full name of `key`: `gate.lease_ms`.
    pub fn name(&self, key: &str) -> String {
        let key = match identifier::flaw(key) {
            Some(_) => identifier::quoted(key),
            None => key.to_owned(),
        };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Reports a mistake about `key`'s value.
    pub fn mistake(&self, key: &str, what: impl Display) {
        self.mistaken.borrow_mut().insert(key.to_owned());
        self.mistakes.add(format!("{}: {what}", self.name(key)));
    }

    /// The table `key`; empty if absent.
    pub fn section(&mut self, key: &'static str) -> Self {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.mistake(key, format!("is {}, expected a section [{key}]", kind(&other)));
                Table::new()
            }
        };
        self.child(self.name(key), table)
    }

    /// The array of tables `key`; empty if absent.
    pub fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let name = self.name(key);
        let expected = format!("expected sections [[{name}]]");
        let Value::Array(items) = value else {
            self.mistake(key, format!("is {}, {expected}", kind(&value)));
            return Vec::new();
        };
        let tables = items.into_iter().enumerate().filter_map(|(index, item)| match item {
            Value::Table(table) => Some(self.child(format!("{name}[{index}]"), table)),
            other => {
                self.mistake(key, format!("holds {}, {expected}", kind(&other)));
                None
            }
        });
        tables.collect()
    }

    /// A text, which names something: what nobody sees in it is a mistake.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(self.seen(key, text)),
            other => {
                self.mistake(key, format!("is {}, expected a text in quotes", kind(&other)));
                None
            }
        }
    }

    /// A text that has to be there; `fix` says what to write.
    pub fn required(&mut self, key: &'static str, fix: &str) -> String {
        let of_another_kind = self.table.get(key).is_some_and(|value| !value.is_str());
        let text = self.text(key).unwrap_or_default();
        if text.is_empty() && !of_another_kind && self.sound(&[key]) {
            self.mistake(key, format!("is missing; {fix}"));
        }
        text
    }

    /// A text that may be absent, but not empty; `fix` says what to write.
    pub fn text_or(&mut self, key: &'static str, default: &str, fix: &str) -> String {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        if text.is_empty() && self.sound(&[key]) {
            self.mistake(key, format!("is empty; {fix}"));
        }
        text
    }

    /// A whole number within `range`; `default` if absent.
    pub fn number(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (range.start(), range.end());
        match self.take(key) {
            None => default,
            Some(Value::Integer(number)) => match u64::try_from(number) {
                Ok(number) if range.contains(&number) => number,
                _ => {
                    self.mistake(key, format!("is {number}, expected {low} to {high}"));
                    default
                }
            },
            Some(other) => {
                let found = kind(&other);
                self.mistake(
                    key,
                    format!("is {found}, expected a whole number from {low} to {high}"),
                );
                default
            }
        }
    }

    /// A whole number within `range`; None if absent.
    pub fn number_if_there(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            return None;
        }
        Some(self.number(key, *range.start(), range))
    }

    /// A duration in milliseconds, at most a day; `default_ms` if absent.
    pub fn millis(&mut self, key: &'static str, default_ms: u64) -> Duration {
        Duration::from_millis(self.number(key, default_ms, 1..=DAY_MS))
    }

    /// `true` or `false`; `default` if absent.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                self.mistake(key, format!("is {}, expected true or false", kind(&other)));
                default
            }
        }
    }

    /// A list of texts; empty if absent.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let texts = self.list(key, "texts in quotes", |item| match item {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts.into_iter().map(|text| self.seen(key, text)).collect()
    }

    /// A list of numbers that identify users or groups; None if absent.
    pub fn ids(&mut self, key: &'static str) -> Option<Vec<u32>> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            return None;
        }
        Some(self.list(key, "numeric ids", |item| match item {
            Value::Integer(number) => u32::try_from(number).ok(),
            _ => None,
        }))
    }

    /// A number that identifies a user or a group; None if absent.
    pub fn id(&mut self, key: &'static str) -> Option<u32> {
        let value = self.take(key)?;
        let id = value.as_integer().and_then(|number| u32::try_from(number).ok());
        if id.is_none() {
            let found = kind(&value);
            self.mistake(key, format!("is {found}, expected a numeric id, without quotes"));
        }
        id
    }

    /// All keys of a table whose keys are the user's own, with their texts.
    pub fn into_texts(mut self) -> Vec<(String, String)> {
        let entries = std::mem::take(&mut self.table).into_iter();
        entries
            .filter_map(|(key, value)| match value {
                Value::String(text) => {
                    let text = self.seen(&key, text);
                    if let Some(flaw) = identifier::flaw(&key) {
                        self.mistake(&key, format!("this name {flaw}; remove it"));
                    }
                    Some((key, text))
                }
                other => {
                    self.mistake(&key, format!("is {}, expected a text in quotes", kind(&other)));
                    None
                }
            })
            .collect()
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            let meant = text::meant(key, &self.known);
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            self.mistake(key, format!("no such key; known here: {}{meant}", self.known.join(", ")));
        }
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        of: &str,
        read: impl Fn(Value) -> Option<T>,
    ) -> Vec<T> {
        let value = match self.take(key) {
            None => return Vec::new(),
            Some(value) => value,
        };
        let found = kind(&value);
        let items = match value {
            Value::Array(items) => items.into_iter().map(read).collect::<Option<Vec<T>>>(),
            _ => None,
        };
        items.unwrap_or_else(|| {
            self.mistake(key, format!("is {found}, expected a list of {of}: [...]"));
            Vec::new()
        })
    }

    /// `text` as it was probably meant; what nobody sees in it is a mistake, so that nothing
    /// runs on what was guessed.
    fn seen(&self, key: &str, text: String) -> String {
        let Some(flaw) = identifier::flaw(&text) else { return text };
        let quoted = identifier::quoted(&text);
        self.mistake(key, format!("is {quoted}, which {flaw}; remove it"));
        identifier::meant(&text)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        if is_pem(&value) {
            self.mistake(key, "holds a PEM itself; write that to a file, and name the file here");
            return None;
        }
        Some(value)
    }

    fn child(&self, path: String, table: Table) -> Self {
        Self::new(path, table, &self.mistakes)
    }

    fn new(path: String, table: Table, mistakes: &Mistakes) -> Self {
        let mistaken = RefCell::default();
        Self { path, table, known: Vec::new(), mistaken, mistakes: mistakes.clone() }
    }
}

/// Whether a value is the content of a key's or certificate's file, which no message may repeat.
fn is_pem(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("-----BEGIN"),
        Value::Array(items) => items.iter().any(is_pem),
        _ => false,
    }
}

/// What a value is, with the value itself where it is short.
fn kind(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("{flag}"),
        Value::Datetime(at) => format!("the time {at}"),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a section".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes_of(text: &str) -> Vec<String> {
        let mistakes = Mistakes::default();
        let mut root = Section::root(text.parse().unwrap(), &mistakes);
        let mut section = root.section("s");
        assert_eq!(section.required("name", "name it"), "eu");
        assert_eq!(section.text_or("other", "eu", "name it"), "eu");
        assert_eq!(section.texts("list"), ["eu"]);
        section.finish();
        assert_eq!(root.section("free").into_texts().len(), 1);
        root.finish();
        mistakes.take()
    }

    #[test]
    fn what_nobody_sees_in_a_text_is_one_mistake_that_shows_it() {
        let whole =
            "[s]\nname = \"eu\"\nother = \"eu\"\nlist = [\"eu\"]\n[free]\n\"eu\" = \"eu\"\n";
        assert_eq!(mistakes_of(whole), Vec::<String>::new());
        let spoilt = whole.replace("\"eu\"", "\"eu\\n\"");
        let shown = r#"is "eu\n", which ends with a line end; remove it"#;
        assert_eq!(
            mistakes_of(&spoilt),
            [
                format!("s.name: {shown}"),
                format!("s.other: {shown}"),
                format!("s.list: {shown}"),
                format!(r#"free."eu\n": {shown}"#),
                r#"free."eu\n": this name ends with a line end; remove it"#.to_owned(),
            ]
        );
    }

    #[test]
    fn a_text_of_blanks_alone_is_not_called_missing_too() {
        let mistakes = Mistakes::default();
        let mut root = Section::root("name = \" \"".parse().unwrap(), &mistakes);
        assert_eq!(root.required("name", "name it"), "");
        assert_eq!(mistakes.take(), [r#"name: is " ", which ends with a blank; remove it"#]);
    }
}
