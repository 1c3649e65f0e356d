//! The emergency signer's own socket: what is asked there passes no proxy, and is answered though the
//! proxy hangs, lies or is gone.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::DeserializeOwned;
use serde_json::json;
use signing_core::breakglass::wire::operator::{Ask, NO_PASSPHRASE, Unlocked};
use signing_core::breakglass::wire::{self, Answer, Destroyed, Ended, Refused, Stated};

use crate::client::Reply;

/// A signer that does not answer in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);
/// As the proxy's admin socket says it.
const OK: u16 = 200;
const CONFLICT: u16 = 409;
const ROOT: u32 = 0;

/// What the signer itself holds, in the shape of the proxy's own answer.
pub(super) fn status(socket: &Path) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::Status {})? {
        Answer::Status(Stated { state, .. }) => {
            let mut body = json!({"configured": true, "deployment": state.deployment});
            if let (Some(body), Some(session)) = (body.as_object_mut(), &state.session) {
                body.insert("session".to_owned(), json!(session));
            }
            if let Some(body) = body.as_object_mut() {
                body.insert("signer".to_owned(), json!(state));
            }
            Ok(Reply { status: OK, body })
        }
        other => unexpected(other),
    }
}

/// Has the signer end its session.
pub(super) fn end(socket: &Path, reason: &str) -> anyhow::Result<Reply> {
    match ask(socket, &Ask::End { reason: reason.to_owned() })? {
        Answer::Ended(Ended { session, record, destruction_due, .. }) => {
            let body = json!({
                "ended": true, "session": session, "destruction_due": destruction_due,
                "signer_record": record.to_text(),
            });
            Ok(Reply { status: OK, body })
        }
        Answer::Refused(Refused { reason, detail, .. }) => {
            let body = json!({"ended": false, "reason": reason.word(), "detail": detail});
            Ok(Reply { status: CONFLICT, body })
        }
        other => unexpected(other),
    }
}

/// Has the signer destroy a key, due or not.
pub(super) fn destroy(socket: &Path, kid: &str, reason: &str) -> anyhow::Result<Reply> {
    let destroy = Ask::Destroy { emergency_kid: kid.to_owned(), reason: reason.to_owned() };
    match ask(socket, &destroy)? {
        Answer::Destroyed(Destroyed { emergency_kid, overwritten, record, .. }) => {
            let body = json!({
                "destroyed": true, "emergency_kid": emergency_kid, "overwritten": overwritten,
                "signer_record": record.to_text(),
            });
            Ok(Reply { status: OK, body })
        }
        Answer::Refused(Refused { reason, detail, .. }) => {
            let body = json!({"destroyed": false, "reason": reason.word(), "detail": detail});
            Ok(Reply { status: CONFLICT, body })
        }
        other => unexpected(other),
    }
}

fn ask(socket: &Path, ask: &Ask) -> anyhow::Result<Answer> {
    let mut frame = NO_PASSPHRASE.to_le_bytes().to_vec();
    wire::write(ask, &mut frame)?;
    exchange(socket, &frame)
}

/// Sends one frame, and reads the one that answers it.
fn exchange<T: DeserializeOwned>(socket: &Path, frame: &[u8]) -> anyhow::Result<T> {
    converse(connect(socket)?, socket, frame)
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
    converse(stream, socket, frame)
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| {
        format!(
            "the operator socket {} does not answer; is breakglass-signer running, is \
             --operator-socket right, may this user open it?",
            socket.display()
        )
    })
}

fn converse<T: DeserializeOwned>(
    mut stream: UnixStream,
    socket: &Path,
    frame: &[u8],
) -> anyhow::Result<T> {
    let shown = socket.display();
    stream.set_read_timeout(Some(TIMEOUT))?;
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
            TIMEOUT.as_secs()
        ),
        Err(error) => return Err(error).with_context(closed),
    }
    match wire::read(&bytes) {
        Ok(Some((answer, _))) => Ok(answer),
        // Whatever is asked, what it cannot read is refused as a passphrase is.
        _ => match wire::read::<Unlocked>(&bytes) {
            Ok(Some((Unlocked { detail, .. }, _))) => bail!("the emergency signer: {detail}"),
            _ => bail!(
                "{shown} gave an answer that is none; is it breakglass-signer's, of the same release?"
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
