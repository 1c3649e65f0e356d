//! What is wrong with each upstream, and what to do: looked at from where the proxy stands,
//! with its credentials; and what is wrong on the proxy's own side. It asks for canaries only, and nothing that it finds moves a gate.

mod endpoint;
mod gate;
mod report;
mod served;
mod step;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::{now, wall_now};
use monitor::Monitor;
use release::{CanaryOrder, Operation, Probes, Purpose};
use signing_core::canary::NONCE_BYTES;
use signing_core::evidence::{Evidence, Fault};
use signing_core::key::PublicKey;
use signing_core::{Canary, Kid, Signer};
use telemetry::conditions::Conditions;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use upstream::{FoundKey, NO_CREDENTIALS, Patience, Provider, Upstream, UpstreamError, random};

use crate::handles::Handles;
use report::Checks;

pub use endpoint::date;
pub use report::{Check, Examined, Report, State};
pub use served::ServedKms;

/// Upstreams looked at at once.
const AT_ONCE: usize = 16;

/// One question to an upstream; through a client that serves, what that one bears.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The whole visit; what is not looked at by then is reported as failed.
const VISIT_MAX: Duration = Duration::from_secs(40);

/// Looks at upstreams; one visit at a time.
#[derive(Debug)]
pub struct Doctor {
    monitor: Monitor,
    doctor_targets: ArcSwap<Vec<Arc<DoctorTarget>>>,
    conditions: Arc<Conditions>,
    /// Where its canaries are counted.
    probes: Probes,
    visiting: Mutex<()>,
}

/// One upstream of one signer.
#[derive(Debug)]
pub struct DoctorTarget {
    /// The signer.
    pub kid: Kid,
    /// Its place in the signer's configuration.
    pub at: usize,
    /// How it is reached.
    pub reached: Reached,
}

/// How an upstream is reached.
#[derive(Debug)]
pub enum Reached {
    /// Over the network, through the clients that serve.
    Kms(Box<ServedKms>),
    /// Through the monitor's own.
    Here(Box<Upstream>),
}

/// A visit is under way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Doctor {
    /// Will look at `doctor_targets`, comparing them with the registry in force.
    #[must_use]
    pub fn new(handles: &Handles, doctor_targets: Vec<DoctorTarget>, probes: Probes) -> Self {
        let (monitor, conditions) = (handles.monitor.clone(), Arc::clone(&handles.conditions));
        let doctor_targets = doctor_targets.into_iter().map(Arc::new).collect();
        let doctor_targets = ArcSwap::from_pointee(doctor_targets);
        Self { monitor, doctor_targets, conditions, probes, visiting: Mutex::default() }
    }

    /// Will look at `new` patients, and at none of a signer that is `gone`. A visit under way is not
    /// disturbed.
    pub fn replace(&self, gone: &BTreeSet<Kid>, new: Vec<DoctorTarget>) {
        let mut doctor_targets = Vec::clone(&self.doctor_targets.load());
        doctor_targets.retain(|target| !gone.contains(&target.kid));
        doctor_targets.extend(new.into_iter().map(Arc::new));
        doctor_targets.sort_by(|one, other| (&one.kid, one.at).cmp(&(&other.kid, other.at)));
        self.doctor_targets.store(Arc::new(doctor_targets));
    }

    /// Looks at every upstream.
    ///
    /// # Errors
    /// [`Busy`]: each visit costs canaries.
    pub async fn visit(&self) -> Result<Report, Busy> {
        let _visiting = self.visiting.try_lock().map_err(|_| Busy)?;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut looking = JoinSet::new();
        let doctor_targets = self.doctor_targets.load_full();
        for (place, target) in doctor_targets.iter().map(Arc::clone).enumerate() {
            let gates = self.monitor.gates();
            let signer = gates.rulebook().registry().get(target.kid.as_str()).map(Arc::clone);
            let (places, monitor) = (Arc::clone(&places), self.monitor.clone());
            let probes = self.probes.clone();
            looking.spawn(async move {
                let _place = places.acquire_owned().await;
                (place, target.examine(signer, &monitor, &probes).await)
            });
        }
        let mut found: Vec<Option<Examined>> = doctor_targets.iter().map(|_| None).collect();
        let collecting = async {
            while let Some(examined) = looking.join_next().await {
                // One that panicked is one that was not looked at.
                if let Ok((place, examined)) = examined
                    && let Some(slot) = found.get_mut(place)
                {
                    *slot = Some(examined);
                }
            }
        };
        // Whatever is missing after that says so; the tasks end with the set.
        let _ = tokio::time::timeout(VISIT_MAX, collecting).await;
        let upstreams = doctor_targets.iter().zip(found);
        let upstreams = upstreams
            .map(|(target, examined)| examined.unwrap_or_else(|| target.not_looked_at()))
            .collect();
        let signers = self.signers(&doctor_targets, &upstreams);
        Ok(Report { upstreams, signers, conditions: self.conditions.all() })
    }
}

