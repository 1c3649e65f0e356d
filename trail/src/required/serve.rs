//! The socket on which a proxy hears what is committed.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::log::Log;
use host::places::{Place, Places};
use host::socket::{self, Bound, SocketError, has_waiting};
use serde_json::json;
use signing_core::journal::{AuditKeys, Head};
use signing_core::required::{self, ProxyMessage, TrailMessage};
use signing_core::tree::{LogId, SignedCheckpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::listening::Listening;
use super::{Required, SinkState};
use crate::check::Parts;
use crate::metrics::Sink;

/// Connections of one user at once: a proxy has one.
const PER_USER_MAX: usize = 16;
/// How long the greeting, and any write, may take.
const STEP_MAX: Duration = Duration::from_secs(5);
/// The pause after the system gave no connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Heads of one connection that wait to be committed.
const PENDING_MAX: usize = 4096;

/// The bound socket.
pub(crate) struct Doors {
    door: (StdListener, Bound),
    parts: Arc<Parts>,
    uids: Vec<u32>,
    required: Required,
    log: Log,
}

/// A proxy that has greeted.
struct Proxy {
    required: Required,
    parts: Arc<Parts>,
    keys: AuditKeys,
    /// The newest of its own log that it said is written, verified.
    written: Option<SignedCheckpoint>,
    /// What it said is on disk, and waits to be committed, by log; sizes grow.
    pending: BTreeMap<LogId, VecDeque<Head>>,
    /// The newest that it was told, by log.
    told: BTreeMap<LogId, Head>,
}

impl Doors {
    /// Binds the socket.
    ///
    /// # Errors
    /// [`SocketError`].
    pub(crate) fn bind(
        (path, uids): (&Path, Vec<u32>),
        parts: Arc<Parts>,
        required: Required,
        log: Log,
    ) -> Result<Self, SocketError> {
        let door = socket::bind("required.socket", path)?;
        Ok(Self { door, parts, uids, required, log })
    }

    /// Serves until the process ends.
    pub(crate) async fn run(self) -> std::io::Error {
        let mut listening = match Listening::new(self.door) {
            Ok(listening) => listening,
            Err(error) => return error,
        };
        // Each user that is named has all of its places, whoever else comes.
        let places = Places::new(self.uids.len() * PER_USER_MAX, PER_USER_MAX);
        loop {
            let Ok(stream) = listening.accept(&self.log).await else {
                // Out of descriptors: a closed connection gives one back.
                if has_waiting(&listening.listener) {
                    places.give_way();
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            // A peer that the kernel does not name is nobody.
            let uid = match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if self.uids.contains(&uid) => uid,
                other => {
                    let uid = other.map_or_else(|error| error.to_string(), |uid| uid.to_string());
                    self.log.warn(
                        "required.uids does not name who connects to required.socket",
                        json!({"uid": uid}),
                    );
                    continue;
                }
            };
            let Some(place) = places.begin(uid) else { continue };
            let (parts, required, log) =
                (Arc::clone(&self.parts), self.required.clone(), self.log.clone());
            tokio::spawn(async move {
                let why = serve(stream, &place, (parts, required)).await;
                log.info(
                    "the connection of a proxy that requires this sink ended",
                    json!({"error": why}),
                );
            });
            // Whoever has greeted already is heard before the next one can take its place.
            yield_now().await;
        }
    }
}

/// Serves a proxy until the connection is of no more use, and says why.
async fn serve(
    mut stream: UnixStream,
    place: &Place<u32>,
    (parts, required): (Arc<Parts>, Required),
) -> String {
    let mut state = required.0.sink.subscribe();
    let mut read = Vec::new();
    let greeting = async {
        match next::<ProxyMessage>(&mut stream, &mut read).await? {
            ProxyMessage::Hello { version: required::VERSION } => Ok(()),
            ProxyMessage::Hello { version } => Err(format!(
                "it speaks version {version} of the lines; run the same release of both"
            )),
            ProxyMessage::Written { .. } | ProxyMessage::OnDisk { .. } => {
                Err("it does not greet".to_owned())
            }
        }
    };
    let greeted = tokio::select! {
        // First what has arrived: whoever has greeted does not give way.
        biased;
        greeted = timeout(STEP_MAX, greeting) => {
            greeted.unwrap_or_else(|_| Err("it does not greet".to_owned()))
        }
        () = place.gave_way() => Err("it did not greet, and gave way to newer ones".to_owned()),
    };
    let greeted = greeted.and_then(|()| {
        let why = "its user has too many connections that have greeted; a proxy has one";
        place.asked().then_some(()).ok_or_else(|| why.to_owned())
    });
    if let Err(why) = greeted {
        let _ = write(&mut stream, &TrailMessage::Refused { detail: why.clone() }).await;
        return why;
    }
    let began = *state.borrow_and_update();
    if !began.is_up {
        let detail = "the database is not reached".to_owned();
        let _ = write(&mut stream, &TrailMessage::Refused { detail: detail.clone() }).await;
        return detail;
    }
    let hello =
        TrailMessage::Hello { version: required::VERSION, sink: Sink::Postgres.word().to_owned() };
    if let Err(why) = write(&mut stream, &hello).await {
        return why;
    }
    let keys = parts.audit_keys();
    let (written, pending, told) = (None, BTreeMap::new(), BTreeMap::new());
    let mut proxy = Proxy { required, parts, keys, written, pending, told };
    match proxy.go_on(&mut stream, (&mut read, &mut state), began).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

impl Proxy {
    async fn go_on(
        &mut self,
        stream: &mut UnixStream,
        (read, state): (&mut Vec<u8>, &mut watch::Receiver<SinkState>),
        began: SinkState,
    ) -> Result<std::convert::Infallible, String> {
        let mut answered = began.answered;
        loop {
            tokio::select! {
                message = next::<ProxyMessage>(stream, read) => match message? {
                    ProxyMessage::Written { note } => self.written(&note),
                    ProxyMessage::OnDisk { note } => if let Some(unknown) = self.on_disk(&note)? {
                        write(stream, &unknown).await?;
                    },
                    ProxyMessage::Hello { .. } => return Err("it greets twice".to_owned()),
                },
                changed = state.changed() => changed.map_err(|_| "the trail stops".to_owned())?,
            }
            let now = *state.borrow_and_update();
            if !now.is_up || now.generation != began.generation {
                let detail = "the database was lost, or holds less than it did".to_owned();
                let _ = write(stream, &TrailMessage::Refused { detail: detail.clone() }).await;
                return Err(detail);
            }
            for (log, head) in self.committed() {
                write(stream, &TrailMessage::committed(log, head)).await?;
                self.told.insert(log, head);
            }
            for (log, head) in self.forgotten() {
                let detail = "it is so old that it is forgotten".to_owned();
                write(stream, &TrailMessage::unknown(log, head, detail)).await?;
            }
            if now.answered != answered {
                answered = now.answered;
                if self.told.is_empty() {
                    write(stream, &TrailMessage::Alive {}).await?;
                }
                for (log, head) in self.told.clone() {
                    write(stream, &TrailMessage::committed(log, head)).await?;
                }
            }
        }
    }

    /// What the proxy says is written. What does not verify is answered once it is said to be on disk.
    fn written(&mut self, note: &str) {
        let checkpoint = SignedCheckpoint::parse(note).ok();
        self.written = checkpoint.filter(|checkpoint| self.keys.verify(checkpoint).is_ok());
        if let Some(checkpoint) = &self.written {
            self.required.written(checkpoint.clone());
        }
    }

    /// What the proxy says is on disk. Only an audit key of the registry says that: without one there is an answer at once.
    fn on_disk(&mut self, note: &str) -> Result<Option<TrailMessage>, String> {
        let verified = self.written.take_if(|written| written.note() == note);
        let is_verified = verified.is_some();
        let checkpoint = match verified {
            Some(checkpoint) => checkpoint,
            None => SignedCheckpoint::parse(note).map_err(|error| error.to_string())?,
        };
        let said = *checkpoint.checkpoint();
        if !is_verified && self.keys.verify(&checkpoint).is_err() {
            // The key of a journal may have been renewed.
            self.keys = self.parts.audit_keys();
            if let Err(error) = self.keys.verify(&checkpoint) {
                // With it, what waits before it gets no answer.
                self.pending.remove(&said.log);
                return Ok(Some(TrailMessage::unknown(
                    said.log,
                    Head::of(&said),
                    error.to_string(),
                )));
            }
        }
        let pending = self.pending.entry(said.log).or_default();
        if pending.len() >= PENDING_MAX {
            return Err("it tells more than is committed in time".to_owned());
        }
        pending.push_back(Head::of(&said));
        self.required.told(checkpoint);
        Ok(None)
    }

    /// What it waits for and is committed: the newest of each log.
    fn committed(&mut self) -> Vec<(LogId, Head)> {
        let mut all = Vec::new();
        for (log, pending) in &mut self.pending {
            let newest = pending.iter().rposition(|head| self.required.holds(*log, *head));
            if let Some(at) = newest
                && let Some(head) = pending.drain(..=at).next_back()
            {
                all.push((*log, head));
            }
        }
        all
    }

    /// What it would wait for for ever: the newest of each log of which nobody can say any more whether it is committed.
    fn forgotten(&mut self) -> Vec<(LogId, Head)> {
        let mut all = Vec::new();
        for (log, pending) in &mut self.pending {
            let forgotten = self.required.take_forgotten(*log, pending);
            all.extend(forgotten.map(|head| (*log, head)));
        }
        all
    }
}

/// The next message. Cancel safe: what was read stays in the buffer.
async fn next<T: serde::de::DeserializeOwned>(
    stream: &mut UnixStream,
    read: &mut Vec<u8>,
) -> Result<T, String> {
    loop {
        if let Some(message) = required::take(read)? {
            return Ok(message);
        }
        let bytes = stream.read_buf(read).await.map_err(|error| error.to_string())?;
        if bytes == 0 {
            return Err("it closed the connection".to_owned());
        }
    }
}

async fn write(stream: &mut UnixStream, message: &TrailMessage) -> Result<(), String> {
    let line = required::line(message);
    let written = timeout(STEP_MAX, stream.write_all(&line)).await;
    let late = || "it does not read what it is told".to_owned();
    written.map_err(|_| late())?.map_err(|error| error.to_string())
}
