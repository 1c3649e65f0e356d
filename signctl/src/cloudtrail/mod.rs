//! KMS's own log (CloudTrail) held against the journals: did anybody sign around us? Decisions are in [`decide`],
//! without IO. Memory is bounded: what is compared is sorted on disk ([`sort`]), whatever its number.

pub mod call;
pub mod compare;
pub mod decide;
pub mod event;
pub mod keys;
pub mod read;
pub mod report;
pub mod sort;
