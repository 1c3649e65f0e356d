//! What the machine lacks for a moment. It says nothing about the file that was asked for, so
//! nobody may judge a file by it.

use std::io;

use nix::errno::Errno;

/// What is lacking, and what to do about it; None if the error is another one.
#[must_use]
pub fn of(error: &io::Error) -> Option<String> {
    let what = match error.raw_os_error().map(Errno::from_raw)? {
        Errno::EMFILE => {
            "the process has no file descriptor left; raise LimitNOFILE (systemd) or ulimit -n, or \
             close connections"
        }
        Errno::ENFILE => {
            "the machine has no file descriptor left; raise fs.file-max, or find the process that \
             holds them"
        }
        Errno::ENOMEM => {
            "the kernel has no memory left for it; add memory, or find the process that holds it"
        }
        _ => return None,
    };
    Some(format!("{error}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lacking_for_a_moment_is_a_shortage() {
        for (errno, says) in [
            (Errno::EMFILE, Some("LimitNOFILE")),
            (Errno::ENFILE, Some("fs.file-max")),
            (Errno::ENOMEM, Some("memory")),
            (Errno::EIO, None),
            (Errno::EACCES, None),
            (Errno::ENOENT, None),
            (Errno::ENOSPC, None),
        ] {
            let said = of(&io::Error::from_raw_os_error(errno as i32));
            assert_eq!(said.is_some(), says.is_some(), "{errno}");
            assert!(said.is_none_or(|said| said.contains(says.unwrap_or_default())), "{errno}");
        }
        assert_eq!(of(&io::Error::other("another")), None);
    }
}
