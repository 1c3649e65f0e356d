//! Where an archive is, and how much is put into one object: the section `[archive]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use host::environment::Environment;
use host::identifier::quoted_address;
use host::section::Section;
use http::Uri;

use super::cut::Limits;

/// A bucket, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Where it is served, if not by AWS.
    pub endpoint: Option<String>,
    /// PEM of the authorities behind that endpoint, in place of the platform's.
    pub ca_file: Option<PathBuf>,
    /// Before every key; empty, or it ends with a slash.
    pub prefix: String,
    /// The longest that one call may take.
    pub timeout: Duration,
}

/// What the trail archives, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bucket and the prefix.
    pub place: Place,
    /// How long an object is locked from when it is written.
    pub retention_days: u64,
    /// Whether rows of the emergency signer also become objects of their own.
    pub per_event: bool,
    /// How large objects become.
    pub limits: Limits,
}

/// None: no bucket is named, so nothing is archived.
pub(crate) fn settings(
    mut section: Section,
    directory: &Path,
    environment: &Environment,
) -> Option<Settings> {
    let bucket = section.text("bucket");
    let region = section.text("region");
    let endpoint = section.text("endpoint");
    let ca_file = section.text("ca_file");
    let prefix = section.text("prefix");
    let says_more = [&region, &endpoint, &ca_file, &prefix].iter().any(|text| text.is_some());
    let region = region.or_else(|| region_of(environment));
    let ca_file = ca_file.map(|file| directory.join(file));
    let prefix = prefix.unwrap_or_default();
    let retention_days = section.number("retention_days", 2_557, 1..=36_500);
    let per_event = section.flag("per_event", false);
    let seconds = section.number("object_seconds", 30, 1..=3_600);
    let records = section.number("object_records", 10_000, 1..=100_000);
    let timeout = section.millis("timeout_ms", 10_000);
    let Some(bucket) = bucket else {
        if (says_more || per_event) && section.sound(&["bucket"]) {
            let what =
                "is missing, and other keys of [archive] are set; name the bucket, or remove them";
            section.mistake("bucket", what);
        }
        section.finish();
        return None;
    };
    if !is_bucket(&bucket) {
        section.mistake(
            "bucket",
            format!(
                "is {}; write the bucket's name: 3 to 63 of a-z, 0-9, dots and hyphens",
                quoted_address(&bucket)
            ),
        );
    }
    if region.is_none() && section.sound(&["region"]) {
        section.mistake("region", "is missing; name the bucket's region, or set AWS_REGION");
    }
    if let Some(why) = endpoint.as_deref().and_then(flaw_of_endpoint) {
        section.mistake("endpoint", why);
    }
    if let Some(why) = flaw_of_prefix(&prefix) {
        section.mistake("prefix", why);
    }
    section.finish();
    let number = |number: u64| usize::try_from(number).unwrap_or(1);
    Some(Settings {
        place: Place {
            bucket,
            region: region.unwrap_or_default(),
            endpoint,
            ca_file,
            prefix: with_slash(&prefix),
            timeout,
        },
        retention_days,
        per_event,
        limits: Limits {
            records: number(records),
            bytes: OBJECT_BYTES,
            span: Duration::from_secs(seconds),
        },
    })
}

/// One object, about: a write is never divided.
const OBJECT_BYTES: usize = 8 << 20;
const PREFIX_MAX_BYTES: usize = 512;

impl Place {
    /// Reads `s3://BUCKET/PREFIX`, for whoever checks an archive. Region, endpoint and authorities are beside it.
    ///
    /// # Errors
    /// What is wrong, to end a sentence that begins with the URL.
    pub fn of_url(
        url: &str,
        region: Option<&str>,
        endpoint: Option<&str>,
        ca_file: Option<&Path>,
        environment: &Environment,
        timeout: Duration,
    ) -> Result<Self, String> {
        let rest = url.strip_prefix("s3://").ok_or("is not s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(bucket) {
            let named = quoted_address(bucket);
            return Err(format!("names the bucket {named}; write s3://BUCKET/PREFIX"));
        }
        if let Some(why) = flaw_of_prefix(prefix) {
            return Err(format!("has a prefix that {why}"));
        }
        if let Some(why) = endpoint.and_then(flaw_of_endpoint) {
            return Err(format!("has an endpoint that {why}"));
        }
        let region = region.map(str::to_owned).or_else(|| region_of(environment));
        Ok(Self {
            bucket: bucket.to_owned(),
            region: region.ok_or("needs the bucket's region: --archive-region, or AWS_REGION")?,
            endpoint: endpoint.map(str::to_owned),
            ca_file: ca_file.map(Path::to_owned),
            prefix: with_slash(prefix),
            timeout,
        })
    }
}

fn region_of(environment: &Environment) -> Option<String> {
    let named = |name| environment.get(name).map(str::to_owned);
    named("AWS_REGION").or_else(|| named("AWS_DEFAULT_REGION"))
}

fn with_slash(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

fn is_bucket(text: &str) -> bool {
    let may = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (3..=63).contains(&text.len()) && text.bytes().all(may)
}

fn flaw_of_prefix(prefix: &str) -> Option<String> {
    let may = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let is_right = prefix.len() <= PREFIX_MAX_BYTES
        && prefix.bytes().all(may)
        && !prefix.starts_with('/')
        && !prefix.contains("//");
    (!is_right).then(|| {
        format!(
            "is {prefix:?}; write letters, digits and -_./ of at most {PREFIX_MAX_BYTES} bytes, without a slash at the beginning"
        )
    })
}

/// Evidence and credentials go to another machine under TLS only.
fn flaw_of_endpoint(endpoint: &str) -> Option<String> {
    let is_right = endpoint.parse::<Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default();
        let is_here = ["127.0.0.1", "[::1]", "localhost"].contains(&host);
        let scheme = uri.scheme_str().unwrap_or_default();
        let has_end = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        !host.is_empty()
            && has_end
            && !has_user
            && (scheme == "https" || scheme == "http" && is_here)
    });
    (!is_right).then(|| {
        format!("is {endpoint:?}; write https://HOST:PORT (http:// only for a loopback address)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_elsewhere_needs_tls() {
        for right in [
            "https://s3.example.com",
            "https://10.0.0.7:9000/",
            "http://127.0.0.1:4566",
            "http://[::1]:1",
        ] {
            assert_eq!(flaw_of_endpoint(right), None, "{right}");
        }
        for wrong in [
            "http://s3.example.com",
            "http://127.0.0.1.example.com",
            "https://user:pw@s3.example.com",
            "https://s3.example.com/path",
            "ftp://127.0.0.1",
            "s3.example.com",
            "",
        ] {
            assert!(flaw_of_endpoint(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn a_url_names_a_bucket_and_a_prefix() {
        let environment = Environment::default();
        let read = |url| {
            Place::of_url(url, Some("eu-1"), None, None, &environment, Duration::from_secs(1))
        };
        for (url, bucket, prefix) in [
            ("s3://audit", "audit", ""),
            ("s3://audit/", "audit", ""),
            ("s3://audit/prod/eu/", "audit", "prod/eu/"),
        ] {
            let place = read(url).unwrap();
            assert_eq!((&*place.bucket, &*place.prefix), (bucket, prefix));
        }
        for wrong in
            ["audit", "s3://", "s3://Audit", "s3://audit//x", "s3://audit/a b", "https://audit"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(
            Place::of_url("s3://audit", None, None, None, &environment, Duration::ZERO)
                .unwrap_err()
                .contains("region")
        );
    }
}
