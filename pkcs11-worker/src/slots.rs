//! Which slot holds the token: slots' numbers change, labels do not. A slot that cannot be read
//! is said with its error, so that it is not taken for one that is not there.

use cryptoki::context::Pkcs11;
use cryptoki::slot::Slot;
use signing_core::evidence::Fault;
use signing_core::worker::{Login, printable};

use crate::fault;
use crate::names::several;
use crate::token_error::TokenError;

/// The slot of the token with that label.
pub(crate) fn find(library: &Pkcs11, label: &str) -> Result<Slot, TokenError> {
    let slots = library
        .get_slots_with_token()
        .map_err(|error| TokenError::new("the library lists no slots", &error))?;
    let read: Vec<_> = slots
        .iter()
        .map(|slot| {
            let named = library.get_token_info(*slot).map(|info| name(info.label()).to_owned());
            (*slot, named.map_err(|error| fault::words(&error)))
        })
        .collect();
    let mut found = read.iter().filter(|(_, named)| named.as_deref() == Ok(label));
    match (found.next(), found.next()) {
        (Some((slot, _)), None) => Ok(*slot),
        (Some(_), Some(_)) => Err(TokenError::key(format!(
            "token_label {label:?}: several tokens have it; give each a label of its own"
        ))),
        (None, _) => Err(TokenError {
            // Taken out, or what the library speaks with does not answer.
            fault: Fault::Unavailable,
            detail: absent(label, &read),
            login: Login::Other,
        }),
    }
}

/// A label without what it was filled up with: blanks, or in some libraries zeros.
fn name(label: &str) -> &str {
    label.trim_end_matches(['\0', ' '])
}

/// Why there is no such token, by what is there instead.
fn absent(label: &str, read: &[(Slot, Result<String, String>)]) -> String {
    if read.is_empty() {
        return format!(
            "token_label {label:?}: the library shows no token at all. Nothing is inserted, or the \
             server or daemon behind the library does not answer, or its settings do not reach the \
             worker: look at them, and at the variables of the proxy's environment that it reads"
        );
    }
    let unreadable = read.iter().filter_map(|(slot, named)| {
        let error = named.as_ref().err()?;
        Some(format!("slot {} cannot be read, {}", slot.id(), printable(error)))
    });
    let unreadable: Vec<_> = unreadable.collect();
    // A token without a label is one that nobody has set up yet.
    let named = read.iter().filter_map(|(_, named)| named.as_ref().ok());
    let named: Vec<_> =
        named.filter(|name| !name.is_empty()).map(|name| format!("{name:?}")).collect();
    let (what, advice) = if unreadable.is_empty() {
        ("no such token is present", "insert it or correct the label")
    } else {
        ("no token with it can be seen", "fix what cannot be read, insert it or correct the label")
    };
    let present = if named.is_empty() { "none".to_owned() } else { several(&named) };
    let mut words = format!("token_label {label:?}: {what}; {advice}; present are: {present}");
    if !unreadable.is_empty() {
        words.push_str("; ");
        words.push_str(&several(&unreadable));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u64) -> Slot {
        Slot::try_from(id).unwrap()
    }

    #[test]
    fn what_is_there_instead_is_said_and_what_can_not_be_read_with_its_error() {
        let error = || Err("C_GetTokenInfo: CKR_DEVICE_ERROR".to_owned());
        let named = |name: &str| Ok(name.to_owned());
        for (read, expected) in [
            (vec![], vec!["shows no token at all", "the server or daemon", "environment"]),
            (vec![named("")], vec!["no such token is present", "present are: none"]),
            (vec![named("a"), named("b")], vec!["present are: \"a\", \"b\""]),
            (
                vec![named("a"), error()],
                vec!["present are: \"a\"; slot 2 cannot be read, C_GetTokenInfo: CKR_DEVICE_ERROR"],
            ),
        ] {
            let read: Vec<_> = (1..).map(slot).zip(read).collect();
            let words = absent("payments", &read);
            for part in expected {
                assert!(words.contains(part), "{part} is missing in {words}");
            }
            assert!(words.starts_with("token_label \"payments\": "), "{words}");
        }
    }

    #[test]
    fn a_label_is_what_it_was_filled_up_with_apart() {
        for label in ["pay ments", "pay ments  ", "pay ments\0\0", "pay ments \0"] {
            assert_eq!(name(label), "pay ments");
        }
    }
}
