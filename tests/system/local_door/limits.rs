//! Limits, rates and deadlines hold at a local door as at the data plane's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use system_tests::{Answer, Fault, Kind, Operation, World, eventually};

use super::{SECRET, sign};

const TOKEN: (&str, &str) = ("authorization", "Bearer secret");
const OTHER: (&str, &str) = ("authorization", "Bearer other");
/// `sha256sum` of `other`.
const OF_OTHER: &str =
    "token_sha256 = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\"";

/// Whether the other end has closed the connection, after whatever it said.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    !matches!(stream.read_to_end(&mut Vec::new()), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn i8_a_local_caller_has_its_rate_and_no_other_caller_feels_it() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("a", SECRET), ("b", OF_OTHER)])
        .caller("local:a", &["ec"])
        .caller("local:b", &["ec"])
        .rate("local:a", 1, 3)
        .start()
        .await;
    let place = &proxy.local[0];
    let mut refused: Option<Answer> = None;
    for _ in 0..50 {
        let answer = sign(place, &[TOKEN]).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a caller above its rate is refused");
    assert_eq!((refused.status, refused.reason()), (429, "caller_rate_limited"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(sign(place, &[OTHER]).await.status, 200);
}

#[tokio::test]
async fn i8_a_deadline_that_passes_is_answered_as_at_every_door() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("a", SECRET)])
        .caller("local:a", &["ec"])
        .start()
        .await;
    key.break_with(Fault::Hang);
    let answer = sign(&proxy.local[0], &[TOKEN, ("signing-deadline-ms", "50")]).await;
    assert_eq!((answer.status, answer.reason()), (504, "indeterminate"), "{answer:?}");
}

#[tokio::test]
async fn i8_who_proves_nothing_gives_way_to_newer_ones_and_takes_no_callers_place() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server(
            "handshakes_max = 4\nhandshakes_per_address_max = 4\nconnections_per_caller_max = 2",
        )
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("a", SECRET)])
        .caller("local:a", &["ec"])
        .start()
        .await;
    let place = &proxy.local[0];
    // They say nothing, so nobody knows whose they are. They have places of their own, more than a caller has.
    let mut silent: Vec<_> = (0..4).map(|_| TcpStream::connect(place).unwrap()).collect();
    eventually("all are open", || async {
        (proxy.metric("signing_proxy_connections").await >= Some(4.0)).then_some(())
    })
    .await;
    silent.push(TcpStream::connect(place).unwrap());
    assert!(is_closed(&mut silent.remove(0)), "the oldest gives way");
    // One that proves a caller is the caller's from then on, and makes room.
    let first = &mut silent[0];
    let body = super::body();
    write!(
        first,
        "POST /v1/sign HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer secret\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(sign(place, &[TOKEN]).await.status, 200);
    assert!(key.calls(Operation::Sign) >= 2);
}

#[tokio::test]
async fn i8_each_connection_ends_whatever_its_client_does() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("header_read_timeout_ms = 200")
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("a", SECRET), ("b", OF_OTHER)])
        .local("unix:door.sock", &[("a", SECRET)])
        .caller("local:a", &["ec"])
        .start()
        .await;
    let mut silent = TcpStream::connect(&proxy.local[0]).unwrap();
    let mut halfway = TcpStream::connect(&proxy.local[0]).unwrap();
    halfway.write_all(b"POST /v1/sign HTTP/1.1\r\nhost: loc").unwrap();
    assert!(is_closed(&mut silent) && is_closed(&mut halfway));
}
