//! What the doctor found, as a table for a person.

use signing_core::admin::doctor::{Check, Checked, Examined, Report, State};

use crate::show::{Said, conditions, table};

/// One line for each check of each upstream; what failed stands out, there and in the end.
pub(crate) fn found(report: &Report) -> Said {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut titles = Vec::new();
    let (mut failed, mut warned) = (Vec::new(), Vec::new());
    for Examined { signer_kid: kid, provider, region, checks, .. } in &report.upstreams {
        titles.push((rows.len(), format!("{kid}  {provider} {region}")));
        for alike in checks.chunk_by(is_alike) {
            rows.extend(row(alike));
        }
        let of = |state| {
            let checks = checks.iter().filter(move |made| made.state == state);
            checks.map(|made| made.check).collect::<Vec<_>>()
        };
        let (mut names, soon) = (of(State::Failed), of(State::Warning));
        // A gate that is shut for what failed opens with it.
        if names.len() > 1 {
            names.retain(|check| *check != Check::Gate);
        }
        for (names, told) in [(names, &mut failed), (soon, &mut warned)] {
            if !names.is_empty() {
                let names: Vec<_> = names.into_iter().map(Check::word).collect();
                told.push(format!("{kid} at {region}: {}", names.join(", ")));
            }
        }
    }
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    let mut lines: Vec<_> = table(&rows).lines().map(|line| format!("  {line}")).collect();
    for (at, title) in titles.into_iter().rev() {
        lines.insert(at, title);
    }
    let own_side = conditions(&report.conditions);
    if !own_side.is_empty() {
        lines.push("the proxy's own side".to_owned());
        lines.extend(own_side.iter().map(|line| format!("  {line}")));
        failed.push("the proxy's own side".to_owned());
    }
    lines.push(match (report.ok, failed.is_empty()) {
        (true, _) if warned.is_empty() => "all is well".to_owned(),
        (true, _) => format!("every upstream signs; look at {}", warned.join("; ")),
        (false, true) => "something is wrong".to_owned(),
        (false, false) => format!("something is wrong; fix {}", failed.join("; ")),
    });
    Said { words: lines.join("\n"), is_good: report.ok }
}

/// Checks that say the same take one line: `dns to clock`.
fn is_alike(one: &Checked, next: &Checked) -> bool {
    let quiet = [State::NotApplicable, State::Skipped].contains(&one.state);
    quiet && (one.state, &one.detail) == (next.state, &next.detail)
}

fn row(alike: &[Checked]) -> Option<[String; 3]> {
    let (first, last) = (alike.first()?, alike.last()?);
    let name = match alike.len() {
        1 => first.check.word().to_owned(),
        _ => format!("{} to {}", first.check.word(), last.check.word()),
    };
    let state = match first.state {
        State::Failed => "FAILED",
        State::Warning => "WARNING",
        State::NotApplicable => "-",
        State::Ok | State::Skipped => first.state.word(),
    };
    Some([name, state.to_owned(), first.detail.clone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(kid: &str, region: &str, checks: &[(Check, State, &str)]) -> Examined {
        let checks = checks.iter().map(|(check, state, detail)| Checked {
            check: *check,
            state: *state,
            detail: (*detail).to_owned(),
        });
        Examined {
            signer_kid: kid.to_owned(),
            provider: "aws-kms".to_owned(),
            region: region.to_owned(),
            ok: true,
            checks: checks.collect(),
        }
    }

    fn said(ok: bool, upstreams: Vec<Examined>) -> String {
        let (signers, conditions) = (Vec::new(), Vec::new());
        found(&Report { ok, signers, upstreams, conditions }).words
    }

    #[test]
    fn what_failed_stands_out_and_what_says_the_same_takes_one_line() {
        let first = upstream(
            "k",
            "eu-test-1",
            &[
                (Check::Dns, State::NotApplicable, "an address"),
                (Check::Tcp, State::Failed, "refused;\n look at routes"),
                (Check::Tls, State::Skipped, "fix what failed first"),
                (Check::Clock, State::Skipped, "fix what failed first"),
            ],
        );
        let second = upstream(
            "t",
            "hsm",
            &[
                (Check::Dns, State::NotApplicable, "no network"),
                (Check::Tcp, State::NotApplicable, "no network"),
                (Check::Key, State::Ok, "found"),
                (Check::Signature, State::Ok, "found"),
            ],
        );
        let expected = "\
            k  aws-kms eu-test-1\n  \
            dns           -        an address\n  \
            tcp           FAILED   refused; look at routes\n  \
            tls to clock  skipped  fix what failed first\n\
            t  aws-kms hsm\n  \
            dns to tcp    -        no network\n  \
            key           ok       found\n  \
            signature     ok       found\n\
            something is wrong; fix k at eu-test-1: tcp";
        assert_eq!(said(false, vec![first, second]), expected);
    }

    #[test]
    fn what_signs_still_but_not_for_long_is_named_in_the_end() {
        let last = |ok, gate, tls| {
            let checks = [(Check::Tls, tls, "it ends soon"), (Check::Gate, gate, "")];
            let said = said(ok, vec![upstream("k", "r", &checks)]);
            said.lines().last().unwrap().to_owned()
        };
        use State::{Failed, Ok, Warning};
        assert_eq!(last(true, Ok, Warning), "every upstream signs; look at k at r: tls");
        assert_eq!(last(true, Ok, Ok), "all is well");
        // A gate that is shut for what failed is not what has to be mended.
        assert_eq!(last(false, Failed, Failed), "something is wrong; fix k at r: tls");
        assert_eq!(last(false, Failed, Ok), "something is wrong; fix k at r: gate");
        assert_eq!(said(false, Vec::new()), "something is wrong");
    }
}
