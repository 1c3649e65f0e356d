//! The credentials of one chain, kept once for all signers that use it: for callers, canaries and
//! the doctor alike. They are renewed ahead of their end, when a file of theirs has changed, and
//! after KMS refused them. What was loaded before serves until a load brings others, or its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_kms::config::{Credentials, ProvideCredentials};
use host::clock::{now, rfc3339, wall_now};
use signing_core::Moment;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::chain::{self, Loaded};
use super::files::Seen;
use super::renewal::{Renewal, look_again};
use crate::settings::Proxies;

/// One load, whatever its sources do.
const LOAD_MAX: Duration = Duration::from_secs(20);

/// So many characters of an access key's id are shown: who has the file sees which it is.
const SHOWN_CHARS: usize = 4;

/// The credentials of one chain.
#[derive(Clone, Debug)]
pub struct CredentialChain(Arc<Chain>);

#[derive(Debug)]
struct Chain {
    region: String,
    proxies: Proxies,
    held: ArcSwapOption<Held>,
    state: Mutex<State>,
    /// Changes with each load that has ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    renewal: Renewal,
    /// Why the newest load brought nothing.
    failure: Option<String>,
    /// The files as the newest load found them.
    seen: Option<Seen>,
    /// KMS has refused those that are held, which the log says once.
    is_refused: bool,
}

/// Credentials that were loaded.
#[derive(Debug)]
pub(super) struct Held {
    credentials: Credentials,
    source: String,
    is_fixed: bool,
    /// Grows with each that differ from those before.
    serial: u64,
    loaded: Moment,
    /// When to look for others; None: there will be none.
    look_again: Option<Moment>,
    ends: Option<(Moment, OffsetDateTime)>,
}

/// What is to be done for whoever asks for credentials.
enum Availability {
    Ready(Arc<Held>),
    /// They are being loaded.
    Loading,
    Failed(String),
}

/// A load that is under way; if it is dropped before its end, as by a panic, it brought nothing.
struct Loading {
    chain: CredentialChain,
    has_ended: bool,
}

impl CredentialChain {
    /// Nothing is loaded yet.
    pub(super) fn new(region: &str, proxies: &Proxies) -> Self {
        let state =
            State { renewal: Renewal::default(), failure: None, seen: None, is_refused: false };
        Self(Arc::new(Chain {
            region: region.to_owned(),
            proxies: proxies.clone(),
            held: ArcSwapOption::empty(),
            state: Mutex::new(state),
            ended: watch::Sender::new(0),
        }))
    }

    /// What requests are signed with; waits if they are being loaded and there were none before.
    ///
    /// # Errors
    /// Why there are none. Nothing is waited for then.
    pub(super) async fn ready(&self) -> Result<Arc<Held>, String> {
        if let Availability::Ready(held) = self.availability(now()) {
            return Ok(held);
        }
        let mut ended = self.0.ended.subscribe();
        loop {
            match self.availability(now()) {
                Availability::Ready(held) => return Ok(held),
                Availability::Failed(why) => return Err(why),
                // Its sender is ours.
                Availability::Loading => drop(ended.changed().await),
            }
        }
    }

    fn availability(&self, now: Moment) -> Availability {
        let held = self.0.held.load_full();
        if let Some(held) = &held
            && held.look_again.is_none_or(|at| now < at)
        {
            return Availability::Ready(Arc::clone(held));
        }
        let mut state = self.state();
        self.load_if_it_is_time(&mut state, now, false);
        match held {
            // What our clock calls ended may be what its source still gives: KMS decides then.
            Some(held) if !held.has_ended(now) || state.failure.is_none() => {
                Availability::Ready(held)
            }
            _ if state.renewal.is_under_way() => Availability::Loading,
            _ => Availability::Failed(state.failure.clone().unwrap_or_default()),
        }
    }

    /// KMS said `code` of a request that was signed with those of that serial. Looks for others,
    /// if the back-off allows it now or soon; whether there are others now.
    pub(super) async fn refused(&self, serial: Option<u64>, code: &str) -> bool {
        let mut ended = self.0.ended.subscribe();
        if let Some(soon) = self.is_refused(serial, code) {
            tokio::time::sleep(soon).await;
        }
        // Others may have been found meanwhile.
        if self.serial() == serial {
            let mut state = self.state();
            let is_fixed = self.0.held.load().as_ref().is_some_and(|held| held.is_fixed);
            if !is_fixed {
                let has_changed = state.has_changed();
                self.load_if_it_is_time(&mut state, now(), has_changed);
            }
        }
        while self.serial() == serial && self.state().renewal.is_under_way() {
            // Its sender is ours.
            let _ = ended.changed().await;
        }
        self.serial() != serial
    }

    /// Says so once; how soon others may be looked for, if that is soon.
    fn is_refused(&self, serial: Option<u64>, code: &str) -> Option<Duration> {
        let mut state = self.state();
        if self.serial() != serial {
            return None;
        }
        if !std::mem::replace(&mut state.is_refused, true) {
            tracing::warn!(target: "credentials", region = self.0.region, code, "refused by KMS");
        }
        let has_changed = state.has_changed();
        state.renewal.is_soon(now(), has_changed)
    }

    /// Takes up what a changed file says, before those that are held end.
    pub(super) fn look_at_files(&self) {
        let mut state = self.state();
        if state.has_changed() {
            self.load_if_it_is_time(&mut state, now(), true);
        }
    }

    /// Which credentials are held.
    pub(super) fn serial(&self) -> Option<u64> {
        self.0.held.load().as_ref().map(|held| held.serial)
    }

