//! The one connection to the emergency signer. A session belongs to it: when it goes, the
//! session is over, on both sides.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use host::clock::now;
use signing_core::breakglass::wire::{self, Answer, Ask, JournalHead};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::{AskError, Known, Notice, Settings};
use crate::heads::{Heads, Peer};

/// How long connecting and the first answer may take.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Between attempts to connect.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a write may take before the signer counts as gone.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// How much is written at once.
const WRITE_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Asks that may be without answer; a signer that leaves more of them is of no use.
const PENDING_MAX: usize = 16 * 1024;
/// The id of the greeting; asks have others.
const GREETING: u64 = 0;
/// The id of the first look at its log.
const FIRST_LOOK: u64 = 1;
/// The id of the first show of this proxy's log.
const FIRST_SHOW: u64 = 2;

/// An ask on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) reply: oneshot::Sender<Result<Answer, AskError>>,
}

/// Keeps the connection.
pub(super) struct Connector {
    pub(super) settings: Settings,
    pub(super) inbox: mpsc::Receiver<Job>,
    pub(super) known: Arc<ArcSwapOption<Known>>,
    pub(super) ended: Arc<ArcSwapOption<wire::SessionEnded>>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) heads: Heads,
    /// How many there were.
    pub(super) connections: u64,
}

/// A connection that has greeted.
struct Connected {
    reader: Frames,
    writer: OwnedWriteHalf,
    peer: Peer,
}

/// Asks without answer.
type Pending = HashMap<u64, PendingAnswer>;

/// Who waits for an answer.
struct PendingAnswer {
    reply: oneshot::Sender<Result<Answer, AskError>>,
    /// Of a look at its log: from which size on it has to go on.
    from: Option<u64>,
}

/// Whole messages out of a stream of bytes.
struct Frames {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    /// What of it was taken.
    taken: usize,
}

impl Job {
    /// An ask whose number is still open, and where its answer comes.
    pub(super) fn new(
        ask: impl FnOnce(u64) -> Ask,
    ) -> (Self, oneshot::Receiver<Result<Answer, AskError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { ask: ask(GREETING), reply }, answer)
    }
}

fn set_id(ask: &mut Ask, number: u64) {
    match ask {
        Ask::Hello(wire::Hello { id, .. })
        | Ask::Extend(wire::Extend { id, .. })
        | Ask::Show(wire::Show { id, .. })
        | Ask::Activate(wire::Activate { id, .. })
        | Ask::Sign(wire::Sign { id, .. })
        | Ask::End(wire::End { id, .. })
        | Ask::Destroy(wire::Destroy { id, .. })
        | Ask::Status(wire::Status { id }) => *id = number,
    }
}

