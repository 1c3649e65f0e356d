//! Break-glass as a whole: a real proxy, a real emergency signer, real approvals, and a KMS that
//! fails.

mod ceremony;
mod crashes;
mod curve;
mod destroy;
mod end;
mod faults;
mod heads;
mod journals;
mod liar;
mod look;
mod operator;
mod preflight;
mod proxy_heads;
mod receipts;
mod register;
mod report;
mod request;
mod rsa;
mod scope;
mod signers;
mod status;
mod switch;
mod under_freeze;
mod unread;

use std::path::Path;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, SOCKET, Signer, SignerBuilder};
use system_tests::journal;
use system_tests::{Answer, Fault, Key, Kind, Proxy, ProxyBuilder, World, eventually};

use crate::ALICE;

/// The signer that goes out, and is replaced.
const KID: &str = "payments";
/// The signer that is not replaced.
const OTHER: &str = "other";
/// A caller that no request names.
const BOB: &str = "spiffe://test/bob";

/// A world with two signing keys.
pub(crate) struct Site {
    pub(crate) world: World,
    key: Key,
    other: Key,
}

impl Site {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let (key, other) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
        Self { world, key, other }
    }

    pub(crate) fn signer(&self) -> SignerBuilder<'_> {
        let caps = "signatures_per_second_max = 100000\n";
        self.world.signer().replaces(KID, &self.key).min_outage_s(1).caps(caps)
    }

    /// A proxy that asks the signer of this world, and has `registered` in its registry too.
    pub(crate) fn proxy(&self, registered: Vec<Value>) -> ProxyBuilder<'_> {
        let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
        let builder = self.world.proxy().signer(KID, &self.key).signer(OTHER, &self.other);
        let builder = builder.caller(ALICE, &[KID, OTHER]).caller(BOB, &[KID]).breakglass(&lines);
        registered.into_iter().fold(builder, ProxyBuilder::registered)
    }

    /// Both, connected, all well.
    pub(crate) async fn both(&self) -> (Signer<'_>, Proxy<'_>) {
        let signer = self.signer().start().await;
        let proxy = self.proxy(signer.builder.registry_entries()).start().await;
        connected(&proxy).await;
        (signer, proxy)
    }

    /// Both, with these tables in the proxy's configuration; nobody waits until all is well.
    pub(crate) async fn both_with(&self, tables: &str) -> (Signer<'_>, Proxy<'_>) {
        let signer = self.signer().start().await;
        let builder = self.proxy(signer.builder.registry_entries()).tables(tables);
        let proxy = builder.start_shut().await;
        connected(&proxy).await;
        (signer, proxy)
    }

    /// Stops the KMS's key, and waits until the outage is long enough.
    pub(crate) async fn out(&self, proxy: &Proxy<'_>) {
        self.key.break_with(Fault::Bare503);
        qualifies(proxy).await;
    }

    /// The KMS's key signs again, and so does the proxy.
    pub(crate) async fn mend(&self, proxy: &Proxy<'_>) {
        self.key.mend();
        proxy.healthy().await;
    }

    /// Both, and a session in force by `request`.
    async fn in_session(&self) -> (Signer<'_>, Proxy<'_>, Value) {
        let (signer, proxy) = self.both().await;
        self.out(&proxy).await;
        let session = activated(&signer, &proxy, &signer.request()).await;
        (signer, proxy, session)
    }

    /// The public keys by kid, as a consumer has them.
    fn public_keys(&self, signer: &SignerBuilder<'_>) -> Vec<(String, Vec<u8>)> {
        let emergency = std::fs::read_to_string(signer.path("public.pem")).unwrap();
        let raw = |pem: &str| {
            let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            let der = STANDARD.decode(body).unwrap();
            der[der.len() - 32..].to_vec()
        };
        vec![
            (KID.to_owned(), raw(&self.key.public_key_pem)),
            (EMERGENCY_KID.to_owned(), raw(&emergency)),
        ]
    }
}

