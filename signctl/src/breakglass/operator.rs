//! The emergency signer's own socket: what is asked there passes no proxy, and is answered though the
//! proxy hangs, lies or is gone.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use serde::de::DeserializeOwned;
use signing_core::admin::breakglass::{
    Destroy, Destroyed, End, Ended, NotDone, ProxyAccepted, SignerUnsealed, UndoneCommand,
};
use signing_core::breakglass::wire::operator::{Ask, NO_PASSPHRASE, Unlocked};
use signing_core::breakglass::wire::{self, Answer, Refused, SessionState, State, Stated};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::client::{CONFLICT, Reply};

/// A signer that does not answer in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A key's file may ask for as much work as this takes.
const OPENING_MAX: Duration = Duration::from_secs(60);
/// As the proxy's admin socket says it.
const OK: u16 = 200;
const ROOT: u32 = 0;

/// What the signer itself holds: a part of the proxy's own answer, with the session as the signer has it.
#[derive(Serialize)]
struct Held {
    configured: bool,
    deployment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionState>,
    signer: State,
}

/// What the signer itself holds.
pub(super) fn status(socket: &Path) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::Status {})? {
        Answer::Status(Stated { state: signer, .. }) => {
            let (deployment, session) = (signer.deployment.clone(), signer.session.clone());
            Reply::of(OK, &Held { configured: true, deployment, session, signer })
        }
        other => unexpected(other),
    }
}

/// What the signer's clock shows.
pub(super) fn clock(socket: &Path) -> anyhow::Result<OffsetDateTime> {
    match ask(socket, &Ask::Clock {})? {
        Answer::Clock(wire::Clock { now, .. }) => OffsetDateTime::parse(&now, &Rfc3339)
            .with_context(|| format!("the emergency signer's clock shows {now:?}")),
        Answer::Refused(Refused { detail, .. }) => bail!("the emergency signer: {detail}"),
        _ => bail!("the emergency signer answered something else; run the same release of both"),
    }
}

/// All that the signer says of itself.
pub(super) fn state(socket: &Path) -> anyhow::Result<State> {
    match ask(socket, &Ask::Status {})? {
        Answer::Status(Stated { state, .. }) => Ok(state),
        Answer::Refused(Refused { detail, .. }) => bail!("the emergency signer: {detail}"),
        _ => bail!("the emergency signer answered something else; run the same release of both"),
    }
}

/// Whether the passphrase opens the key: the signer opens the key once and wipes it. The inner error is the
/// signer's reason and sentence.
pub(super) fn open(
    socket: &Path,
    kid: &str,
    passphrase: &[u8],
) -> anyhow::Result<Result<(), (String, String)>> {
    let length = u32::try_from(passphrase.len())?.to_le_bytes();
    let mut asked = NO_PASSPHRASE.to_le_bytes().to_vec();
    wire::write(&Ask::Open { emergency_kid: kid.to_owned() }, &mut asked)?;
    let mut frame =
        Zeroizing::new(Vec::with_capacity(asked.len() + length.len() + passphrase.len()));
    frame.extend_from_slice(&asked);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(passphrase);
    match entrust(socket, &frame)? {
        Answer::Opened(_) => Ok(Ok(())),
        Answer::Refused(Refused { reason, detail, .. }) => {
            Ok(Err((reason.word().to_owned(), detail)))
        }
        _ => bail!("the emergency signer answered something else; run the same release of both"),
    }
}

/// Has the signer end its session.
pub(super) fn end(socket: &Path, End { reason }: End) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::End { reason })? {
        Answer::Ended(wire::Ended { session, record, destruction_due, .. }) => {
            let ended = Ended {
                ended: true,
                session,
                destruction_due: Some(destruction_due),
                signer_record: Some(record.to_text()),
                ..Ended::default()
            };
            Reply::of(OK, &ended)
        }
        Answer::Refused(refused) => not_done(UndoneCommand::Ended(false), refused),
        other => unexpected(other),
    }
}

/// Has the signer end its seal.
pub(super) fn unseal(socket: &Path, reason: &str) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::Unseal { reason: reason.to_owned() })? {
        Answer::Unsealed(wire::Unsealed { sealed_for, record, .. }) => {
            let signer_record = record.to_text();
            Reply::of(OK, &SignerUnsealed { unsealed: true, sealed_for, signer_record })
        }
        other => unexpected(other),
    }
}

