//! The client of `breakglass-signer`: asks it for signatures of a session, and believes none
//! before it has verified under the registered key.

mod connection;
mod errors;
mod known;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use configuration::Config;
use host::clock::now;
use release::{Order as _, SigningOrder, Signs};
use signing_core::breakglass::End;
use signing_core::breakglass::wire::{self, Answer, Ask, JournalHead};
use signing_core::gate::{Admitted as _, EmergencyPermit};
use signing_core::journal::Head;
use signing_core::key::Purpose;
use signing_core::{Moment, Refusal, Registry};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};

use super::heads::Heads;
use connection::{Connector, Job};

pub use errors::{AskError, EmergencyError};
pub use known::known_of;
pub use witness::Witness;

/// What may wait to be heard about sessions.
const NOTICES_MAX: usize = 64;
/// Asks that may wait for the connection.
const ASKS_MAX: usize = 4096;
/// How long an activation, an end or a destruction may take: keys are opened and records
/// written for it.
const COMMAND_MAX: Duration = Duration::from_secs(20);
/// How long it may take to say how it is.
const STATUS_MAX: Duration = Duration::from_secs(2);

/// What connects to the emergency signer; none: there is no break-glass here. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Emergency(Option<Arc<Client>>);

#[derive(Debug)]
struct Client {
    jobs: mpsc::Sender<Job>,
    known: Arc<ArcSwapOption<Known>>,
    sign_timeout: Duration,
    /// The session that it ended last: what it refuses after says less.
    ended: Arc<ArcSwapOption<wire::SessionEnded>>,
    heads: Heads,
    /// One look at a time: each goes on from what the one before showed.
    one: Mutex<()>,
}

/// What is known of a signer that is connected.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it said of itself, last.
    pub state: wire::State,
    /// When the emergency signer said so.
    pub at: Moment,
    /// On which connection, counted from the start: a session belongs to one.
    pub connection: u64,
    /// What its session has left by the newest signature, which came after it said so.
    left: Arc<AtomicU64>,
}

impl Known {
    /// What it said, at that time, on that connection.
    fn new(state: wire::State, at: Moment, connection: u64) -> Self {
        let left = state.session.as_ref().map_or(0, |session| session.remaining);
        Self { state, at, connection, left: Arc::new(AtomicU64::new(left)) }
    }

    /// Signatures that its session has left, also by those that it gave out since it said so.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.state.session.as_ref().map(|_| self.left.load(Ordering::Relaxed))
    }

    /// Whether that session was in force when it said so.
    #[must_use]
    pub fn has(&self, session: &str) -> bool {
        self.state.session.as_ref().is_some_and(|active| active.session == session)
    }
}

/// Where the signer is, and whom it has to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its socket.
    socket: PathBuf,
    /// The deployment, which has to be its own.
    deployment: String,
    /// Base64 of the public keys that the registry has for audits: its own is one of them.
    audit_keys: Vec<String>,
    /// One signature, from the ask to the answer.
    sign_timeout: Duration,
}

/// What happens to a session without being asked for.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The signer ended it.
    Ended(wire::SessionEnded),
    /// The connection is gone, and with it the session.
    Lost {
        /// One sentence for an operator.
        detail: String,
    },
}

/// A signature that nobody believes yet, and the signer's record of it.
#[derive(Debug)]
pub struct Signed {
    /// Its bytes.
    pub signature: Vec<u8>,
    /// The record.
    pub record: Witness,
}

impl Settings {
    /// Those of a configuration that names a signer.
    #[must_use]
    pub fn of(config: &Config, registry: &Registry) -> Option<Self> {
        let audit = registry.iter().filter(|signer| signer.purpose == Purpose::Audit);
        let audit_keys = audit.map(|signer| STANDARD.encode(signer.public_key.spki_der()));
        Some(Self {
            socket: config.breakglass.signer_socket.clone()?,
            deployment: config.deployment.clone(),
            audit_keys: audit_keys.collect(),
            sign_timeout: config.breakglass.sign_timeout,
        })
    }
}

