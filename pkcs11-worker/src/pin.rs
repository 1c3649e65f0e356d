//! The PIN: read from its file when it is used, wiped afterwards, never printed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use cryptoki::types::AuthPin;
use host::files;
use signing_core::evidence::Fault;
use signing_core::worker::{Leave, Login};
use zeroize::Zeroizing;

use crate::token_error::TokenError;

/// No PIN is longer, passwords of network HSMs included.
const PIN_MAX_BYTES: u64 = 1024;

/// Reads the PIN: the file's text without its last line end. Only of the file that `leave` names:
/// one that is written at this moment would bring one PIN to the token twice.
pub(crate) fn read(file: &Path, leave: Leave) -> Result<AuthPin, TokenError> {
    let unchanged = |opened: &File| {
        let now = opened.metadata().ok().as_ref().map(files::identity);
        let detail = || format!("pin_file {} is being written; it is read again", file.display());
        let written = || TokenError::key(detail());
        (now == leave.pin_file).then_some(()).ok_or_else(written)
    };
    let unusable = |why: String| {
        let detail = format!("pin_file {} {why}", file.display());
        TokenError { fault: Fault::KeyUnavailable, detail, login: Login::Pin }
    };
    let mut text = Zeroizing::new(String::with_capacity(PIN_MAX_BYTES as usize + 1));
    let opened = File::open(file);
    opened.as_ref().map_or(Ok(()), unchanged)?;
    let read = opened.and_then(|opened| {
        (&opened).take(PIN_MAX_BYTES + 1).read_to_string(&mut text)?;
        Ok(opened)
    });
    // By its number alone, since words of another library could quote what was read.
    let opened =
        read.map_err(|error| match error.raw_os_error().map(std::io::Error::from_raw_os_error) {
            Some(error) => {
                unusable(format!("cannot be read: {error}; let the proxy's user read it"))
            }
            None => unusable("is not UTF-8; write the PIN alone in it".to_owned()),
        })?;
    unchanged(&opened)?;
    let pin = text.strip_suffix('\n').map_or(text.as_str(), |line| line.trim_end_matches('\r'));
    match pin.len() {
        0 => Err(unusable("is empty; write the PIN of the token's user in it".to_owned())),
        // It would be counted as a wrong one: several lines, UTF-16, a byte order mark.
        _ if pin.starts_with('\u{feff}') || pin.contains(char::is_control) => Err(unusable(
            "holds a byte order mark, several lines or other control characters, so that no PIN is \
             tried; write the PIN alone in it, as one line of UTF-8"
                .to_owned(),
        )),
        length if length as u64 > PIN_MAX_BYTES => {
            Err(unusable(format!("is longer than {PIN_MAX_BYTES} bytes, so it holds no PIN")))
        }
        _ => Ok(AuthPin::from(pin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_of_the_file_that_was_seen_and_of_no_other() {
        let file = std::env::temp_dir().join(format!("pin-{}", std::process::id()));
        let leave = || Leave { pin_file: file.metadata().ok().as_ref().map(files::identity) };
        let login = |leave| read(&file, leave).map(drop).map_err(|failed| failed.login);
        let missing = leave();
        assert_eq!(login(missing), Err(Login::Pin));
        std::fs::write(&file, "").unwrap();
        let empty = leave();
        assert_eq!(login(missing), Err(Login::Other));
        assert_eq!(login(empty), Err(Login::Pin));
        // Seen between the two steps of a shell's `>`.
        std::fs::write(&file, "1234\n").unwrap();
        assert_eq!(login(empty), Err(Login::Other));
        assert_eq!(login(leave()), Ok(()));
        std::fs::remove_file(&file).unwrap();
    }
}
