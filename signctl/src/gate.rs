//! `signctl gate`: may a pipeline go on? Only if the signing proxy says over
//! verified TLS that it signs, and KMS answers. Whatever keeps that from being
//! proven fails the gate.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use host::out::{self, USAGE};
use serde_json::{Value, json};

use signctl::endpoint::{self, Verdict};
use signctl::failure::Failure;
use signctl::judge::judge;
use signctl::target::Target;

use crate::https::{self, Trust};

/// What was asked for is healthy.
const HEALTHY: u8 = 0;
/// There is nothing to ask.
const NOTHING_CONFIGURED: u8 = 1;
/// The signing proxy cannot be reached, or does not prove that it signs.
const PROXY_UNHEALTHY: u8 = 2;
/// The KMS endpoint cannot be reached, fails, or is something else.
const KMS_UNREACHABLE: u8 = 3;
/// A signing proxy is required, and none is named.
const PROXY_MISSING: u8 = 4;
/// KMS is required, and none is named.
const KMS_MISSING: u8 = 5;
/// All is healthy, and that could not be printed: `EX_IOERR` of sysexits.h.
const UNPRINTED: u8 = 74;

/// Each probe has this long, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MAX_S: f64 = 3600.0;

/// Far more than the health of any proxy takes.
const HEALTH_MAX_BYTES: usize = 1 << 20;

/// Longest sentence of a probe. It is one line, whatever a peer put into it: the log of a pipeline
/// obeys some lines.
const DETAIL_MAX_BYTES: usize = 400;

pub(crate) const HELP: &str = "\
Variables, where there is no flag (an empty one counts as absent):
  SIGNING_PROXY_URL, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY,
  SIGNING_PROXY_CA, KMS_ENDPOINT, HEALTH_TIMEOUT; and REQUIRE_SIGNING_PROXY and
  REQUIRE_KMS: true is 1, true, yes, y or on, false is 0, false, no, n or off, in any
  case; another word is a mistake

Exit status:
  0   what is configured is healthy
  1   nothing is configured
  2   the signing proxy is unreachable or unhealthy, in a break-glass session or in an open incident
  3   the KMS endpoint is unreachable, fails, says that it is not ok, or is no KMS
  4   a signing proxy is required, but no URL is set
  5   KMS is required, but no endpoint is set
  64  a flag, the timeout or a REQUIRE_ variable is wrong
  74  what is configured is healthy, but standard output could not be written

Example: signctl gate --url https://signing-proxy:8443 --ca ca.pem \\
           --client-cert ci.pem --client-key ci.key --json";

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
    /// Seconds for each probe, all in all; default: 5.
    #[arg(long, value_name = "SECONDS", value_parser = NonEmptyStringValueParser::new())]
    timeout: Option<String>,
}

/// Runs the gate, and says what it found.
pub(crate) fn run(flags: &Flags, as_json: bool) -> ExitCode {
    let variable = |name: &str| std::env::var_os(name);
    let report = match plan(flags, &variable) {
        Ok(plan) => probe(&plan),
        Err((code, why)) => Report { probes: Vec::new(), refused: Some((code, why)) },
    };
    let printed = if as_json {
        out::report_json(&report.to_json())
    } else {
        if let Some((_, why)) = &report.refused {
            out::say(&format!("signctl gate: {why}"));
        }
        let lines: Vec<_> = report.probes.iter().map(Probe::line).collect();
        if lines.is_empty() { Ok(()) } else { out::report(&lines.join("\n")) }
    };
    let code = report.exit_code();
    match printed {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            out::say(&format!("signctl gate: {error}"));
            ExitCode::from(if code == HEALTHY { UNPRINTED } else { code })
        }
    }
}

/// What is to be asked.
struct Plan {
    proxy: Option<(String, Trust)>,
    kms: Option<(String, Trust)>,
    timeout: Duration,
}

/// Why nothing is asked: the exit status, and a sentence.
type Refused = (u8, String);

fn plan(flags: &Flags, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Plan, Refused> {
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
    if url.is_none() && endpoint.is_none() {
        return Err((
            NOTHING_CONFIGURED,
            "neither SIGNING_PROXY_URL nor KMS_ENDPOINT is set; set what this pipeline signs with"
                .into(),
        ));
    }
    let timeout = timeout(text(&flags.timeout, "HEALTH_TIMEOUT"))?;
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
        timeout,
    })
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

/// Asks both at once: each has its own time.
fn probe(plan: &Plan) -> Report {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let why = format!("this machine gives no runtime to ask with: {error}");
            return Report { probes: Vec::new(), refused: Some((PROXY_UNHEALTHY, why)) };
        }
    };
    let (proxy, kms) = runtime.block_on(async {
        tokio::join!(
            async {
                let (url, trust) = plan.proxy.as_ref()?;
                let (target, found) = within(plan.timeout, url, proxy(url, trust)).await;
                Some(target.probe("signing proxy", PROXY_UNHEALTHY, found))
            },
            async {
                let (url, trust) = plan.kms.as_ref()?;
                let (target, found) = within(plan.timeout, url, kms(url, trust)).await;
                Some(target.probe("KMS endpoint", KMS_UNREACHABLE, found))
            }
        )
    });
    // A name that is still being looked up, or a file still being read, is not waited for.
    runtime.shutdown_background();
    Report { probes: proxy.into_iter().chain(kms).collect(), refused: None }
}

