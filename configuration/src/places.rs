//! Where listeners stand, and what cannot stand there.

use std::net::SocketAddr;
use std::path::Path;

/// The longest path of a unix socket, in bytes: what `sun_path` holds before
/// its end mark (unix(7)).
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Why a unix socket cannot be at `path`, if it cannot.
pub(super) fn too_long_for_a_socket(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().len();
    (bytes > SOCKET_PATH_MAX_BYTES).then(|| {
        format!(
            "is {:?} with {bytes} bytes, expected at most {SOCKET_PATH_MAX_BYTES}, the limit of a \
             unix socket's path; name a shorter one",
            path.display().to_string()
        )
    })
}

/// Whether nobody can listen on both. Port 0 picks another one each time.
pub(super) fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let covers = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_family && covers
}
