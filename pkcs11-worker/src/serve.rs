//! Reads calls, signs on several threads, answers in any order, until the proxy hangs up.

use std::io::{self, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cryptoki::session::Session;
use host::limits;
use signing_core::evidence::Fault;
use signing_core::json;
use signing_core::worker::{
    Answered, Call, FRAME_MAX_BYTES, Failure, Leave, Start, Started, receive, send,
};

use crate::key::Key;
use crate::sign::sign;
use crate::token::{Proxy, Token};
use crate::token_error::TokenError;

/// Serves the proxy at the other end of `socket`.
pub(crate) fn serve(socket: &UnixStream) -> io::Result<()> {
    let mut input = BufReader::with_capacity(8 * FRAME_MAX_BYTES, socket.try_clone()?);
    let first = receive(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let start: Start = json::from_slice(&first).map_err(io::Error::other)?;
    // Before any of the library's code runs.
    if let Some(most) = start.files_max {
        limits::lower_files(most)?;
    }
    let mut proxy = Asked { socket, input: &mut input };
    let opened = Token::open(&start, &mut proxy).and_then(|token| {
        let threads = start.threads.max(1);
        let sessions: Vec<_> = (0..threads).map(|_| token.session()).collect::<Result<_, _>>()?;
        Ok((token, sessions))
    });
    let (token, sessions) = match opened {
        Ok(opened) => opened,
        Err(failed) => return say(socket, &failed.started()),
    };
    say(socket, &Started::Ready { spki_hex: hex::encode(&token.key.spki_der) })?;
    let worker = Worker {
        key: token.key.clone(),
        input: Mutex::new(input),
        output: Mutex::new(socket.try_clone()?),
        leaving: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let worker = &worker;
        let threads: Vec<_> =
            sessions.into_iter().map(|session| scope.spawn(move || worker.run(&session))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

/// The proxy, while the token is opened.
struct Asked<'a> {
    socket: &'a UnixStream,
    input: &'a mut BufReader<UnixStream>,
}

impl Proxy for Asked<'_> {
    fn may_log_in(&mut self) -> io::Result<Leave> {
        say(self.socket, &Started::LogsIn)?;
        // A proxy that refuses hangs up.
        let leave = receive(self.input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        json::from_slice(&leave).map_err(io::Error::other)
    }

    fn logged_in(&mut self) -> io::Result<()> {
        say(self.socket, &Started::LoggedIn)
    }
}

fn say(mut socket: &UnixStream, started: &Started) -> io::Result<()> {
    send(&mut socket, &serde_json::to_vec(started)?)
}

/// What the threads share. Whoever is free reads the next call itself, so that nothing is
/// handed from thread to thread.
struct Worker {
    key: Key,
    input: Mutex<BufReader<UnixStream>>,
    output: Mutex<UnixStream>,
    /// Signs nothing any more.
    leaving: AtomicBool,
}

impl Worker {
    /// One thread, with a session that nobody else uses.
    fn run(&self, session: &Session) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let frame = {
                // A panic under this lock leaves a stream that cannot be read: that ends it.
                let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
                receive(&mut *input)?
            };
            let Some(frame) = frame else { return Ok(()) };
            let call = Call::read(&frame).ok_or(io::ErrorKind::InvalidData)?;
            let result = if self.leaving.load(Ordering::Acquire) {
                Err(left())
            } else {
                sign(session, self.key.handle, self.key.kind, &call)
            };
            if result.as_ref().is_err_and(|failure| failure.last) {
                self.leaving.store(true, Ordering::Release);
            }
            buffer.clear();
            Answered { id: call.id, result }.write(&mut buffer);
            self.output.lock().unwrap_or_else(PoisonError::into_inner).write_all(&buffer)?;
        }
    }
}

/// What those are told who asked before they heard of it: certainly nothing was signed.
fn left() -> Failure {
    let detail = "not asked: another call found the token gone".to_owned();
    Failure { fault: Fault::Unavailable, detail, last: true }
}

impl From<TokenError> for io::Error {
    fn from(failed: TokenError) -> Self {
        Self::other(failed.detail)
    }
}