impl Doctor {
    /// What the next request of each signer meets: a gate that lets it through, to an upstream that
    /// signed a canary.
    fn signers(
        &self,
        doctor_targets: &[Arc<DoctorTarget>],
        examined: &Vec<Examined>,
    ) -> BTreeMap<Kid, bool> {
        let gates = self.monitor.gates();
        let mut signers = BTreeMap::new();
        for (target, examined) in doctor_targets.iter().zip(examined) {
            let (kid, at) = (&target.kid, target.at);
            let signs = gate::is_open(&gates, kid, at, (now(), wall_now()), examined.signed());
            *signers.entry(kid.clone()).or_default() |= signs;
        }
        signers
    }
}

impl DoctorTarget {
    fn label(&self) -> (&'static str, String) {
        match &self.reached {
            Reached::Kms(kms) => ("aws-kms", kms.config.region.clone()),
            Reached::Here(upstream) => (upstream.place().provider, upstream.place().region.clone()),
        }
    }

    fn examined(&self, checks: Checks) -> Examined {
        let (provider, region) = self.label();
        Examined { signer_kid: self.kid.clone(), provider, region, checks: checks.into_list() }
    }

    fn not_looked_at(&self) -> Examined {
        let mut checks = Checks::default();
        let waited_s = VISIT_MAX.as_secs();
        checks.failed(
            Check::Signature,
            format!("not checked within {waited_s} s; run the doctor again"),
        );
        self.examined(checks)
    }

    async fn examine(
        &self,
        signer: Option<Arc<Signer>>,
        monitor: &Monitor,
        probes: &Probes,
    ) -> Examined {
        let mut checks = Checks::default();
        match &self.reached {
            Reached::Kms(kms) => kms.inspect(signer, probes, &mut checks).await,
            Reached::Here(upstream) => {
                checks.no_network();
                look_at_key(upstream, signer, ANSWER_MAX, probes, &mut checks).await;
            }
        }
        // Last: what was found before explains it.
        gate::inspect(&monitor.gates(), (&self.kid, self.at), (now(), wall_now()), &mut checks);
        self.examined(checks)
    }
}

const NO_RANDOMNESS: &str = "the system gives no randomness";

