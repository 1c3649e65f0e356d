//! One connection of the proxy. Asks are read as they come and taken in turn; everything that
//! was read is signed before the next wait (RSA apart, which is slow), so that the journal writes and
//! syncs many records at once; answers leave in their order, each once its record is on disk. What waits
//! for another disk than the journal's is answered when it is done, and holds up nothing behind it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::places::Place;
use serde_json::json;
use signing_core::breakglass::wire::{
    self, Activate, Answer, Ask, Believed, FRAME_MAX_BYTES, Hello, Reason, RecordProof, Refused,
    Signed, Stated, VERSION, Welcome,
};
use signing_core::tree::LogId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};

use crate::operator::AT_THE_OPERATOR_SOCKET;
use crate::service::{AskedOver, Service, Unreleased};

/// Answers that may wait for their records; more asks are not read meanwhile.
const WAITING_MAX: usize = 1024;
/// Answers that are written at once.
const BATCH_MAX: usize = 256;
/// Looks, and destructions, of one connection that may be under way at once; more are refused. A proxy
/// asks for one look after the other, and gives each up after 2 s.
const APART_MAX: usize = 64;
/// How long a peer may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a peer that sends nothing more has hung up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a peer may take to read.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// What is to be sent.
#[derive(Debug)]
pub enum Outgoing {
    /// An answer, as it is.
    Now(Box<Answer>),
    /// A signature, once its record is on disk.
    Signed(Box<Unreleased>),
}

/// Serves a connection to its end, which ends its session. Once the peer is gone its place is another's, whatever
/// disk hangs: what began goes on without it, and that is one activation, one destruction and one end of a session.
pub async fn serve(service: Rc<Service>, stream: UnixStream, place: &Place<u32>) {
    let connection = service.next_connection();
    let (mut read, write) = stream.into_split();
    let (out, answers) = mpsc::channel(WAITING_MAX);
    let writer = spawn_local(write_all(answers, write));
    // What waits at the end of the connection is given up: then nobody wants it.
    let mut apart = JoinSet::new();
    let ended = asks(&service, (connection, place), &mut read, (&out, &mut apart)).await;
    let of_session = spawn_local({
        let service = Rc::clone(&service);
        async move { service.gone(connection).await }
    });
    drop((out, apart));
    if let Err(error) = ended {
        let error = error.to_string();
        service.log.warn("a connection of the proxy ends", json!({"error": error}));
    }
    // What was answered before may still be written, for a moment.
    let rest = async move {
        let _ = of_session.await;
        let _ = writer.await;
    };
    tokio::select! {
        _ = tokio::time::timeout(WRITE_MAX, rest) => {}
        () = hung_up(&read) => {}
    }
}

