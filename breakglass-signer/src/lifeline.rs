//! A pipe that whoever started this process holds: when it closes, even by SIGKILL of the
//! holder, this process stops. It can only end it, never keep it going.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::unix::pipe::Receiver;

/// The end of the pipe that is here.
#[derive(Debug)]
pub struct Lifeline(OwnedFd);

impl Lifeline {
    /// Standard input.
    ///
    /// # Errors
    /// If it is closed already.
    pub fn of_stdin() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Returns once it is closed. To be called on a runtime.
    ///
    /// # Errors
    /// If it is no pipe.
    pub(crate) async fn closed(self) -> io::Result<()> {
        let pipe = Receiver::from_owned_fd(self.0).map_err(|error| {
            io::Error::other(format!("--while-stdin-open: standard input is no pipe: {error}"))
        })?;
        let mut ignored = [0; 64];
        loop {
            pipe.readable().await?;
            match pipe.try_read(&mut ignored) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
