//! What was found: for each upstream every check, as words and as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use signing_core::Kid;

use crate::conditions::{self, Condition, Level};

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The endpoint's name.
    Dns,
    /// A connection to it.
    Tcp,
    /// Its certificate.
    Tls,
    /// Our clock beside its own.
    Clock,
    /// Who we are, to it.
    Credentials,
    /// The key, and whether it is the registered one.
    Key,
    /// A canary.
    Signature,
    /// Whether requests are let through to it.
    Gate,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Ok,
    /// It is not.
    Failed,
    /// It signs, but not for long, or not everywhere.
    Warning,
    /// There is no such thing here.
    NotApplicable,
    /// Not looked at, since something before it failed.
    Skipped,
}

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

impl Check {
    const ALL: [Self; 8] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Clock,
        Self::Credentials,
        Self::Key,
        Self::Signature,
        Self::Gate,
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Clock => "clock",
            Self::Credentials => "credentials",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Gate => "gate",
        }
    }
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::NotApplicable => "not_applicable",
            Self::Skipped => "skipped",
        }
    }
}

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
            self.not_applicable(check, "no network of the proxy's");
        }
    }

    /// All of them; what was not looked at says so.
    pub(super) fn into_list(mut self) -> Vec<(Check, State, String)> {
        for check in Check::ALL {
            if !self.0.iter().any(|(made, ..)| *made == check) {
                let why = "mend what failed first";
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

    fn ok(&self) -> bool {
        // Nothing failed, and silence proves nothing.
        !self.checks.iter().any(|(_, state, _)| *state == State::Failed) && self.signed()
    }
}

impl Report {
    /// As the admin socket answers it. `ok` only if every upstream signed a canary and nothing is
    /// wrong on the proxy's own side.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let upstreams: Vec<_> = self.upstreams.iter().map(upstream).collect();
        let signs = !upstreams.is_empty() && self.upstreams.iter().all(Examined::ok);
        let is_well = self.conditions.iter().all(|condition| condition.level == Level::Ok);
        let conditions = conditions::to_json(&self.conditions);
        let signers = self.signers.iter();
        let signers: Vec<_> = signers
            .map(|(kid, signs)| json!({"signer_kid": kid.as_str(), "signs": signs}))
            .collect();
        json!({
            "ok": signs && is_well,
            "signers": signers,
            "upstreams": upstreams,
            "conditions": conditions,
        })
    }
}

fn upstream(examined: &Examined) -> Value {
    let checks: Vec<_> = examined
        .checks
        .iter()
        .map(|(check, state, detail)| {
            json!({"check": check.word(), "state": state.word(), "detail": detail})
        })
        .collect();
    json!({
        "signer_kid": examined.signer_kid.as_str(),
        "provider": examined.provider,
        "region": examined.region,
        "ok": examined.ok(),
        "checks": checks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(checks: Checks) -> Value {
        let signer_kid = Kid::parse("k").unwrap();
        let checks = checks.into_list();
        let examined = Examined { signer_kid, provider: "aws-kms", region: "r".into(), checks };
        Report { upstreams: vec![examined], signers: BTreeMap::new(), conditions: Arc::default() }
            .to_json()
    }

    #[test]
    fn silence_is_not_ok() {
        let nothing =
            Report { upstreams: Vec::new(), signers: BTreeMap::new(), conditions: Arc::default() };
        assert_eq!(nothing.to_json()["ok"], false);
        assert_eq!(report(Checks::default())["ok"], false);
        let mut checks = Checks::default();
        checks.ok(Check::Signature, "signed");
        assert_eq!(report(checks)["ok"], true);
        let mut checks = Checks::default();
        checks.ok(Check::Signature, "signed");
        checks.failed(Check::Clock, "an hour off".to_owned());
        assert_eq!(report(checks)["ok"], false);
    }

    #[test]
    fn every_check_is_named_in_order_and_once() {
        let mut checks = Checks::default();
        checks.failed(Check::Tcp, "refused".to_owned());
        assert!(!checks.reached());
        let report = report(checks);
        let made = report["upstreams"][0]["checks"].as_array().unwrap();
        let words: Vec<_> = made.iter().map(|check| check["check"].as_str().unwrap()).collect();
        assert_eq!(words, Check::ALL.map(Check::word));
        assert_eq!(made[6]["state"], "skipped");
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
