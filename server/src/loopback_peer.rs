//! Whose socket is at the other end of a TCP connection over loopback. The kernel is asked by
//! sock_diag (sock_diag(7)), which answers for any process of the same network namespace.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `SOCK_DIAG_BY_FAMILY` of `<linux/sock_diag.h>`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of `<linux/netlink.h>`. Without `NLM_F_DUMP`: one socket, by its addresses.
const REQUEST: u16 = 1;
/// `struct nlmsghdr`, and `struct inet_diag_req_v2` of `<linux/inet_diag.h>`.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// `TCP_ESTABLISHED` of `<net/tcp_states.h>`.
const ESTABLISHED: u8 = 1;
/// Where `struct inet_diag_msg` has the state, the addresses, the uid and the inode.
const STATE: usize = HEADER_BYTES + 1;
const ADDRESSES: usize = HEADER_BYTES + 4;
const ADDRESSES_BYTES: usize = 36;
const UID: usize = HEADER_BYTES + 64;
const INODE: usize = HEADER_BYTES + 68;
const ANSWER_BYTES: usize = HEADER_BYTES + 72;

/// The uid of the process that made the socket `peer`, which is connected to `here`.
///
/// # Errors
/// If the kernel does not answer, or if that socket is not open any more: the kernel then says
/// uid 0, whoever it was.
pub(super) fn uid(peer: SocketAddr, here: SocketAddr) -> io::Result<u32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        flags,
        Some(SockProtocol::NetlinkSockDiag),
    )?;
    let request = request(peer, here);
    sendto(kernel.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 512];
    // It answers while it is asked, so nothing is waited for.
    let read = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    let answer = answer.get(..read).unwrap_or_default();
    let asked = request.get(HEADER_BYTES + 8..HEADER_BYTES + 8 + ADDRESSES_BYTES);
    uid_in(answer, asked.unwrap_or_default())
}

fn request(peer: SocketAddr, here: SocketAddr) -> Vec<u8> {
    let family = match peer {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    request.extend_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    request.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    // Family, protocol, no extensions, padding; every state.
    request.extend_from_slice(&[family as u8, SockProtocol::Tcp as u8, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&peer.port().to_be_bytes());
    request.extend_from_slice(&here.port().to_be_bytes());
    for address in [peer, here] {
        let mut bytes = [0; 16];
        match address {
            SocketAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.ip().octets()),
            SocketAddr::V6(v6) => bytes.copy_from_slice(&v6.ip().octets()),
        }
        request.extend_from_slice(&bytes);
    }
    // No interface, and no cookie: `INET_DIAG_NOCOOKIE`.
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request.extend_from_slice(&[0xff; 8]);
    request
}

/// The uid in the kernel's answer about the socket with those ports and addresses.
fn uid_in(answer: &[u8], asked: &[u8]) -> io::Result<u32> {
    let unknown = |why: &str| io::Error::new(io::ErrorKind::NotFound, why.to_owned());
    let number = |at: usize| {
        let bytes = answer.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let kind = answer.get(4..6);
    if kind != Some(&BY_FAMILY.to_ne_bytes()) || answer.len() < ANSWER_BYTES {
        return Err(unknown("the kernel knows no such socket"));
    }
    if answer.get(ADDRESSES..ADDRESSES + ADDRESSES_BYTES) != Some(asked) {
        return Err(unknown("the kernel answered for another socket"));
    }
    // A socket that its process has closed has no inode, and uid 0.
    let inode = number(INODE).filter(|inode| *inode != 0);
    let is_open = answer.get(STATE) == Some(&ESTABLISHED) && inode.is_some();
    match number(UID).filter(|_| is_open) {
        Some(uid) => Ok(uid),
        None => Err(unknown("the socket is not open any more")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn pair(listen: &str, connect: Option<&str>) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let mut to = listener.local_addr().unwrap();
        if let Some(connect) = connect {
            to.set_ip(connect.parse().unwrap());
        }
        let client = TcpStream::connect(to).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn asked(server: &TcpStream) -> io::Result<u32> {
        uid(server.peer_addr().unwrap(), server.local_addr().unwrap())
    }

    #[test]
    fn the_peer_is_who_made_its_socket() {
        let me = nix::unistd::Uid::effective().as_raw();
        for listen in ["127.0.0.1:0", "127.8.8.8:0", "[::1]:0"] {
            let (server, _client) = pair(listen, None);
            assert_eq!(asked(&server).unwrap(), me, "{listen}");
        }
    }

    #[test]
    fn a_socket_that_is_closed_is_nobodys() {
        let (server, client) = pair("127.0.0.1:0", None);
        drop(client);
        assert!(asked(&server).is_err(), "it waits for our end");
        let (server, client) = pair("127.0.0.1:0", None);
        client.shutdown(Shutdown::Write).unwrap();
        assert!(asked(&server).is_err(), "it is closed to one side");
        let (server, _client) = pair("127.0.0.1:0", None);
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(uid(nobody, server.local_addr().unwrap()).is_err(), "nobody is there");
    }

    #[test]
    fn an_answer_that_is_short_of_another_kind_or_about_another_socket_says_nothing() {
        let asked = [7; ADDRESSES_BYTES];
        let mut answer = [0; ANSWER_BYTES];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[STATE] = ESTABLISHED;
        answer[ADDRESSES..ADDRESSES + ADDRESSES_BYTES].copy_from_slice(&asked);
        answer[UID..UID + 4].copy_from_slice(&1000_u32.to_ne_bytes());
        answer[INODE] = 1;
        assert_eq!(uid_in(&answer, &asked).unwrap(), 1000);
        for length in 0..ANSWER_BYTES {
            assert!(uid_in(&answer[..length], &asked).is_err(), "{length} bytes");
        }
        for (at, value) in [(4, 2), (STATE, 6), (ADDRESSES, 8), (INODE, 0)] {
            let mut other = answer;
            other[at] = value;
            assert!(uid_in(&other, &asked).is_err(), "byte {at} is {value}");
        }
    }
}
