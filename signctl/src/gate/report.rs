//! What the gate found, as lines for a person and as JSON for a program, and the exit status.

use std::time::Duration;

use serde_json::{Value, json};
use signctl::failure::Failure;

/// What was asked for is healthy.
pub(super) const HEALTHY: u8 = 0;
/// The signing proxy or a member of the fleet cannot be reached, or does not prove that it signs.
pub(super) const PROXY_UNHEALTHY: u8 = 2;
/// The KMS endpoint cannot be reached, fails, or is something else.
const KMS_UNREACHABLE: u8 = 3;

/// Longest sentence of a probe. It is one line, whatever a peer put into it: the log of a pipeline
/// obeys some lines.
pub(super) const DETAIL_MAX_BYTES: usize = 400;

/// Why nothing is asked: the exit status, and a sentence.
pub(super) type Refused = (u8, String);

/// What one probe found.
pub(super) struct Probe {
    pub(super) what: ProbedPart,
    pub(super) url: String,
    pub(super) elapsed: Duration,
    pub(super) found: Result<String, Failure>,
}

/// What is asked, in the order in which failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbedPart {
    Proxy,
    Fleet,
    Kms,
}

impl ProbedPart {
    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "signing proxy",
            Self::Fleet => "fleet",
            Self::Kms => "KMS endpoint",
        }
    }

    /// The exit status if it failed.
    fn code(self) -> u8 {
        match self {
            Self::Proxy | Self::Fleet => PROXY_UNHEALTHY,
            Self::Kms => KMS_UNREACHABLE,
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Kms => ("reachable", "unreachable"),
            Self::Proxy | Self::Fleet => ("healthy", "unhealthy"),
        }
    }
}

impl Probe {
    pub(super) fn line(&self) -> String {
        let (good, bad) = self.what.words();
        let name = match self.url.as_str() {
            "" => self.what.name().to_owned(),
            url => format!("{} {url}", self.what.name()),
        };
        match &self.found {
            Ok(what) => format!("{name}: {good}, {what}, {} ms", self.elapsed.as_millis()),
            Err(failure) => format!(
                "{name}: {} ({}): {}",
                bad.to_uppercase(),
                failure.reason,
                text::clipped(&failure.detail, DETAIL_MAX_BYTES)
            ),
        }
    }

    fn to_json(&self) -> Value {
        let (good, bad) = self.what.words();
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

/// What came of all of it.
pub(super) struct Report {
    pub(super) probes: Vec<Probe>,
    pub(super) refused: Option<Refused>,
}

impl Report {
    /// The first failure in the order of the exit statuses.
    pub(super) fn exit_code(&self) -> u8 {
        let failed = self.probes.iter().find(|probe| probe.found.is_err());
        match (&self.refused, failed) {
            (Some((code, _)), _) => *code,
            (None, Some(probe)) => probe.what.code(),
            (None, None) => HEALTHY,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let of = |what| self.probes.iter().find(|probe| probe.what == what).map(Probe::to_json);
        json!({
            "ok": self.exit_code() == HEALTHY,
            "exit_code": self.exit_code(),
            "error": self.refused.as_ref().map(|(_, why)| why),
            "proxy": of(ProbedPart::Proxy),
            "fleet": of(ProbedPart::Fleet),
            "kms": of(ProbedPart::Kms),
        })
    }
}
