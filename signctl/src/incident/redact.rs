//! A configuration without its secrets. A bundle of evidence goes to people who may not read the original.
//!
//! The files are meant to name files of secrets and to hold none. What somebody wrote into one all the same
//! does not leave: the values of keys that sound like a secret, the user of a URL, PEM blocks, and all
//! comments. The rest keeps its place, so line numbers in messages still fit.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What stands in place of a secret.
const REDACTED: &str = "(redacted)";

/// Keys that end in one of these hold a secret. `pin_file` ends in none: it names a file.
const SECRET_ENDINGS: [&str; 8] = [
    "password",
    "secret",
    "token",
    "pin",
    "passphrase",
    "authorization",
    "access_key",
    "private_key",
];

/// What begins a PEM block, and what ends one.
const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");

/// The configuration without its secrets.
///
/// # Errors
/// If it is no TOML: nobody can say then what in it is secret. The sentence quotes none of it.
pub(super) fn redact(text: &str) -> Result<String, String> {
    let table = DeTable::parse(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {} is no TOML; it is not copied", before.matches('\n').count() + 1)
    })?;
    let mut values = Vec::new();
    look_at_table(table.get_ref(), false, &mut values);
    values.sort_by_key(|(span, _)| span.start);
    let (mut clean, mut at) = (String::with_capacity(text.len()), 0);
    for (span, instead) in values {
        clean.push_str(&without_comments(text.get(at..span.start).unwrap_or_default()));
        clean.push_str(instead.as_deref().or(text.get(span.clone())).unwrap_or_default());
        at = span.end;
    }
    clean.push_str(&without_comments(text.get(at..).unwrap_or_default()));
    Ok(clean)
}

/// Where something stands that is no comment, and what stands there instead.
type Found = (Range<usize>, Option<String>);

fn look_at_table(table: &DeTable<'_>, is_secret: bool, found: &mut Vec<Found>) {
    for (key, value) in table {
        let name = key.get_ref().to_ascii_lowercase().replace('-', "_");
        let is_secret = is_secret || sounds_secret(&name);
        look_at(value, is_secret, found);
    }
}

fn look_at(value: &Spanned<DeValue<'_>>, is_secret: bool, found: &mut Vec<Found>) {
    let cleaned = match value.get_ref() {
        DeValue::Table(table) => return look_at_table(table, is_secret, found),
        DeValue::Array(values) => {
            return values.iter().for_each(|value| look_at(value, is_secret, found));
        }
        _ if is_secret => Some(REDACTED.to_owned()),
        DeValue::String(text) => Some(without_secrets(text)).filter(|clean| clean != text),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    };
    // A string of JSON is a basic string of TOML.
    let instead = cleaned.map(|text| serde_json::Value::String(text).to_string());
    found.push((value.span(), instead));
}

fn sounds_secret(name: &str) -> bool {
    SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// A text without what in it is secret by its form.
fn without_secrets(text: &str) -> String {
    let mut clean = text.to_owned();
    while let Some(begin) = clean.find(PEM.0) {
        let rest = clean.get(begin..).unwrap_or_default();
        // One that does not end is secret to the end.
        let end = rest.find(PEM.1).and_then(|end| {
            let line = rest.get(end..)?;
            Some(begin + end + line.find('\n').unwrap_or(line.len()))
        });
        clean.replace_range(begin..end.unwrap_or(clean.len()), REDACTED);
    }
    let words = clean.split_inclusive(char::is_whitespace);
    words.map(without_user).map(|word| without_parameters(&word)).collect()
}

/// `scheme://user:password@host` without the user. What looks like one behind a slash may be the end of a
/// password, so it goes too.
fn without_user(word: &str) -> String {
    let parts = word.split_once("://").and_then(|(scheme, rest)| {
        let (_, host) = rest.rsplit_once('@')?;
        Some((scheme, host))
    });
    parts.map_or_else(|| word.to_owned(), |(scheme, host)| format!("{scheme}://{REDACTED}@{host}"))
}

/// `password=...` in a query or in a list of parameters, without its value.
fn without_parameters(word: &str) -> String {
    let parts = word.split_inclusive(['?', '&']).map(|part| {
        let body = part.trim_end_matches(|c: char| matches!(c, '?' | '&') || c.is_whitespace());
        let end = part.get(body.len()..).unwrap_or_default();
        match body.split_once('=') {
            Some((name, _)) if sounds_secret(&name.to_ascii_lowercase()) => {
                format!("{name}={REDACTED}{end}")
            }
            _ => part.to_owned(),
        }
    });
    parts.collect()
}

/// A piece between two values, without its comments.
fn without_comments(between: &str) -> String {
    let lines = between.split_inclusive('\n');
    let clean = lines.map(|line| match line.split_once('#') {
        Some((before, _)) if line.ends_with('\n') => format!("{before}\n"),
        Some((before, _)) => before.to_owned(),
        None => line.to_owned(),
    });
    clean.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A planted secret: no bundle may hold it.
    const PLANTED: &str = "hunter2";

    #[test]
    fn a_planted_secret_does_not_leave_wherever_it_stands() {
        for secret in [
            "password = 'hunter2'",
            "db_password = \"hunter2\" # the usual one",
            "# password = 'hunter2'",
            "a = 1 # hunter2",
            "a = [1, # hunter2\n2]",
            "Client-Secret = 'hunter2'",
            "bearer_token = ['x', 'hunter2']",
            "[a]\nPIN = 'hunter2'",
            "passphrase = \"\"\"\nhunter2\"\"\"",
            "a = { secret = { b = 'hunter2' } }",
            "[[local.token]]\nname = 'hunter2'",
            "url = 'postgres://user:hunter2@db/audit'",
            "url = 'postgres://user:hunter2/@db/audit'",
            "url = ['https://hunter2@kms']",
            "url = 'postgres://db/audit?sslmode=require&password=hunter2'",
            "dsn = 'host=db password=hunter2 user=a'",
            "key = \"\"\"\n-----BEGIN KEY-----\nhunter2\n-----END KEY-----\n\"\"\"",
            "key = \"-----BEGIN EC KEY-----\\nhunter2\"",
            "\"a#b\" = 1 # hunter2",
        ] {
            let clean = redact(secret).unwrap();
            assert!(!clean.contains(PLANTED), "{secret} -> {clean}");
            assert!(
                toml::from_str::<toml::Table>(&clean).is_ok() || secret.contains('#'),
                "{clean}"
            );
        }
        let torn = redact("a = 1\npassword = 'hunter2").unwrap_err();
        assert!(torn.starts_with("line 2 ") && !torn.contains(PLANTED), "{torn}");
    }

    #[test]
    fn all_else_stays_as_it_is_and_where_it_is() {
        let text = "[kms]\npin_file = \"/etc/pin\"\n\n# why\nurl = 'https://kms:8443/a?b=c#d'\nn = 0x10\n[a]\nb = [1, 'x # y']\n";
        assert_eq!(redact(text).unwrap(), text.replace("# why", ""));
    }
}
