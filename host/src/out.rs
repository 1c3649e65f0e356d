//! What a program prints. Its reader may be gone, and the disk behind it may be full: both are
//! errors that say so, never a panic.
//!
//! - The text is what was asked for ([`show`]): without a reader the program ends quietly with
//!   status 141, as the shell says of a filter that SIGPIPE ended.
//! - The text reports what the exit status says too ([`report`]): without a reader the status is
//!   the one of what was done, so that `signctl freeze | true` says that it froze.
//! - The text exists nowhere else ([`deliver_json`]): without a reader that is an error.
//!
//! What does not fit on standard output is said on standard error, as far as that goes.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::journald::{self, Level};
use crate::signals;

/// The command line cannot be read: `EX_USAGE` of sysexits.h. clap's own is 2, which says of
/// `signctl gate` that the proxy is unhealthy.
pub const USAGE: u8 = 64;
/// Nobody reads what is printed: what a shell says of a process that SIGPIPE (13) ended.
const NO_READER: u8 = 128 + 13;
/// How long a full pipe of a reader that asked not to be waited for is left alone.
const FULL_PIPE: Duration = Duration::from_millis(5);

/// Why standard output did not take all of a text.
#[derive(Debug)]
pub enum Unprinted {
    /// Its reader is gone.
    NoReader,
    /// It cannot be written, such as to a full disk.
    Failed {
        /// What the system answered.
        error: io::Error,
        /// Whether the text reports something that is done all the same.
        done: bool,
    },
}

impl Display for Unprinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReader => write!(f, "standard output has no reader"),
            Self::Failed { error, done } => {
                write!(f, "standard output cannot be written: {error}")?;
                if *done { write!(f, "; what was asked for is done") } else { Ok(()) }
            }
        }
    }
}

impl Error for Unprinted {}

/// Prints `text` and a new line.
///
/// # Errors
/// [`Unprinted`].
pub fn show(text: &str) -> Result<(), Unprinted> {
    Stream::default().line(&text::lines(text))
}

/// Prints a JSON text and a new line.
///
/// # Errors
/// [`Unprinted`].
pub fn show_json(json: &impl Display) -> Result<(), Unprinted> {
    Stream::default().line(&text::json(&format!("{json:#}")))
}

/// Prints what became of something that is done. Nobody has to read it.
///
/// # Errors
/// [`Unprinted::Failed`]; standard error has the text then.
pub fn report(text: &str) -> Result<(), Unprinted> {
    done(show(text), &text::lines(text))
}

/// The same in JSON.
///
/// # Errors
/// [`Unprinted::Failed`]; standard error has the text then.
pub fn report_json(json: &impl Display) -> Result<(), Unprinted> {
    done(show_json(json), &text::json(&format!("{json:#}")))
}

/// Prints, in JSON, what was made and stands nowhere else.
///
/// # Errors
/// [`Unprinted::Failed`], also if there is no reader; standard error has the text then.
pub fn deliver_json(json: &impl Display) -> Result<(), Unprinted> {
    let shown = show_json(json).map_err(|unprinted| match unprinted {
        Unprinted::NoReader => {
            Unprinted::Failed { error: ErrorKind::BrokenPipe.into(), done: false }
        }
        failed @ Unprinted::Failed { .. } => failed,
    });
    done(shown, &text::json(&format!("{json:#}")))
}

fn done(shown: Result<(), Unprinted>, text: &str) -> Result<(), Unprinted> {
    match shown {
        Err(Unprinted::Failed { error, .. }) => {
            say(text);
            Err(Unprinted::Failed { error, done: true })
        }
        Err(Unprinted::NoReader) | Ok(()) => Ok(()),
    }
}

/// Says something on standard error. Nobody is left to tell if that fails.
pub fn say(text: &str) {
    let _ = write_all(&mut io::stderr(), format!("{}\n", text::lines(text)).as_bytes());
}

/// Says why a program failed: each line with its level, where systemd's journal reads.
fn say_error(text: &str) {
    if !journald::takes_stderr() {
        return say(text);
    }
    let lines = text::lines(text);
    let led = |line| format!("{}{line}\n", Level::Error.prefix());
    let _ = write_all(&mut io::stderr(), lines.lines().map(led).collect::<String>().as_bytes());
}

/// Shows something on standard error that the next text replaces, for a person at a terminal.
pub fn say_for_now(text: &str) {
    let _ = write_all(&mut io::stderr(), format!("\r\u{1b}[K{}", text::line(text)).as_bytes());
}

/// Prints lines as they come.
#[derive(Debug, Default)]
pub struct Stream {
    waiting: Vec<u8>,
}

/// So much is collected before it is written.
const COLLECTED_MAX_BYTES: usize = 64 * 1024;

impl Stream {
    /// Prints one line at once. It holds nothing hidden: see the crate `text`.
    ///
    /// # Errors
    /// [`Unprinted`].
    pub fn line(&mut self, line: &str) -> Result<(), Unprinted> {
        self.collect(line)?;
        self.flush()
    }

    /// Prints one line soon.
    ///
    /// # Errors
    /// [`Unprinted`].
    pub fn collect(&mut self, line: &str) -> Result<(), Unprinted> {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
        if self.waiting.len() < COLLECTED_MAX_BYTES { Ok(()) } else { self.flush() }
    }

    /// Prints what was collected.
    ///
    /// # Errors
    /// [`Unprinted`].
    pub fn flush(&mut self) -> Result<(), Unprinted> {
        let written = write_all(&mut raw_stdout(), &self.waiting);
        self.waiting.clear();
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Unprinted::NoReader,
            _ => Unprinted::Failed { error, done: false },
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "here is where errors of it are looked at")]
fn raw_stdout() -> io::Stdout {
    io::stdout()
}

/// Writes all of it. A terminal or a pipe that another program made non-blocking is waited for.
fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE),
            Err(error) => return Err(error),
        }
    }
    to.flush()
}

/// Ends the process: says why it failed, and leaves with the exit status.
pub fn end<E>(program: &str, ran: Result<ExitCode, E>) -> !
where
    E: Display + AsRef<dyn Error + Send + Sync>,
{
    let code = ended(program, ran);
    // The number in it has no other way out.
    let number = (0..=u8::MAX).find(|number| ExitCode::from(*number) == code);
    signals::leave(number.unwrap_or(1).into())
}

/// What a program ends with: says why it failed, and gives the exit status.
pub fn ended<E>(program: &str, ran: Result<ExitCode, E>) -> ExitCode
where
    E: Display + AsRef<dyn Error + Send + Sync>,
{
    let error = match ran {
        Ok(code) => return code,
        Err(error) => error,
    };
    let mut cause: Option<&dyn Error> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(Unprinted::NoReader) = error.downcast_ref() {
            return ExitCode::from(NO_READER);
        }
        cause = error.source();
    }
    say_error(&format!("{program}: {error:#}"));
    ExitCode::FAILURE
}

/// Prints help, or what is wrong with a command line; the exit status of that.
#[must_use]
pub fn usage(text: &str, is_mistake: bool) -> ExitCode {
    if is_mistake {
        say(text.trim_end());
        return ExitCode::from(USAGE);
    }
    match show(text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Unprinted::NoReader) => ExitCode::from(NO_READER),
        Err(failed) => {
            say(&failed.to_string());
            ExitCode::FAILURE
        }
    }
}
