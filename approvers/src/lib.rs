//! Who may approve: an OpenSSH `allowed_signers` file (ssh-keygen(1)), read once at start, and what its
//! people sign. The file is read more strictly than OpenSSH does: one principal a line, no wildcards, no
//! authorities, every key once.

mod file;
mod line;
mod pattern;
pub mod quorum;
mod settings;
pub mod spki;
pub mod sshsig;

pub use file::{Approver, Approvers, fingerprint};
pub use settings::Settings;
