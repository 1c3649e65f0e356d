//! Each caller and each peer has its own share of what all of them need: memory for bodies, requests
//! in flight, places of the listeners. Whatever one of them does, another one is served.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use http::Method;
use serde_json::json;
use system_tests::breakglass::Signer;
use system_tests::client::tls;
use system_tests::programs::ours;
use system_tests::{
    Client, Fault, Kind, LocalUser, Profile, Protocol, Strangers, World, eventually,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::ALICE;

const MALLORY: &str = "spiffe://test/mallory";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// A user who may use a socket, beside root.
const NOBODY: u32 = 65534;
/// What fills the default of `bodies_max_bytes`, each with `body_max_bytes`.
const BODIES: usize = 256;

#[tokio::test]
async fn i8_one_callers_pending_bodies_keep_no_other_callers_out() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let announced = "content-length: 262144";
    // Whoever has a certificate may ask to verify; a body without a length counts as the largest.
    for (path, length) in [
        ("/v1/sign", announced),
        ("/v1/verify", announced),
        ("/v1/sign", "transfer-encoding: chunked"),
    ] {
        let proxy = world
            .proxy()
            // No room is given back by time.
            .server("connections_per_caller_max = 300\nbody_read_timeout_ms = 600000")
            .rare_canaries()
            .signer("ec", &key)
            .caller(ALICE, &["ec"])
            .caller(MALLORY, &["ec"])
            .start()
            .await;
        let certificate = world.pki.issue(&Profile::client(MALLORY));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        let mut pending = Vec::new();
        for _ in 0..BODIES {
            let connected =
                tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await;
            let mut stream = connected.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            pending.push(stream);
        }
        let mallory = proxy.client(MALLORY).await;
        let body = format!("{{\"signer_kid\":\"ec\",\"message\":\"{}\"}}", "A".repeat(4000));
        let refused = eventually("a share that is full", || async {
            let answer = mallory.send(Method::POST, "/v1/sign", &JSON, body.clone()).await.unwrap();
            (answer.reason() == "overloaded").then_some(answer)
        })
        .await;
        for word in ["bodies_per_caller_max_bytes is 16777216", MALLORY] {
            assert!(refused.text.contains(word), "{word} in {}", refused.text);
        }
        assert_eq!(refused.header("retry-after"), "1");
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let certificate = world.pki.issue(&Profile::client(ALICE));
            let alice =
                Client::connect(&proxy.listen, &world.pki.ca_pem, &certificate, protocol).await;
            let alice = alice.unwrap();
            for _ in 0..20 {
                let signed = alice.send(Method::POST, "/v1/sign", &JSON, body.clone()).await;
                assert_eq!(signed.unwrap().status, 200, "{path}, {length}, {protocol:?}");
            }
        }
        drop(pending);
        eventually("room again", || async {
            let answer = mallory.send(Method::POST, "/v1/sign", &JSON, body.clone()).await;
            (answer.ok()?.status == 200).then_some(())
        })
        .await;
        proxy.stop().await;
    }
}

#[tokio::test]
async fn i8_one_callers_requests_in_flight_leave_slots_to_others_though_its_clients_hang_up() {
    let world = World::new();
    let (slow, key) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .server("requests_in_flight_max = 8")
        .rare_canaries()
        .signer("slow", &slow)
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .caller(MALLORY, &["slow", "ec"])
        .start()
        .await;
    slow.break_with(Fault::Hold);
    let ask =
        |client: Client| tokio::spawn(async move { client.sign_message("slow", b"hi").await });
    let client = proxy.http2_client(MALLORY).await;
    let asked: Vec<_> = (0..32).map(|_| ask(client.clone())).collect();
    eventually("its share taken", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(4.0)).then_some(())
    })
    .await;
    // Whoever hangs up leaves its work behind, and has no more for it.
    asked.iter().for_each(|one| one.abort());
    drop((asked, client));
    let refused = proxy.client(MALLORY).await.sign_message("ec", b"hi").await;
    assert_eq!(refused.reason(), "overloaded", "{refused:?}");
    assert!(refused.text.contains(&format!("4 requests of the caller {MALLORY}")), "{refused:?}");
    let alice = proxy.client(ALICE).await;
    for _ in 0..20 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    slow.mend();
    eventually("room again", || async {
        (proxy.client(MALLORY).await.sign_message("ec", b"hi").await.status == 200).then_some(())
    })
    .await;
}

