//! The words of a line.

use signing_core::registry::speaks_against_a_key;

/// What may stand before a key; the first is refused.
pub(super) const OPTIONS: [&str; 4] =
    ["cert-authority", "namespaces", "valid-after", "valid-before"];

/// A longer word of a line is not repeated, in characters.
const WORD_MAX_CHARS: usize = 48;

/// A word of a line, if it is short: a long one may be a secret, of a file that is named here by
/// mistake.
pub(super) fn shown(word: &str) -> String {
    if word.chars().count() > WORD_MAX_CHARS {
        return format!("a word of {} bytes", word.len());
    }
    let hidden = |c: char| !c.is_ascii_graphic() && c != ' ';
    let escaped = word.chars().map(|c| match c {
        c if hidden(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Options end at the first white space outside quotes.
pub(super) fn split_options(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                return Ok((
                    text.get(..at).unwrap_or_default(),
                    text.get(at..).unwrap_or_default().trim_start(),
                ));
            }
            _ => {}
        }
    }
    Err("has options and no key".to_owned())
}

/// Parts between commas outside quotes.
pub(super) fn list(options: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in options.chars() {
        quoted ^= c == '"';
        match (c, parts.last_mut()) {
            (',', _) if !quoted => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Why the words after a key may not stand there: all of them are a comment, so what one of them says
/// of the key is nothing.
pub(super) fn judge_comment<'w>(mut words: impl Iterator<Item = &'w str>) -> Result<(), String> {
    let why = words.find_map(|word| {
        let name = word.split([':', '=']).find(|part| !part.is_empty())?;
        if let Some(option) = text::meant(name, &OPTIONS) {
            Some(format!(
                "has {option} after the key, where it is a comment and nothing; put it before the key"
            ))
        } else if speaks_against_a_key(name) {
            Some(format!(
                "has {} after the key, where it is a comment, and the key counts; remove the line, put \
                 valid-before=\"...\" before the key, or change the comment",
                shown(word)
            ))
        } else {
            None
        }
    });
    why.map_or(Ok(()), Err)
}
