//! The signers' upstreams: `[[signers]]` and what is under it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use signing_core::Kid;
use upstream::settings::{AwsKms, Prefer};

use super::{BatchLimits, Reached, Setting, Signer, Upstream};
use super::{aws_kms, grants, pkcs11};
use host::environment::Environment;
use host::section::{Mistakes, Section};

/// What a mistaken provider is told.
const PROVIDERS: &str = "expected \"aws-kms\", \"pkcs11\" or \"development\"";

/// More upstreams than this are a mistake.
const UPSTREAMS_MAX: usize = 8;
const PREFER: &str = "expected \"configured\" or \"fastest\"";

/// What reading upstreams needs to know.
pub(super) struct Upstreams<'a> {
    pub(super) directory: &'a Path,
    pub(super) environment: &'a Environment,
    pub(super) setting: Setting,
    /// What in the environment asks for the real thing.
    pub(super) asking: &'a [String],
}

impl Upstreams<'_> {
    /// The signers whose upstreams could be read, and the kids of all.
    pub(super) fn signers(
        &self,
        sections: Vec<Section>,
        mistakes: &Mistakes,
    ) -> (BTreeMap<Kid, Signer>, BTreeSet<Kid>) {
        if sections.is_empty() {
            mistakes.add("signers: is missing; add [[signers]] with a kid and its upstream");
        }
        let mut signers: BTreeMap<Kid, Signer> = BTreeMap::new();
        let mut kids = BTreeSet::new();
        for mut section in sections {
            let kid = grants::kid(&mut section, "kid");
            let signer = self.signer(&mut section);
            let Some(kid) = kid else {
                section.finish();
                continue;
            };
            if !kids.insert(kid.clone()) {
                let name = kid.as_str();
                section.mistake("kid", format!("{name:?} appears twice; name each signer once"));
            } else if let Some(signer) = signer {
                let same = |(other, its): (&Kid, &Signer)| {
                    Some((other.clone(), shared_key(its, &signer)?))
                };
                if let Some((other, what)) = signers.iter().find_map(same) {
                    section.mistake(
                        "upstreams",
                        format!(
                            "has the {what} of signer {:?}; a key has one kid, so name another key",
                            other.as_str()
                        ),
                    );
                }
                signers.insert(kid, signer);
            }
            section.finish();
        }
        let kms: Vec<_> = signers.values().flat_map(Signer::kms).collect();
        if let Some(first) = kms.first() {
            let found = aws_kms::sdk_mistakes(self.environment).into_iter();
            let proxy = first.proxies.mistake(kms.iter().map(|kms| kms.endpoint.as_str()));
            found.chain(proxy).for_each(|what| mistakes.add(what));
        }
        (signers, kids)
    }

    /// None: one of its upstreams cannot be read, or there is none.
    fn signer(&self, section: &mut Section) -> Option<Signer> {
        let found = section.sections("upstreams");
        if found.is_empty() {
            section.mistake("upstreams", "is missing; add one [[signers.upstreams]]");
        }
        if found.len() > UPSTREAMS_MAX {
            let many = found.len();
            section.mistake("upstreams", format!("holds {many}, expected at most {UPSTREAMS_MAX}"));
        }
        let prefer = match section.text_or("prefer", "configured", PREFER).as_str() {
            "fastest" => Prefer::Fastest,
            "configured" | "" => Prefer::Configured,
            other => {
                section.mistake("prefer", format!("is {other:?}, {PREFER}"));
                Prefer::Configured
            }
        };
        let leaves_max = section.number("batch_leaves_max", 1024, 1..=4096);
        let wait_ms = section.number("batch_wait_ms", 0, 0..=1000);
        let hold_ms = section.number("batch_hold_ms", 250, 1..=60_000);
        let batch = BatchLimits {
            leaves_max: usize::try_from(leaves_max).unwrap_or(1024),
            wait: Duration::from_millis(wait_ms),
            hold: Duration::from_millis(hold_ms),
        };
        let mut upstreams: Vec<Reached> = Vec::new();
        let mut readable = true;
        for section in found {
            match self.reached(section) {
                Some(reached) => upstreams.push(reached),
                None => readable = false,
            }
        }
        for (at, reached) in upstreams.iter().enumerate() {
            let (provider, place) = reached.upstream.place();
            let before = upstreams.iter().take(at);
            if before.into_iter().any(|other| other.upstream.place() == (provider, place)) {
                section.mistake(
                    "upstreams",
                    format!(
                        "names {provider} in {place:?} twice, which metrics and status could not \
                         tell apart; name each place once"
                    ),
                );
            }
        }
        (readable && !upstreams.is_empty()).then_some(Signer { upstreams, prefer, batch })
    }

    fn reached(&self, mut section: Section) -> Option<Reached> {
        let quota = section.number("requests_per_second_max", 0, 0..=1_000_000);
        let requests_per_second_max = u32::try_from(quota).ok().filter(|quota| *quota > 0);
        let upstream = self.upstream(section)?;
        Some(Reached { upstream, requests_per_second_max })
    }

    fn upstream(&self, mut section: Section) -> Option<Upstream> {
        let provider = section.required("provider", PROVIDERS);
        let upstream = match provider.as_str() {
            "aws-kms" => Some(Upstream::AwsKms(aws_kms::read(
                &mut section,
                self.environment,
                self.setting,
                self.asking,
            ))),
            "pkcs11" => {
                let token = pkcs11::pkcs11(&mut section, self.directory, self.environment);
                Some(Upstream::Pkcs11(token))
            }
            "development" => {
                if !self.asking.is_empty() {
                    section.mistake(
                        "provider",
                        format!(
                            "is \"development\", whose keys lie in plain files, but {} asks for the \
                             real thing; set \"aws-kms\" or \"pkcs11\"",
                            self.asking.join(" and ")
                        ),
                    );
                } else if self.setting != Setting::Development {
                    section.mistake(
                        "provider",
                        "is \"development\", whose keys lie in plain files; it needs \
                         deployment.environment = \"development\"",
                    );
                }
                let file = section.required("key_file", "name the PKCS#8 PEM of the key");
                let key_file =
                    if file.is_empty() { PathBuf::new() } else { self.directory.join(file) };
                Some(Upstream::Development { key_file })
            }
            "" => None,
            other => {
                section.mistake("provider", format!("is {other:?}, {PROVIDERS}"));
                None
            }
        };
        // With an unknown provider no key is known, and each would be reported.
        if upstream.is_some() {
            section.finish();
        }
        upstream
    }
}

