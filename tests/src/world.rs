//! What a test stands on: a scratch directory, an authority, a KMS.

use crate::breakglass::SignerBuilder;
use crate::kms::Kms;
use crate::pki::Pki;
use crate::proxy::ProxyBuilder;
use crate::scratch::Scratch;

/// A scratch directory, an authority and a KMS.
#[derive(Debug)]
pub struct World {
    /// Where files go.
    pub scratch: Scratch,
    /// Who issues certificates.
    pub pki: Pki,
    /// Who signs.
    pub kms: Kms,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self { scratch: Scratch::new(), pki: Pki::new(), kms: Kms::start() }
    }

    /// An emergency signer in this world, to be configured and started.
    #[must_use]
    pub fn signer(&self) -> SignerBuilder<'_> {
        SignerBuilder::new(&self.scratch)
    }

    /// A proxy in this world, to be configured and started.
    #[must_use]
    pub fn proxy(&self) -> ProxyBuilder<'_> {
        ProxyBuilder::new(self)
    }
}
