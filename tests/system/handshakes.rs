//! Clients without a certificate, who take the places for handshakes and never finish one. Whatever
//! they send and wherever they come from, a caller with a certificate gets in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;
use system_tests::{Client, Kind, Profile, Protocol, Proxy, World, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::ALICE;

/// Sockets that the strangers hold, and how often each opens one that was closed again.
const STRANGERS: usize = 300;
const REFILL_EVERY: Duration = Duration::from_millis(5);

/// Strangers who hold what they can until they are dropped.
struct Strangers {
    _tasks: JoinSet<()>,
    opened: Arc<AtomicUsize>,
}

impl Strangers {
    /// They come from `sources` addresses of 127.0.0.0/8 in turn, send `bytes` and nothing more.
    fn come(proxy: &Proxy<'_>, sources: usize, bytes: &[u8]) -> Self {
        let address: SocketAddr = proxy.listen.parse().unwrap();
        let (opened, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        // One after the other, at most one in that time: 200 a second.
        let pace = Arc::new(tokio::sync::Mutex::new(tokio::time::interval(REFILL_EVERY)));
        for number in 0..STRANGERS {
            let (opened, bytes, pace) = (Arc::clone(&opened), bytes.to_vec(), Arc::clone(&pace));
            let source = format!("127.0.0.{}:0", 1 + number % sources);
            tasks.spawn(async move {
                for again in 0_usize.. {
                    if again > 0 {
                        pace.lock().await.tick().await;
                    }
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(source.parse().unwrap()).unwrap();
                    let Ok(mut stream) = socket.connect(address).await else { continue };
                    opened.fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(&bytes).await.is_err() {
                        continue;
                    }
                    let mut read = [0; 4096];
                    while matches!(stream.read(&mut read).await, Ok(1..)) {}
                }
            });
        }
        Self { _tasks: tasks, opened }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

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
            let strangers = Strangers::come(&proxy, sources, bytes);
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
