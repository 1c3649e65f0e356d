//! Listeners: the limits of those for metrics and health, which anybody may reach, and what to do about an address that
//! cannot be listened on.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// How long a connection may take, with its answer.
pub const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// How long the head of its request may take.
pub const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long that head may be, in bytes. A longer one gets no answer but 431.
pub const HEAD_MAX_BYTES: usize = 16_384;
/// The pause after the system gave no connection.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The fix for what the system answered of an IPv6 or an IPv4 address, or nothing if there is no fix to name.
#[must_use]
pub fn fix(is_ipv6: bool, error: &io::Error) -> &'static str {
    let errno = error.raw_os_error().map(Errno::from_raw);
    match errno {
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) if is_ipv6 => {
            "; this machine has no IPv6, or not this address: name an IPv4 address, or turn IPv6 on"
        }
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => {
            "; this machine has no IPv4, or not this address: name an address that it has (ip address), such as [::]"
        }
        Some(Errno::EADDRINUSE) => {
            "; another process listens there (ss -ltnp): stop it, or name another port"
        }
        Some(Errno::EACCES) => "; a port below 1024 needs CAP_NET_BIND_SERVICE: name a higher port",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_fix() {
        for (is_ipv6, errno, expected) in [
            (true, Errno::EADDRNOTAVAIL, "no IPv6"),
            (true, Errno::EAFNOSUPPORT, "no IPv6"),
            (false, Errno::EADDRNOTAVAIL, "no IPv4"),
            (false, Errno::EADDRINUSE, "ss -ltnp"),
            (false, Errno::EACCES, "CAP_NET_BIND_SERVICE"),
        ] {
            let said = fix(is_ipv6, &errno.into());
            assert!(said.contains(expected), "{errno}: {said}");
        }
        assert_eq!(fix(true, &io::Error::other("odd")), "");
    }
}