/// Credentials, key and a signature.
async fn look_at_key(
    upstream: &Upstream,
    signer: Option<Arc<Signer>>,
    answer_max: Duration,
    probes: &Probes,
    checks: &mut Checks,
) {
    let Some(signer) = signer else {
        checks.failed(Check::Key, "the registry has no such signer; add it and reload".to_owned());
        return;
    };
    // No canary is made for it, and its upstream may be well.
    if let Some(why) = gate::ended(&signer, wall_now()) {
        return checks.failed(Check::Key, why);
    }
    let calls = random::attempts().map(|attempts| {
        probes.calls(&signer.kid, (Purpose::Doctor, Operation::GetPublicKey), attempts)
    });
    let Some(calls) = calls else { return checks.failed(Check::Key, NO_RANDOMNESS.to_owned()) };
    let found = bounded(upstream.public_key(&calls), answer_max).await;
    drop(calls);
    let found = match found {
        Ok(found) => found,
        Err(error) => return blame(upstream, &error, checks),
    };
    checks.ok(Check::Credentials, taken(upstream.reached_by()));
    let registered = &signer.public_key;
    match PublicKey::from_spki_der(&found.spki_der, registered.algorithm()) {
        Ok(key) if key == *registered => adopt(upstream, found),
        Ok(key) => {
            let (found, registered) = (key.sha256_hex(), registered.sha256_hex());
            return checks.failed(
                Check::Key,
                format!(
                    "it is not the registered one: SHA-256 {found}, the registry has {registered}; \
                     correct the key's name or signers.json"
                ),
            );
        }
        Err(error) => {
            return checks.failed(
                Check::Key,
                format!("it {error}; correct the key's name, or its algorithm in signers.json"),
            );
        }
    }
    checks.ok(Check::Key, "found, and the registered one");
    let mut nonce = [0; NONCE_BYTES];
    let drawn = aws_lc_rs::rand::fill(&mut nonce).ok().and_then(|()| random::attempts());
    let Some(attempts) = drawn else {
        return checks.failed(Check::Signature, NO_RANDOMNESS.to_owned());
    };
    let (canary, counted) = (Canary::new(&signer.kid, nonce), (Purpose::Doctor, probes));
    let order = CanaryOrder::new(Arc::clone(&signer), &canary, attempts, counted);
    // A token may be busy for as long again before it begins.
    let patience = Patience::Canary { timeout: ANSWER_MAX / 2 };
    let began = now();
    let asking = async { upstream.sign(&order, patience).await.result };
    let answer = bounded(asking, answer_max).await.map_err(UpstreamError::into_evidence);
    let took_ms = now().since(began).as_millis();
    match order.evidence(answer) {
        Evidence::Signed => {
            let detail = format!("a canary was signed in {took_ms} ms and verifies");
            checks.ok(Check::Signature, detail);
        }
        Evidence::Failed { fault, detail } => {
            let what = advice_on_signing(fault, upstream.reached_by());
            checks.failed(Check::Signature, format!("{}: {detail}{what}", fault.word()));
        }
        Evidence::Doubt { detail } => checks.failed(
            Check::Signature,
            format!(
                "{detail}; this seals the signer: find out who changed the key or the upstream"
            ),
        ),
    }
}

/// A token takes up the key that it is asked to sign with. A client of KMS that serves does so by
/// itself, and looking must not do it in its place.
fn adopt(upstream: &Upstream, found: FoundKey) {
    match upstream.reached_by() {
        Provider::AwsKms(_) => {}
        Provider::Pkcs11(_) | Provider::Development(_) => upstream.pin(found),
    }
}

async fn bounded<T>(
    asking: impl Future<Output = Result<T, UpstreamError>>,
    answer_max: Duration,
) -> Result<T, UpstreamError> {
    tokio::time::timeout(answer_max, asking).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s", answer_max.as_secs());
        Err(UpstreamError::Failed { fault: Fault::Indeterminate, detail })
    })
}

/// Puts an error where it belongs: credentials, or the key.
fn blame(upstream: &Upstream, error: &UpstreamError, checks: &mut Checks) {
    let words = error.to_string();
    match upstream.reached_by() {
        Provider::AwsKms(kms) => match kms_credentials(&words) {
            Some(advice) => {
                let whose = kms.credentials();
                checks.failed(Check::Credentials, format!("{words}; {advice} ({whose})"));
            }
            None => {
                let advice = kms_key(&words);
                // Who is told about a key was let in.
                checks.ok(Check::Credentials, taken(upstream.reached_by()));
                checks.failed(Check::Key, format!("{words}; {advice}"));
            }
        },
        Provider::Pkcs11(token) if token.pin_is_refused() => {
            checks.failed(
                Check::Credentials,
                format!(
                    "{words}; not tried again until the PIN's file changes: write the right PIN \
                     there, or touch it once the token lets that PIN in (with pin_credential: \
                     restart the proxy)"
                ),
            );
        }
        Provider::Pkcs11(_) => {
            // Of what someone has to set right, the worker says what it is.
            let is_away = matches!(
                error,
                UpstreamError::Failed { fault: Fault::Unavailable | Fault::Indeterminate, .. }
            );
            let advice = if is_away { WORKER_GOES_ON } else { "" };
            checks.failed(Check::Key, format!("{words}{advice}"));
        }
        Provider::Development(_) => checks.failed(Check::Key, words),
    }
}

