//! Which known word somebody meant who wrote another one.

/// Longer words are not compared: the time grows with both lengths.
const LENGTH_MAX_CHARS: usize = 64;

/// The known word that `found` looks like: in another case, with other separators or characters
/// that nobody sees, in the plural, or with a letter or two wrong. None if it is like none of them.
/// A known word itself is like itself.
#[must_use]
pub fn meant<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found = folded(found);
    let distances = known.iter().filter_map(|word| {
        let known = folded(word);
        let distance = distance(&found, &known)?;
        (distance <= tolerated(found.len().max(known.len()))).then_some((distance, *word))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// How many letters may be wrong in a word of so many: a short one would soon be another word.
fn tolerated(chars: usize) -> usize {
    match chars {
        0..5 => 0,
        5..8 => 1,
        _ => 2,
    }
}

/// Letters and digits in lower case, without the s of a plural.
fn folded(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    let mut folded: Vec<char> = letters.take(LENGTH_MAX_CHARS + 1).collect();
    if folded.len() > 2 && folded.last() == Some(&'s') {
        folded.pop();
    }
    folded
}

/// How many letters have to be changed, added, left out or swapped with their neighbour (Damerau and
/// Levenshtein, each place once).
fn distance(one: &[char], other: &[char]) -> Option<usize> {
    if one.is_empty() || one.len().max(other.len()) > LENGTH_MAX_CHARS {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, expected) in other.iter().enumerate() {
            let at =
                |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
            let changed = at(&above, column) + usize::from(letter != expected);
            let mut least = changed.min(at(&above, column + 1) + 1).min(at(&line, column) + 1);
            let is_swapped = row > 0
                && column > 0
                && one.get(row - 1) == Some(expected)
                && other.get(column - 1) == Some(letter);
            if is_swapped {
                least = least.min(at(&before, column - 1) + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] =
        &["signer_kid", "revokedAt", "notAfter", "purpose", "valid-before", "at"];

    #[test]
    fn what_looks_like_a_known_word_is_taken_for_it() {
        for (found, expected) in [
            ("revoked_at", "revokedAt"),
            ("RevokedAt", "revokedAt"),
            ("REVOKED-AT", "revokedAt"),
            ("revoked at", "revokedAt"),
            (" revokedAt", "revokedAt"),
            ("revoked\u{200b}At", "revokedAt"),
            ("revoked\u{410}t", "revokedAt"),
            ("revokedAts", "revokedAt"),
            ("revokdAt", "revokedAt"),
            ("revokeAt", "revokedAt"),
            ("revoekdAt", "revokedAt"),
            ("revoked", "revokedAt"),
            ("revokedOn", "revokedAt"),
            ("not_after", "notAfter"),
            ("notAftr", "notAfter"),
            ("signerKid", "signer_kid"),
            ("signer_kids", "signer_kid"),
            ("Purpose", "purpose"),
            ("porpose", "purpose"),
            ("valid-befor", "valid-before"),
            ("valid_before", "valid-before"),
            ("AT", "at"),
        ] {
            assert_eq!(meant(found, KNOWN), Some(expected), "{found:?}");
        }
    }

    #[test]
    fn what_looks_like_none_is_none() {
        for found in [
            "owner",
            "comment",
            "rotation",
            "kms_arn",
            "it",
            "a",
            "",
            "x-revoked-by-tool",
            "version",
            "notes",
            "after",
            "signed_by",
            "$schema",
            &"revokedAt".repeat(9),
        ] {
            assert_eq!(meant(found, KNOWN), None, "{found:?}");
        }
    }
}
