//! `signctl gate`: a pipeline goes on only over a proxy that proves that it
//! signs, and every other case has the exit status that docs/operating/pipelines.md gives it.

mod kms;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use system_tests::{Certificate, Pki, Profile, Proxy, World, programs};

use crate::ALICE;

/// Runs the gate with exactly these variables and flags: exit status, and all
/// that it said.
fn gate(variables: &[(&str, &str)], flags: &[&str]) -> (i32, String) {
    let output = Command::new(programs::ours("signctl"))
        .arg("gate")
        .args(flags)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

fn gate_json(variables: &[(&str, &str)]) -> (i32, Value) {
    let (code, said) = gate(variables, &["--json"]);
    (code, serde_json::from_str(&said).unwrap())
}

#[track_caller]
fn assert_gate(variables: &[(&str, &str)], code: i32, words: &[&str]) {
    let (found, said) = gate(variables, &[]);
    assert_eq!(found, code, "{variables:?}: {said}");
    for word in words {
        assert!(said.contains(word), "missing: {word}\n{said}");
    }
}

/// The variables of a pipeline with a good client certificate.
struct Pipeline {
    url: String,
    files: Vec<(&'static str, String)>,
}

impl Pipeline {
    fn of(world: &World, proxy: &Proxy<'_>) -> Self {
        Self::with(world, &proxy.listen, &world.pki.issue(&Profile::client(ALICE)))
    }

    fn with(world: &World, listen: &str, client: &Certificate) -> Self {
        let file = |name: &str, text: &str| {
            world.scratch.write(&format!("ci/{name}"), text).to_str().unwrap().to_owned()
        };
        let files = vec![
            ("SIGNING_PROXY_CA", file("ca.pem", &world.pki.ca_pem)),
            ("SIGNING_PROXY_CLIENT_CERT", file("ci.pem", &client.certificate_pem)),
            ("SIGNING_PROXY_CLIENT_KEY", file("ci.key", &client.key_pem)),
        ];
        Self { url: format!("https://{listen}"), files }
    }

    /// Its variables, and `more`, which win.
    fn variables<'v>(&'v self, more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
        let mut variables =
            vec![("SIGNING_PROXY_URL", self.url.as_str()), ("HEALTH_TIMEOUT", "20")];
        variables.extend(self.files.iter().map(|(name, file)| (*name, file.as_str())));
        variables.extend_from_slice(more);
        variables
    }
}

/// A server on loopback for one connection; the base URL's address.
fn once(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

/// The URL of a server in clear that answers once with that, and then is read
/// to its end.
fn answering(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    let address = once(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    format!("http://{address}")
}

/// The health of a proxy that signs.
const SIGNS: &str = r#"{"ok": true, "mode": "normal", "frozen": false,
    "signers": [{"signer_kid": "ec", "state": "open"}]}"#;

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The address of a TLS server with that certificate that says that all is well.
fn over_tls(certificate: &Certificate) -> String {
    let chain =
        vec![CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    once(move |stream| {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(http("200 OK", SIGNS).as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = stream.sock.read(&mut [0; 4096]);
    })
}

/// An address on which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_healthy_proxy_and_a_kms_that_answers_let_the_pipeline_go_on() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let pipeline = Pipeline::of(&world, &proxy);
    let all = [
        ("KMS_ENDPOINT", world.kms.endpoint.as_str()),
        ("REQUIRE_KMS", "1"),
        ("REQUIRE_SIGNING_PROXY", "yes"),
        // Nobody's proxy is asked instead.
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ("http_proxy", "http://127.0.0.1:1"),
    ];
    let healthy = format!("signing proxy https://{}: healthy, 1 signer, ", proxy.listen);
    let reachable = format!("KMS endpoint {}: reachable, HTTP ", world.kms.endpoint);
    assert_gate(&pipeline.variables(&all), 0, &[&healthy, &reachable]);
    let (code, found) = gate_json(&pipeline.variables(&all));
    assert_eq!(code, 0);
    assert_eq!(
        (&found["ok"], &found["exit_code"], &found["error"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    assert_eq!(
        (&found["proxy"]["result"], &found["proxy"]["reason"]),
        (&json!("healthy"), &Value::Null)
    );
    assert_eq!(found["kms"]["result"], "reachable");
    assert!(found["proxy"]["elapsed_ms"].is_u64());
    // Each alone is enough, by flags as well; the health listener in clear on loopback too.
    assert_gate(&pipeline.variables(&[]), 0, &[&healthy]);
    assert_gate(&[("KMS_ENDPOINT", &world.kms.endpoint)], 0, &[&reachable]);
    let file = |index: usize| pipeline.files[index].1.as_str();
    let flags = [
        "--url",
        &pipeline.url,
        "--ca",
        file(0),
        "--client-cert",
        file(1),
        "--client-key",
        file(2),
        "--kms-endpoint",
        &world.kms.endpoint,
        "--timeout",
        "20",
    ];
    let (code, said) = gate(&[("SIGNING_PROXY_URL", "https://127.0.0.1:1")], &flags);
    assert_eq!(code, 0, "flags win over variables: {said}");
    assert_gate(&[("SIGNING_PROXY_URL", &format!("http://{}/", proxy.metrics))], 0, &["healthy"]);
}

#[test]
fn nothing_configured_is_one_and_what_is_required_but_missing_has_its_own_status() {
    assert_gate(&[], 1, &["neither SIGNING_PROXY_URL nor KMS_ENDPOINT is set"]);
    let empty = [("SIGNING_PROXY_URL", ""), ("KMS_ENDPOINT", ""), ("REQUIRE_KMS", "")];
    assert_gate(&empty, 1, &["neither"]);
    for no in ["0", "false", "No", "n", "off", " "] {
        assert_gate(&[("REQUIRE_KMS", no), ("REQUIRE_SIGNING_PROXY", no)], 1, &["neither"]);
    }
    for yes in ["1", "true", "YES", " y\n", "On"] {
        assert_gate(&[("REQUIRE_SIGNING_PROXY", yes)], 4, &["SIGNING_PROXY_URL is not set"]);
        assert_gate(&[("REQUIRE_KMS", yes)], 5, &["KMS_ENDPOINT is not set; set it or"]);
        assert_gate(&[("REQUIRE_KMS", yes), ("REQUIRE_SIGNING_PROXY", yes)], 4, &[]);
    }
    // Before anything is asked: both of these would not answer.
    let dead = nobody();
    let (url, kms) = (format!("https://{dead}"), format!("http://{dead}"));
    assert_gate(&[("REQUIRE_SIGNING_PROXY", "1"), ("KMS_ENDPOINT", &kms)], 4, &[]);
    assert_gate(&[("REQUIRE_KMS", "1"), ("SIGNING_PROXY_URL", &url)], 5, &[]);
    let (code, found) = gate_json(&[("REQUIRE_KMS", "1")]);
    assert_eq!((code, &found["ok"], &found["exit_code"]), (5, &json!(false), &json!(5)));
    assert!(found["error"].as_str().unwrap().contains("KMS_ENDPOINT"));
    assert_eq!((&found["proxy"], &found["kms"]), (&Value::Null, &Value::Null));
}

#[test]
fn an_unreachable_proxy_is_two_an_unreachable_kms_three_and_the_proxy_comes_first() {
    let world = World::new();
    let dead = nobody();
    let (url, kms) = (format!("https://{dead}"), format!("https://{dead}"));
    let ca = world.scratch.write("ca.pem", &world.pki.ca_pem);
    let ca = ("SIGNING_PROXY_CA", ca.to_str().unwrap());
    let proxy = ("SIGNING_PROXY_URL", url.as_str());
    assert_gate(&[proxy, ca], 2, &["UNHEALTHY (unreachable): cannot be connected to"]);
    let in_clear = ("KMS_ENDPOINT", kms.replace("https", "http"));
    assert_gate(&[(in_clear.0, &in_clear.1)], 3, &["KMS endpoint", "UNREACHABLE (unreachable)"]);
    let both = [proxy, ca, (in_clear.0, &in_clear.1)];
    assert_gate(&both, 2, &["signing proxy https", "KMS endpoint http", "UNREACHABLE"]);
    let healthy = answering(http("200 OK", SIGNS));
    assert_gate(&[("SIGNING_PROXY_URL", &healthy), (in_clear.0, &in_clear.1)], 3, &["healthy, "]);
    let (code, found) = gate_json(&[proxy, ca, ("KMS_ENDPOINT", &world.kms.endpoint)]);
    assert_eq!((code, &found["exit_code"], &found["kms"]["ok"]), (2, &json!(2), &json!(true)));
    assert_eq!(found["proxy"]["reason"], "unreachable");
}

#[test]
fn wrong_flags_and_values_have_a_status_that_says_nothing_of_the_proxy() {
    let url = format!("https://{}", nobody());
    for timeout in ["0", "-1", "soon", "5s", "inf", "1e9"] {
        let variables = [("SIGNING_PROXY_URL", url.as_str()), ("HEALTH_TIMEOUT", timeout)];
        assert_gate(&variables, 64, &["HEALTH_TIMEOUT", timeout, "expected seconds"]);
    }
    for word in ["enabled", "TRUE1", "2"] {
        for name in ["REQUIRE_KMS", "REQUIRE_SIGNING_PROXY"] {
            let words = format!("{name} is {word:?}, expected 1, true, yes, y or on, else 0, ");
            assert_gate(&[(name, word)], 64, &[&words]);
            assert_gate(&[(name, word), ("SIGNING_PROXY_URL", &url)], 64, &[&words]);
        }
    }
    for flags in [&["--nonsense"][..], &["--url", ""], &["--timeout", "soon", "--url", &url]] {
        let (code, said) = gate(&[], flags);
        assert_eq!(code, 64, "{flags:?}: {said}");
    }
    let (code, help) = gate(&[], &["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("Exit status:") && help.contains("Example: signctl gate"), "{help}");
}

#[test]
fn a_url_that_can_not_be_trusted_is_not_asked_and_its_secrets_are_not_printed() {
    for url in ["http://198.51.100.7:9464", "http://[2001:db8::1]:9464"] {
        assert_gate(&[("SIGNING_PROXY_URL", url)], 2, &["(not_encrypted)", "use https://"]);
    }
    for url in ["proxy:8443", "ftp://proxy", "https://ci:hunter2@proxy", "https://p?t=hunter2"] {
        let (code, said) = gate(&[("SIGNING_PROXY_URL", url)], &[]);
        assert_eq!(code, 2, "{url}: {said}");
        assert!(said.contains("(bad_url)") && !said.contains("hunter2"), "{said}");
        assert_gate(&[("KMS_ENDPOINT", url)], 3, &["(bad_url)", "expected a URL such as"]);
    }
}

#[tokio::test]
async fn a_frozen_proxy_stops_the_pipeline_until_it_is_unfrozen() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let pipeline = Pipeline::of(&world, &proxy);
    assert_eq!(proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-3"})).await.status, 200);
    assert_gate(
        &pipeline.variables(&[]),
        2,
        &["UNHEALTHY (frozen): HTTP 503; ", "signctl unfreeze"],
    );
    let (code, found) = gate_json(&pipeline.variables(&[]));
    assert_eq!((code, &found["proxy"]["reason"]), (2, &json!("frozen")));
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    proxy.healthy().await;
    assert_gate(&pipeline.variables(&[]), 0, &["healthy, 1 signer"]);
}

#[tokio::test]
async fn certificates_that_do_not_fit_stop_the_pipeline() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let pipeline = Pipeline::of(&world, &proxy);
    let other = world.scratch.write("ci/other.pem", Pki::named("other").ca_pem);
    let other_key = world.pki.issue(&Profile::client(ALICE)).key_pem;
    let other_key = world.scratch.write("ci/other.key", other_key);
    let (other, other_key) = (other.to_str().unwrap(), other_key.to_str().unwrap());
    for (variables, words) in [
        (&[("SIGNING_PROXY_CA", other)][..], &["(tls)", "UnknownIssuer", "--ca"][..]),
        // The platform does not know this authority.
        (&[("SIGNING_PROXY_CA", "")], &["signing proxy", "UNHEALTHY"]),
        (&[("SIGNING_PROXY_CA", "/nowhere/ca.pem")], &["(ca)", "/nowhere/ca.pem cannot be read"]),
        (
            &[("SIGNING_PROXY_CLIENT_CERT", ""), ("SIGNING_PROXY_CLIENT_KEY", "")],
            &["UNHEALTHY", "it needs a client certificate"],
        ),
        (&[("SIGNING_PROXY_CLIENT_KEY", "")], &["(client_certificate)", "no key goes with"]),
        (&[("SIGNING_PROXY_CLIENT_CERT", "")], &["(client_certificate)", "goes with the key"]),
        (
            &[("SIGNING_PROXY_CLIENT_KEY", other_key)],
            &["(client_certificate)", "is not the key of"],
        ),
        (&[("SIGNING_PROXY_CLIENT_KEY", other)], &["(client_certificate)", "no private key"]),
    ] {
        assert_gate(&pipeline.variables(variables), 2, words);
    }
    let stranger = Pki::named("stranger").issue(&Profile::client(ALICE));
    let stranger = Pipeline::with(&world, &proxy.listen, &stranger);
    assert_gate(&stranger.variables(&[]), 2, &["UNHEALTHY", "it needs a client certificate"]);
}

#[test]
fn a_server_certificate_has_to_be_current_and_of_a_trusted_authority() {
    let world = World::new();
    let ca = world.scratch.write("ca.pem", &world.pki.ca_pem);
    let ca = ca.to_str().unwrap();
    let expired = Profile { days: (-9, -2), ..Profile::server() };
    for (profile, name, code, words) in [
        (Profile::server(), "127.0.0.1", 0, "healthy"),
        (Profile::server(), "localhost", 0, "healthy"),
        (expired, "127.0.0.1", 2, "renew the server's certificate"),
        (
            Profile { dns_names: vec!["other".into()], ..Profile::server() },
            "127.0.0.1",
            2,
            "ask for a name",
        ),
    ] {
        let certificate = world.pki.issue(&profile);
        let url = |address: String| format!("https://{}", address.replace("127.0.0.1", name));
        let proxy = url(over_tls(&certificate));
        assert_gate(&[("SIGNING_PROXY_URL", &proxy), ("SIGNING_PROXY_CA", ca)], code, &[words]);
        // The same of KMS, whose authority is a flag, or the platform's.
        let of_kms = if code == 0 { 0 } else { 3 };
        let (found, said) =
            gate(&[], &["--kms-endpoint", &url(over_tls(&certificate)), "--kms-ca", ca]);
        assert_eq!(found, of_kms, "{said}");
        let platform = [("SSL_CERT_FILE", ca), ("KMS_ENDPOINT", &url(over_tls(&certificate)))];
        assert_eq!(gate(&platform, &[]).0, of_kms);
    }
    let unknown = format!("https://{}", over_tls(&world.pki.issue(&Profile::server())));
    let other = world.scratch.write("other.pem", Pki::named("other").ca_pem);
    let platform = [("SSL_CERT_FILE", other.to_str().unwrap()), ("KMS_ENDPOINT", &unknown)];
    assert_gate(&platform, 3, &["UNREACHABLE (tls)", "--kms-ca"]);
}

#[test]
fn a_server_that_hangs_or_drips_is_given_up_in_time() {
    let hangs = || once(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let drips = || {
        once(|mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{");
            // Each byte comes in time; the whole never does.
            while stream.write_all(b" ").is_ok() {
                // A pause: this server is slow on purpose.
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let drips_head = || {
        once(|mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
            while stream.write_all(b"x").is_ok() {
                // A pause: this server is slow on purpose.
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let patience = ("HEALTH_TIMEOUT", "0.4");
    let said = "(timeout): no whole answer within 0.4 s";
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{}", hangs());
        let ca = World::new();
        let file = ca.scratch.write("ca.pem", &ca.pki.ca_pem);
        let trust = ("SIGNING_PROXY_CA", file.to_str().unwrap());
        assert_gate(&[("SIGNING_PROXY_URL", &url), trust, patience], 2, &[said]);
    }
    for address in [drips(), drips_head()] {
        assert_gate(&[("SIGNING_PROXY_URL", &format!("http://{address}")), patience], 2, &[said]);
    }
    for address in [hangs(), drips_head()] {
        assert_gate(&[("KMS_ENDPOINT", &format!("http://{address}")), patience], 3, &[said]);
    }
}

#[test]
fn a_server_that_lies_or_talks_nonsense_is_not_healthy() {
    let huge = format!("{{\"ok\": true, \"x\": \"{}\"}}", "x".repeat(2 << 20));
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/health\r\ncontent-length: 0\r\n\r\n";
    for (answer, words) in [
        (http("200 OK", "{}"), "(not_ok)"),
        (http("200 OK", "{\"ok\": false, \"reason\": \"sealed\"}"), "(sealed): HTTP 200; "),
        (http("200 OK", "{\"ok\": \"true\"}"), "(not_ok)"),
        (http("200 OK", "{\"ok\": true, \"mode\": \"breakglass\"}"), "(breakglass)"),
        (http("200 OK", "{\"ok\": true}"), "(bad_answer)"),
        (
            http("200 OK", &SIGNS.replace("[{\"signer_kid\": \"ec\", \"state\": \"open\"}]", "[]")),
            "(no_signers)",
        ),
        (http("200 OK", &SIGNS.replace("false", "true")), "(frozen): HTTP 200; "),
        (http("200 OK", &SIGNS.replace("open", "shut")), "(signer_not_open)"),
        (http("204 No Content", ""), "(bad_answer)"),
        (http("503 Service Unavailable", SIGNS), "(not_ok)"),
        (http("200 OK", "<html>all is well</html>"), "without JSON; is this a signing proxy?"),
        (http("200 OK", &huge), "beyond 1048576 bytes"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"ok\": true}".into(), "breaks off"),
        (redirect.into(), "HTTP 302"),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), "(no_answer)"),
        (String::new(), "(no_answer)"),
        (http("503 No", "{\"ok\": false, \"reason\": \"\\n::set-env name=X::\"}"), "(not_ok)"),
    ] {
        let (code, said) = gate(&[("SIGNING_PROXY_URL", &answering(answer))], &[]);
        assert_eq!(code, 2, "{words}: {said}");
        assert!(said.contains(words), "missing: {words}\n{said}");
        assert!(!said.contains("::set-env") && said.lines().count() == 1, "{said}");
    }
}
