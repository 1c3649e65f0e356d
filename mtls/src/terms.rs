//! What every check of a certificate or a list shares: the algorithms, and the time as webpki has it.

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

/// The algorithms of signatures on certificates and lists.
pub(super) fn known_algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

pub(super) fn unix(at: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
