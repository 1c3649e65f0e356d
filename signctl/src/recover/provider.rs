//! Whether the provider is healthy, by what the doctor found: pure. A freeze or a session shuts the gate, and the
//! doctor says so; that is no fault of the provider. Whether each gate could open is in the proxy's own checklist.

use signing_core::admin::Level;
use signing_core::admin::doctor::{Check, Checked, Examined, Report, State};

/// How many upstreams made a test signature, or what is wrong.
pub(super) fn provider(report: &Report) -> Result<String, String> {
    let wrong = report.upstreams.iter().filter_map(wrong);
    let own = report.conditions.iter().filter(|condition| condition.state == Level::Failed);
    let wrong: Vec<_> = wrong.chain(own.map(|condition| condition.component.clone())).collect();
    match (report.upstreams.len(), &wrong[..]) {
        (0, _) => Err("no upstream was examined".to_owned()),
        (count, []) => Ok(format!("{} made a test signature", text::counted(count, "upstream"))),
        (_, wrong) => Err(format!("{}; signctl doctor says what to do", wrong.join("; "))),
    }
}

/// The first thing that is wrong with an upstream.
fn wrong(upstream: &Examined) -> Option<String> {
    let Examined { signer_kid, region, checks, .. } = upstream;
    let failed =
        checks.iter().find(|made| made.state == State::Failed && made.check != Check::Gate);
    let is_signed = |made: &Checked| made.check == Check::Signature && made.state == State::Ok;
    let what = match failed {
        None if checks.iter().any(is_signed) => return None,
        None => "no test signature",
        Some(failed) => failed.check.word(),
    };
    Some(format!("{signer_kid} at {region}: {what}"))
}

#[cfg(test)]
mod tests {
    use signing_core::admin::Condition;

    use super::*;

    fn report(checks: &[(Check, State)]) -> Report {
        let checked = |(check, state): &(Check, State)| Checked {
            check: *check,
            state: *state,
            detail: String::new(),
        };
        let upstream = Examined {
            signer_kid: "k".to_owned(),
            provider: "aws-kms".to_owned(),
            region: "eu".to_owned(),
            ok: false,
            checks: checks.iter().map(checked).collect(),
        };
        Report { ok: false, signers: Vec::new(), upstreams: vec![upstream], conditions: Vec::new() }
    }

    #[test]
    fn a_test_signature_counts_also_while_the_gate_is_frozen() {
        let frozen = report(&[(Check::Signature, State::Ok), (Check::Gate, State::Failed)]);
        assert_eq!(provider(&frozen), Ok("1 upstream made a test signature".to_owned()));
    }

    #[test]
    fn anything_else_that_failed_or_no_test_signature_is_wrong() {
        let (signature, key) = (Check::Signature, Check::Key);
        for (checks, what) in [
            (&[(signature, State::Skipped), (Check::Gate, State::Ok)][..], "no test signature"),
            (&[(signature, State::Failed)], "k at eu: signature"),
            (&[(key, State::Failed), (signature, State::Ok)], "k at eu: key"),
            (&[], "no test signature"),
        ] {
            assert!(provider(&report(checks)).unwrap_err().contains(what), "{what}");
        }
        assert!(provider(&Report { upstreams: Vec::new(), ..report(&[]) }).is_err());
        let disk = |state| {
            let (component, since, detail) = ("disk".to_owned(), String::new(), None);
            let conditions = vec![Condition { component, state, since, detail }];
            provider(&Report { conditions, ..report(&[(signature, State::Ok)]) })
        };
        assert!(disk(Level::Failed).unwrap_err().contains("disk"));
        // Callers get their signatures.
        assert!(disk(Level::Degraded).is_ok());
    }
}