async fn asks(
    service: &Rc<Service>,
    (connection, place): (u64, &Place<u32>),
    read: &mut OwnedReadHalf,
    (out, apart): (&mpsc::Sender<Outgoing>, &mut JoinSet<()>),
) -> io::Result<()> {
    let mut buffer = Buffer::default();
    let hello = tokio::time::timeout(HELLO_MAX, buffer.next(read)).await;
    let first = hello.map_err(|_| io::Error::other("it did not say hello in time"))??;
    let Some(first) = first else { return Ok(()) };
    if matches!(first, Ask::Hello(_)) {
        // A connection is for long: how many of a user's others have said hello is no reason to refuse. It gives way
        // no more, also while a disk keeps its greeting waiting.
        let _ = place.asked();
    }
    let (answer, log) = greet(service, first).await;
    unless_gone(read, send(out, answer)).await??;
    let Some(log) = log else { return Ok(()) };
    // What it writes, once it has shown that this goes on from what is known.
    let mut believed = None;
    loop {
        // Whoever does not read is not answered, and has nothing more taken.
        if out.is_closed() {
            return Err(io::Error::other("it does not read its answers"));
        }
        let Some(ask) = buffer.next(read).await? else { return Ok(()) };
        if claims_the_operator_socket(&ask) {
            let detail =
                "by says that this came from the operator socket, and it came from the proxy";
            let (reason, detail) = (Reason::Invalid, detail.to_owned());
            let no = Refused { id: ask.id(), reason, detail, record: None };
            unless_gone(read, send(out, Answer::Refused(no))).await??;
            continue;
        }
        match ask {
            Ask::Sign(ask) => match service.sign(connection, &ask) {
                Ok(unreleased) => {
                    let (is_last, is_slow) = (unreleased.remaining == 0, unreleased.is_slow);
                    let waiting = Outgoing::Signed(Box::new(unreleased));
                    let sent = unless_gone(read, out.send(waiting)).await?;
                    sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
                    if is_last {
                        let service = Rc::clone(service);
                        finished(read, async move { service.end_if_due().await }).await?;
                    }
                    // A thousand RSA signatures take seconds. An operator's end does not wait for
                    // them, nor do the answers that are ready.
                    if is_slow {
                        tokio::task::yield_now().await;
                    }
                }
                Err(no) => unless_gone(read, send(out, Answer::Refused(no))).await??,
            },
            Ask::Activate(ask) => {
                let activating = service.activate((connection, believed), out, ask);
                let activated = unless_gone(read, activating).await?;
                let answer = activated.map_or_else(Answer::Refused, Answer::Activated);
                unless_gone(read, send(out, answer)).await??;
            }
            Ask::End(ask) => {
                let service = Rc::clone(service);
                let ended = finished(read, async move { service.end_asked(&ask).await }).await?;
                let answer = ended.map_or_else(Answer::Refused, Answer::Ended);
                unless_gone(read, send(out, answer)).await??;
            }
            Ask::Destroy(ask) => {
                let (id, service) = (ask.id, Rc::clone(service));
                let destroying = async move {
                    let destroyed = service.destroy(AskedOver::Proxy, ask).await;
                    destroyed.map_or_else(Answer::Refused, Answer::Destroyed)
                };
                unless_gone(read, begin(apart, out, (id, destroying))).await??;
                // It begins, if nothing is before it, whatever becomes of this connection.
                tokio::task::yield_now().await;
            }
            Ask::Show(ask) => {
                let answer = match service.believe(log, &ask) {
                    Ok(()) => {
                        believed = Some(log);
                        Answer::Believed(Believed { id: ask.id })
                    }
                    Err(no) => {
                        if no.reason == Reason::LogRefused {
                            believed = None;
                        }
                        Answer::Refused(no)
                    }
                };
                unless_gone(read, send(out, answer)).await??;
            }
            Ask::Extend(ask) => {
                let (id, service) = (ask.id, Rc::clone(service));
                let extending = async move { service.extend(ask).await };
                unless_gone(read, begin(apart, out, (id, extending))).await??;
            }
            Ask::Status(wire::Status { id }) => {
                let service = Rc::clone(service);
                let stating = async move {
                    let state = service.state().await;
                    Answer::Status(Stated { id, state, known: service.known_of(log) })
                };
                unless_gone(read, begin(apart, out, (id, stating))).await??;
            }
            Ask::Hello(ask) => {
                let detail = "hello is said once, first".to_owned();
                let no = Refused { id: ask.id, reason: Reason::Invalid, detail, record: None };
                unless_gone(read, send(out, Answer::Refused(no))).await??;
            }
        }
    }
}

/// What comes of it, unless the peer hangs up first: then nobody waits for it.
async fn unless_gone<T>(read: &OwnedReadHalf, answer: impl Future<Output = T>) -> io::Result<T> {
    tokio::select! {
        biased;
        done = answer => Ok(done),
        () = hung_up(read) => Err(io::Error::other("it hung up before it was answered")),
    }
}

/// The same of what is done to its end, whoever waits for it.
async fn finished<T: 'static>(
    read: &OwnedReadHalf,
    work: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    unless_gone(read, spawn_local(work)).await?.map_err(io::Error::other)
}

