//! What the emergency signer knows of this proxy's log, asked before anything of it is cut: a tail that the
//! signer heard of was on disk. It blocks, for a moment: there is no runtime yet.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use audit::Known;
use configuration::Config;
use signing_core::breakglass::wire::{self, Answer, Ask, FRAME_MAX_BYTES};
use signing_core::tree::LogId;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it knows. `None`: no signer is configured, it does not answer, or it does not know the log.
#[must_use]
pub fn known_of(config: &Config, log: LogId) -> Option<Known> {
    let socket = config.breakglass.signer_socket.as_deref()?;
    match ask(socket, &config.deployment, log) {
        Ok(known) => {
            let (log, head) = known?.parse()?;
            Some(Known { log, size: head.size, root: Some(head.root), by: "the emergency signer" })
        }
        Err(error) => {
            tracing::warn!(
                target: "audit", socket = %socket.display(), %error,
                "a torn write is about to be cut, and the emergency signer does not say what it knows of it"
            );
            None
        }
    }
}

fn ask(socket: &Path, deployment: &str, log: LogId) -> io::Result<Option<wire::JournalHead>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let hello = wire::Hello {
        id: 0,
        version: wire::VERSION,
        deployment: deployment.to_owned(),
        log: log.to_string(),
    };
    let mut bytes = Vec::new();
    wire::write(&Ask::Hello(hello), &mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)?;
    bytes.clear();
    // A frame and what is before it; one that comes byte by byte takes no longer than so many reads.
    let mut piece = [0; 4096];
    while bytes.len() <= FRAME_MAX_BYTES + wire::LENGTH_BYTES {
        if let Some((answer, _)) = wire::read(&bytes).map_err(io::Error::other)? {
            return match answer {
                Answer::Welcome(wire::Welcome { known, .. }) => Ok(known),
                Answer::Refused(wire::Refused { detail, .. }) => Err(io::Error::other(detail)),
                _ => Err(io::Error::other("it does not greet")),
            };
        }
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Err(io::Error::other("its answer is too long"))
}
