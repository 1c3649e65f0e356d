//! The signers' upstreams: `[[signers]]` and what is under it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use signing_core::Kid;

use super::{AwsKms, Prefer, Reached, Setting, Signer, Upstream};
use super::{grants, pkcs11};
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
        (signers, kids)
    }

    /// None: one of its upstreams can not be read, or there is none.
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
        (readable && !upstreams.is_empty()).then_some(Signer { upstreams, prefer })
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
            "aws-kms" => Some(Upstream::AwsKms(self.aws_kms(&mut section))),
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

    fn aws_kms(&self, section: &mut Section) -> AwsKms {
        let environment = self.environment;
        let mut or_variable = |key: &'static str, variables: &[&str]| {
            section.text(key).filter(|text| !text.is_empty()).or_else(|| {
                variables.iter().find_map(|name| environment.get(name)).map(str::to_owned)
            })
        };
        let key_id = or_variable("key_id", &["KMS_KEY_ID"]);
        let region = or_variable("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]);
        // The SDK's own variables as well, since whatever it would use is checked here.
        let endpoint =
            or_variable("endpoint", &["KMS_ENDPOINT", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"]);
        if key_id.is_none() {
            section.mistake("key_id", "is missing; set it or KMS_KEY_ID");
        }
        if region.is_none() {
            section.mistake("region", "is missing; set it or AWS_REGION");
        }
        if let Some(endpoint) = &endpoint
            && let Err(why) = endpoint_allowed(endpoint, self.setting, self.asking)
        {
            section.mistake("endpoint", why);
        }
        let region = region.unwrap_or_default();
        let connect_timeout = section.millis("connect_timeout_ms", 700);
        let call_timeout = section.millis("call_timeout_ms", 2_000);
        if section.sound(&["connect_timeout_ms", "call_timeout_ms"])
            && connect_timeout * 2 >= call_timeout
        {
            section.mistake(
                "connect_timeout_ms",
                format!(
                    "is {}, expected less than half of call_timeout_ms {}, so that a second attempt \
                     fits and a call that never connected is known as such",
                    connect_timeout.as_millis(),
                    call_timeout.as_millis()
                ),
            );
        }
        let retries = section.number("retries_per_second_max", 10, 0..=10_000);
        AwsKms {
            key_id: key_id.unwrap_or_default(),
            endpoint: endpoint.unwrap_or_else(|| {
                default_endpoint(&region, self.environment.is_true("AWS_USE_FIPS_ENDPOINT"))
            }),
            region,
            connect_timeout,
            call_timeout,
            retries_per_second_max: u32::try_from(retries).unwrap_or(0),
        }
    }
}

/// The region's own endpoint: named, so that no variable or profile of the SDK
/// can put another in its place.
/// <https://docs.aws.amazon.com/general/latest/gr/kms.html>
fn default_endpoint(region: &str, fips: bool) -> String {
    let service = if fips { "kms-fips" } else { "kms" };
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{service}.{region}.amazonaws.com{suffix}")
}

impl Upstream {
    /// Its provider, and where it is: the labels of metrics. `local` where there is no region.
    pub(crate) fn place(&self) -> (&'static str, &str) {
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

/// `https://` anywhere; `http://` only on loopback, never in production, and
/// never where something asks for the real thing.
fn endpoint_allowed(endpoint: &str, setting: Setting, asking: &[String]) -> Result<(), String> {
    let uri: http::Uri = endpoint
        .parse()
        .map_err(|_| format!("{endpoint:?} is not a URL such as https://kms.example.com"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if !asking.is_empty() => Err(format!(
            "{endpoint:?} is not encrypted, but {} asks for the real thing; use https://",
            asking.join(" and ")
        )),
        Some("http") if setting != Setting::Production && is_loopback => Ok(()),
        Some("http") => Err(format!(
            "{endpoint:?} is not encrypted; use https:// (http:// is taken only on loopback \
             with deployment.environment = \"test\" or \"development\")"
        )),
        _ => Err(format!("{endpoint:?} is not a URL such as https://kms.example.com")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_endpoint_is_the_regions_own() {
        for (region, fips, expected) in [
            ("eu-central-1", false, "https://kms.eu-central-1.amazonaws.com"),
            ("us-east-1", true, "https://kms-fips.us-east-1.amazonaws.com"),
            ("cn-north-1", false, "https://kms.cn-north-1.amazonaws.com.cn"),
        ] {
            assert_eq!(default_endpoint(region, fips), expected);
        }
    }

    #[test]
    fn i3_only_https_is_an_endpoint_of_production_and_http_only_ever_of_loopback() {
        for (endpoint, setting, allowed) in [
            ("https://kms.example.com", Setting::Production, true),
            ("http://127.0.0.1:4600", Setting::Production, false),
            ("http://127.0.0.1:4600", Setting::Test, true),
            ("http://[::1]:4600", Setting::Development, true),
            ("http://localhost:4600", Setting::Test, true),
            ("http://localhost.example.com", Setting::Test, false),
            ("http://10.0.0.1", Setting::Development, false),
            ("ftp://127.0.0.1", Setting::Test, false),
            ("kms.example.com", Setting::Production, false),
            ("https://", Setting::Production, false),
        ] {
            assert_eq!(
                endpoint_allowed(endpoint, setting, &[]).is_ok(),
                allowed,
                "{endpoint} {setting:?}"
            );
            let guarded = endpoint_allowed(endpoint, setting, &["REQUIRE_KMS".to_owned()]);
            let encrypted = allowed && endpoint.starts_with("https://");
            assert_eq!(guarded.is_ok(), encrypted, "{endpoint} {setting:?} with a guard");
        }
    }
}