/// Ends once the peer has closed the connection. One that only sends nothing more may still read.
async fn hung_up(read: &OwnedReadHalf) {
    loop {
        // Without `READABLE`: what has come and is not read yet does not end this.
        let no_more = read.ready(Interest::PRIORITY).await;
        let both = match no_more {
            Ok(_) => read.ready(Interest::PRIORITY | Interest::WRITABLE).await,
            Err(error) => Err(error),
        };
        if both.is_ok_and(|ready| ready.is_write_closed()) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Begins what is answered when it is done, beside the asks that come next.
async fn begin(
    apart: &mut JoinSet<()>,
    out: &mpsc::Sender<Outgoing>,
    (id, answer): (u64, impl Future<Output = Answer> + 'static),
) -> io::Result<()> {
    while apart.try_join_next().is_some() {}
    if apart.len() >= APART_MAX {
        let detail =
            format!("{APART_MAX} such asks of this connection wait for a disk; wait for them");
        let no = Refused { id, reason: Reason::Overloaded, detail, record: None };
        return send(out, Answer::Refused(no)).await;
    }
    let out = out.clone();
    apart.spawn_local(async move {
        // Whoever asked may be gone.
        let _ = send(&out, answer.await).await;
    });
    Ok(())
}

/// Whether a proxy names somebody as only the operator socket does.
fn claims_the_operator_socket(ask: &Ask) -> bool {
    let by = match ask {
        Ask::Activate(Activate { by, .. })
        | Ask::End(wire::End { by, .. })
        | Ask::Destroy(wire::Destroy { by, .. }) => by,
        Ask::Hello(_) | Ask::Extend(_) | Ask::Show(_) | Ask::Sign(_) | Ask::Status(_) => {
            return false;
        }
    };
    by.contains(AT_THE_OPERATOR_SOCKET)
}

/// The answer to the first ask, and, if the connection goes on, the log that the proxy says it writes.
async fn greet(service: &Service, first: Ask) -> (Answer, Option<LogId>) {
    let id = first.id();
    let no = |reason, detail: String| {
        (Answer::Refused(Refused { id, reason, detail, record: None }), None)
    };
    let ours = &service.materials.config.deployment;
    match first {
        Ask::Hello(Hello { version, .. }) if version != VERSION => no(
            Reason::Mismatch,
            format!(
                "the proxy speaks version {version} of this wire, and this signer {VERSION}; run the same release of both"
            ),
        ),
        Ask::Hello(Hello { deployment, .. }) if deployment != *ours => no(
            Reason::Mismatch,
            format!(
                "the proxy belongs to the deployment {deployment:?}, and this signer to {ours:?}; make deployment.name the same"
            ),
        ),
        Ask::Hello(Hello { log, .. }) => match LogId::parse(&log) {
            Some(log) => {
                let (state, known) = (service.state().await, service.known_of(log));
                (Answer::Welcome(Welcome { id, version: VERSION, state, known }), Some(log))
            }
            None => no(Reason::Invalid, "log is no log of a journal".to_owned()),
        },
        _ => no(Reason::Invalid, "the first request must be hello".to_owned()),
    }
}

async fn send(out: &mpsc::Sender<Outgoing>, answer: Answer) -> io::Result<()> {
    let sent = out.send(Outgoing::Now(Box::new(answer))).await;
    sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Bytes that came, and the asks in them.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
}

impl Buffer {
    /// The next ask; None at the end of the connection. What has come is given out without
    /// a wait, so that it is signed together.
    async fn next(&mut self, read: &mut OwnedReadHalf) -> io::Result<Option<Ask>> {
        loop {
            let waiting = self.bytes.get(self.from..).unwrap_or_default();
            if let Some((ask, taken)) = wire::read(waiting).map_err(io::Error::other)? {
                self.from += taken;
                return Ok(Some(ask));
            }
            self.bytes.drain(..self.from);
            self.from = 0;
            self.bytes.reserve(FRAME_MAX_BYTES);
            if read.read_buf(&mut self.bytes).await? == 0 {
                return if self.bytes.is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::other("it ended inside a frame"))
                };
            }
        }
    }
}

/// Writes answers in their order. It ends, and with it the connection, if the peer does not
/// read.
async fn write_all(mut answers: mpsc::Receiver<Outgoing>, mut write: OwnedWriteHalf) {
    let (mut waiting, mut bytes) = (Vec::with_capacity(BATCH_MAX), Vec::new());
    while answers.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        for out in waiting.drain(..) {
            let answer = match out {
                Outgoing::Now(answer) => *answer,
                Outgoing::Signed(unreleased) => released(*unreleased).await,
            };
            if wire::write(&answer, &mut bytes).is_err() {
                return;
            }
        }
        let writing = tokio::time::timeout(WRITE_MAX, write.write_all(&bytes)).await;
        if !matches!(writing, Ok(Ok(()))) {
            return;
        }
        bytes.clear();
    }
}

/// A signature leaves when its record is on disk, and only then.
async fn released(unreleased: Unreleased) -> Answer {
    let Unreleased { id, signature, remaining, appending, is_slow: _ } = unreleased;
    match appending.durable().await {
        Ok(durable) => {
            let record = wire::JournalRecord::new(durable.log(), durable.leaf());
            let proof = durable.proof().map(|proof| RecordProof {
                record: STANDARD.encode(&proof.record),
                proof: proof.inclusion.to_text(),
            });
            Answer::Signed(Signed { id, signature, record, remaining, proof })
        }
        Err(trouble) => Answer::Refused(Refused {
            id,
            reason: Reason::AuditUnavailable,
            detail: trouble.to_string(),
            record: None,
        }),
    }
}
