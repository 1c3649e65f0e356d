//! How much of what was written to a socket its peer has acknowledged. The rest is in the
//! kernel's send queue, and the kernel goes on delivering it whatever this process decides.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;

/// The state of a TCP connection that is over in both directions: nothing is sent any more.
const TCP_CLOSE: u8 = 7;

/// `struct tcp_info` of `<linux/tcp.h>` up to `tcpi_bytes_acked` (Linux 4.1), as numbers: whatever
/// the kernel writes there is one. So the option is as safe as those that nix has itself.
type Info = [u64; 16];

#[derive(Clone, Copy, Debug)]
struct TcpInfo;

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Info, GetStruct<Info>);

/// What a socket's peer has of what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// So many bytes are acknowledged.
    Bytes(u64),
    /// The connection is over: what was not delivered never will be.
    Closed,
}

/// Asks the kernel: one system call. A kernel that does not count (some sandboxes) answers 0,
/// which is less than was written: whoever asks takes that for not delivered.
pub(super) fn delivered(socket: &impl AsFd) -> io::Result<Delivered> {
    let info = getsockopt(socket, TcpInfo)?;
    let [first, .., bytes_acked] = info;
    let [state, ..] = first.to_ne_bytes();
    Ok(if state == TCP_CLOSE { Delivered::Closed } else { Delivered::Bytes(bytes_acked) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn eventually(socket: &TcpStream, wanted: Delivered) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while delivered(socket).unwrap() != wanted {
            assert!(Instant::now() < deadline, "{:?}, not {wanted:?}", delivered(socket));
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_the_peer_acknowledged_is_counted_to_the_byte() {
        let (mut server, mut client) = pair();
        eventually(&server, Delivered::Bytes(0));
        server.write_all(b"hello").unwrap();
        eventually(&server, Delivered::Bytes(5));
        server.set_nonblocking(true).unwrap();
        let mut written = 5;
        while let Ok(more) = server.write(&[0; 65_536]) {
            written += more as u64;
        }
        let Delivered::Bytes(acknowledged) = delivered(&server).unwrap() else { panic!("over") };
        assert!(
            acknowledged < written,
            "a peer that does not read has {acknowledged} of {written}"
        );
        let mut read = vec![0; usize::try_from(written).unwrap()];
        client.read_exact(&mut read).unwrap();
        eventually(&server, Delivered::Bytes(written));
    }

    #[test]
    fn a_connection_that_its_peer_reset_delivers_nothing_more() {
        let (mut server, client) = pair();
        server.write_all(b"unread").unwrap();
        eventually(&server, Delivered::Bytes(6));
        // Closed with bytes unread: a reset.
        drop(client);
        eventually(&server, Delivered::Closed);
    }
}