impl Connector {
    /// Connects, serves, and connects again, for ever.
    pub(super) async fn run(mut self) {
        let mut said = String::new();
        loop {
            let why = match self.connect().await {
                Ok(connected) => {
                    said.clear();
                    let why = self.serve(connected).await.to_string();
                    self.known.store(None);
                    // If nobody hears it, nobody signs.
                    let _ = self.notices.send(Notice::Lost { detail: why.clone() }).await;
                    why
                }
                Err(error) => error.to_string(),
            };
            if why != said {
                let socket = self.settings.socket.display();
                tracing::warn!(target: "breakglass", %socket, why, "the emergency signer is not connected");
                said = why;
            }
            // Who asks meanwhile is told at once.
            while let Ok(job) = self.inbox.try_recv() {
                let _ = job.reply.send(Err(AskError::NotConnected));
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn connect(&mut self) -> io::Result<Connected> {
        self.connections += 1;
        let connection = self.connections;
        let greeting = async {
            let stream = UnixStream::connect(&self.settings.socket).await?;
            let (half, mut writer) = stream.into_split();
            let mut reader = Frames { half, buffer: Vec::new(), taken: 0 };
            let deployment = self.settings.deployment.clone();
            let log = self.heads.log().to_string();
            let hello =
                Ask::Hello(wire::Hello { id: GREETING, version: wire::VERSION, deployment, log });
            let mut bytes = Vec::new();
            wire::write(&hello, &mut bytes).map_err(io::Error::other)?;
            writer.write_all(&bytes).await?;
            let (mut state, known) = match reader.next().await? {
                Answer::Welcome(wire::Welcome { state, version: wire::VERSION, known, .. }) => {
                    (state, known)
                }
                Answer::Welcome(wire::Welcome { version, .. }) => {
                    let ours = wire::VERSION;
                    return Err(io::Error::other(format!(
                        "it speaks version {version} of the wire, and this proxy {ours}; run the same release of both"
                    )));
                }
                Answer::Refused(wire::Refused { detail, .. }) => {
                    return Err(io::Error::other(format!("it refuses this proxy: {detail}")));
                }
                _ => return Err(io::Error::other("it does not greet")),
            };
            self.settings.accepts(&state).map_err(io::Error::other)?;
            let peer = Peer::of(&state).map_err(io::Error::other)?;
            let from = self.heads.known_size(peer.log());
            bytes.clear();
            wire::write(&Ask::Extend(wire::Extend::new(FIRST_LOOK, peer.log(), from)), &mut bytes)
                .map_err(io::Error::other)?;
            writer.write_all(&bytes).await?;
            let head = match reader.next().await? {
                Answer::Extends(shown) => self.heads.hear(&peer, from, &shown),
                _ => Err("it does not show its log".to_owned()),
            };
            if let Some(head) = head.map_err(io::Error::other)? {
                state.head = JournalHead::new(peer.log(), head);
            }
            // It believes this proxy no more than this proxy believes it.
            let heads = self.heads.clone();
            let shown = tokio::task::spawn_blocking(move || heads.show(known.as_ref()));
            let shown = Ask::Show(wire::Show { id: FIRST_SHOW, ..shown.await? });
            bytes.clear();
            wire::write(&shown, &mut bytes).map_err(io::Error::other)?;
            writer.write_all(&bytes).await?;
            match reader.next().await? {
                Answer::Believed(_) => {}
                Answer::Refused(wire::Refused { detail, .. }) => {
                    return Err(io::Error::other(format!("it refuses this proxy: {detail}")));
                }
                _ => {
                    return Err(io::Error::other("it does not say whether it believes this proxy"));
                }
            }
            let instance = &state.instance;
            tracing::info!(target: "breakglass", instance, "the emergency signer is connected");
            self.known.store(Some(Arc::new(Known::new(state, now(), connection))));
            Ok(Connected { reader, writer, peer })
        };
        tokio::time::timeout(GREETING_MAX, greeting)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("it does not answer")))
    }

    /// Serves until the connection is of no more use, and says why. Whoever still waits is told
    /// when what waits is dropped.
    async fn serve(&mut self, connected: Connected) -> io::Error {
        let Connected { mut reader, mut writer, peer } = connected;
        let (mut pending, mut next_id) = (Pending::new(), FIRST_SHOW + 1);
        let mut out = Vec::new();
        loop {
            tokio::select! {
                answer = reader.next() => match answer {
                    Ok(answer) => if let Err(error) = self.heard(&peer, answer, &mut pending).await {
                        return error;
                    },
                    Err(error) => return error,
                },
                job = self.inbox.recv() => {
                    let Some(job) = job else { return io::Error::other("nobody asks any more") };
                    out.clear();
                    self.encode(&peer, job, &mut out, (&mut pending, &mut next_id));
                    if pending.len() > PENDING_MAX {
                        return io::Error::other("it leaves too many asks without answer");
                    }
                    let writing = tokio::time::timeout(WRITE_MAX, writer.write_all(&out));
                    let mut writing = std::pin::pin!(writing);
                    // Answers are read meanwhile: a signer that waits to be read reads nothing.
                    loop {
                        tokio::select! {
                            written = &mut writing => match written {
                                Ok(Ok(())) => break,
                                Ok(Err(error)) => return error,
                                Err(_) => return io::Error::other("it does not read what is asked"),
                            },
                            answer = reader.next() => match answer {
                                Ok(answer) => if let Err(error) = self.heard(&peer, answer, &mut pending).await {
                                    return error;
                                },
                                Err(error) => return error,
                            },
                        }
                    }
                }
            }
        }
    }

    /// Takes as many asks as are written at once.
    fn encode(
        &mut self,
        peer: &Peer,
        job: Job,
        out: &mut Vec<u8>,
        (pending, next_id): (&mut Pending, &mut u64),
    ) {
        let mut next = Some(job);
        while let Some(Job { mut ask, reply }) = next {
            set_id(&mut ask, *next_id);
            let mut from = None;
            if let Ask::Extend(extend) = &mut ask {
                // From what is known now, and not when somebody thought of asking.
                let size = self.heads.known_size(peer.log());
                *extend = wire::Extend::new(extend.id, peer.log(), size);
                from = Some(size);
            }
            match wire::write(&ask, out) {
                Ok(()) => {
                    pending.insert(*next_id, PendingAnswer { reply, from });
                    *next_id += 1;
                }
                Err(_) => {
                    let _ = reply.send(Err(AskError::Overloaded));
                }
            }
            next = (out.len() < WRITE_BYTES).then(|| self.inbox.try_recv().ok()).flatten();
        }
    }

    /// Hands an answer to whoever waits for it.
    async fn heard(
        &self,
        peer: &Peer,
        answer: Answer,
        pending: &mut Pending,
    ) -> Result<(), io::Error> {
        let Some(id) = id_of(&answer) else {
            if let Answer::SessionEnded(ended) = answer {
                self.ended.store(Some(Arc::new(ended.clone())));
                // If nobody hears it, nobody signs.
                let _ = self.notices.send(Notice::Ended(ended)).await;
            }
            return Ok(());
        };
        let Some(PendingAnswer { reply, from }) = pending.remove(&id) else {
            return Err(io::Error::other("it answered what nobody asked"));
        };
        if let (Answer::Extends(shown), Some(from)) = (&answer, from) {
            let head = self.heads.hear(peer, from, shown).map_err(io::Error::other)?;
            if head.is_none() {
                let _ = reply.send(Err(AskError::TooSlow));
                return Ok(());
            }
        }
        // Whoever asked may have lost patience.
        let _ = reply.send(Ok(answer));
        Ok(())
    }
}

impl Frames {
    /// The next message. Cancel safe: what was read stays in the buffer.
    async fn next(&mut self) -> io::Result<Answer> {
        loop {
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            if let Some((answer, bytes)) = wire::read::<Answer>(rest).map_err(io::Error::other)? {
                self.taken += bytes;
                return Ok(answer);
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.reserve(READ_BYTES);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it closed the connection",
                ));
            }
        }
    }
}

