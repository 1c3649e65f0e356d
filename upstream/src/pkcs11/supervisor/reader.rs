//! The receiving end of a worker's socket.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use signing_core::worker::Frames;

/// How often deadlines are looked at: a call is cut so much later at most.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Bytes read from the worker at once.
const PIECE_BYTES: usize = 64 << 10;

/// Frames from the worker, never waiting for longer than a tick.
pub(super) struct Reader<'s> {
    socket: &'s UnixStream,
    frames: Frames,
    piece: Vec<u8>,
}

/// What a look at the socket gave.
pub(super) enum Filled {
    Some,
    Nothing,
    Ended,
}

impl<'s> Reader<'s> {
    pub(super) fn new(socket: &'s UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(TICK))?;
        Ok(Self { socket, frames: Frames::default(), piece: vec![0; PIECE_BYTES] })
    }

    pub(super) fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        self.frames.next_frame().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    pub(super) fn fill(&mut self) -> io::Result<Filled> {
        match self.socket.read(&mut self.piece) {
            Ok(0) => Ok(Filled::Ended),
            Ok(length) => {
                self.frames.extend(self.piece.get(..length).unwrap_or_default());
                Ok(Filled::Some)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(Filled::Nothing),
                _ => Err(error),
            },
        }
    }
}
