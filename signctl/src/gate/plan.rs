//! What the gate is to ask, by flag and by variable: read whole before anything is asked.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use host::out::USAGE;
use signctl::target::Target;
use trail::postgres::Place;

use super::report::{DETAIL_MAX_BYTES, Refused};
use crate::database::{Database, Table};
use crate::fleet;
use crate::https::Trust;

/// There is nothing to ask.
const NOTHING_CONFIGURED: u8 = 1;
/// A signing proxy is required, and none is named.
const PROXY_MISSING: u8 = 4;
/// KMS is required, and none is named.
const KMS_MISSING: u8 = 5;

/// Each probe has this long, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MAX_S: f64 = 3600.0;

/// What to look at, and how.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The signing proxy: https://HOST:PORT, or on loopback the http:// of its health listener.
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    url: Option<String>,
    /// PEM of this pipeline's client certificate.
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// PEM of its private key.
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// PEM of the authority behind the signing proxy's certificate; default: the platform's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The KMS endpoint, or the signing proxy in its place: asked for /health, then for itself.
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    kms_endpoint: Option<String>,
    /// PEM of the authority behind the KMS endpoint's certificate; default: the platform's.
    #[arg(long, value_name = "FILE")]
    kms_ca: Option<PathBuf>,
    /// Every member of the fleet has to sign too, as the database of its agents says.
    #[arg(long, requires = "database_url")]
    fleet: bool,
    /// Only members that have this label; may be given more than once: those that have all.
    #[arg(long, value_name = "NAME=VALUE", requires = "fleet")]
    label: Vec<String>,
    #[command(flatten)]
    database: Option<Database>,
    /// Seconds for each probe, all in all; default: 5.
    #[arg(long, value_name = "SECONDS", value_parser = NonEmptyStringValueParser::new())]
    timeout: Option<String>,
}

/// What is to be asked.
pub(super) struct Plan {
    pub(super) proxy: Option<(String, Trust)>,
    pub(super) kms: Option<(String, Trust)>,
    /// The database of the fleet, and the labels of those members that count.
    pub(super) fleet: Option<(Place, Vec<String>)>,
    pub(super) timeout: Duration,
}

pub(super) fn plan(
    flags: &Flags,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Plan, Refused> {
    let text = |flag: &Option<String>, name: &str| {
        let of_variable = || variable(name).map(|value| value.to_string_lossy().into_owned());
        let text = flag.clone().or_else(of_variable)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let file = |flag: &Option<PathBuf>, name: &str| {
        let of_variable = || variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        flag.clone().or_else(of_variable)
    };
    let url = text(&flags.url, "SIGNING_PROXY_URL");
    let endpoint = text(&flags.kms_endpoint, "KMS_ENDPOINT");
    let required = |name: &str| is_true(name, text(&None, name));
    // Both are read before either counts: a misspelt one is never silently off.
    let (proxy_required, kms_required) =
        (required("REQUIRE_SIGNING_PROXY")?, required("REQUIRE_KMS")?);
    if url.is_none() && proxy_required {
        return Err((
            PROXY_MISSING,
            "REQUIRE_SIGNING_PROXY is true, but SIGNING_PROXY_URL is not set; set it or --url"
                .into(),
        ));
    }
    if endpoint.is_none() && kms_required {
        return Err((
            KMS_MISSING,
            "REQUIRE_KMS is true, but KMS_ENDPOINT is not set; set it or --kms-endpoint".into(),
        ));
    }
    let timeout = timeout(text(&flags.timeout, "HEALTH_TIMEOUT"))?;
    let fleet = fleet(flags, timeout)?;
    if url.is_none() && endpoint.is_none() && fleet.is_none() {
        return Err((
            NOTHING_CONFIGURED,
            "neither SIGNING_PROXY_URL nor KMS_ENDPOINT is set; set what this pipeline signs with"
                .into(),
        ));
    }
    let trust = Trust {
        ca: file(&flags.ca, "SIGNING_PROXY_CA"),
        certificate: file(&flags.client_cert, "SIGNING_PROXY_CLIENT_CERT"),
        key: file(&flags.client_key, "SIGNING_PROXY_CLIENT_KEY"),
        loopback_only: false,
    };
    let kms_trust = match (&url, &endpoint) {
        // The signing proxy itself, as it is in many pipelines.
        (Some(url), Some(endpoint)) if flags.kms_ca.is_none() && is_one_place(url, endpoint) => {
            trust.clone()
        }
        _ => Trust { ca: flags.kms_ca.clone(), ..Trust::default() },
    };
    Ok(Plan {
        proxy: url.map(|url| (url, trust)),
        kms: endpoint.map(|endpoint| (endpoint, kms_trust)),
        fleet,
        timeout,
    })
}

fn fleet(flags: &Flags, timeout: Duration) -> Result<Option<(Place, Vec<String>)>, Refused> {
    let Some(database) = flags.database.as_ref().filter(|_| flags.fleet) else { return Ok(None) };
    fleet::is_label(&flags.label).map_err(|error| (USAGE, error.to_string()))?;
    let place = database.place(&Table::default()).map_err(|error| (USAGE, error.to_string()))?;
    Ok(Some((Place { timeout, ..place }, flags.label.clone())))
}

fn is_one_place(url: &str, other: &str) -> bool {
    let place = |url| Target::parse(url, "").ok().map(|it| (it.encrypted, it.host, it.port));
    place(url).is_some_and(|this| place(other) == Some(this))
}

fn is_true(name: &str, text: Option<String>) -> Result<bool, Refused> {
    let Some(text) = text else { return Ok(false) };
    let is_one_of = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(&["1", "true", "yes", "y", "on"]) {
        return Ok(true);
    }
    if is_one_of(&["0", "false", "no", "n", "off"]) {
        return Ok(false);
    }
    let text = text::clipped(&text, DETAIL_MAX_BYTES);
    let why =
        format!("{name} is {text:?}, expected 1, true, yes, y or on, else 0, false, no, n or off");
    Err((USAGE, why))
}

fn timeout(text: Option<String>) -> Result<Duration, Refused> {
    let Some(text) = text else { return Ok(TIMEOUT) };
    let seconds = text.parse().ok().filter(|seconds| (0.001..=TIMEOUT_MAX_S).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        let why = format!(
            "HEALTH_TIMEOUT (--timeout) is {text:?}, expected seconds, a number from 0.001 to \
             {TIMEOUT_MAX_S}"
        );
        (USAGE, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        for (text, millis) in [("5", 5000), ("0.25", 250), ("3600", 3_600_000)] {
            assert_eq!(timeout(Some(text.to_owned())), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(timeout(None), Ok(TIMEOUT));
        for text in ["0", "-1", "five", "5s", "inf", "NaN", "1e-300", "1e9"] {
            let (code, why) = timeout(Some(text.to_owned())).unwrap_err();
            assert_eq!(code, USAGE, "{text}");
            assert!(why.contains(text) && why.contains("HEALTH_TIMEOUT"), "{why}");
        }
    }
}
