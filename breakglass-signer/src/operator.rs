//! The operators' socket: a passphrase comes in, to be used or only to be tried, or an end that no proxy can hold back, or a
//! destruction that no proxy may ask for, or a look at what this process itself holds. It is not the
//! proxy's way, and who may use it is said apart.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use host::clock::{rfc3339, wall_now};
use host::places::Place;
use serde::Serialize;
use serde_json::json;
use signing_core::breakglass::wire::operator::{
    Ask, NO_PASSPHRASE, PASSPHRASE_MAX_BYTES, Unlocked,
};
use signing_core::breakglass::wire::{
    self, Answer, Attested, Clock, Destroy, End, FRAME_MAX_BYTES, REASON_MAX_BYTES, Reason,
    Refused, Stated,
};
use signing_core::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::spawn_local;
use zeroize::Zeroizing;

use crate::service::{AskedOver, Service};
use crate::unlock::WAITS;

/// How long a peer may take for all of it; a person has typed before it connects.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an operator waits for an end to be on disk; it is in force before.
const END_MAX: Duration = Duration::from_secs(4);
/// How long for a destruction, which waits for an activation that is under way, and for the disk.
const DESTROY_MAX: Duration = Duration::from_secs(8);
/// What an answer repeats; nothing, since a connection asks once.
const ID: u64 = 0;

/// What an operator sent on the operator socket.
pub enum OperatorInput {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// One that is only to be tried, on that key.
    Open(String, Zeroizing<Vec<u8>>),
    /// Something else.
    Ask(Ask),
}

/// Serves one peer, of that user id.
pub async fn serve(service: Rc<Service>, mut stream: UnixStream, uid: u32, place: &Place<u32>) {
    let by = service.users.named(uid);
    let read = tokio::time::timeout(PATIENCE, came(&mut stream)).await;
    let has_room = place.asked();
    match read {
        // An end is never too much.
        Ok(Ok(came)) if !has_room && !matches!(came, OperatorInput::Ask(Ask::End { .. })) => {
            let why = format!("too many asks of {by} are under way; wait until one has ended");
            match came {
                OperatorInput::Passphrase(_) => say(&mut stream, &no(&why)).await,
                OperatorInput::Open(..) | OperatorInput::Ask(_) => {
                    say(&mut stream, &refused(Reason::Overloaded, why)).await;
                }
            }
        }
        Ok(Ok(OperatorInput::Passphrase(passphrase))) => {
            say(&mut stream, &unlocked(&service, passphrase, (uid, &by))).await;
        }
        Ok(Ok(OperatorInput::Open(emergency_kid, passphrase))) => {
            let opened = service.open_once(ID, &emergency_kid, passphrase, (uid, &by)).await;
            let answer = match opened {
                Ok(opened) => Answer::Opened(opened),
                Err(no) => Answer::Refused(no),
            };
            say(&mut stream, &answer).await;
        }
        // Its passphrase did not come with it.
        Ok(Ok(OperatorInput::Ask(Ask::Open { .. }))) => {
            let why = "no passphrase came with it; use the signctl of this release";
            say(&mut stream, &refused(Reason::Invalid, why.to_owned())).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::Clock {}))) => {
            let clock = Clock { id: ID, now: rfc3339(wall_now()) };
            say(&mut stream, &Answer::Clock(clock)).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::Status {}))) => {
            let stated = Stated { id: ID, state: service.state().await, known: None };
            say(&mut stream, &Answer::Status(stated)).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::End { reason }))) => {
            let answer = ended(&service, &reason, &by).await;
            say(&mut stream, &answer).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::Unseal { reason }))) => {
            let answer = unsealed(&service, &reason, &by).await;
            say(&mut stream, &answer).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::AcceptProxy { reason }))) => {
            let answer = accepted(&service, &reason, &by).await;
            say(&mut stream, &answer).await;
        }
        Ok(Ok(OperatorInput::Ask(Ask::Destroy { emergency_kid, reason, attested }))) => {
            let key = (emergency_kid, attested);
            let answer = destroyed(&service, key, &reason, &by).await;
            say(&mut stream, &answer).await;
        }
        Ok(Err(_)) | Err(_) => {
            let why = format!(
                "no passphrase of 1 to {PASSPHRASE_MAX_BYTES} bytes, and no ask that \
                               this release knows, came in time; use the signctl of this release"
            );
            say(&mut stream, &no(&why)).await;
        }
    }
}