#[test]
fn a_share_that_does_not_fit_what_it_is_a_share_of_is_a_mistake() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    for (server, mistake) in [
        (
            "bodies_per_caller_max_bytes = 262143",
            "server.bodies_per_caller_max_bytes: is 262143, expected at least body_max_bytes 262144",
        ),
        (
            "bodies_max_bytes = 300000\nbodies_per_caller_max_bytes = 300001",
            "server.bodies_per_caller_max_bytes: is 300001, expected at most bodies_max_bytes 300000",
        ),
        (
            "requests_in_flight_max = 3\nrequests_in_flight_per_caller_max = 4",
            "server.requests_in_flight_per_caller_max: is 4, expected at most requests_in_flight_max 3",
        ),
        // The defaults fit.
        ("bodies_max_bytes = 262144", ""),
        ("body_max_bytes = 18\nbodies_max_bytes = 18", ""),
        ("requests_in_flight_max = 1", ""),
    ] {
        let builder = world.proxy().server(server).signer("ec", &key).caller(ALICE, &["ec"]);
        let output = builder.verb("check", &builder.write()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let mistakes = said.lines().filter(|line| line.contains("per_caller_max")).count();
        assert!(said.contains(mistake), "{server}: {said}");
        assert_eq!(mistakes, usize::from(!mistake.is_empty()), "{server}: {said}");
    }
}

/// What the health listener says to a probe from that address.
pub(crate) async fn probe(listener: &str, source: &str, path: &str) -> Result<String, String> {
    let address: SocketAddr = listener.parse().unwrap();
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(format!("{source}:0").parse().unwrap())?;
        let mut stream = socket.connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    answer
        .map_err(|_| "nothing in time".to_owned())?
        .map_err(|error: std::io::Error| error.to_string())
}

/// Whoever asks with far too long a head at the listener for metrics gets no answer but that, if any.
pub(crate) async fn no_long_head_is_answered(listener: &str) {
    let path = format!("/livez?{}", "x".repeat(20_000));
    match probe(listener, "127.0.0.1", &path).await {
        Ok(answer) => assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}"),
        // What was not read of it closes the connection, and the 431 may be lost with it.
        Err(closed) => assert_ne!(closed, "nothing in time"),
    }
    assert!(probe(listener, "127.0.0.1", "/livez").await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn i8_half_open_connections_to_the_health_listener_keep_no_probe_out() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    no_long_head_is_answered(&proxy.metrics).await;
    for (count, sources) in [(70, 1), (300, 1), (300, 100), (600, 200)] {
        for (name, bytes) in [
            ("silent", &b""[..]),
            ("one byte", b"G"),
            ("nearly a head", b"GET /livez HTTP/1.1\r\nhost: x\r\n"),
        ] {
            let strangers = Strangers::come(&proxy.metrics, count, sources, bytes);
            eventually("strangers", || {
                std::future::ready((strangers.opened() >= count).then_some(()))
            })
            .await;
            for path in ["/livez", "/readyz", "/health", "/metrics"] {
                // Where they come from, and from elsewhere.
                for source in ["127.0.0.1", "127.0.0.2", "127.0.1.1"] {
                    let answer = probe(&proxy.metrics, source, path).await;
                    assert!(
                        answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
                        "{count} {name} from {sources} addresses, {path} from {source}: {answer:?}"
                    );
                }
            }
        }
    }
    let log = proxy.process.says("gave way to newer ones").await;
    assert!(log.contains("\"peer\":\"127.0.0.1\""), "{log}");
}

/// Lets anyone connect: then SO_PEERCRED alone decides.
fn open_to_all(world: &World, directory: &Path, sockets: &[PathBuf]) {
    use std::os::unix::fs::PermissionsExt as _;
    for path in [world.scratch.dir(), directory] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for socket in sockets {
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    }
}