impl Signer {
    /// Those of its upstreams that are in AWS KMS.
    pub fn kms(&self) -> impl Iterator<Item = &AwsKms> {
        self.upstreams.iter().filter_map(|reached| match &reached.upstream {
            Upstream::AwsKms(kms) => Some(kms),
            Upstream::Pkcs11(_) | Upstream::Development { .. } => None,
        })
    }
}

impl Upstream {
    /// Its provider, and where it is: the labels of metrics. `local` where there is no region.
    #[must_use]
    pub fn place(&self) -> (&'static str, &str) {
        match self {
            Self::AwsKms(kms) => ("aws-kms", &kms.region),
            Self::Pkcs11(token) => ("pkcs11", &token.token_label),
            Self::Development { .. } => ("development", "local"),
        }
    }
}

/// What names the same key in upstreams of two signers, if something does.
fn shared_key(one: &Signer, other: &Signer) -> Option<String> {
    one.upstreams.iter().find_map(|its| {
        let others = other.upstreams.iter();
        others.into_iter().find_map(|others| same_key(&its.upstream, &others.upstream))
    })
}

/// What names the same key in both, if something does. The registry has each
/// key once, so one of the two signers could only be sealed.
fn same_key(one: &Upstream, other: &Upstream) -> Option<String> {
    match (one, other) {
        (Upstream::AwsKms(one), Upstream::AwsKms(other)) => {
            let same = !one.key_id.is_empty()
                && one.key_id == other.key_id
                && one.region == other.region
                && one.endpoint == other.endpoint;
            same.then(|| format!("key_id {:?}", one.key_id))
        }
        (Upstream::Development { key_file: one }, Upstream::Development { key_file: other }) => {
            let same = !one.as_os_str().is_empty() && one == other;
            same.then(|| format!("key_file {:?}", one.display().to_string()))
        }
        (Upstream::Pkcs11(one), Upstream::Pkcs11(other)) => one.same_key(other),
        (Upstream::AwsKms(_) | Upstream::Pkcs11(_) | Upstream::Development { .. }, _) => None,
    }
}
