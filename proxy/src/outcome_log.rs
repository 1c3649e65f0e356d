//! The audit step of the pipeline as it stands: one structured log line per
//! outcome, written before the signature leaves. It is a log, not a journal:
//! nothing here is durable, and the types say so by their names.

use aws_lc_rs::digest;
use signing_core::gate::{Evidence, Snapshot};
use signing_core::{Moment, Refusal};

use crate::intent::{Intent, More};
use crate::log::Log;
use crate::order::{Failed, Proven, Release};

/// Proof that the outcome line of a proven signature was written to the log.
#[derive(Debug)]
pub struct LoggedOutcome {
    proven: Proven,
}

/// Writes the outcome line of an order that was proven or failed. The line
/// names a signature by its SHA-256: it is written before the last look at the
/// gate, and a log is no place for a signature that may be withheld.
///
/// # Errors
/// The refusal of a failed order, or `audit_unavailable` if its line can not be
/// written.
pub async fn log_outcome(
    log: &Log,
    verdict: Result<Proven, Failed>,
) -> Result<LoggedOutcome, Refusal> {
    match verdict {
        Ok(proven) => {
            let sha256 = digest::digest(&digest::SHA256, proven.signature().bytes());
            let more = More::SignatureSha256(hex::encode(sha256));
            let logged = log.outcome(&proven.intent().line("signed", more)).await;
            logged.map_err(|refusal| refusal.about(proven.signature().kid()))?;
            Ok(LoggedOutcome { proven })
        }
        Err(Failed { intent, evidence, refusal }) => {
            let detail = match &evidence {
                Evidence::Signed => "",
                Evidence::Failed { detail, .. } | Evidence::Doubt { detail } => detail,
            };
            let line = intent.line(refusal.reason.word(), More::Detail(detail));
            // The caller is refused either way; its reason says more than the log's.
            let _ = log.outcome(&line).await;
            Err(refusal)
        }
    }
}

impl LoggedOutcome {
    /// Lets the signature go if the gate is still open.
    ///
    /// # Errors
    /// [`Withheld`], whose line still has to be written.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn release(self, gates: &Snapshot, now: Moment) -> Result<Release, Withheld> {
        self.proven.release(gates, now).map_err(|(intent, refusal)| Withheld { intent, refusal })
    }
}

/// A signature that was made, logged, and does not leave.
#[derive(Debug)]
pub struct Withheld {
    intent: Intent,
    refusal: Refusal,
}

impl Withheld {
    /// Writes that it was withheld, and why.
    pub async fn log(self, log: &Log) -> Refusal {
        let line = self.intent.line("withheld", More::Detail(&self.refusal.detail));
        // It does not leave either way.
        let _ = log.outcome(&line).await;
        self.refusal
    }
}
