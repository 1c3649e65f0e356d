//! Stderr without waiting, where it is a pipe: a short line goes in whole and at
//! once, or not at all, so that the thread that has it can write it itself.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use nix::fcntl::OFlag;

/// What a pipe takes whole or not at all (`PIPE_BUF` in pipe(7)).
const WHOLE_MAX_BYTES: usize = 4096;

/// The pipe behind stderr, opened once more: that it does not block is a property
/// of this opening alone, and whoever shares stderr does not notice.
#[derive(Debug)]
pub(crate) struct Pipe(File);

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// It is in the pipe.
    Whole,
    /// Nothing of it is: it would have had to wait.
    Nothing,
    /// It can not be written.
    Failed,
}

impl Pipe {
    /// None if stderr is no pipe, or may not be opened: not after the process has
    /// denied itself to others, unless by root.
    pub(crate) fn of_stderr() -> Option<Self> {
        const STDERR: &str = "/proc/self/fd/2";
        // Looked at first: opening a device may do things.
        if !std::fs::metadata(STDERR).ok()?.file_type().is_fifo() {
            return None;
        }
        let mut options = File::options();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        options.open(STDERR).ok().map(Self)
    }

    /// Writes one line.
    pub(crate) fn write(&self, line: &[u8]) -> Wrote {
        if line.len() > WHOLE_MAX_BYTES {
            return Wrote::Nothing;
        }
        match (&self.0).write(line) {
            Ok(written) if written == line.len() => Wrote::Whole,
            // Not what pipes do; the line is broken, and nobody may rely on it.
            Ok(_) => Wrote::Failed,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Wrote::Nothing,
                _ => Wrote::Failed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use nix::sys::stat::Mode;

    use super::*;

    fn pipe() -> (File, Pipe) {
        let name =
            format!("signing-proxy-pipe-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let open = |options: &mut std::fs::OpenOptions| {
            options.custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap()
        };
        let reader = open(File::options().read(true));
        let writer = open(File::options().write(true));
        std::fs::remove_file(&path).unwrap();
        (reader, Pipe(writer))
    }

    #[test]
    fn a_full_pipe_takes_nothing_of_a_line_and_later_takes_it_whole() {
        let (mut reader, pipe) = pipe();
        let line = [b'x'; 1000];
        let mut lines = 0;
        while pipe.write(&line) == Wrote::Whole {
            lines += 1;
        }
        assert_eq!(pipe.write(&line), Wrote::Nothing);
        let mut read = vec![0; lines * line.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(reader.read(&mut [0]).is_err(), "whole lines and no byte more");
        assert_eq!(pipe.write(&line), Wrote::Whole);
    }

    #[test]
    fn a_line_that_a_pipe_may_tear_is_not_written_here() {
        let (_reader, pipe) = pipe();
        assert_eq!(pipe.write(&[b'x'; WHOLE_MAX_BYTES + 1]), Wrote::Nothing);
        assert_eq!(pipe.write(&[b'x'; WHOLE_MAX_BYTES]), Wrote::Whole);
    }

    #[test]
    fn a_pipe_that_nobody_reads_can_not_be_written() {
        let (reader, pipe) = pipe();
        drop(reader);
        assert_eq!(pipe.write(b"line\n"), Wrote::Failed);
    }
}