fn unlocked(service: &Service, passphrase: Zeroizing<Vec<u8>>, (uid, by): (u32, &str)) -> Unlocked {
    if !service.unlock(passphrase, (uid, by)) {
        return no("this user brought too many passphrases; wait a quarter of a minute");
    }
    service.note_unlock(by, "brought");
    service.log.info("a passphrase waits to be used", json!({"by": by}));
    Unlocked {
        unlocked: true,
        detail: "it waits for one activation, which tries it, and is wiped after that or in five \
                 minutes; next: signctl breakglass activate"
            .to_owned(),
        waits_s: WAITS.as_secs(),
    }
}

fn no(why: &str) -> Unlocked {
    Unlocked { unlocked: false, detail: why.to_owned(), waits_s: 0 }
}

/// Ends the session. What began is finished, though the disk takes longer than whoever asked waits:
/// the key is wiped before anything waits.
async fn ended(service: &Rc<Service>, reason: &str, by: &str) -> Answer {
    let reason = match one_line(reason) {
        Ok(reason) => reason,
        Err(why) => return refused(Reason::Invalid, why),
    };
    let ask = End { id: ID, reason, by: here(by), own: None };
    let ending = spawn_local({
        let service = Rc::clone(service);
        async move { service.end_surely(&ask).await }
    });
    match tokio::time::timeout(END_MAX, ending).await {
        Ok(Ok(Ok(ended))) => Answer::Ended(ended),
        Ok(Ok(Err(no))) => Answer::Refused(no),
        Ok(Err(_)) | Err(_) => refused(
            Reason::AuditUnavailable,
            "the signer's disk does not answer: a session that was in force is over and its key \
             wiped, one that is being activated ends as it begins, and neither is recorded yet; look \
             again: signctl breakglass status --operator-socket PATH"
                .to_owned(),
        ),
    }
}

/// Ends the seal. What began is finished, though the disk takes longer than whoever asked waits.
async fn unsealed(service: &Rc<Service>, reason: &str, by: &str) -> Answer {
    let reason = match one_line(reason) {
        Ok(reason) => reason,
        Err(why) => return refused(Reason::Invalid, why),
    };
    let by = here(by);
    let unsealing = spawn_local({
        let service = Rc::clone(service);
        async move { service.unseal(ID, &reason, &by).await }
    });
    match tokio::time::timeout(END_MAX, unsealing).await {
        Ok(Ok(Ok(unsealed))) => Answer::Unsealed(unsealed),
        Ok(Ok(Err(no))) => Answer::Refused(no),
        Ok(Err(_)) | Err(_) => refused(
            Reason::AuditUnavailable,
            "the signer's disk does not answer: it stays sealed until the end of the seal is recorded; look \
             again: signctl breakglass status --operator-socket PATH"
                .to_owned(),
        ),
    }
}

/// Accepts a proxy's log. What began is finished, though the disk takes longer than whoever asked waits.
async fn accepted(service: &Rc<Service>, reason: &str, by: &str) -> Answer {
    let reason = match one_line(reason) {
        Ok(reason) => reason,
        Err(why) => return refused(Reason::Invalid, why),
    };
    let by = here(by);
    let accepting = spawn_local({
        let service = Rc::clone(service);
        async move { service.accept_proxy(ID, &reason, &by).await }
    });
    match tokio::time::timeout(END_MAX, accepting).await {
        Ok(Ok(Ok(accepted))) => Answer::AcceptedProxy(accepted),
        Ok(Ok(Err(no))) => Answer::Refused(no),
        Ok(Err(_)) | Err(_) => refused(
            Reason::AuditUnavailable,
            "the signer's disk does not answer: the proxy stays refused until that is recorded; look again: \
             signctl breakglass status --operator-socket PATH"
                .to_owned(),
        ),
    }
}

