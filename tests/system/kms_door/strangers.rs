//! Clients of a local door that know a key id and no secret. Whatever they send, a caller's signed
//! request gets through.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use sigv4::{Secret, SigningKey};
use system_tests::{Strangers, World, eventually};
use time::OffsetDateTime;

use super::{ID, REGION, SECRET, with_key_pair};

/// More than one caller may have connections.
const STRANGERS: usize = 300;

/// A request as a client of KMS signs it, with that difference to a good one.
struct Signed<'s> {
    id: &'s str,
    secret: &'s str,
    /// How far its clock is behind.
    behind: Duration,
    /// What its list of signed headers has more than it sends.
    not_sent: &'s str,
}

const GOOD: Signed<'static> =
    Signed { id: ID, secret: SECRET, behind: Duration::ZERO, not_sent: "" };

impl Signed<'_> {
    /// Its head, which announces `length` bytes of a body.
    fn head(&self, place: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let now = OffsetDateTime::now_utc() - self.behind;
        let (day, time) = (now.date(), now.time());
        let (year, month) = (day.year(), u8::from(day.month()));
        let (hour, minute, second) = time.as_hms();
        let day = day.day();
        let at = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("host", place),
            ("x-amz-date", &at),
            ("x-amz-target", "TrentService.Sign"),
        ];
        let hash = sigv4::hex_of_sha256(body);
        let request = sigv4::canonical_request(headers.into_iter(), &hash);
        let key = SigningKey::new(&Secret::new(self.secret), &at[..8], REGION, "kms");
        let (id, scope, signature) = (self.id, key.scope(), key.sign(&at, &request));
        let not_sent = self.not_sent;
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "POST / HTTP/1.1\r\n{lines}authorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target{not_sent}, Signature={signature}\r\n\
             content-length: {length}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// What is answered to these bytes, as far as it comes at once.
fn answer(place: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut answer, mut some) = (String::new(), [0; 4096]);
    while !answer.contains('}') {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(read) => answer.push_str(&String::from_utf8_lossy(&some[..read])),
            Err(error) => panic!("no answer: {error}"),
        }
    }
    answer
}

fn body() -> Vec<u8> {
    json!({"KeyId": "ec", "Message": "aGk=", "SigningAlgorithm": "ECDSA_SHA_256"})
        .to_string()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_who_can_not_sign_keeps_no_signed_request_out() {
    let (world, key) = World::one_signer();
    // No body's time ends here: what ends a wait is the rule.
    let limits = "body_max_bytes = 4096\nbodies_per_caller_max_bytes = 16384\n\
                  body_read_timeout_ms = 600000";
    let builder = world.proxy().rare_canaries().server(limits).signer("ec", &key);
    let proxy = with_key_pair(&world, builder.caller("local:sdk", &["ec"])).start().await;
    let place = proxy.local[0].as_str();
    let wrong = Signed { secret: "nobody's", ..GOOD };
    for (name, sent) in [("nothing", None), ("one byte", Some(1)), ("half a body", Some(2000))] {
        let bytes = sent.map_or_else(Vec::new, |sent| {
            [wrong.head(place, 4096, b""), vec![b'x'; sent]].concat()
        });
        let strangers = Strangers::come(place, STRANGERS, 1, &bytes);
        eventually("strangers", || {
            std::future::ready((strangers.opened() >= STRANGERS).then_some(()))
        })
        .await;
        let body = body();
        let request = [GOOD.head(place, body.len(), &body), body].concat();
        for _ in 0..5 {
            let answered = tokio::task::block_in_place(|| answer(place, &request));
            assert!(answered.starts_with("HTTP/1.1 200 "), "strangers send {name}: {answered}");
        }
    }
}

#[tokio::test]
async fn what_the_head_of_a_signed_request_shows_to_be_wrong_is_said_before_its_body_comes() {
    let (world, key) = World::one_signer();
    let limits = "body_read_timeout_ms = 600000";
    let builder = world.proxy().rare_canaries().server(limits).signer("ec", &key);
    let proxy = with_key_pair(&world, builder.caller("local:sdk", &["ec"])).start().await;
    let place = proxy.local[0].as_str();
    for (signed, code) in [
        (Signed { id: "AKIANOBODY0000000000", ..GOOD }, "UnrecognizedClientException"),
        (Signed { behind: Duration::from_secs(360), ..GOOD }, "InvalidSignatureException"),
        (Signed { not_sent: ";x-amz-user-agent", ..GOOD }, "IncompleteSignatureException"),
    ] {
        let bytes = [signed.head(place, 100, b""), b"{".to_vec()].concat();
        let answered = answer(place, &bytes);
        assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
        assert!(answered.contains(code), "{answered}");
    }
}
