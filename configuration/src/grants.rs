//! Who may use what, and other names for it: `[[callers]]` and `[aliases]`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Kid};

use host::section::{Mistakes, Section};

/// The most that a rate or a burst may be: no limit at all on any machine.
const RATE_MAX: u64 = 1_000_000;

/// How often one caller may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second, over any longer time.
    pub requests_per_second_max: NonZeroU32,
    /// Requests at once, after a pause.
    pub burst_max: NonZeroU32,
}

/// What `[[callers]]` say.
#[derive(Default)]
pub(super) struct Callers {
    /// What each was granted.
    pub(super) rules: BTreeMap<Caller, Rules>,
    /// How often those may ask that have a limit.
    pub(super) rates: BTreeMap<Caller, Rate>,
}

pub(super) fn callers(sections: Vec<Section>, signers: &BTreeSet<Kid>) -> Callers {
    let mut callers = Callers::default();
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
                    format!(
                        "{text:?} is not one of this caller's signers; grant it or name another"
                    ),
                ),
            }
        }
        rules.sign_data_decoded = section.flag("sign_data_decoded", false);
        let rate = rate(&mut section);
        match Caller::parse(&name) {
            Ok(caller) if callers.rules.contains_key(&caller) => {
                section.mistake("name", format!("{name:?} appears twice"));
            }
            Ok(caller) => {
                callers.rates.extend(rate.map(|rate| (caller.clone(), rate)));
                callers.rules.insert(caller, rules);
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

/// How often a caller may ask, if that is limited. A second's requests may come at once
/// where nothing else is said.
fn rate(section: &mut Section) -> Option<Rate> {
    let number = |number: u64| u32::try_from(number).ok().and_then(NonZeroU32::new);
    let per_second = section.number_if_there("requests_per_second_max", 1..=RATE_MAX);
    let burst = section.number_if_there("burst_max", 1..=RATE_MAX);
    if per_second.is_none() && burst.is_some() {
        section.mistake(
            "burst_max",
            "is set without requests_per_second_max, which it is the burst of; set both or none",
        );
    }
    let requests_per_second_max = number(per_second?)?;
    let burst_max = burst.and_then(number).unwrap_or(requests_per_second_max);
    Some(Rate { requests_per_second_max, burst_max })
}

/// The kid under `key`, which has to be there.
pub(super) fn kid(section: &mut Section, key: &'static str) -> Option<Kid> {
    let text = section.required(key, "write the kid that the registry gives the key");
    if text.is_empty() {
        return None;
    }
    Kid::parse(&text).map_err(|why| section.mistake(key, format!("{text:?}: {why}"))).ok()
}
