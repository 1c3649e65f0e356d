//! The destruction of the emergency keys that sessions used, with what somebody attests of their copies.

use std::path::Path;

use signing_core::admin::breakglass::{Breakglass, Destroyed};
use signing_core::admin::path;
use signing_core::breakglass::wire::{Attested, EmergencyKey};

use super::Step;
use crate::breakglass;
use crate::client;

/// Destroys each key that is due, one step for each.
pub(super) fn destroyed(
    (reason, attest): (&str, &[Attested]),
    signers: &Path,
    socket: &Path,
) -> Vec<Step> {
    let known = client::get(socket, path::BREAKGLASS).and_then(|reply| reply.read::<Breakglass>());
    let known = match known {
        Ok(known) => known,
        Err(error) => return vec![Err(format!("{error:#}"))],
    };
    if known.configured && known.signer.is_none() {
        let why = "the emergency signer does not say which keys are due; signctl breakglass status says why";
        return vec![Err(why.to_owned())];
    }
    let keys = known.signer.map(|signer| signer.keys).unwrap_or_default();
    let due: Vec<_> = keys.into_iter().filter(|key| key.destruction_due.is_some()).collect();
    match planned(&due, attest) {
        Ok(planned) => {
            let steps = planned
                .into_iter()
                .map(|(kid, attest)| one((kid, reason, &attest), signers, socket));
            steps.collect()
        }
        Err(why) => vec![Err(why)],
    }
}

/// Which attestations are of which key's copies: pure.
fn planned<'k>(
    due: &'k [EmergencyKey],
    attest: &[Attested],
) -> Result<Vec<(&'k str, Vec<Attested>)>, String> {
    let left = |key: &EmergencyKey, one: &Attested| key.copies_left.contains(&one.copy);
    if let Some(one) = attest.iter().find(|one| !due.iter().any(|key| left(key, one))) {
        return Err(format!(
            "--attest {:?}: no key that is due has such a copy left; signctl breakglass status",
            one.copy
        ));
    }
    // One name, two keys: one file on that laptop may be gone, and the other not.
    let of_several = |one: &&Attested| due.iter().filter(|key| left(key, one)).count() > 1;
    if let Some(one) = attest.iter().find(of_several) {
        let keys: Vec<_> =
            due.iter().filter(|key| left(key, one)).map(|key| key.kid.as_str()).collect();
        return Err(format!(
            "--attest {:?}: {} each have a copy of that name; attest each by itself: signctl breakglass destroy \
             KEY --attest {}=WHO",
            one.copy,
            keys.join(" and "),
            one.copy
        ));
    }
    let planned = due.iter().map(|key| {
        let of_it = attest.iter().filter(|one| left(key, one)).cloned();
        (key.kid.as_str(), of_it.collect())
    });
    Ok(planned.collect())
}

fn one(asked: (&str, &str, &[Attested]), signers: &Path, socket: &Path) -> Step {
    let reply =
        breakglass::destroy(asked, signers, socket).map_err(|error| format!("{error:#}"))?;
    if reply.status != 200 {
        return Err(reply.refused());
    }
    let done: Destroyed = reply.read().map_err(|error| format!("{error:#}"))?;
    let kid = done.emergency_kid;
    if done.copies_left.is_empty() {
        return Ok(format!("the emergency key {kid} is destroyed, with each copy"));
    }
    Err(format!(
        "the emergency key {kid} is destroyed; who attests that its copies are too (--attest COPY=WHO)? {}",
        done.copies_left.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use signing_core::breakglass::wire::KeyState;

    use super::*;

    fn key(kid: &str, copies: &[&str]) -> EmergencyKey {
        EmergencyKey {
            kid: kid.to_owned(),
            algorithm: String::new(),
            public_key: String::new(),
            sha256: String::new(),
            state: KeyState::Sealed,
            destruction_due: Some("soon".to_owned()),
            destruction_overdue: false,
            copies_left: copies.iter().map(|copy| (*copy).to_owned()).collect(),
        }
    }

    fn of(copy: &str) -> Attested {
        Attested { copy: copy.to_owned(), by: "alice".to_owned() }
    }

    #[test]
    fn each_key_gets_what_is_attested_of_its_own_copies_and_nothing_else_is_taken() {
        let due = [key("a", &["laptop", "safe"]), key("b", &["laptop", "usb"]), key("c", &[])];
        let planned = planned(&due, &[of("safe"), of("usb")]).unwrap();
        let named: Vec<_> = planned.iter().map(|(kid, copies)| (*kid, copies.len())).collect();
        assert_eq!(named, [("a", 1), ("b", 1), ("c", 0)]);
        let both = super::planned(&due, &[of("laptop")]).unwrap_err();
        assert!(both.contains("a and b each have"), "{both}");
        assert!(super::planned(&due, &[of("other")]).unwrap_err().contains("no key that is due"));
    }
}
