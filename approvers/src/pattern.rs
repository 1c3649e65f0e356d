//! OpenSSH's patterns (ssh_config(5), PATTERNS), as `namespaces="..."` has them.

/// OpenSSH's pattern list: any pattern, and none that is negated.
pub(super) fn matches_list(text: &str, patterns: &[String]) -> bool {
    let negated = |pattern: &String| {
        pattern
            .strip_prefix('!')
            .is_some_and(|pattern| matches(text.as_bytes(), pattern.as_bytes()))
    };
    !patterns.iter().any(negated)
        && patterns.iter().any(|pattern| matches(text.as_bytes(), pattern.as_bytes()))
}

/// `*` is any text and `?` one character. Of several stars only the last has to be tried
/// further on, so that no pattern takes longer than both lengths multiplied.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match (pattern.get(next), star) {
            (Some(b'*'), _) => {
                next += 1;
                star = Some((at, next));
            }
            (Some(wanted), _) if *wanted == b'?' || Some(wanted) == text.get(at) => {
                at += 1;
                next += 1;
            }
            (_, Some((taken, after))) => {
                (at, next) = (taken + 1, after);
                star = Some((taken + 1, after));
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(next).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use signing_core::breakglass::NAMESPACE;

    use super::*;

    fn matching(text: &str, pattern: &str) -> bool {
        matches(text.as_bytes(), pattern.as_bytes())
    }

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, expected) in [
            ("breakglass@signing-proxy", true),
            ("*", true),
            ("**", true),
            ("b*@*y", true),
            ("*proxy*", true),
            ("?reakglass@*", true),
            ("*g?ass@*-*", true),
            ("", false),
            ("breakglass", false),
            ("*@signing-prox", false),
            ("?", false),
            ("breakglass@signing-proxy?", false),
        ] {
            assert_eq!(matching(NAMESPACE, pattern), expected, "{pattern}");
        }
        assert!(matching("", "") && matching("", "*") && !matching("", "?"));
    }

    #[test]
    fn i8_no_pattern_takes_long() {
        assert!(!matching(&"a".repeat(10_000), &format!("{}b", "*a".repeat(5_000))));
    }
}