/// Whether that is the Ed25519 signature of `kid` over `message`.
fn verifies(keys: &[(String, Vec<u8>)], kid: &str, message: &[u8], signature: &[u8]) -> bool {
    let (_, key) = keys.iter().find(|(name, _)| name == kid).unwrap();
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

pub(crate) async fn connected(proxy: &Proxy<'_>) {
    metric_is(proxy, "breakglass_signer_connected", 1.0).await;
}

/// Waits until a sample has that value.
async fn metric_is(proxy: &Proxy<'_>, series: &str, value: f64) {
    eventually(&format!("{series} {value}"), || async {
        let is = proxy.metric(series).await?;
        ((is - value).abs() < 0.5).then_some(())
    })
    .await;
}

async fn status(proxy: &Proxy<'_>) -> Value {
    proxy.admin("GET", "/v1/breakglass", Value::Null).await.body
}

/// Waits until the outage of the signer counts and is long enough.
async fn qualifies(proxy: &Proxy<'_>) {
    eventually("an outage that is long enough", || async {
        let outages = status(proxy).await["outages"].as_array().cloned().unwrap();
        outages.iter().any(|one| one["signer_kid"] == KID && one["qualifies"] == true).then_some(())
    })
    .await;
}

async fn activate(proxy: &Proxy<'_>, papers: &Value) -> Answer {
    proxy.admin("POST", "/v1/breakglass/activate", papers.clone()).await
}

/// Unlocks and activates; the session.
pub(crate) async fn activated(signer: &Signer<'_>, proxy: &Proxy<'_>, request: &Value) -> Value {
    signer.unlock().await;
    let answer = activate(proxy, &signer.papers(request)).await;
    assert_eq!((answer.status, &answer.body["activated"]), (200, &json!(true)), "{}", answer.text);
    answer.body["session"].clone()
}

/// What an activation is refused for.
async fn refused(proxy: &Proxy<'_>, papers: &Value) -> (String, String) {
    let answer = activate(proxy, papers).await;
    assert_eq!((answer.status, &answer.body["activated"]), (409, &json!(false)), "{}", answer.text);
    let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    (text("reason"), text("detail"))
}

pub(crate) async fn end(proxy: &Proxy<'_>) -> Answer {
    proxy.admin("POST", "/v1/breakglass/end", json!({"reason": "over"})).await
}

/// Waits until no session is in force, anywhere.
async fn over(proxy: &Proxy<'_>) {
    eventually("no session", || async {
        let status = status(proxy).await;
        (status["session"].is_null() && status["signer"]["session"].is_null()).then_some(())
    })
    .await;
    metric_is(proxy, "breakglass_active", 0.0).await;
}

/// The one record of why the proxy's session was over, once it is there.
async fn ended_for(site: &Site, reason: &str) -> Value {
    let dir = site.world.scratch.path("proxy/journal");
    recorded(&dir, "breakglass_ended", |data| data["reason"] == reason).await.pop().unwrap()
}

/// The records of a type up to one of which that is true, once it is there: what nobody waits for is written a moment
/// after it is known.
pub(crate) async fn recorded(dir: &Path, kind: &str, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    eventually(&format!("a record {kind}"), || {
        let mut found = records(dir, kind);
        let at = found.iter().position(&is);
        found.truncate(at.map_or(0, |at| at + 1));
        std::future::ready(at.map(|_| found))
    })
    .await
}

/// The ends of so many sessions in the signer's journal, once they are there: the proxy knows that a session is
/// over before that is on the signer's disk.
async fn ended_at(signer: &Signer<'_>, count: usize) -> Vec<Value> {
    eventually("the end at the signer", || {
        let ended = records(&signer.builder.journal(), "session_ended");
        std::future::ready((ended.len() >= count).then_some(ended))
    })
    .await
}

/// What the records of a type say.
pub(crate) fn records(directory: &Path, kind: &str) -> Vec<Value> {
    let data = |record: Value| match &record["record"]["data"] {
        Value::Null => record["data"].clone(),
        data => data.clone(),
    };
    journal::read(directory, kind).into_iter().map(data).collect()
}
