//! A key in AWS KMS: `provider = "aws-kms"`. Its names are checked by their form, since one that
//! is mistaken is only ever answered by a KMS that knows no such key, or by none.

use host::environment::Environment;
use host::identifier;
use host::section::Section;
use upstream::settings::{AwsKms, Client, Proxies};

use super::Setting;

/// Variables that fill in what the file leaves out; the first that is set.
const KEY_ID: [&str; 1] = ["KMS_KEY_ID"];
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// The SDK's own as well, since whatever it would use is checked here.
const ENDPOINT: [&str; 3] = ["KMS_ENDPOINT", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"];
const FIPS: &str = "AWS_USE_FIPS_ENDPOINT";

/// Variables that the AWS SDK reads by itself and as they are, and whether they are secret.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html>
const READ_BY_THE_SDK: [(&str, bool); 12] = [
    ("AWS_ACCESS_KEY_ID", false),
    ("AWS_SECRET_ACCESS_KEY", true),
    ("AWS_PROFILE", false),
    ("AWS_CONFIG_FILE", false),
    ("AWS_SHARED_CREDENTIALS_FILE", false),
    ("AWS_ROLE_ARN", false),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", false),
    ("AWS_ROLE_SESSION_NAME", false),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", false),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", false),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", true),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", false),
];

/// The forms of a key's name.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts-key-id.html>
const KEY_ID_FORMS: &str = "expected a key id such as 1a2b3c4d-5e6f-4a1b-8c2d-3e4f5a6b7c8d or \
                            mrk-9f8e7d6c5b4a4f3e9d2c1b0a9f8e7d6c, alias/NAME, or the ARN of one of them";

/// Every variable that is read here.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    KEY_ID.into_iter().chain(REGION).chain(ENDPOINT).chain([FIPS])
}

/// Reads its keys out of an upstream's section.
pub(super) fn read(
    section: &mut Section,
    environment: &Environment,
    setting: Setting,
    asking: &[String],
) -> AwsKms {
    let key_id = named(section, environment, "key_id", &KEY_ID);
    let region = named(section, environment, "region", &REGION);
    let endpoint = or_variable(section, environment, "endpoint", &ENDPOINT);
    if let Some((key_id, from)) = &key_id
        && !is_key_id(key_id)
    {
        section
            .mistake("key_id", format!("is {}{from}, {KEY_ID_FORMS}", identifier::quoted(key_id)));
    }
    if let Some((region, from)) = &region
        && !is_region(region)
    {
        let quoted = identifier::quoted(region);
        let what = "expected a region such as eu-central-1: letters a-z, digits and -";
        section.mistake("region", format!("is {quoted}{from}, {what}"));
    }
    if let Some((endpoint, from)) = &endpoint
        && let Err(why) = endpoint_allowed(endpoint, setting, asking)
    {
        section
            .mistake("endpoint", format!("{}{from} {why}", identifier::quoted_address(endpoint)));
    }
    let region = region.map(|(region, _)| region).unwrap_or_default();
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
    let client = match section.text("client").unwrap_or_default().as_str() {
        "lean" | "" => Client::Lean,
        "sdk" => Client::Sdk,
        other => {
            let quoted = identifier::quoted(other);
            section.mistake("client", format!("is {quoted}, expected \"lean\" or \"sdk\""));
            Client::Lean
        }
    };
    let retries = section.number("retries_per_second_max", 10, 0..=10_000);
    AwsKms {
        key_id: key_id.map(|(key_id, _)| key_id).unwrap_or_default(),
        endpoint: endpoint
            .map(|(endpoint, _)| endpoint)
            .unwrap_or_else(|| default_endpoint(&region, environment.is_true(FIPS))),
        region,
        client,
        connect_timeout,
        call_timeout,
        retries_per_second_max: u32::try_from(retries).unwrap_or(0),
        proxies: Proxies::of(environment),
    }
}

