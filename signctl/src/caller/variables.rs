//! The variables by which a caller says where the proxy is and who asks.

/// The proxy's address.
pub(super) const URL: &str = "SIGNING_PROXY_URL";
pub(super) const CA: &str = "SIGNING_PROXY_CA";
pub(super) const CERTIFICATE: &str = "SIGNING_PROXY_CLIENT_CERT";
pub(super) const KEY: &str = "SIGNING_PROXY_CLIENT_KEY";
/// The registry that answers have to verify under.
pub(super) const SIGNERS: &str = "SIGNCTL_SIGNERS";
/// The signer of who names none.
pub(super) const SIGNER: &str = "SIGNCTL_SIGNER";
