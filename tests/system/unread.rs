//! Clients that do not read what was released: after a stop nothing of it reaches them any more,
//! wherever it was on its way. Clients that read get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use system_tests::{
    Client, Deaf, Deafness, Fault, Key, Kind, Profile, Protocol, Proxy, World, eventually,
};

use crate::ALICE;

/// So many answers do not fit into a client that does not read, and do into its proxy's kernel.
const ASKS: usize = 40;

/// What stops signing, and says so.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Freeze,
    Seal,
    JournalSeal,
    GrantTaken,
    KeyRevoked,
}

impl Stop {
    const ALL: [Self; 5] =
        [Self::Freeze, Self::Seal, Self::JournalSeal, Self::GrantTaken, Self::KeyRevoked];

    /// Stops, and waits for the answer of whoever gives one. How many connections were reset, where
    /// that is said.
    async fn happens(self, world: &World, proxy: &Proxy<'_>, key: &Key) -> Option<u64> {
        let answer = match self {
            Self::Freeze => proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await,
            Self::Seal => {
                key.break_with(Fault::CorruptSignature);
                proxy.unhealthy_for("sealed").await;
                // Nobody asked for it, so nobody is answered: it has happened once they are gone.
                return None;
            }
            Self::JournalSeal => {
                let journal = world.scratch.path("proxy/journal");
                std::fs::rename(&journal, journal.with_file_name("taken-away")).unwrap();
                proxy.audit_sealed().await;
                return None;
            }
            Self::GrantTaken => {
                let (from, to) = (format!("name = \"{ALICE}\""), "name = \"nobody.example\"");
                edit(world, "signing-proxy.toml", &from, to);
                proxy.admin("POST", "/v1/reload", json!({})).await
            }
            Self::KeyRevoked => {
                let revoked = "\"signer_kid\":\"ed\",\"revokedAt\":\"2026-01-01T00:00:00Z\"";
                edit(world, "signers.json", "\"signer_kid\":\"ed\"", revoked);
                proxy.admin("POST", "/v1/reload", json!({})).await
            }
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.body["connections_cut"].as_u64().unwrap())
    }
}

fn edit(world: &World, name: &str, from: &str, to: &str) {
    let file = world.scratch.path(&format!("proxy/{name}"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} in\n{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn i1_nothing_released_reaches_a_client_that_does_not_read_after_a_stop() {
    for stop in Stop::ALL {
        let world = World::new();
        let key = world.kms.key(Kind::Ed25519);
        // The write timeout would end these connections too, later.
        let server = "write_timeout_ms = 600000";
        let builder = world.proxy().server(server).signer("ed", &key).caller(ALICE, &["ed"]);
        let proxy = builder.start().await;
        let mut deaf = Vec::new();
        for deafness in Deafness::ALL {
            deaf.push((deafness, deaf_client(&world, &proxy, deafness).await));
        }
        signed(&proxy, Deafness::ALL.len() * ASKS).await;
        let cut = stop.happens(&world, &proxy, &key).await;
        assert!(cut.is_none_or(|cut| cut == deaf.len() as u64), "{stop:?}: {cut:?} were reset");
        if cut.is_none() {
            connections(&proxy, 0).await;
        }
        let before: Vec<_> = deaf.iter().map(|(_, client)| client.arrived()).collect();
        for ((deafness, client), before) in deaf.iter_mut().zip(before) {
            let arrived = client.everything().await;
            println!("{stop:?}, {deafness:?}: {before} bytes arrived before, {arrived} in all");
            assert!(arrived <= before, "{stop:?}, {deafness:?}: {before}, then {arrived} bytes");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_within_the_time_gets_what_was_released_and_keeps_its_connection() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let readers = [proxy.client(ALICE).await, proxy.http2_client(ALICE).await];
    for reader in &readers {
        assert_eq!(reader.sign_message("ed", b"hi").await.status, 200);
    }
    let late = [Deafness::Http1, Deafness::Http2, Deafness::Http1Closing];
    let mut deaf = Vec::new();
    for deafness in late {
        deaf.push(deaf_client(&world, &proxy, deafness).await);
    }
    signed(&proxy, readers.len() + late.len() * ASKS).await;
    for client in &deaf {
        client.listen();
    }
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await;
    assert_eq!((frozen.status, &frozen.body["connections_cut"]), (200, &json!(0)), "{frozen:?}");
    for reader in &readers {
        assert_eq!(reader.sign_message("ed", b"hi").await.reason(), "frozen");
    }
    for (deafness, client) in late.iter().zip(&deaf) {
        eventually(&format!("all answers of {deafness:?}"), || {
            std::future::ready((client.has_read("\"signature\"") == ASKS).then_some(()))
        })
        .await;
    }
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    for reader in &readers {
        assert_eq!(reader.sign_message("ed", b"hi").await.status, 200, "the same connection");
    }
}

#[tokio::test]
async fn a_freeze_does_not_wait_for_clients_that_go_on_asking() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut busy = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = proxy.client_with(&certificate, protocol).await;
        assert_eq!(client.sign_message("ed", b"hi").await.status, 200);
        busy.push(tokio::spawn(ask_until_thawed(client, Arc::clone(&refused))));
    }
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await;
    assert_eq!(frozen.body["connections_cut"], json!(0), "{frozen:?}");
    eventually("both are refused", || {
        std::future::ready((refused.load(Ordering::SeqCst) == busy.len()).then_some(()))
    })
    .await;
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    for client in busy {
        client.await.unwrap();
    }
}

/// Asks without a pause until it was refused, and signed for again, all on one connection.
async fn ask_until_thawed(client: Client, refused: Arc<AtomicUsize>) {
    while client.sign_message("ed", b"hi").await.status == 200 {}
    refused.fetch_add(1, Ordering::SeqCst);
    while client.sign_message("ed", b"hi").await.status != 200 {}
}

#[tokio::test]
async fn a_connection_that_ends_with_a_signature_unread_is_listed_until_it_is_read_or_reset() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world
        .proxy()
        .server("write_timeout_ms = 1000")
        .signer("ed", &key)
        .caller(ALICE, &["ed"])
        .start()
        .await;
    let mut reads = deaf_client(&world, &proxy, Deafness::Http1Closing).await;
    signed(&proxy, ASKS).await;
    connections(&proxy, 1).await;
    reads.everything().await;
    assert_eq!(reads.has_read("\"signature\""), ASKS);
    connections(&proxy, 0).await;
    let mut never = deaf_client(&world, &proxy, Deafness::Http1Closing).await;
    signed(&proxy, 2 * ASKS).await;
    connections(&proxy, 0).await;
    let before = never.arrived();
    assert!(never.everything().await <= before, "the kernel delivered what was given up");
}

async fn deaf_client(world: &World, proxy: &Proxy<'_>, deafness: Deafness) -> Deaf {
    let certificate = world.pki.issue(&Profile::client(ALICE));
    Deaf::ask(&proxy.listen, &world.pki.ca_pem, &certificate, deafness, ASKS).await
}

/// Waits until so many were signed, all told.
async fn signed(proxy: &Proxy<'_>, count: usize) {
    let series = "signing_proxy_requests_total{result=\"signed\",reason=\"\",signer_kid=\"ed\",mode=\"normal\"}";
    eventually("signatures that nobody reads", || async {
        (proxy.metric(series).await >= Some(count as f64)).then_some(())
    })
    .await;
}

async fn connections(proxy: &Proxy<'_>, count: u64) {
    eventually("connections of the data plane", || async {
        let status = proxy.admin("GET", "/v1/status", Value::Null).await;
        (status.body["connections"] == count).then_some(())
    })
    .await;
}