/// What was asked, and how long it took.
struct Asked {
    url: String,
    elapsed: Duration,
}

async fn within(
    timeout: Duration,
    url: &str,
    asking: impl Future<Output = Result<String, Failure>>,
) -> (Asked, Result<String, Failure>) {
    let start = Instant::now();
    let found = tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| {
        let seconds = timeout.as_secs_f64();
        Err(Failure::new(
            "timeout",
            format!(
                "no whole answer within {seconds} s (HEALTH_TIMEOUT); is it overloaded or cut off?"
            ),
        ))
    });
    // A URL that may hold a secret is not printed.
    let is_plain = Target::parse(url, "").is_ok();
    let url = if is_plain { url.to_owned() } else { "(as configured)".to_owned() };
    (Asked { url, elapsed: start.elapsed() }, found)
}

impl Asked {
    fn probe(self, name: &'static str, code: u8, found: Result<String, Failure>) -> Probe {
        Probe { name, url: self.url, elapsed: self.elapsed, code, found }
    }
}

/// Healthy if it says so over TLS, or on loopback.
async fn proxy(url: &str, trust: &Trust) -> Result<String, Failure> {
    let target = Target::parse(url, "/health").map_err(|why| Failure::new("bad_url", why))?;
    let trust = Trust { loopback_only: !target.encrypted, ..trust.clone() };
    let answer = https::get(&target, &trust, HEALTH_MAX_BYTES).await?;
    let body = signing_core::json::from_slice(&answer.body).ok();
    judge(answer.status, body.as_ref())
}

/// Reachable by what it says at `/health`, else by what it says at the endpoint itself: KMS has no
/// health, and refuses what is not signed as only KMS does.
async fn kms(url: &str, trust: &Trust) -> Result<String, Failure> {
    let ask = async |path: &str| {
        let target = Target::parse(url, path).map_err(|why| Failure::new("bad_url", why))?;
        let https::Answer { status, headers, body } =
            https::get(&target, trust, HEALTH_MAX_BYTES).await?;
        let body = signing_core::json::from_slice(&body).ok();
        Ok::<_, Failure>(endpoint::judge(status, endpoint::is_of_kms(&headers), body.as_ref()))
    };
    let no_health = match ask("/health").await? {
        Verdict::Reachable(what) => return Ok(what),
        Verdict::Fails(failure) => return Err(failure),
        Verdict::NoEvidence(failure) => failure,
    };
    match ask("").await {
        Ok(Verdict::Reachable(what)) => Ok(what),
        Ok(Verdict::Fails(failure) | Verdict::NoEvidence(failure)) => Err(failure),
        // What the first answer lacked is what has to be mended.
        Err(_) => Err(no_health),
    }
}

/// What one probe found.
struct Probe {
    name: &'static str,
    url: String,
    elapsed: Duration,
    /// The exit status if it failed.
    code: u8,
    found: Result<String, Failure>,
}

impl Probe {
    fn words(&self) -> (&'static str, &'static str) {
        if self.code == KMS_UNREACHABLE {
            ("reachable", "unreachable")
        } else {
            ("healthy", "unhealthy")
        }
    }

    fn line(&self) -> String {
        let Self { name, url, .. } = self;
        let (good, bad) = self.words();
        match &self.found {
            Ok(what) => format!("{name} {url}: {good}, {what}, {} ms", self.elapsed.as_millis()),
            Err(failure) => format!(
                "{name} {url}: {} ({}): {}",
                bad.to_uppercase(),
                failure.reason,
                text::clipped(&failure.detail, DETAIL_MAX_BYTES)
            ),
        }
    }

    fn to_json(&self) -> Value {
        let (good, bad) = self.words();
        let (result, reason, detail) = match &self.found {
            Ok(what) => (good, None, what.clone()),
            Err(failure) => {
                (bad, Some(&failure.reason), text::clipped(&failure.detail, DETAIL_MAX_BYTES))
            }
        };
        json!({
            "url": self.url,
            "ok": self.found.is_ok(),
            "result": result,
            "reason": reason,
            "detail": detail,
            "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

struct Report {
    probes: Vec<Probe>,
    refused: Option<Refused>,
}

impl Report {
    /// The first failure in the order of the exit statuses.
    fn exit_code(&self) -> u8 {
        let failed = self.probes.iter().find(|probe| probe.found.is_err());
        match (&self.refused, failed) {
            (Some((code, _)), _) => *code,
            (None, Some(probe)) => probe.code,
            (None, None) if self.probes.is_empty() => NOTHING_CONFIGURED,
            (None, None) => HEALTHY,
        }
    }

    fn to_json(&self) -> Value {
        let of = |code| self.probes.iter().find(|probe| probe.code == code).map(Probe::to_json);
        json!({
            "ok": self.exit_code() == HEALTHY,
            "exit_code": self.exit_code(),
            "error": self.refused.as_ref().map(|(_, why)| why),
            "proxy": of(PROXY_UNHEALTHY),
            "kms": of(KMS_UNREACHABLE),
        })
    }
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
