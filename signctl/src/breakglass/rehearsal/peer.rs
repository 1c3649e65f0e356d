//! The proxy's side of the wire to an emergency signer, as far as a rehearsal needs it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use signing_core::breakglass::wire::{self, Answer, Ask, Refused};

/// Opening a key may take as much work as its file says.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection to the socket that is a proxy's.
pub(super) struct Peer {
    stream: UnixStream,
    unread: Vec<u8>,
    asked: u64,
}

impl Peer {
    pub(super) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, unread: Vec::new(), asked: 0 })
    }

    /// Asks, and waits for the answer; a refusal is an error with the signer's own sentence.
    pub(super) fn ask(&mut self, ask: impl FnOnce(u64) -> Ask) -> anyhow::Result<Answer> {
        match self.answer(ask)? {
            Answer::Refused(Refused { reason, detail, .. }) => {
                Err(anyhow!("{}: {detail}", reason.word()))
            }
            answer => Ok(answer),
        }
    }

    /// The word of the refusal that is expected.
    pub(super) fn refused(&mut self, ask: impl FnOnce(u64) -> Ask) -> anyhow::Result<String> {
        match self.answer(ask)? {
            Answer::Refused(Refused { reason, .. }) => Ok(reason.word().to_owned()),
            _ => bail!("it was not refused"),
        }
    }

    fn answer(&mut self, ask: impl FnOnce(u64) -> Ask) -> anyhow::Result<Answer> {
        self.asked += 1;
        let mut frame = Vec::new();
        wire::write(&ask(self.asked), &mut frame)?;
        self.stream.write_all(&frame)?;
        let mut piece = [0; 4096];
        loop {
            while let Some((answer, bytes)) = wire::read::<Answer>(&self.unread)? {
                self.unread.drain(..bytes);
                // Told to whoever activated, before the answer to an end.
                if !matches!(answer, Answer::SessionEnded(_)) {
                    return Ok(answer);
                }
            }
            match self.stream.read(&mut piece)? {
                0 => bail!("the rehearsal's signer closed the connection"),
                count => self.unread.extend_from_slice(piece.get(..count).unwrap_or_default()),
            }
        }
    }
}
