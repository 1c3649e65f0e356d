//! Faults at the journal, with the real proxy: whatever dies, fails, hangs or is taken
//! away, what a client received is in the journal, by the independent checker.

pub(crate) mod disks;
mod errors;
mod files;
mod fill;
mod kills;
mod order;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use system_tests::journal::{ask, check, load};
use system_tests::{
    Client, Exchange, Key, Kind, Profile, Protocol, Proxy, ProxyBuilder, Tail, World, eventually,
};

use crate::ALICE;

/// How a segment gets its name.
const RENAME: &str = "renameat2";
/// The signers that are asked.
const KIDS: &[&str] = &["ed", "p256"];
/// Connections that ask at the same time, and how often each does.
const CLIENTS: usize = 3;
const REQUESTS: usize = 6;

/// A world with two keys, and all that was received in it.
struct Site {
    world: World,
    ed25519: Key,
    p256: Key,
    messages: AtomicUsize,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let (ed25519, p256) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
        Self { world, ed25519, p256, messages: AtomicUsize::new(0) }
    }

    fn proxy(&self) -> ProxyBuilder<'_> {
        let proxy = self.world.proxy().signer("ed", &self.ed25519).signer("p256", &self.p256);
        proxy.caller(ALICE, KIDS).segment_bytes(fill::SEGMENT_BYTES)
    }

    fn journal(&self) -> PathBuf {
        self.proxy().journal()
    }

    /// Asks until it signs, or is gone.
    async fn first(&self, proxy: &Proxy<'_>) -> Exchange {
        let certificate = self.world.pki.issue(&Profile::client(ALICE));
        let ca_pem = &self.world.pki.ca_pem;
        eventually("its gate opens, or it is gone", || async {
            let connected =
                Client::connect(&proxy.listen, ca_pem, &certificate, Protocol::Http1).await;
            let Ok(client) = connected else { return Some(Exchange::Cut) };
            match ask(&client, "ed", &self.message()).await {
                Exchange::Refused(_, why) if why == "starting" => None,
                exchange => Some(exchange),
            }
        })
        .await
    }

    /// Some clients at once, each one request after the other; none for a proxy that
    /// takes no connection any more.
    async fn load(&self, proxy: &Proxy<'_>) -> Vec<Exchange> {
        let (one, two, three) =
            tokio::join!(self.one_by_one(proxy), self.one_by_one(proxy), self.one_by_one(proxy));
        [one, two, three].concat()
    }

    async fn one_by_one(&self, proxy: &Proxy<'_>) -> Vec<Exchange> {
        let certificate = self.world.pki.issue(&Profile::client(ALICE));
        let ca_pem = &self.world.pki.ca_pem;
        let connected = Client::connect(&proxy.listen, ca_pem, &certificate, Protocol::Http1).await;
        match connected {
            Ok(client) => load(&client, KIDS, &self.message(), REQUESTS).await,
            Err(_) => Vec::new(),
        }
    }

    /// Asks for one signature on a connection of its own.
    async fn ask(&self, proxy: &Proxy<'_>) -> Exchange {
        ask(&proxy.client(ALICE).await, "ed", &self.message()).await
    }

    /// A message that was not asked for yet.
    fn message(&self) -> String {
        format!("message {}", self.messages.fetch_add(1, Ordering::Relaxed))
    }

    /// What the checker says; a defect fails the test.
    fn check(&self, exchanges: &[Exchange], tail: Tail) -> Value {
        self.check_in(&self.journal(), exchanges, tail)
    }

    /// The same of a journal elsewhere.
    fn check_in(&self, journal: &Path, exchanges: &[Exchange], tail: Tail) -> Value {
        let registry = self.world.scratch.path("proxy/signers.json");
        let checked = check(journal, &registry, exchanges, tail);
        checked.unwrap_or_else(|defect| panic!("{}: {defect}", journal.display()))
    }

    /// Starts it as it is, signs, stops it, and has everything checked, also what was
    /// received before.
    async fn signs_again(&self, received: &mut Vec<Exchange>) -> Value {
        let proxy = self.proxy().start().await;
        self.signs_on(proxy, received).await
    }

    /// The same with a proxy that runs.
    async fn signs_on(&self, proxy: Proxy<'_>, received: &mut Vec<Exchange>) -> Value {
        let now = self.load(&proxy).await;
        assert!(now.iter().all(|exchange| exchange.seq().is_some()), "{now:?}");
        assert_eq!(now.len(), CLIENTS * REQUESTS);
        received.extend(now);
        proxy.stop().await;
        let checked = self.check(received, Tail::Whole);
        assert_eq!(checked["open_intents"], json!([]));
        checked
    }
}

/// Every answer is a signature, or a refusal that the journal causes: for a signature that
/// was made already, the gate that it shut.
fn signed_or_unavailable(exchanges: &[Exchange]) {
    for exchange in exchanges {
        let is_expected = match exchange {
            Exchange::Signed(_) => true,
            Exchange::Refused(status, reason) => {
                let reasons = ["audit_unavailable", "gate_closed_in_flight"];
                *status == 503 && reasons.contains(&reason.as_str())
            }
            Exchange::Cut => false,
        };
        assert!(is_expected, "{exchange:?}");
    }
}

/// An operator looked, and has it go on.
async fn unseal(proxy: &Proxy<'_>) {
    let order = json!({"audit": true, "reason": "the disk was replaced"});
    let answer = proxy.admin("POST", "/v1/unseal", order).await;
    assert_eq!((answer.status, &answer.body["unsealed"]), (200, &json!(true)), "{answer:?}");
    proxy.healthy().await;
}
