//! Who answers for each credential that was used: pure.

/// `NAME=WHO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rotated {
    name: String,
    who: String,
}

/// Reads it. A name may hold `=`, whoever answers may not.
pub(super) fn rotated(text: &str) -> Result<Rotated, String> {
    match text.rsplit_once('=') {
        Some((name, who)) if !name.is_empty() && !who.trim().is_empty() => {
            Ok(Rotated { name: name.to_owned(), who: who.trim().to_owned() })
        }
        _ => Err("expected NAME=WHO, NAME as `signctl audit used` shows it".to_owned()),
    }
}

/// The credentials that were used, and the login of whoever recovers, as the proxy names it: this recovery and its end
/// use it, though no record may have it yet.
pub(super) fn with_login(mut names: Vec<String>, own: &str) -> Vec<String> {
    // The proxy may know another name of the same user.
    let user = own.split_once(" (").map_or(own, |(user, _)| user);
    let is_there = names.iter().any(|name| name.split_once(" (").is_some_and(|(of, _)| of == user));
    if !is_there {
        names.push(own.to_owned());
    }
    names
}

/// The credentials for which nobody answers, and those for which somebody does, with whom.
type Answered = (Vec<String>, Vec<(String, String)>);

/// Who answers for which of `names`.
///
/// # Errors
/// If somebody answers for one that was not used: it is misspelt, and another one is meant.
pub(super) fn unnamed(
    names: &[String],
    rotated: &[Rotated],
    all: Option<&str>,
    is_answered: impl Fn(&str) -> bool,
) -> Result<Answered, String> {
    if let Some(Rotated { name, .. }) = rotated.iter().find(|one| !names.contains(&one.name)) {
        return Err(format!("--rotated {name:?}: no such credential was used; signctl audit used"));
    }
    let (mut rest, mut said) = (Vec::new(), Vec::new());
    for name in names {
        let who = rotated.iter().rev().find(|one| one.name == *name).map(|one| one.who.as_str());
        match who.or(all.filter(|_| !is_answered(name))) {
            Some(who) => said.push((name.clone(), who.to_owned())),
            None if is_answered(name) => {}
            None => rest.push(name.clone()),
        }
    }
    Ok((rest, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["operator uid 0", "upstream kms eu k"].map(str::to_owned).to_vec()
    }

    #[test]
    fn each_credential_has_somebody_who_answers_for_it_or_is_left() {
        let alice = rotated("upstream kms eu k=alice, by hand").unwrap();
        let (rest, said) =
            unnamed(&names(), std::slice::from_ref(&alice), None, |_| false).unwrap();
        assert_eq!(rest, ["operator uid 0"]);
        assert_eq!(said, [("upstream kms eu k".to_owned(), "alice, by hand".to_owned())]);
        let (rest, said) = unnamed(&names(), &[alice], Some("bob"), |_| false).unwrap();
        assert!(rest.is_empty());
        let bob = [("operator uid 0".to_owned(), "bob".to_owned())];
        assert_eq!(said.first(), bob.first());
        // Who answers for all the others does not take the place of an answer; who names one does.
        let answered = |name: &str| name == "upstream kms eu k";
        assert_eq!(unnamed(&names(), &[], Some("bob"), answered).unwrap(), (vec![], bob.to_vec()));
        let carol = rotated("upstream kms eu k=carol").unwrap();
        let (rest, said) = unnamed(&names(), &[carol], None, answered).unwrap();
        assert_eq!((rest.len(), said.len()), (1, 1));
    }

    #[test]
    fn whoever_recovers_answers_for_the_login_that_it_uses_whatever_the_records_have_yet() {
        let with_login = |own| with_login(names(), own);
        assert_eq!(with_login("uid 7 (bob)"), [&names()[..], &["uid 7 (bob)".to_owned()]].concat());
        let bob = rotated("uid 7 (bob)=bob, a new key").unwrap();
        assert_eq!(
            unnamed(&with_login("uid 7 (bob)"), &[bob], Some("x"), |_| false).unwrap().0.len(),
            0
        );
        // The proxy's machine knows no name of it.
        let known = vec!["uid 7 (no name)".to_owned(), "uid 70 (carol)".to_owned()];
        assert_eq!(super::with_login(known.clone(), "uid 7 (bob)"), known);
        assert_eq!(super::with_login(known[1..].to_vec(), "uid 7 (bob)").len(), 2);
    }

    #[test]
    fn an_answer_for_what_was_not_used_is_a_mistake() {
        let odd = rotated("upstream kms us k=alice").unwrap();
        assert!(
            unnamed(&names(), &[odd], Some("bob"), |_| false)
                .unwrap_err()
                .contains("no such credential")
        );
        for odd in ["alice", "=alice", "k=", "k= "] {
            assert!(rotated(odd).is_err(), "{odd}");
        }
    }
}
