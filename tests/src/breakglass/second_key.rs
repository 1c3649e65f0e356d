//! A signer that holds two emergency keys.

use std::fs;

use serde_json::json;

use super::{PASSPHRASE, SignerBuilder, succeeds};
use crate::programs::system;

impl SignerBuilder<'_> {
    /// Holds a second emergency key, `second`, in `second.pem`.
    #[must_use]
    pub fn second_key(mut self) -> Self {
        fs::create_dir_all(self.path("")).unwrap();
        let (key, passphrase) = (self.path("second.pem"), format!("pass:{PASSPHRASE}"));
        let mut openssl = system("openssl");
        openssl.args(["genpkey", "-algorithm", "ed25519", "-aes256", "-pass", &passphrase]);
        succeeds(openssl.arg("-out").arg(&key));
        let mut openssl = system("openssl");
        openssl.args(["pkey", "-pubout", "-passin", &passphrase, "-in"]).arg(&key);
        self.entries.push(json!({
            "signer_kid": "second", "algorithm": "ed25519", "purpose": "breakglass",
            "public_key_pem": String::from_utf8(succeeds(&mut openssl)).unwrap(),
        }));
        self.more.push_str("[[emergency_keys]]\nkid = \"second\"\nfile = \"second.pem\"\n");
        self
    }
}