    /// Who asks, since when, until when; and what was wrong lately. Nothing secret.
    pub(super) fn described(&self) -> String {
        let now = now();
        let held = self.0.held.load_full();
        let state = self.state();
        let mut said = match held {
            Some(held) => held.described(now),
            None => "none".to_owned(),
        };
        if let Some(why) = &state.failure {
            said += &format!("; the newest look for others failed: {why}");
        }
        said
    }

    fn load_if_it_is_time(&self, state: &mut State, now: Moment, has_changed: bool) {
        if !state.renewal.begins(now, has_changed, random()) {
            return;
        }
        // Before it is read: what changes while it is read has changed.
        state.seen = Some(Seen::now());
        let loading = Loading { chain: self.clone(), has_ended: false };
        // On its own: whoever asked may lose patience.
        tokio::spawn(async move {
            let Chain { region, proxies, .. } = &*loading.chain.0;
            let loaded = tokio::time::timeout(LOAD_MAX, chain::load(region, proxies)).await;
            let late = || Err(format!("nothing within {} s", LOAD_MAX.as_secs()));
            loading.ended(loaded.unwrap_or_else(|_| late()));
        });
    }

    fn ended(&self, loaded: Result<Loaded, String>) {
        let (now, wall) = (now(), wall_now());
        let mut state = self.state();
        let region = &self.0.region;
        match loaded {
            Ok(loaded) => {
                state.failure = None;
                let before = self.0.held.load_full();
                let is_same = before.as_ref().is_some_and(|held| is_same(held, &loaded));
                let serial = before.map_or(0, |held| held.serial + u64::from(!is_same));
                let held = Held::new(loaded, serial, now, wall);
                if !is_same {
                    let (source, key) = (&held.source, held.key());
                    let ends = held.ends.map(|(_, at)| rfc3339(at));
                    tracing::info!(target: "credentials", region, source, key, ends, "loaded");
                    state.is_refused = false;
                }
                self.0.held.store(Some(Arc::new(held)));
            }
            Err(why) => {
                if state.failure.as_ref() != Some(&why) {
                    tracing::warn!(target: "credentials", region, why, "not loaded");
                }
                state.failure = Some(why);
            }
        }
        state.renewal.ended();
        drop(state);
        self.0.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a file is another than when the newest load began.
    fn has_changed(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| *seen != Seen::now())
    }
}

impl Held {
    fn new(loaded: Loaded, serial: u64, now: Moment, wall: OffsetDateTime) -> Self {
        let Loaded { credentials, source, is_fixed } = loaded;
        let ends = credentials.expiry().map(OffsetDateTime::from);
        let left = ends.map(|at| Duration::try_from(at - wall).unwrap_or_default());
        let look_again = (!is_fixed).then(|| now.after(look_again(left, random())));
        let ends = left.zip(ends).map(|(left, at)| (now.after(left), at));
        Self { credentials, source, is_fixed, serial, loaded: now, look_again, ends }
    }

    /// What signs requests, and a number that changes with it.
    pub(super) fn signs_with(&self) -> (u64, &Credentials) {
        (self.serial, &self.credentials)
    }

    fn has_ended(&self, now: Moment) -> bool {
        self.ends.is_some_and(|(at, _)| now >= at)
    }

    /// The end of the access key's id.
    fn key(&self) -> String {
        let id = self.credentials.access_key_id();
        let end = id.chars().count().saturating_sub(SHOWN_CHARS);
        format!("...{}", id.chars().skip(end).collect::<String>())
    }

    fn described(&self, now: Moment) -> String {
        let (key, source) = (self.key(), &self.source);
        let age = now.since(self.loaded).as_secs();
        let ends = match self.ends {
            Some((_, at)) => format!("ending at {}", rfc3339(at)),
            None => "without an end".to_owned(),
        };
        let fixed = if self.is_fixed { "; a restart alone reads others" } else { "" };
        format!("access key {key} of {source}, loaded {age} s ago, {ends}{fixed}")
    }
}

fn is_same(held: &Held, loaded: &Loaded) -> bool {
    let parts = |credentials: &Credentials| {
        let token = credentials.session_token().map(str::to_owned);
        let (id, secret) = (credentials.access_key_id(), credentials.secret_access_key());
        [Some(id.to_owned()), Some(secret.to_owned()), token]
    };
    parts(&held.credentials) == parts(&loaded.credentials)
}

impl Loading {
    fn ended(mut self, loaded: Result<Loaded, String>) {
        self.has_ended = true;
        self.chain.ended(loaded);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if !self.has_ended {
            self.chain.ended(Err("the load broke off".to_owned()));
        }
    }
}

impl ProvideCredentials for CredentialChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        if let Availability::Ready(held) = self.availability(now()) {
            return future::ProvideCredentials::ready(Ok(held.credentials.clone()));
        }
        future::ProvideCredentials::new(async {
            let held = self.ready().await.map_err(CredentialsError::not_loaded)?;
            Ok(held.credentials.clone())
        })
    }
}

/// Without randomness many proxies may ask together.
fn random() -> u8 {
    let mut random = [0];
    let _ = aws_lc_rs::rand::fill(&mut random);
    random[0]
}

#[cfg(test)]
impl CredentialChain {
    /// Holds these, and never looks for others.
    pub(super) fn holding(id: &str, secret: &str, token: Option<&str>) -> Self {
        let chain = Self::new("eu-test-1", &Proxies::default());
        let credentials = Credentials::new(id, secret, token.map(str::to_owned), None, "test");
        let loaded = Loaded { credentials, source: "a test".to_owned(), is_fixed: true };
        chain.0.held.store(Some(Arc::new(Held::new(loaded, 0, now(), wall_now()))));
        chain
    }
}
