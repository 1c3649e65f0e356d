//! Text that names something: no blanks around it and nothing in it that nobody sees. A line
//! end that an editor or `kubectl` added makes another name of it, which is found nowhere.

use text::is_unseen;

/// Longest value in a message, in characters; of a longer one both ends are shown.
const QUOTED_MAX_CHARS: usize = 200;

/// What of `text` is no part of a name, as the rest of a sentence; None: nothing.
#[must_use]
pub fn flaw(text: &str) -> Option<&'static str> {
    let (first, last) = (text.chars().next()?, text.chars().next_back()?);
    if is_line_end(last) {
        Some("ends with a line end")
    } else if is_line_end(first) {
        Some("begins with a line end")
    } else if is_blank(last) {
        Some("ends with a blank")
    } else if is_blank(first) {
        Some("begins with a blank")
    } else if text.chars().any(char::is_control) {
        Some("has a control character in it")
    } else if text.chars().any(is_unseen) {
        Some("has an invisible character in it")
    } else {
        None
    }
}

/// `text` without what [`flaw`] finds: what was probably meant.
#[must_use]
pub fn meant(text: &str) -> String {
    trimmed(text).chars().filter(|c| !c.is_control() && !is_unseen(*c)).collect()
}

/// `text` without the blanks, line ends and invisible characters around it.
#[must_use]
pub fn trimmed(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// `text` in quotes, with escapes for what nobody would see.
#[must_use]
pub fn quoted(text: &str) -> String {
    let length = text.chars().count();
    if length <= QUOTED_MAX_CHARS {
        return format!("{text:?}");
    }
    let half = QUOTED_MAX_CHARS / 2;
    let begin: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{begin:?} ... {end:?}")
}

/// As [`quoted`], of an address, which is not repeated if it holds what may be a secret: a user name with a
/// password, or a query with a key.
#[must_use]
pub fn quoted_address(text: &str) -> String {
    if text.contains(['@', '?']) {
        "an address with a user name or a query (not repeated here)".to_owned()
    } else {
        quoted(text)
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_unseen(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_may_hold_a_secret_is_not_repeated() {
        for secret in ["http://u:s3cret@h:1/", "u:s3cret@h", "https://h/?api_key=s3cret"] {
            assert!(!quoted_address(secret).contains("s3cret"), "{secret}");
        }
        assert_eq!(quoted_address("https://h:1/v1"), "\"https://h:1/v1\"");
    }

    #[test]
    fn what_nobody_sees_is_a_flaw_and_what_was_meant_has_none() {
        for (text, expected) in [
            ("eu-central-1", None),
            ("", None),
            ("with a blank inside", None),
            ("schlüssel", None),
            ("eu-central-1\n", Some("ends with a line end")),
            ("eu-central-1\r\n", Some("ends with a line end")),
            ("\neu-central-1", Some("begins with a line end")),
            (" eu-central-1", Some("begins with a blank")),
            ("eu-central-1\u{a0}", Some("ends with a blank")),
            ("eu-central-1\u{200b}", Some("ends with a blank")),
            ("\u{feff}eu-central-1", Some("begins with a blank")),
            ("eu-\tcentral-1", Some("has a control character in it")),
            ("eu-\u{200b}central-1", Some("has an invisible character in it")),
            ("\n", Some("ends with a line end")),
        ] {
            assert_eq!(flaw(text), expected, "{text:?}");
            assert_eq!(flaw(&meant(text)), None, "{text:?}");
            if expected.is_some() && text != "\n" {
                assert_eq!(meant(text), "eu-central-1");
            }
        }
    }

    #[test]
    fn a_quote_shows_what_nobody_sees_and_both_ends_of_a_long_value() {
        assert_eq!(quoted("a\n"), r#""a\n""#);
        assert_eq!(quoted("a\u{200b}"), r#""a\u{200b}""#);
        let long = quoted(&format!("{}\n", "x".repeat(1000)));
        assert!(long.len() < 300 && long.ends_with(r#"xx\n""#), "{long}");
    }
}