/// What is said of a token that is away.
const WORKER_GOES_ON: &str = "; the worker restarts by itself: look at the token, at the \
     configuration of its library and at the log (target pkcs11)";

/// What it means that the credentials were taken.
fn taken(provider: &Provider) -> String {
    match provider {
        Provider::AwsKms(kms) => format!("KMS accepts {}", kms.credentials()),
        Provider::Pkcs11(_) => "the token accepts the PIN".to_owned(),
        Provider::Development(_) => "a key in a file needs none".to_owned(),
    }
}

/// What to do about credentials that KMS or the SDK does not take.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>
fn kms_credentials(words: &str) -> Option<&'static str> {
    let says = |codes: &[&str]| codes.iter().any(|code| words.contains(code));
    if says(&["ExpiredToken", "RequestExpired"]) {
        Some("renew the credentials, and compare the clock")
    } else if says(&["InvalidSignature", "SignatureDoesNotMatch", "IncompleteSignature"]) {
        Some("compare the secret key, the region and the clock")
    } else if says(&[
        "UnrecognizedClient",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
    ]) {
        Some("give the proxy credentials of this account that are in force")
    } else if says(&[NO_CREDENTIALS, "could not be built"]) {
        Some("set a role, a web identity, a profile or AWS_ACCESS_KEY_ID")
    } else {
        None
    }
}

/// What to do about a key that KMS does not show.
fn kms_key(words: &str) -> &'static str {
    let says = |code: &str| words.contains(code);
    if says("AccessDenied") {
        "allow kms:GetPublicKey and kms:Sign on it, in the role and in the key's policy"
    } else if says("NotFound") || says("InvalidArn") {
        "correct key_id, region or account"
    } else if says("Disabled") || says("InvalidState") {
        "enable it, or cancel its deletion"
    } else if says("InvalidKeyUsage") || says("SIGN_VERIFY") || says("signs with") {
        "name an asymmetric key with usage SIGN_VERIFY and the registered algorithm"
    } else {
        "look at AWS's status of KMS in this region"
    }
}

fn advice_on_signing(fault: Fault, provider: &Provider) -> &'static str {
    match (fault, provider) {
        // It says what to do itself.
        (_, Provider::Development(_)) => "",
        (Fault::Rejected, Provider::AwsKms(_) | Provider::Pkcs11(_)) => {
            "; it does not sign with the registered algorithm: compare both"
        }
        (Fault::Unavailable | Fault::Indeterminate, Provider::AwsKms(_)) => {
            "; it may pass: look at AWS's status of KMS in this region, and at the network"
        }
        (Fault::Unavailable | Fault::Indeterminate, Provider::Pkcs11(_)) => WORKER_GOES_ON,
        (Fault::Overloaded, _) => "; send less, or raise threads if the token signs in parallel",
        (Fault::Throttled, Provider::AwsKms(_)) => "; ask for a higher quota, or send less",
        (Fault::Throttled, Provider::Pkcs11(_)) => {
            "; the token has no room: lower threads, close others' sessions, or send less"
        }
        (Fault::KeyUnavailable, Provider::AwsKms(_)) => {
            "; allow kms:Sign on the key, and enable it"
        }
        (Fault::KeyUnavailable, Provider::Pkcs11(_)) => {
            "; allow it to sign (CKA_SIGN), to the user whose PIN it is"
        }
    }
}