/// A value that has to be there, and where it is from.
fn named(
    section: &mut Section,
    environment: &Environment,
    key: &'static str,
    variables: &[&'static str],
) -> Option<(String, String)> {
    let found = or_variable(section, environment, key, variables);
    if found.is_none() && section.sound(&[key]) {
        let variable = variables.first().copied().unwrap_or_default();
        section.mistake(key, format!("is missing; set it or {variable}"));
    }
    found
}

/// The value of `key`, else that of the first variable that is set, and where it is from.
fn or_variable(
    section: &mut Section,
    environment: &Environment,
    key: &'static str,
    variables: &[&'static str],
) -> Option<(String, String)> {
    if let Some(text) = section.text(key).filter(|text| !text.is_empty()) {
        return Some((text, String::new()));
    }
    // A mistaken value is not filled in for: the mistake is what has to be told.
    if !section.sound(&[key]) {
        return None;
    }
    let found = variables.iter().find_map(|name| Some((name, environment.get(name)?)));
    found.map(|(name, value)| (value.to_owned(), format!(" (of the variable {name})")))
}

/// What is wrong with the variables that the AWS SDK reads by itself, one sentence each.
pub(super) fn sdk_mistakes(environment: &Environment) -> Vec<String> {
    let mistake = |(name, is_secret): &(&str, bool)| {
        let value = environment.raw(name)?;
        let flaw = identifier::flaw(value)?;
        let shown = if *is_secret { "its value".to_owned() } else { identifier::quoted(value) };
        Some(format!("{name}: {shown} {flaw}, and the AWS SDK takes it as it is; remove it"))
    };
    READ_BY_THE_SDK.iter().filter_map(mistake).collect()
}

fn is_key_id(text: &str) -> bool {
    let is_bare = |text: &str| is_uuid(text) || is_multi_region(text) || is_alias(text);
    let Some(arn) = text.strip_prefix("arn:") else { return is_bare(text) };
    // arn:PARTITION:kms:REGION:ACCOUNT:key/ID, or ...:alias/NAME
    let parts: Vec<&str> = arn.splitn(5, ':').collect();
    let [partition, "kms", region, account, resource] = parts[..] else { return false };
    is_region(partition)
        && is_region(region)
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && match resource.strip_prefix("key/") {
            Some(id) => is_uuid(id) || is_multi_region(id),
            None => is_alias(resource),
        }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| is_hex(group))
}

fn is_multi_region(text: &str) -> bool {
    text.strip_prefix("mrk-").is_some_and(|id| id.len() == 32 && is_hex(id))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_alias(text: &str) -> bool {
    text.strip_prefix("alias/").is_some_and(|name| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-'))
    })
}

/// AWS's longest has 14 characters.
const REGION_MAX_BYTES: usize = 64;

fn is_region(text: &str) -> bool {
    (1..=REGION_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The region's own endpoint: named, so that no variable or profile of the SDK
/// can put another in its place.
/// <https://docs.aws.amazon.com/general/latest/gr/kms.html>
fn default_endpoint(region: &str, fips: bool) -> String {
    let service = if fips { "kms-fips" } else { "kms" };
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{service}.{region}.amazonaws.com{suffix}")
}

/// `https://` anywhere; `http://` only on loopback, never in production, and
/// never where something asks for the real thing.
fn endpoint_allowed(endpoint: &str, setting: Setting, asking: &[String]) -> Result<(), String> {
    const NO_URL: &str = "is not a URL such as https://kms.example.com";
    let uri: http::Uri = endpoint.parse().map_err(|_| NO_URL.to_owned())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("has a user name in it, which KMS does not take; remove it".to_owned());
    }
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if !asking.is_empty() => Err(format!(
            "is not encrypted, but {} asks for the real thing; use https://",
            asking.join(" and ")
        )),
        Some("http") if setting != Setting::Production && is_loopback => Ok(()),
        Some("http") => Err("is not encrypted; use https:// (http:// is taken only on loopback \
                             with deployment.environment = \"test\" or \"development\")"
            .to_owned()),
        _ => Err(NO_URL.to_owned()),
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
            ("https://user:word@kms.example.com", Setting::Production, false),
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
    #[test]
    fn a_key_and_a_region_are_known_by_their_form() {
        let uuid = "1a2b3c4d-5e6f-4a1b-8c2d-3e4f5a6b7c8d";
        let multi_region = "mrk-9f8e7d6c5b4a4f3e9d2c1b0a9f8e7d6c";
        for name in [uuid, multi_region, "alias/payments/2026_b-1"] {
            assert!(is_key_id(name), "{name}");
        }
        for resource in [format!("key/{uuid}"), format!("key/{multi_region}"), "alias/p".into()] {
            assert!(is_key_id(&format!("arn:aws:kms:eu-central-1:111122223333:{resource}")));
            assert!(is_key_id(&format!(
                "arn:aws-us-gov:kms:us-gov-west-1:111122223333:{resource}"
            )));
            for mistaken in [
                format!("arn:aws:kms:eu-central-1::{resource}"),
                format!("arn:aws:iam:eu-central-1:111122223333:{resource}"),
                format!("arn:aws:kms:EU:111122223333:{resource}"),
                resource.replace("alias/", "aliases/"),
            ] {
                assert!(!is_key_id(&mistaken), "{mistaken}");
            }
        }
        let (cut, long) = (&uuid[1..], format!("{uuid}0"));
        for name in ["", "payments", "alias/", "alias/a b", "mrk-1", cut, &long, "arn:aws:kms"] {
            assert!(!is_key_id(name), "{name}");
        }
        for (region, expected) in [
            ("eu-central-1", true),
            ("us-gov-west-1", true),
            ("", false),
            (&"e".repeat(65), false),
            ("EU", false),
            ("eu central", false),
        ] {
            assert_eq!(is_region(region), expected, "{region}");
        }
    }

    #[test]
    fn what_the_sdk_reads_by_itself_is_not_trimmed_and_a_secret_is_not_shown() {
        let variables =
            [("AWS_PROFILE", "p\n"), ("AWS_SECRET_ACCESS_KEY", "hush\n"), ("AWS_ROLE_ARN", "arn")];
        let environment: Environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(
            sdk_mistakes(&environment),
            [
                "AWS_SECRET_ACCESS_KEY: its value ends with a line end, and the AWS SDK takes it as \
                 it is; remove it",
                r#"AWS_PROFILE: "p\n" ends with a line end, and the AWS SDK takes it as it is; remove it"#,
            ]
        );
    }
}
