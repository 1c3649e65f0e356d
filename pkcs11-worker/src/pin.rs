//! The PIN: read from its file when it is used, wiped afterwards, never printed.

use std::io::Read as _;
use std::path::Path;

use cryptoki::types::AuthPin;
use signing_core::evidence::Fault;
use signing_core::worker::Login;
use zeroize::Zeroizing;

use crate::trouble::Trouble;

/// No PIN is longer, passwords of network HSMs included.
const PIN_MAX_BYTES: u64 = 1024;

/// Reads the PIN: the file's text without its last line end.
pub(crate) fn read(file: &Path) -> Result<AuthPin, Trouble> {
    let unusable = |why: String| {
        let detail = format!("pin_file {} {why}", file.display());
        Trouble { fault: Fault::KeyUnavailable, detail, login: Login::Pin }
    };
    let mut text = Zeroizing::new(String::with_capacity(PIN_MAX_BYTES as usize + 1));
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|file| file.take(PIN_MAX_BYTES + 1).read_to_string(&mut text));
    // By its number alone, since words of another library could quote what was read.
    read.map_err(|error| match error.raw_os_error().map(std::io::Error::from_raw_os_error) {
        Some(error) => unusable(format!("cannot be read: {error}; let the proxy's user read it")),
        None => unusable("is not UTF-8; write the PIN alone in it".to_owned()),
    })?;
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
