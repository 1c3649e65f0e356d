//! A passphrase from a person, who is not shown it, or from a pipe. Never from an argument
//! or a variable, which other processes can read.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::signals;

/// Longest passphrase.
pub const MAX_BYTES: usize = 1024;

/// Reads one line: from the terminal, without echo, after `prompt`; else from standard input. Signals
/// have to end the process ([`signals::Held::end_process`]), or they leave the terminal mute.
///
/// # Errors
/// If there is none, or it is empty or too long.
pub fn read(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock());
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    (&terminal).write_all(prompt.as_bytes())?;
    let watched = Watched::begin(&terminal)?;
    let hidden = Hidden::on(&terminal)?;
    let read = line(&mut &terminal);
    drop(hidden);
    drop(watched);
    // The person's own new line was not shown either.
    File::options().write(true).open("/dev/tty")?.write_all(b"\n")?;
    read
}

/// Reads one from a descriptor or file that is no terminal.
///
/// # Errors
/// As [`read`].
pub fn line(from: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Never grows, so that no copy is left behind in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let mut byte = Zeroizing::new([0_u8; 1]);
    while from.read(byte.as_mut_slice())? == 1 {
        let [typed] = *byte;
        if typed == b'\n' {
            break;
        }
        if text.len() == MAX_BYTES {
            return Err(io::Error::other(format!("a passphrase has at most {MAX_BYTES} bytes")));
        }
        text.push(typed);
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    if text.is_empty() {
        return Err(io::Error::other("the passphrase is empty"));
    }
    Ok(text)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Hidden<'t> {
    fn on(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// A signal that ends the process has the terminal restored first, until this is dropped: the shell
/// that the person comes back to shows what is typed.
struct Watched;

impl Watched {
    fn begin(terminal: &File) -> io::Result<Self> {
        let (terminal, before) = (terminal.try_clone()?, tcgetattr(terminal)?);
        signals::undo_before_end(move || {
            let _ = tcsetattr(&terminal, SetArg::TCSAFLUSH, &before);
        });
        Ok(Self)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        signals::nothing_to_undo();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_passphrase_without_its_end() {
        for (typed, expected) in [("open sesame\nmore", "open sesame"), ("x\r\n", "x"), ("y", "y")]
        {
            assert_eq!(line(&mut typed.as_bytes()).unwrap().as_slice(), expected.as_bytes());
        }
        for bad in ["", "\n", "\r\n"] {
            assert!(line(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(line(&mut "x".repeat(MAX_BYTES).as_bytes()).is_ok());
        assert!(line(&mut "x".repeat(MAX_BYTES + 1).as_bytes()).is_err());
    }
}
