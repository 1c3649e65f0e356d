//! A client of `signer.sock` as a proxy is one: it says hello and shows its log.

use std::fs;

use serde_json::{Value, json};

use super::{Signer, SignerBuilder, Wire, checkpoint, proxy_head};
use crate::audit_key::audit_entry;

impl Signer<'_> {
    /// A proxy that said hello and showed its log.
    pub async fn connect(&self) -> Wire {
        self.try_connect().await.unwrap_or_else(|| panic!("the signer is gone"))
    }

    /// The same, of a signer that may be struck at any moment; none: it is gone.
    pub async fn try_connect(&self) -> Option<Wire> {
        let (mut wire, known) = self.try_greet().await?;
        let believed = wire.try_ask(self.shows(&known)).await?;
        assert!(believed["believed"].is_object(), "{believed}");
        Some(wire)
    }

    /// A proxy that said hello, and how far its log is known.
    pub async fn greet(&self) -> (Wire, Value) {
        self.try_greet().await.unwrap_or_else(|| panic!("the signer is gone"))
    }

    async fn try_greet(&self) -> Option<(Wire, Value)> {
        let mut wire = Wire::try_connect(&self.socket()).await?;
        let welcome = wire.try_ask(self.hello()).await?;
        assert_eq!(welcome["welcome"]["state"]["instance"], self.instance, "{welcome}");
        let known = welcome["welcome"]["known"]["size"].clone();
        Some((wire, known))
    }

    /// Its hello.
    #[must_use]
    pub fn hello(&self) -> Value {
        let log = proxy_head()["log"].clone();
        json!({"hello": {"version": 2, "deployment": self.builder.deployment, "log": log}})
    }

    /// What it shows of its log, of which so much is known; it never grows.
    #[must_use]
    pub fn shows(&self, known: &Value) -> Value {
        let checkpoint = checkpoint(&self.builder.path("client-audit.key"));
        json!({"show": {"size": known.as_u64().unwrap_or(0), "checkpoint": checkpoint, "hashes": []}})
    }
}

impl SignerBuilder<'_> {
    /// The audit keys of proxies that this signer knows: of the client here, and of the proxy in the same scratch
    /// directory.
    pub(super) fn proxies(&self) -> Vec<Value> {
        let mut client = audit_entry(&self.path("client-audit.key"));
        client["signer_kid"] = json!("client-audit");
        fs::create_dir_all(self.scratch.path("proxy")).unwrap();
        vec![client, audit_entry(&self.scratch.path("proxy/audit.key"))]
    }
}
