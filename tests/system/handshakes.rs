//! Clients without a certificate, who take the places for handshakes and never finish one. Whatever
//! they send and wherever they come from, a caller with a certificate gets in.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;
use system_tests::{Client, Kind, Profile, Protocol, Proxy, Strangers, World, eventually};

use crate::ALICE;

/// Sockets that the strangers hold.
const STRANGERS: usize = 300;

/// A whole ClientHello.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A connection of its own, and a signature over it.
async fn signed(world: &World, proxy: &Proxy<'_>, protocol: Protocol) -> Result<(), String> {
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let client = Client::connect(&proxy.listen, &world.pki.ca_pem, &certificate, protocol).await?;
    let headers = [("content-type", "application/json")];
    let body = json!({"signer_kid": "ec", "message": "aGk="}).to_string();
    let answer = client.send(http::Method::POST, "/v1/sign", &headers, body).await?;
    (answer.status == 200).then_some(()).ok_or_else(|| format!("{answer:?}"))
}

#[tokio::test]
async fn i8_strangers_without_a_certificate_keep_no_caller_out() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let hello = hello();
    for (name, bytes) in [
        ("silent", &b""[..]),
        ("its first byte", &hello[..1]),
        ("the head of a record", &hello[..5]),
        ("nearly a ClientHello", &hello[..hello.len() - 1]),
        ("a ClientHello and no more", &hello[..]),
    ] {
        for (sources, limits) in [
            (1, ""),
            (1, "handshakes_max = 64\nhandshakes_per_address_max = 64"),
            (1, "handshakes_max = 128\nhandshakes_per_address_max = 32"),
            (20, "handshakes_max = 128\nhandshakes_per_address_max = 32"),
        ] {
            let proxy = world
                .proxy()
                // No place is given back by time: it has to be given way.
                .server(&format!("handshake_timeout_ms = 600000\n{limits}"))
                .rare_canaries()
                .signer("ec", &key)
                .caller(ALICE, &["ec"])
                .start()
                .await;
            let what = format!("{name}, from {sources} addresses, {limits:?}");
            let strangers = Strangers::come(&proxy.listen, STRANGERS, sources, bytes);
            eventually("strangers who gave way", || async {
                let refused = proxy.metric("signing_proxy_connections_refused_total").await;
                (strangers.opened() > STRANGERS && refused > Some(0.0)).then_some(())
            })
            .await;
            for protocol in [Protocol::Http1, Protocol::Http2].repeat(5) {
                eventually(&format!("{what}, {protocol:?}: a caller let in"), || async {
                    signed(&world, &proxy, protocol).await.ok()
                })
                .await;
            }
            assert_eq!(proxy.health().await.status, 200);
            assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
            drop(strangers);
            proxy.stop().await;
        }
    }
}