/// Has the signer accept the proxy that it refuses for its log.
pub(super) fn accept_proxy(socket: &Path, reason: &str) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::AcceptProxy { reason: reason.to_owned() })? {
        Answer::AcceptedProxy(wire::AcceptedProxy { proxy, record, .. }) => {
            let wire::RefusedProxy { instance, head, known, why } = proxy;
            let signer_record = record.to_text();
            let accepted =
                ProxyAccepted { accepted: true, instance, head, known, why, signer_record };
            Reply::of(OK, &accepted)
        }
        other => unexpected(other),
    }
}

/// Has the signer destroy a key, due or not.
pub(super) fn destroy(socket: &Path, asked: Destroy) -> anyhow::Result<Reply> {
    let Destroy { emergency_kid, reason, attested } = asked;
    match ask(socket, &Ask::Destroy { emergency_kid, reason, attested })? {
        Answer::Destroyed(wire::Destroyed {
            emergency_kid,
            overwritten,
            copies_left,
            record,
            ..
        }) => {
            let signer_record = record.to_text();
            let destroyed = true;
            Reply::of(
                OK,
                &Destroyed { destroyed, emergency_kid, overwritten, copies_left, signer_record },
            )
        }
        Answer::Refused(refused) => not_done(UndoneCommand::Destroyed(false), refused),
        other => unexpected(other),
    }
}

fn not_done(what: UndoneCommand, Refused { reason, detail, .. }: Refused) -> anyhow::Result<Reply> {
    Reply::of(CONFLICT, &NotDone { what, reason: reason.into(), detail })
}

fn ask(socket: &Path, ask: &Ask) -> anyhow::Result<Answer> {
    let mut frame = NO_PASSPHRASE.to_le_bytes().to_vec();
    wire::write(ask, &mut frame)?;
    exchange(socket, &frame)
}

/// Sends one frame, and reads the one that answers it.
fn exchange<T: DeserializeOwned>(socket: &Path, frame: &[u8]) -> anyhow::Result<T> {
    converse(connect(socket)?, socket, frame, TIMEOUT)
}

/// The same with a secret, which whoever listens there gets to see: the kernel says who that is.
pub(super) fn entrust<T: DeserializeOwned>(socket: &Path, frame: &[u8]) -> anyhow::Result<T> {
    let stream = connect(socket)?;
    let peer = getsockopt(&stream, PeerCredentials).context("the operator socket's peer")?.uid();
    let directory = socket.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let owner = std::fs::metadata(directory)
        .with_context(|| format!("the operator socket's directory {}", directory.display()))?
        .uid();
    if peer != ROOT && peer != owner {
        bail!(
            "nothing was sent: at {} listens uid {peer}, and neither root nor uid {owner}, whom its \
             directory belongs to; is that breakglass-signer?",
            socket.display()
        );
    }
    converse(stream, socket, frame, OPENING_MAX)
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| {
        format!(
            "the operator socket {} does not answer; is breakglass-signer running, is \
             --operator-socket (or SIGNCTL_OPERATOR_SOCKET) right, may this user open it?",
            socket.display()
        )
    })
}

fn converse<T: DeserializeOwned>(
    mut stream: UnixStream,
    socket: &Path,
    frame: &[u8],
    timeout: Duration,
) -> anyhow::Result<T> {
    let shown = socket.display();
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let closed = || {
        format!(
            "{shown} closed the connection to {}; operator.allowed_uids of the emergency signer says \
             who may use it; if this user may, its other connections took the place: run it again",
            host::user::ourselves()
        )
    };
    stream.write_all(frame).with_context(closed)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(wire::FRAME_MAX_BYTES + wire::LENGTH_BYTES)?;
    let read = stream.take(limit).read_to_end(&mut bytes);
    match read {
        Ok(0) => bail!(closed()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bail!(
            "{shown} gave no answer within {} s: breakglass-signer hangs; what was asked may still \
             take effect; stopping the process ends a session and wipes its key",
            timeout.as_secs()
        ),
        Err(error) => return Err(error).with_context(closed),
    }
    match wire::read(&bytes) {
        Ok(Some((answer, _))) => Ok(answer),
        // Whatever is asked, what it cannot read is refused as a passphrase is.
        _ => match wire::read::<Unlocked>(&bytes) {
            Ok(Some((Unlocked { detail, .. }, _))) => bail!("the emergency signer: {detail}"),
            _ => bail!(
                "{shown} gave an answer that cannot be read; does breakglass-signer of the same release listen there?"
            ),
        },
    }
}

fn unexpected(answer: Answer) -> anyhow::Result<Reply> {
    match answer {
        Answer::Refused(Refused { detail, .. }) => bail!("the emergency signer: {detail}"),
        _ => bail!("the emergency signer answered something else; run the same release of both"),
    }
}
