//! The sending end of a worker's socket. It never waits, so that whoever asks can send by
//! itself: what the socket does not take leaves with what comes next.

use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

/// Where calls leave. Dropping it tells the worker that no more will come: it answers what
/// it has, and ends.
#[derive(Debug)]
pub(super) struct Line {
    socket: UnixStream,
    /// Frames, the first perhaps half sent. Bounded by the calls that may be with the worker.
    unsent: Vec<u8>,
}

impl Line {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, unsent: Vec::new() }
    }

    /// Where frames are put to be sent.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Sends what the socket takes. The rest waits for the next time: a full socket holds calls
    /// without answers, and each answer is such a time.
    pub(super) fn send(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), rest, flags) {
                Ok(bytes) => sent += bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    // Whatever it was, whoever reads sees the end too.
                    let _ = self.socket.shutdown(Shutdown::Both);
                    sent = self.unsent.len();
                }
            }
        }
        self.unsent.drain(..sent);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_a_full_socket_does_not_take_leaves_later_and_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut line = Line::new(ours);
        let wanted: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
        line.frames().extend_from_slice(&wanted);
        let (mut got, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        let mut turns = 0;
        while got.len() < wanted.len() {
            line.send();
            while let Ok(length) = theirs.read(&mut piece) {
                got.extend_from_slice(&piece[..length]);
            }
            turns += 1;
        }
        assert!(got == wanted && turns > 1, "{turns} turns");
        drop(line);
        assert_eq!(theirs.read(&mut piece).unwrap(), 0, "the worker learns that no more comes");
    }

    #[test]
    fn a_worker_that_is_gone_takes_everything() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut line = Line::new(ours);
        line.frames().extend_from_slice(b"call");
        line.send();
        assert!(line.frames().is_empty());
    }
}