impl Settings {
    /// Whether a signer is the one that this proxy is to ask.
    fn accepts(&self, state: &wire::State) -> Result<(), String> {
        if state.deployment != self.deployment {
            return Err(format!(
                "it is of the deployment {:?}, and this proxy of {:?}",
                state.deployment, self.deployment
            ));
        }
        if !self.audit_keys.contains(&state.audit_public_key) {
            return Err(format!(
                "its audit key {:?} is not in the registry with \"purpose\": \"audit\"; add its public key",
                state.audit_kid
            ));
        }
        Ok(())
    }
}

fn id_of(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Welcome(wire::Welcome { id, .. })
        | Answer::Extends(wire::Extends { id, .. })
        | Answer::Believed(wire::Believed { id })
        | Answer::Activated(wire::Activated { id, .. })
        | Answer::Signed(wire::Signed { id, .. })
        | Answer::Ended(wire::Ended { id, .. })
        | Answer::Destroyed(wire::Destroyed { id, .. })
        | Answer::Unsealed(wire::Unsealed { id, .. })
        | Answer::AcceptedProxy(wire::AcceptedProxy { id, .. })
        | Answer::Clock(wire::Clock { id, .. })
        | Answer::Opened(wire::Opened { id, .. })
        | Answer::Status(wire::Stated { id, .. })
        | Answer::Refused(wire::Refused { id, .. }) => Some(*id),
        Answer::SessionEnded(_) => None,
    }
}