impl Emergency {
    /// Whether it is connected now; None where there is no break-glass.
    #[must_use]
    pub fn is_connected(&self) -> Option<bool> {
        self.0.as_ref().map(|client| client.known.load().is_some())
    }

    /// A client, which `runtime` keeps connected, and what it hears of sessions; neither, where no
    /// signer is configured.
    #[must_use]
    pub fn start(
        settings: Option<Settings>,
        heads: Heads,
        runtime: &Handle,
    ) -> (Self, Option<mpsc::Receiver<Notice>>) {
        let Some(settings) = settings else { return (Self::default(), None) };
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let (jobs, inbox) = mpsc::channel(ASKS_MAX);
        let known = Arc::new(ArcSwapOption::empty());
        let sign_timeout = settings.sign_timeout;
        let ended = Arc::new(ArcSwapOption::empty());
        let connector = Connector {
            settings,
            inbox,
            known: Arc::clone(&known),
            ended: Arc::clone(&ended),
            notices,
            heads: heads.clone(),
            connections: 0,
        };
        let client = Client { jobs, known, sign_timeout, ended, heads, one: Mutex::default() };
        runtime.spawn(connector.run());
        (Self(Some(Arc::new(client))), Some(heard))
    }

    /// Whether a signer is configured.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.0.is_some()
    }

    /// What the connected signer said of itself; none while it is not connected.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        self.0.as_ref()?.known.load_full()
    }

    /// What is known of the signer's log; None where there is no break-glass.
    #[must_use]
    pub fn heads(&self) -> Option<&Heads> {
        self.0.as_ref().map(|client| &client.heads)
    }

    /// Asks for the signature that `order` is about. Whatever comes is verified after.
    ///
    /// # Errors
    /// [`EmergencyError`]: what is known, and what the caller is told.
    pub async fn sign(
        &self,
        order: &SigningOrder<EmergencyPermit>,
        (justification, proves): (Option<String>, bool),
        proxy_head: JournalHead,
    ) -> Result<Signed, EmergencyError> {
        let Some(client) = &self.0 else { return Err(AskError::NotConnected.into()) };
        let permit = order.permit();
        let justification = justification.map(|mut text| {
            while text.len() > wire::JUSTIFICATION_MAX_BYTES {
                text.pop();
            }
            text
        });
        let ask = |id| {
            order.attempts().begin(Signs::EmergencySigner);
            Ask::Sign(wire::Sign {
                id,
                session: permit.armed().session.clone(),
                caller: permit.grant().caller().as_str().to_owned(),
                request_id: order.request_id().to_owned(),
                signer_kid: permit.grant().signer().kid.to_string(),
                algorithm: permit.algorithm().name().to_owned(),
                input: wire::Input::of(order.input()),
                justification,
                proxy_head,
                proves,
            })
        };
        match client.ask(ask, client.sign_timeout).await? {
            Answer::Signed(wire::Signed { signature, record, remaining, proof, .. }) => {
                // Answers overtake each other, and what is left only gets less.
                let known = client.known.load();
                if let Some(known) = known.as_ref().filter(|one| one.has(&permit.armed().session)) {
                    known.left.fetch_min(remaining, Ordering::Relaxed);
                }
                let signature = STANDARD.decode(&signature).map_err(|_| AskError::Nonsense)?;
                if proof.is_some() != proves {
                    return Err(AskError::Nonsense.into());
                }
                let record = Witness::new(record, proof, client.heads.keys());
                Ok(Signed { signature, record: record.ok_or(AskError::Nonsense)? })
            }
            Answer::Refused(refused) => {
                let ended = client.ended.load_full();
                let ended = ended.filter(|ended| ended.session == permit.armed().session);
                Err(EmergencyError::refused(&refused, ended.as_deref()))
            }
            _ => Err(AskError::Nonsense.into()),
        }
    }

    /// Asks for something that is not a signature.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) async fn command(
        &self,
        ask: impl FnOnce(u64) -> Ask + Send,
    ) -> Result<Answer, AskError> {
        let client = self.0.as_ref().ok_or(AskError::NotConnected)?;
        client.ask(ask, COMMAND_MAX).await
    }

    /// Has it end its session, without waiting for it: should it not hear, the end of its
    /// connection or the expiry says the same.
    pub fn ends(&self, own: End, reason: &str) {
        let (emergency, reason) = (self.clone(), reason.to_owned());
        tokio::spawn(async move {
            let by = "this proxy".to_owned();
            let _ = emergency
                .command(move |id| Ask::End(wire::End { id, reason, by, own: Some(own) }))
                .await;
        });
    }

    /// Asks how it is, and looks whether its log goes on from what is known. One that does not is
    /// disconnected.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn refresh(&self) -> Result<Arc<Known>, AskError> {
        let client = self.0.as_ref().ok_or(AskError::NotConnected)?;
        let _one = client.one.lock().await;
        let before = client.known.load_full().ok_or(AskError::NotConnected)?;
        match client.ask(|id| Ask::Status(wire::Status { id }), STATUS_MAX).await? {
            Answer::Status(wire::Stated { mut state, known: known_there, .. }) => {
                state.head = client.log_head().await?;
                if client.heads.knows(known_there.as_ref()) {
                    client.show(known_there).await?;
                }
                let connection = before.connection;
                let known = Arc::new(Known::new(state, now(), connection));
                // What another connection knows is not written over, nor that there is none.
                let newest = client.known.load_full().ok_or(AskError::Lost)?;
                if newest.connection != connection {
                    return Err(AskError::Lost);
                }
                client.known.compare_and_swap(&newest, Some(Arc::clone(&known)));
                Ok(known)
            }
            Answer::Refused(no) if no.reason == wire::Reason::Overloaded => Err(AskError::TooSlow),
            _ => Err(AskError::Nonsense),
        }
    }
}

