//! Names of rows: a UUID that anybody can make again from the log and the record (RFC 9562, version 5).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use signing_core::tree::LogId;

/// The UUID of `name` in the namespace of `log`, whose 16 bytes are that namespace.
///
/// A record's row has its number as the name, in decimal.
#[must_use]
pub fn v5(log: LogId, name: &str) -> String {
    let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[log.as_bytes(), name.as_bytes()].concat());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hashed.as_ref()) {
        *to = *from;
    }
    written(bytes, 0x50)
}

/// A UUID by chance (RFC 9562, version 4): for what no record says.
#[must_use]
pub fn v4() -> String {
    let mut bytes = [0; 16];
    // Without chance all are alike, and a receiver drops too much: it says so by its silence, and this
    // library ends the process before that.
    let _ = rand::fill(&mut bytes);
    written(bytes, 0x40)
}

fn written(mut bytes: [u8; 16], of_version: u8) -> String {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | of_version;
    *variant = *variant & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_version_5_that_others_make() {
        // Python: uuid.uuid5(uuid.NAMESPACE_DNS, "python.org")
        let dns = LogId::new(*b"\x6b\xa7\xb8\x10\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8");
        assert_eq!(v5(dns, "python.org"), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    }
}
