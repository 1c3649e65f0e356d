//! KMS's own log (CloudTrail) held against the journals: did anybody sign around us?

pub mod event;
pub mod read;
pub mod sort;