impl Client {
    /// How far its log goes: checked when it is heard.
    async fn log_head(&self) -> Result<JournalHead, AskError> {
        // Which log, and from where on, is filled in when it is sent.
        let ask = |id| Ask::Extend(wire::Extend { id, log: String::new(), size: 0 });
        let shown = match self.ask(ask, STATUS_MAX).await? {
            Answer::Extends(shown) => shown,
            // Many such asks wait for its disk.
            Answer::Refused(no) if no.reason == wire::Reason::Overloaded => {
                return Err(AskError::TooSlow);
            }
            _ => return Err(AskError::Nonsense),
        };
        let shown = shown.parse().ok_or(AskError::Nonsense)?;
        let newest = shown.checkpoint.checkpoint();
        Ok(JournalHead::new(newest.log, Head::of(newest)))
    }

    /// Shows that this proxy's log goes on from there. That more is known by now says nothing: it is shown
    /// again later.
    async fn show(&self, known: Option<JournalHead>) -> Result<(), AskError> {
        let heads = self.heads.clone();
        let shown = tokio::task::spawn_blocking(move || heads.show(known.as_ref())).await;
        let shown = shown.map_err(|_| AskError::Lost)?;
        match self.ask(|id| Ask::Show(wire::Show { id, ..shown }), STATUS_MAX).await? {
            Answer::Believed(_) => Ok(()),
            Answer::Refused(refused) if refused.reason == wire::Reason::Invalid => Ok(()),
            Answer::Refused(refused) => {
                tracing::error!(target: "breakglass", why = refused.detail, "the emergency signer refuses this proxy");
                Ok(())
            }
            _ => Err(AskError::Nonsense),
        }
    }

    async fn ask(
        &self,
        ask: impl FnOnce(u64) -> Ask + Send,
        most: Duration,
    ) -> Result<Answer, AskError> {
        if self.known.load().is_none() {
            return Err(AskError::NotConnected);
        }
        let (job, answer) = Job::new(ask);
        self.jobs.try_send(job).map_err(|_| AskError::Overloaded)?;
        match tokio::time::timeout(most, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::Lost),
            Err(_) => Err(AskError::TooSlow),
        }
    }
}

/// What a caller is told while the signer cannot be asked.
pub(crate) fn unavailable(why: &AskError) -> Refusal {
    Refusal::new(signing_core::Reason::BreakglassSignerUnavailable, why.to_string())
}

#[cfg(test)]
mod tests;
