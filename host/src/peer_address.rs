//! Where a connection comes from, as far as limits tell one peer from another.

use std::net::IpAddr;

/// An IPv4 address, the /64 that one IPv6 host can have to itself, or a user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// The whole address.
    V4([u8; 4]),
    /// The network: the first 64 bits.
    V6([u16; 4]),
    /// The user whose process made the other end, as the kernel says.
    User(u32),
}

impl PeerAddress {
    /// The address of a peer.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        // A listener on [::] shows IPv4 clients as IPv6 addresses (RFC 4291 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |address: &str| PeerAddress::of(address.parse().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "127.0.0.1", false),
        ] {
            assert_eq!(of(one) == of(other), same, "{one} and {other}");
        }
    }
}