/// Destroys a key, due or not. What began is finished, though whoever asked hangs up or the disk
/// takes longer: the key is refused before anything waits for the disk, and due until it is gone.
async fn destroyed(
    service: &Rc<Service>,
    (emergency_kid, attested): (String, Vec<Attested>),
    reason: &str,
    by: &str,
) -> Answer {
    let reason = match one_line(reason) {
        Ok(reason) => reason,
        Err(why) => return refused(Reason::Invalid, why),
    };
    let ask = Destroy { id: ID, emergency_kid, reason, attested, by: here(by) };
    let destroying = spawn_local({
        let service = Rc::clone(service);
        async move { service.destroy(AskedOver::Operator, ask).await }
    });
    match tokio::time::timeout(DESTROY_MAX, destroying).await {
        Ok(Ok(Ok(destroyed))) => Answer::Destroyed(destroyed),
        Ok(Ok(Err(no))) => Answer::Refused(no),
        Ok(Err(_)) | Err(_) => refused(
            Reason::AuditUnavailable,
            "the signer's disk does not answer, or an activation takes long: the destruction goes on, \
             and the key stays due until it is gone; look again: signctl breakglass status \
             --operator-socket PATH"
                .to_owned(),
        ),
    }
}

/// The proxy's word for who asked it is a claim; the kernel's is none, and the record says so.
fn here(by: &str) -> String {
    format!("{by}{AT_THE_OPERATOR_SOCKET}")
}

/// What only this socket says of whoever asks: records tell by it whose word that is.
pub(crate) const AT_THE_OPERATOR_SOCKET: &str = " at the operator socket";

fn one_line(reason: &str) -> Result<String, String> {
    let reason = reason.trim();
    let is_one_line = !reason.is_empty() && !reason.contains(char::is_control);
    if !is_one_line || reason.len() > REASON_MAX_BYTES {
        return Err(format!("\"reason\" must be one line of 1 to {REASON_MAX_BYTES} bytes"));
    }
    Ok(reason.to_owned())
}

fn refused(reason: Reason, detail: String) -> Answer {
    Answer::Refused(Refused { id: ID, reason, detail, record: None })
}

async fn say(stream: &mut UnixStream, answer: &impl Serialize) {
    let mut bytes = Vec::new();
    if wire::write(answer, &mut bytes).is_ok() {
        // Whoever asked may be gone.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&bytes)).await;
    }
}

/// Reads the one message of a peer: a length and a passphrase, or no length, then a length and
/// an [`Ask`] as JSON, and after [`Ask::Open`] a length and a passphrase.
///
/// # Errors
/// If it does not come whole, is longer than any, or is no ask.
pub async fn came(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<OperatorInput> {
    let first = stream.read_u32_le().await?;
    if first != NO_PASSPHRASE {
        let passphrase = exactly(stream, first, PASSPHRASE_MAX_BYTES).await?;
        return Ok(OperatorInput::Passphrase(passphrase));
    }
    let length = stream.read_u32_le().await?;
    let ask = exactly(stream, length, FRAME_MAX_BYTES).await?;
    match json::from_slice(&ask).map_err(io::Error::other)? {
        Ask::Open { emergency_kid } => {
            let length = stream.read_u32_le().await?;
            let passphrase = exactly(stream, length, PASSPHRASE_MAX_BYTES).await?;
            Ok(OperatorInput::Open(emergency_kid, passphrase))
        }
        ask => Ok(OperatorInput::Ask(ask)),
    }
}

/// As many bytes as that. They have their place from the start, so that no copy is left behind.
async fn exactly(
    stream: &mut (impl AsyncRead + Unpin),
    length: u32,
    most: usize,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(1..=most).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
