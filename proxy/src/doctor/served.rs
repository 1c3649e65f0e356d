//! A key in KMS, looked at through the very clients that serve: their connections, credentials and
//! time-outs. A client made for the visit would show what a restart may mend, and not what the
//! next request meets.

use std::sync::Arc;
use std::time::Duration;

use release::Probes;
use signing_core::Signer;
use tokio::runtime::Handle;
use upstream::Upstream;
use upstream::settings::AwsKms;

use super::report::{Check, Checks, State};
use super::{ANSWER_MAX, endpoint, look_at_key};

/// A call as callers bear it, but not for ever.
const CALL_MAX: Duration = Duration::from_secs(15);

/// What is added to a step of the way that fails while signing goes on.
const GOES_ON: &str =
    "; connections that are already open still sign, but no new connection can be made";

/// The clients of one upstream. No drill disturbs them.
#[derive(Debug)]
pub struct ServedKms {
    /// Where they ask.
    pub config: AwsKms,
    /// The one for callers' requests.
    pub callers: Arc<Upstream>,
    /// The one for canaries.
    pub canaries: Upstream,
    /// How long a canary may take, as the start's configuration says.
    pub canary_max: Duration,
    /// Where callers' requests are served.
    pub runtime: Handle,
}

impl ServedKms {
    pub(super) async fn inspect(
        &self,
        signer: Option<Arc<Signer>>,
        probes: &Probes,
        checks: &mut Checks,
    ) {
        let way = async {
            let mut checks = Checks::default();
            endpoint::inspect(&self.config, &mut checks).await;
            checks
        };
        let canary_max = self.canary_max.min(ANSWER_MAX);
        let canaries = inspect(&self.canaries, signer.clone(), canary_max, probes);
        let callers = self.as_callers_do(signer, probes.clone());
        let (way, callers, canaries) = tokio::join!(way, callers, canaries);
        checks.append(merged(way, callers, &canaries));
    }

    /// Where callers' requests run, so that its connections stay theirs.
    async fn as_callers_do(&self, signer: Option<Arc<Signer>>, probes: Probes) -> Checks {
        let callers = Arc::clone(&self.callers);
        let answer_max = self.config.call_timeout.min(CALL_MAX);
        let looking = async move { inspect(&callers, signer, answer_max, &probes).await };
        let looking = self.runtime.spawn(looking);
        looking.await.unwrap_or_else(|_| {
            let mut checks = Checks::default();
            checks.failed(
                Check::Signature,
                "the check of the callers' client stopped before its end".to_owned(),
            );
            checks
        })
    }
}

async fn inspect(
    upstream: &Upstream,
    signer: Option<Arc<Signer>>,
    answer_max: Duration,
    probes: &Probes,
) -> Checks {
    let mut checks = Checks::default();
    look_at_key(upstream, signer, answer_max, probes, &mut checks).await;
    checks
}

/// What callers meet decides. The way explains it, and the canaries' client what the gate does.
fn merged(mut way: Checks, mut callers: Checks, canaries: &Checks) -> Checks {
    let difference = difference(&callers, canaries);
    if callers.signed() {
        way.bear(GOES_ON);
    } else if !way.reached() {
        // What failed on the way is why, and the rest of it says nothing more.
        if let Some(what) = difference {
            way.warn_of(&what);
        }
        return way;
    }
    if let Some(what) = difference {
        callers.warn_of(&what);
    }
    way.append(callers);
    way
}

/// In what the canaries' client differs from the callers'.
fn difference(callers: &Checks, canaries: &Checks) -> Option<String> {
    let of = |checks: &Checks, check| checks.get(check).map(|(state, _)| state == State::Ok);
    let all = [Check::Credentials, Check::Key, Check::Signature];
    let check = all.into_iter().find(|check| of(callers, *check) != of(canaries, *check))?;
    let found = match canaries.get(check) {
        Some((State::Ok, detail)) => format!("it passes: {detail}"),
        Some((_, detail)) => format!("it failed: {detail}"),
        None => "it was not reached".to_owned(),
    };
    Some(format!("; the canaries' client differs: for {} {found}", check.word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(made: &[(Check, bool)]) -> Checks {
        let mut checks = Checks::default();
        for (check, is_ok) in made {
            match is_ok {
                true => checks.ok(*check, "well"),
                false => checks.failed(*check, format!("no {}", check.word())),
            }
        }
        checks
    }

    fn states(checks: Checks) -> Vec<(Check, State)> {
        let list = checks.into_list().into_iter();
        list.filter(|(_, state, _)| *state != State::Skipped).map(|(c, s, _)| (c, s)).collect()
    }

    #[test]
    fn what_callers_meet_decides_and_the_way_explains_it() {
        use Check::{Credentials, Key, Signature, Tcp};
        use State::{Failed, Ok, Warning};
        let signs = [(Credentials, true), (Key, true), (Signature, true)];
        let fails = [(Credentials, true), (Key, true), (Signature, false)];
        let all_ok = [(Tcp, Ok), (Credentials, Ok), (Key, Ok), (Signature, Ok)];
        for (way, callers, canaries, expected) in [
            (true, signs, signs, &all_ok[..]),
            (false, signs, signs, &[(Tcp, Warning), (Credentials, Ok), (Key, Ok), (Signature, Ok)]),
            (false, fails, fails, &[(Tcp, Failed)]),
            (false, fails, signs, &[(Tcp, Failed)]),
            (true, fails, signs, &[(Tcp, Ok), (Credentials, Ok), (Key, Ok), (Signature, Failed)]),
            (true, signs, fails, &[(Tcp, Ok), (Credentials, Ok), (Key, Ok), (Signature, Warning)]),
        ] {
            let way = checks(&[(Tcp, way)]);
            let merged = merged(way, checks(&callers), &checks(&canaries));
            assert_eq!(states(merged), expected);
        }
    }

    #[test]
    fn clients_that_differ_are_named() {
        let signs = checks(&[(Check::Credentials, true), (Check::Signature, true)]);
        let refused = checks(&[(Check::Credentials, false)]);
        let said = difference(&signs, &refused).unwrap();
        assert_eq!(
            said,
            "; the canaries' client differs: for credentials it failed: no credentials"
        );
        let said = difference(&refused, &signs).unwrap();
        assert_eq!(said, "; the canaries' client differs: for credentials it passes: well");
        assert_eq!(difference(&signs, &signs), None);
    }
}
