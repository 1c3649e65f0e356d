//! `signctl gate`: may a pipeline go on? Only if the signing proxy says over
//! verified TLS that it signs, KMS answers, and with `--fleet` every member signs. Whatever keeps that
//! from being proven fails the gate.

mod plan;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use host::out;
use signctl::endpoint::{self, Verdict};
use signctl::failure::Failure;
use signctl::judge::judge;
use signctl::target::Target;

use crate::fleet;
use crate::https::{self, Trust};
pub(crate) use plan::Flags;
use plan::{Plan, plan};
use report::{HEALTHY, PROXY_UNHEALTHY, Probe, ProbedPart, Report};

/// All is healthy, and that could not be printed: `EX_IOERR` of sysexits.h.
const UNPRINTED: u8 = 74;

/// Far more than the health of any proxy takes.
const HEALTH_MAX_BYTES: usize = 1 << 20;

pub(crate) const HELP: &str = "\
Variables, where there is no flag (an empty one counts as absent):
  SIGNING_PROXY_URL, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY,
  SIGNING_PROXY_CA, KMS_ENDPOINT, HEALTH_TIMEOUT; and REQUIRE_SIGNING_PROXY and
  REQUIRE_KMS: true is 1, true, yes, y or on, false is 0, false, no, n or off, in any
  case; another word is a mistake

Exit status:
  0   what is configured is healthy
  1   nothing is configured
  2   the signing proxy, or with --fleet a member, is unreachable or unhealthy, in a break-glass
      session or in an open incident
  3   the KMS endpoint is unreachable, fails, says that it is not ok, or is no KMS
  4   a signing proxy is required, but no URL is set
  5   KMS is required, but no endpoint is set
  64  a flag, the timeout or a REQUIRE_ variable is wrong
  74  what is configured is healthy, but standard output could not be written

Example: signctl gate --url https://signing-proxy:8443 --ca ca.pem \\
           --client-cert ci.pem --client-key ci.key --json
         signctl gate --fleet --label region=eu-1 --database-url postgres://signctl@db/audit";

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

/// Asks all at once: each has its own time.
fn probe(plan: &Plan) -> Report {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let why = format!("this machine gives no runtime to ask with: {error}");
            return Report { probes: Vec::new(), refused: Some((PROXY_UNHEALTHY, why)) };
        }
    };
    let probes: [Option<Probe>; 3] = runtime.block_on(async {
        tokio::join!(
            async {
                let (url, trust) = plan.proxy.as_ref()?;
                Some(within(plan.timeout, ProbedPart::Proxy, url, proxy(url, trust)).await)
            },
            async {
                let (place, labels) = plan.fleet.as_ref()?;
                Some(
                    within(plan.timeout, ProbedPart::Fleet, "", fleet::passes(place, labels)).await,
                )
            },
            async {
                let (url, trust) = plan.kms.as_ref()?;
                Some(within(plan.timeout, ProbedPart::Kms, url, kms(url, trust)).await)
            }
        )
        .into()
    });
    // A name that is still being looked up, or a file still being read, is not waited for.
    runtime.shutdown_background();
    Report { probes: probes.into_iter().flatten().collect(), refused: None }
}

/// Asks, and says how long it took.
async fn within(
    timeout: Duration,
    what: ProbedPart,
    url: &str,
    asking: impl Future<Output = Result<String, Failure>>,
) -> Probe {
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
    Probe { what, url, elapsed: start.elapsed(), found }
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
