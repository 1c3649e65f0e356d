//! Who may use what, and other names for it: `[[callers]]` and `[aliases]`.

use std::collections::{BTreeMap, BTreeSet};

use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Kid};

use host::section::{Mistakes, Section};

pub(super) fn callers(sections: Vec<Section>, signers: &BTreeSet<Kid>) -> BTreeMap<Caller, Rules> {
    let mut callers = BTreeMap::new();
    for mut section in sections {
        let name = section.required("name", "write the SPIFFE URI or DNS name of the certificate");
        let mut rules = Rules::default();
        let grants = section.sections("signers");
        if grants.is_empty() {
            section.mistake("signers", "is missing; add [[callers.signers]] with a kid");
        }
        for mut grant in grants {
            let kid = kid(&mut grant, "kid");
            // Without any signer that one mistake is enough.
            let unknown = |kid: &&Kid| !signers.is_empty() && !signers.contains(*kid);
            if let Some(kid) = kid.as_ref().filter(unknown) {
                grant.mistake(
                    "kid",
                    format!(
                        "{:?} is not a kid under [[signers]]; add it there or correct it",
                        kid.as_str()
                    ),
                );
            }
            let names = grant.texts("algorithms");
            let mut algorithms = Vec::new();
            for name in &names {
                match Algorithm::parse(name) {
                    Some(algorithm) => algorithms.push(algorithm),
                    None => grant.mistake(
                        "algorithms",
                        format!("{name:?} is not one of {}", Algorithm::all_names()),
                    ),
                }
            }
            if names.is_empty() {
                let fix = format!("is missing; list some of {}", Algorithm::all_names());
                grant.mistake("algorithms", fix);
            }
            grant.finish();
            rules.signers.extend(kid.map(|kid| (kid, algorithms)));
        }
        if let Some(text) = section.text("default_signer") {
            match Kid::parse(&text) {
                Ok(kid) if rules.signers.contains_key(&kid) => rules.default_signer = Some(kid),
                _ => section.mistake(
                    "default_signer",
                    format!("{text:?} is none of this caller's signers; grant it or name another"),
                ),
            }
        }
        match Caller::parse(&name) {
            Ok(caller) if callers.contains_key(&caller) => {
                section.mistake("name", format!("{name:?} appears twice"));
            }
            Ok(caller) => {
                callers.insert(caller, rules);
            }
            Err(_) if name.is_empty() => {}
            Err(error) => section.mistake("name", error),
        }
        section.finish();
    }
    callers
}

pub(super) fn aliases(
    section: Section,
    signers: &BTreeSet<Kid>,
    mistakes: &Mistakes,
) -> BTreeMap<String, Kid> {
    let mut aliases = BTreeMap::new();
    for (alias, target) in section.into_texts() {
        match Kid::parse(&target) {
            Ok(_) if signers.iter().any(|kid| kid.as_str() == alias) => {
                mistakes.add(format!(
                    "aliases.{alias:?}: is itself a signer; an alias is another name"
                ));
            }
            Ok(kid) if signers.contains(&kid) || signers.is_empty() => {
                aliases.insert(alias, kid);
            }
            _ => mistakes
                .add(format!("aliases.{alias:?}: {target:?} is not a kid under [[signers]]")),
        }
    }
    aliases
}

/// The kid under `key`, which has to be there.
pub(super) fn kid(section: &mut Section, key: &'static str) -> Option<Kid> {
    let text = section.required(key, "write the kid that the registry gives the key");
    if text.is_empty() {
        return None;
    }
    Kid::parse(&text).map_err(|why| section.mistake(key, format!("{text:?}: {why}"))).ok()
}
