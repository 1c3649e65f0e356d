//! What was found: for each upstream every check, as words and as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use signing_core::Kid;
use signing_core::admin::{Level, doctor};
use telemetry::conditions::{Condition, Reader};

pub use signing_core::admin::doctor::{Check, State};

/// One upstream of one signer.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The signer.
    pub signer_kid: Kid,
    /// The provider.
    pub provider: &'static str,
    /// The region, or the token's label.
    pub region: String,
    /// Every check, in order.
    pub checks: Vec<(Check, State, String)>,
}

/// All upstreams, and the proxy's own side.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each.
    pub upstreams: Vec<Examined>,
    /// Whether the next request of each signer is signed.
    pub signers: BTreeMap<Kid, bool>,
    /// One for each component.
    pub conditions: Arc<Vec<Condition>>,
}

/// Checks as they are made.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<(Check, State, String)>);

impl Checks {
    pub(super) fn ok(&mut self, check: Check, detail: impl Into<String>) {
        self.0.push((check, State::Ok, detail.into()));
    }

    pub(super) fn failed(&mut self, check: Check, detail: String) {
        self.0.push((check, State::Failed, detail));
    }

    pub(super) fn warning(&mut self, check: Check, detail: String) {
        self.0.push((check, State::Warning, detail));
    }

    /// What a check came to, if it was made.
    pub(super) fn get(&self, check: Check) -> Option<(State, &str)> {
        let made = self.0.iter().find(|(made, ..)| *made == check)?;
        Some((made.1, &made.2))
    }

    /// Whether a canary was signed.
    pub(super) fn signed(&self) -> bool {
        self.get(Check::Signature).is_some_and(|(state, _)| state == State::Ok)
    }

    /// Of what failed nothing keeps it from signing: `why`.
    pub(super) fn bear(&mut self, why: &str) {
        for (_, state, detail) in self.0.iter_mut().filter(|(_, state, _)| *state == State::Failed)
        {
            *state = State::Warning;
            detail.push_str(why);
        }
    }

    /// What was well has failed after all.
    pub(super) fn turned(&mut self, check: Check, detail: String) {
        self.0.retain(|(made, ..)| *made != check);
        self.failed(check, detail);
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds to the last check that was made; one that was well is a warning then.
    pub(super) fn warn_of(&mut self, what: &str) {
        if let Some((_, state, detail)) = self.0.last_mut() {
            if *state == State::Ok {
                *state = State::Warning;
            }
            detail.push_str(what);
        }
    }

    pub(super) fn not_applicable(&mut self, check: Check, detail: &str) {
        self.0.push((check, State::NotApplicable, detail.to_owned()));
    }

    /// Whether the way to the upstream is open: a wrong clock does not close it.
    pub(super) fn reached(&self) -> bool {
        let on_the_way = [Check::Dns, Check::Tcp, Check::Tls];
        !self
            .0
            .iter()
            .any(|(check, state, _)| *state == State::Failed && on_the_way.contains(check))
    }

    /// No network lies between the proxy and this upstream.
    pub(super) fn no_network(&mut self) {
        for check in [Check::Dns, Check::Tcp, Check::Tls, Check::Clock] {
            self.not_applicable(check, "the proxy uses no network for it");
        }
    }

    /// All of them; what was not looked at says so.
    pub(super) fn into_list(mut self) -> Vec<(Check, State, String)> {
        for check in Check::ALL {
            if !self.0.iter().any(|(made, ..)| *made == check) {
                let why = "fix what failed first";
                self.0.push((check, State::Skipped, why.to_owned()));
            }
        }
        self.0.sort_by_key(|(check, ..)| *check);
        self.0
    }
}

impl Examined {
    /// Whether a canary was signed for callers.
    pub(super) fn signed(&self) -> bool {
        let mut made = self.checks.iter().filter(|(check, ..)| *check == Check::Signature);
        made.any(|(_, state, _)| matches!(state, State::Ok | State::Warning))
    }

    fn message(self) -> doctor::Examined {
        let ok = self.ok();
        let checks = self.checks.into_iter();
        doctor::Examined {
            signer_kid: self.signer_kid.to_string(),
            provider: self.provider.to_owned(),
            region: self.region,
            ok,
            checks: checks
                .map(|(check, state, detail)| doctor::Checked { check, state, detail })
                .collect(),
        }
    }

    fn ok(&self) -> bool {
        // Nothing failed, and silence proves nothing.
        !self.checks.iter().any(|(_, state, _)| *state == State::Failed) && self.signed()
    }
}

impl Report {
    /// As the admin socket answers it. `ok` only if every upstream signed a canary and nothing is
    /// wrong on the proxy's own side.
    #[must_use]
    pub fn message(self) -> doctor::Report {
        let signs = !self.upstreams.is_empty() && self.upstreams.iter().all(Examined::ok);
        let is_well = self.conditions.iter().all(|condition| condition.level == Level::Ok);
        let signers = self.signers.into_iter();
        doctor::Report {
            ok: signs && is_well,
            signers: signers
                .map(|(kid, signs)| doctor::Signs { signer_kid: kid.to_string(), signs })
                .collect(),
            upstreams: self.upstreams.into_iter().map(Examined::message).collect(),
            conditions: self.conditions.iter().map(|one| one.message(Reader::Operator)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(checks: Checks) -> doctor::Report {
        let signer_kid = Kid::parse("k").unwrap();
        let checks = checks.into_list();
        let examined = Examined { signer_kid, provider: "aws-kms", region: "r".into(), checks };
        Report { upstreams: vec![examined], signers: BTreeMap::new(), conditions: Arc::default() }
            .message()
    }

    #[test]
    fn silence_is_not_ok() {
        let nothing =
            Report { upstreams: Vec::new(), signers: BTreeMap::new(), conditions: Arc::default() };
        assert!(!nothing.message().ok);
        assert!(!report(Checks::default()).ok);
        let mut checks = Checks::default();
        checks.ok(Check::Signature, "signed");
        assert!(report(checks).ok);
        let mut checks = Checks::default();
        checks.ok(Check::Signature, "signed");
        checks.failed(Check::Clock, "an hour off".to_owned());
        assert!(!report(checks).ok);
    }

    #[test]
    fn every_check_is_named_in_order_and_once() {
        let mut checks = Checks::default();
        checks.failed(Check::Tcp, "refused".to_owned());
        assert!(!checks.reached());
        let report = report(checks);
        let made = &report.upstreams[0].checks;
        let names: Vec<_> = made.iter().map(|made| made.check).collect();
        assert_eq!(names, Check::ALL);
        assert_eq!(made[6].state, State::Skipped);
    }

    #[test]
    fn where_there_is_no_network_none_is_missed() {
        let mut checks = Checks::default();
        checks.no_network();
        checks.failed(Check::Key, "no such key".to_owned());
        let states: Vec<_> = checks.into_list().into_iter().map(|(_, state, _)| state).collect();
        use State::{Failed, NotApplicable as None, Skipped};
        assert_eq!(states, [None, None, None, None, Skipped, Failed, Skipped, Skipped]);
    }
}
