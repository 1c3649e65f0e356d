//! Text as it may be shown to a person or written to a log. A control character is obeyed by a
//! terminal, and a bidirectional control shows a line in another order than it is read. Such
//! characters are escaped, so that a reader sees that they are there.

mod alike;
mod count;
mod unseen;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use alike::meant;
pub use count::{counted, from_now};
pub use unseen::is_unseen;

/// One line: control characters and unseen characters stand there as `\n`, `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, rust)
}

/// The same, with its new lines.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_hidden(c), rust)
}

/// JSON that says the same, in which hidden characters stand as `\u202e`. In JSON they can only
/// be inside of strings, except for the white space between values.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| !c.is_ascii_whitespace() && is_hidden(c),
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// [`line()`] of as much of `text` as fits into `most` bytes.
#[must_use]
pub fn clipped(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        if is_hidden(c) {
            rust(c, &mut out)
        } else {
            out.push(c)
        }
        if out.len() > most {
            out.truncate(before);
            break;
        }
    }
    out
}

/// Whether a person would not see it, or a terminal would obey it.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control() || is_unseen(c)
}

fn rust(c: char, out: &mut String) {
    out.extend(c.escape_default());
}

fn escaped(
    text: &str,
    hidden: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal obeys, or shows in another order, or does not show.
    const HIDDEN: &str = "\0\t\r\n\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{200f}\
        \u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\
        \u{feff}\u{fe0f}\u{1d173}\u{e0041}\u{e0100}";

    #[test]
    fn nothing_hidden_is_shown() {
        for c in HIDDEN.chars() {
            let text = format!("a{c}b");
            let shown = line(&text);
            assert!(!shown.contains(is_hidden), "{shown:?}");
            assert_eq!(shown, format!("a{}b", c.escape_default()));
            assert_eq!(clipped(&text, 80), shown);
            assert_eq!(lines(&text).contains(c), c == '\n', "{c:?}");
        }
        assert_eq!(lines("one\ntwo\u{202e}"), "one\ntwo\\u{202e}");
    }

    #[test]
    fn what_is_seen_stays_as_it_is() {
        for seen in ["plain", "grün · 日本語 العربية עברית", "\\u{202e}", "a  b", ""]
        {
            assert_eq!(
                (line(seen), lines(seen), json(seen)),
                (seen.into(), seen.into(), seen.into())
            );
            assert_eq!(clipped(seen, 80), seen);
        }
    }

    #[test]
    fn json_says_the_same_after_it() {
        let quoted = "{\n\t\"a\": \"x\u{202e}\u{7f}\u{9b}\u{e0041}y\"\r\n}";
        let shown = json(quoted);
        assert_eq!(shown, "{\n\t\"a\": \"x\\u202e\\u007f\\u009b\\udb40\\udc41y\"\r\n}");
    }

    #[test]
    fn what_is_clipped_ends_with_a_whole_character() {
        assert_eq!(clipped("abc", 2), "ab");
        assert_eq!(clipped("aü", 2), "a");
        assert_eq!(clipped("a\u{202e}", 8), "a");
        assert_eq!(clipped("a\u{202e}b", 9), "a\\u{202e}");
    }
}