#[tokio::test]
async fn i8_whatever_one_user_does_at_the_admin_socket_another_can_freeze() {
    let freeze = "POST /v1/freeze HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    let idle = "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    for (key, uids) in [("UIDS", "[0, 65534]"), ("GIDS", "[65534]")] {
        let world = World::new();
        let signing = world.kms.key(Kind::P256);
        let builder = world.proxy().signer("ec", &signing).caller(ALICE, &["ec"]);
        let variable = format!("SIGNING_PROXY__ADMIN__ALLOWED_{key}");
        let proxy = builder.environment(&variable, uids).start().await;
        open_to_all(&world, &world.scratch.path("proxy"), std::slice::from_ref(&proxy.socket));
        // The other user, somebody who may not use the socket, and root itself.
        for uid in [NOBODY, 4242, 0] {
            for (name, bytes) in [
                ("silent", ""),
                ("half a head", "POST /v1/freeze HTTP/1.1\r\n"),
                ("half a body", freeze),
                ("idle after an answer", idle),
            ] {
                let what = format!("{name}, uid {uid}, allowed {key} {uids}");
                let crowd = comes(&proxy.socket, uid, bytes.as_bytes());
                for _ in 0..3 {
                    let (code, _, error) = proxy.signctl(&["freeze", "--reason", "INC-7"]);
                    assert_eq!(code, 0, "{what}: {error}");
                    let (code, said, error) = proxy.signctl(&["status"]);
                    assert!(code == 1 && said.contains("INC-7"), "{what}: {said}{error}");
                    let (code, _, error) = proxy.signctl(&["unfreeze", "--reason", "over"]);
                    assert_eq!(code, 0, "{what}: {error}");
                }
                drop(crowd);
            }
        }
        let log = proxy.process.says("gave way to newer ones").await;
        assert!(log.contains("\"peer\":\"uid 65534\""), "{log}");
        proxy.stop().await;
    }
}

/// Another user comes again and again. One's own connections give way to one's own, so these would
/// race with what is tried.
fn comes(socket: &Path, uid: u32, bytes: &[u8]) -> LocalUser {
    let is_other = uid != nix::unistd::geteuid().as_raw();
    let comes = if is_other { LocalUser::comes_again } else { LocalUser::comes };
    comes(socket, uid, 300, bytes)
}

async fn operator(signer: &Signer<'_>, arguments: &[&str]) -> Output {
    let mut signctl = std::process::Command::new(ours("signctl"));
    signctl.arg("breakglass").args(arguments).arg("--operator-socket");
    signctl.arg(signer.operator_socket());
    tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn i8_whatever_one_user_does_at_the_emergency_signers_sockets_another_is_heard() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let uids = format!("[{}, {NOBODY}]", nix::unistd::geteuid());
    let signer = world
        .signer()
        .replaces("payments", &key)
        .environment("BREAKGLASS_SIGNER__SIGNER__ALLOWED_UIDS", &uids)
        .environment("BREAKGLASS_SIGNER__OPERATOR__ALLOWED_UIDS", &uids)
        .start()
        .await;
    let sockets = [signer.socket(), signer.operator_socket()];
    open_to_all(&world, &signer.builder.path(""), &sockets);
    let hello =
        json!({"hello": {"id": 1, "version": 2, "deployment": "test", "log": "0".repeat(32)}});
    let hello = hello.to_string();
    let nearly = u32::try_from(hello.len()).unwrap().to_le_bytes();
    let nearly = [&nearly, &hello.as_bytes()[..hello.len() - 1]].concat();
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    // The other user, and the proxy's and operator's own.
    for uid in [NOBODY, 0] {
        for (name, bytes) in
            [("silent", &b""[..]), ("half a length", &[1, 0]), ("nearly all", &nearly)]
        {
            let what = format!("{name}, uid {uid}");
            let crowds = sockets.each_ref().map(|path| comes(path, uid, bytes));
            for _ in 0..3 {
                let signed = proxy.sign(&session, "payments", b"hello").await;
                assert!(signed["signed"].is_object(), "{what}: {signed}");
                let mut another = signer.connect().await;
                let stated = another.ask(json!({"status": {}})).await;
                assert!(stated["status"].is_object(), "{what}: {stated}");
                let status = operator(&signer, &["status"]).await;
                assert!(status.status.success(), "{what}: {status:?}");
            }
            drop(crowds);
        }
    }
    let _crowds = sockets.each_ref().map(|path| comes(path, NOBODY, b""));
    signer.unlock().await;
    let ended = operator(&signer, &["end", "--reason", "INC-7"]).await;
    assert!(ended.status.success(), "{ended:?}");
    let log = signer.process.says("gave way to newer ones").await;
    assert!(log.contains("uid 65534 (nobody)"), "{log}");
}
