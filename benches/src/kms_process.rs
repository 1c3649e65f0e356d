//! The KMS for tests, in a process of its own.

use serde_json::{Value, json};
use system_tests::{Kind, Kms};

use crate::parts::Curve;

/// A key in it.
#[derive(Clone, Debug)]
pub struct KmsKey {
    /// Its id.
    pub id: String,
    /// PEM `PUBLIC KEY`.
    pub public_key_pem: String,
}

/// What it says about itself.
#[derive(Clone, Debug)]
pub struct KmsAt {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// An Ed25519 key.
    pub ed25519: KmsKey,
    /// Another one.
    pub by_sdk: KmsKey,
    /// A P-256 key.
    pub p256: KmsKey,
}

/// Serves until it is killed. Says where, and with which keys, in one line.
pub fn serve() {
    let kms = Kms::start();
    let key = |kind| {
        let key = kms.key(kind);
        json!({"id": key.id, "public_key_pem": key.public_key_pem})
    };
    let (ed25519, by_sdk, p256) = (key(Kind::Ed25519), key(Kind::Ed25519), key(Kind::P256));
    let said = json!({
        "endpoint": kms.endpoint, "ed25519": ed25519, "by_sdk": by_sdk, "p256": p256
    });
    println!("{said}");
    loop {
        std::thread::park();
    }
}

impl KmsAt {
    /// Reads that line.
    #[must_use]
    pub fn read(line: &Value) -> Option<Self> {
        let key = |name: &str| {
            let key = line.get(name)?;
            let text = |field: &str| key.get(field)?.as_str().map(str::to_owned);
            Some(KmsKey { id: text("id")?, public_key_pem: text("public_key_pem")? })
        };
        Some(Self {
            endpoint: line.get("endpoint")?.as_str()?.to_owned(),
            ed25519: key("ed25519")?,
            by_sdk: key("by_sdk")?,
            p256: key("p256")?,
        })
    }

    /// Its key of that kind.
    #[must_use]
    pub fn key(&self, curve: Curve) -> &KmsKey {
        match curve {
            Curve::Ed25519 => &self.ed25519,
            Curve::P256 => &self.p256,
        }
    }
}
