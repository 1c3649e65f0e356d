//! What a test stands on: a scratch directory, an authority, a KMS.

use crate::breakglass::SignerBuilder;
use crate::kms::{Key, Kind, Kms};
use crate::pki::Pki;
use crate::proxy::ProxyBuilder;
use crate::scratch::Scratch;

/// The one caller of most tests.
pub const ALICE: &str = "spiffe://test/alice";

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

    /// A new one, and a P-256 key in its KMS: for [`Self::proxy_of`].
    #[must_use]
    pub fn one_signer() -> (Self, Key) {
        let world = Self::new();
        let key = world.kms.key(Kind::P256);
        (world, key)
    }

    /// A proxy whose one signer, `ec`, has that key, and whose one caller, [`ALICE`], may use it; to be configured
    /// further and started.
    #[must_use]
    pub fn proxy_of(&self, key: &Key) -> ProxyBuilder<'_> {
        self.proxy().signer("ec", key).caller(ALICE, &["ec"])
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
