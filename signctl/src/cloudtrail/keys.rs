//! Which keys in KMS are ours: by the names that somebody gives, and by what KMS logged of calls that are certainly
//! ours. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// So many ARNs are learned for a signer in a region. It has one key there, and replicas are in other regions.
const LEARNED_MAX: usize = 16;

/// A signer in a region.
pub type Place = (String, String);

/// The keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    names: Vec<Name>,
    learned: BTreeMap<Place, BTreeSet<String>>,
}

/// A name that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// Whose it is, in which region; none: it is any signer's.
    place: Option<Place>,
    name: String,
}

impl Keys {
    /// Takes a name: the ARN of a key, its id, or an alias. An alias alone finds only calls that name it; the key
    /// behind it is learned.
    pub fn give(&mut self, place: Option<Place>, name: &str) {
        self.names.push(Name { place, name: name.to_owned() });
    }

    /// KMS logged a call of that signer under this key.
    pub fn learn(&mut self, place: &Place, key: &str) {
        if id(key).is_none() {
            return;
        }
        if let Some(known) = self.learned.get_mut(place) {
            if known.len() < LEARNED_MAX && !known.contains(key) {
                known.insert(key.to_owned());
            }
        } else {
            self.learned.insert(place.clone(), BTreeSet::from([key.to_owned()]));
        }
    }

    /// Whether a call under `key` in `region` used a key of ours. A replica of a multi-Region key in any region does.
    #[must_use]
    pub fn holds(&self, key: &str, region: &str) -> bool {
        let given = self.names.iter().any(|name| name.is(key, region));
        given || self.learned.values().flatten().any(|known| is_same(known, key))
    }

    /// Whether `key` may be that signer's: it is, or nothing is known of the signer's key there.
    #[must_use]
    pub fn may_be(&self, place: &Place, key: &str, region: &str) -> bool {
        let mut given =
            self.names.iter().filter(|name| name.place.as_ref() == Some(place) && name.is_key());
        let learned = self.learned.get(place);
        if let Some(learned) = learned
            && learned.iter().any(|known| is_same(known, key))
        {
            return true;
        }
        match given.next() {
            None => learned.is_none(),
            Some(first) => first.is(key, region) || given.any(|name| name.is(key, region)),
        }
    }

    /// Those of `places` whose key nobody knows: who else signed with it would not be seen.
    #[must_use]
    pub fn unknown<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> Vec<Place> {
        let is_known = |place: &Place| {
            let is_its = |name: &Name| name.place.as_ref() == Some(place) && name.is_key();
            self.learned.contains_key(place) || self.names.iter().any(is_its)
        };
        places.into_iter().filter(|place| !is_known(place)).cloned().collect()
    }

    /// The signers and regions that somebody named a key for.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.names.iter().filter_map(|name| name.place.as_ref())
    }

    /// Every name, for a person.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let given = self.names.iter().map(|name| name.name.clone());
        given.chain(self.learned.values().flatten().cloned()).collect()
    }
}

impl Name {
    /// Whether it names a key, and no alias.
    fn is_key(&self) -> bool {
        !self.name.contains("alias/")
    }

    fn is(&self, key: &str, region: &str) -> bool {
        if self.name.starts_with("arn:") {
            return is_same(&self.name, key);
        }
        let is_there = self.place.as_ref().is_none_or(|(_, its)| its == region);
        if !self.is_key() {
            // As the caller named it, where the record has no ARN.
            return is_there && self.name == key;
        }
        let is_its = id(key).unwrap_or(key) == self.name;
        is_its && (is_there || self.name.starts_with("mrk-"))
    }
}

/// Whether two ARNs are of one key, or of replicas of one.
fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let account = |arn: &str| {
        let parts: Vec<_> = arn.splitn(6, ':').map(str::to_owned).collect();
        Some((parts.get(1)?.clone(), parts.get(2)?.clone(), parts.get(4)?.clone()))
    };
    match (id(one), id(other)) {
        (Some(one_id), Some(other_id)) => {
            one_id.starts_with("mrk-") && one_id == other_id && account(one) == account(other)
        }
        _ => false,
    }
}

/// The id in the ARN of a key.
fn id(arn: &str) -> Option<&str> {
    let resource = arn.strip_prefix("arn:")?.splitn(5, ':').last()?;
    resource.strip_prefix("key/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kid: &str, region: &str) -> Place {
        (kid.to_owned(), region.to_owned())
    }

    #[test]
    fn a_key_is_ours_by_each_form_of_its_name_and_in_its_region() {
        let [plain, other] = ["arn:aws:kms:eu-1:1:key/k", "arn:aws:kms:eu-1:1:key/kk"];
        for (name, region, key, is_ours) in [
            (plain, "eu-1", plain, true),
            (plain, "eu-1", other, false),
            (plain, "eu-1", "arn:aws:kms:eu-1:2:key/k", false),
            ("k", "eu-1", plain, true),
            ("k", "eu-1", "k", true),
            ("k", "eu-1", other, false),
            ("k", "us-1", plain, false),
            ("alias/a", "eu-1", "alias/a", true),
            ("alias/a", "eu-1", plain, false),
        ] {
            let mut keys = Keys::default();
            keys.give(Some(place("s", region)), name);
            assert_eq!(keys.holds(key, "eu-1"), is_ours, "{name} {region} {key}");
        }
    }

    #[test]
    fn a_replica_of_a_multi_region_key_is_ours_in_every_region_of_its_account() {
        let mut keys = Keys::default();
        keys.give(None, "arn:aws:kms:eu-1:1:key/mrk-7");
        assert!(keys.holds("arn:aws:kms:us-9:1:key/mrk-7", "us-9"));
        assert!(!keys.holds("arn:aws:kms:us-9:2:key/mrk-7", "us-9"));
        assert!(!keys.holds("arn:aws:kms:us-9:1:key/mrk-70", "us-9"));
        let mut keys = Keys::default();
        keys.give(Some(place("s", "eu-1")), "mrk-7");
        assert!(keys.holds("arn:aws:kms:us-9:1:key/mrk-7", "us-9"));
    }

    #[test]
    fn the_key_behind_an_alias_is_learned_and_until_then_it_is_unknown() {
        let (mut keys, signer) = (Keys::default(), place("s", "eu-1"));
        keys.give(Some(signer.clone()), "alias/a");
        assert_eq!(keys.unknown([&signer]), std::slice::from_ref(&signer));
        let arn = "arn:aws:kms:eu-1:1:key/k";
        assert!(keys.may_be(&signer, arn, "eu-1") && !keys.holds(arn, "eu-1"));
        keys.learn(&signer, "alias/a");
        assert!(!keys.unknown([&signer]).is_empty());
        keys.learn(&signer, arn);
        assert!(keys.unknown([&signer]).is_empty() && keys.holds(arn, "eu-1"));
        assert!(!keys.may_be(&signer, "arn:aws:kms:eu-1:1:key/other", "eu-1"));
    }
}
