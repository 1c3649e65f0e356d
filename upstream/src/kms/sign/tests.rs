//! Both clients say the same of the same answers, and ask in the same words.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use proptest::prelude::*;
use signing_core::key::{KeyKind, PublicKey};
use signing_core::{Algorithm, AttemptsId};
use tokio::runtime::Runtime;

use super::*;
use crate::kms::{CredentialChain, KmsUpstream, clients};
use crate::retry::RetryBudget;
use crate::settings::{AwsKms, Client, Proxies};

const KEY_ID: &str = "alias/a\"b";
const TOKEN: &str = "session/token==";

/// What the other end does with a request.
#[derive(Clone, Debug)]
enum Answer {
    /// Sends these bytes, and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes, and closes the connection.
    Closing(Vec<u8>),
}

/// A request as it came.
#[derive(Debug)]
struct Came {
    head: Vec<(String, String)>,
    body: Vec<u8>,
    /// Of which connection, from 0.
    connection: usize,
}

/// Another end that answers as it is told to.
struct OtherEnd {
    endpoint: String,
    answers: SyncSender<Answer>,
    came: Receiver<Came>,
}

impl OtherEnd {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (answers, told) = sync_channel::<Answer>(64);
        let (tell, came) = sync_channel(64);
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                let _ = serve(connection.unwrap(), number, &told, &tell);
            }
        });
        Self { endpoint, answers, came }
    }
}

/// Serves one connection until it ends. One at a time: what is tested asks for nothing at once.
fn serve(
    mut connection: TcpStream,
    number: usize,
    told: &Receiver<Answer>,
    tell: &SyncSender<Came>,
) -> Option<()> {
    loop {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).ok()?;
            text.push(byte[0]);
        }
        let text = String::from_utf8(text).unwrap();
        let head: Vec<_> = text.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        let head = head.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned()));
        let head: Vec<_> = head.collect();
        let length = head.iter().find(|(name, _)| name == "content-length").unwrap();
        let mut body = vec![0; length.1.parse().unwrap()];
        connection.read_exact(&mut body).ok()?;
        tell.send(Came { head, body, connection: number }).ok()?;
        match told.recv().ok()? {
            Answer::Bytes(bytes) => connection.write_all(&bytes).ok()?,
            Answer::Closing(bytes) => {
                let _ = connection.write_all(&bytes);
                return None;
            }
        }
    }
}

impl Came {
    fn header(&self, name: &str) -> &str {
        self.head.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Any P-256 key: what is asked depends on its kind.
fn public_key() -> PublicKey {
    let key = development::DevelopmentKey::generate(KeyKind::P256).unwrap();
    PublicKey::from_spki_der(key.public_key_der(), Algorithm::EcdsaSha256).unwrap()
}

fn upstream(runtime: &Runtime, client: Client, endpoint: &str) -> KmsUpstream {
    let config = AwsKms {
        key_id: KEY_ID.to_owned(),
        region: "eu-test-1".to_owned(),
        endpoint: endpoint.to_owned(),
        client,
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(20),
        retries_per_second_max: 0,
        proxies: Proxies::default(),
    };
    let credentials = CredentialChain::holding("AKIDTEST", "secret/+x", Some(TOKEN));
    let (sdk, sign_calls) = runtime.block_on(clients(&config, &credentials));
    assert_eq!(sign_calls.is_some(), client == Client::Lean);
    KmsUpstream {
        client: sdk,
        sign_calls,
        credentials,
        key_id: config.key_id,
        region: config.region,
        public_key: Arc::new(public_key()),
        call_timeout: config.call_timeout,
        retries: Arc::new(RetryBudget::new(0)),
        arn: Arc::new(ArcSwapOption::empty()),
    }
}

/// Both clients, each with another end of its own.
struct Both {
    runtime: Runtime,
    lean: (OtherEnd, KmsUpstream),
    sdk: (OtherEnd, KmsUpstream),
}

type Said = (Option<UpstreamRequestId>, Result<Signed, CallFailed>);

impl Both {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let of = |client| {
            let end = OtherEnd::new();
            let upstream = upstream(&runtime, client, &end.endpoint);
            (end, upstream)
        };
        let (lean, sdk) = (of(Client::Lean), of(Client::Sdk));
        Self { runtime, lean, sdk }
    }

    fn ask(&self, bytes: &[u8], kind: &MessageType, answer: &Answer) -> [(Said, Came); 2] {
        [&self.lean, &self.sdk].map(|(end, upstream)| {
            end.answers.send(answer.clone()).unwrap();
            let algorithm = SigningAlgorithmSpec::EcdsaSha256;
            let message = Message { bytes, kind, algorithm: &algorithm };
            let attempt = AttemptsId::new([7; 16]).number(3);
            let called = self.runtime.block_on(upstream.sign_call(message, attempt));
            ((called.request_id, called.answer), end.came.recv().unwrap())
        })
    }

    /// What both say of an answer, which is the same.
    fn say(&self, answer: &Answer) -> Said {
        let [(lean, _), (sdk, _)] = self.ask(b"m", &MessageType::Raw, answer);
        assert_eq!(lean, sdk, "{answer:?}");
        lean
    }
}

fn http(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(
        format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into(),
    )
}

const GOOD: &str = r#"{"KeyId":"arn:k","Signature":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}"#;
const ID: &str = "x-amzn-requestid: b5a1f0de\r\n";

#[test]
fn both_clients_ask_in_the_same_words_and_sign_as_awss_own_crate_does() {
    let both = Both::new();
    for (bytes, kind) in [
        (&b"hello"[..], MessageType::Raw),
        (&[0xff; 32], MessageType::Digest),
        (b"", MessageType::Raw),
    ] {
        let [(said, lean), (_, sdk)] = both.ask(bytes, &kind, &http(200, ID, GOOD));
        assert_eq!(said.1.unwrap().signature.unwrap(), [1, 2, 3]);
        let body = |came: &Came| serde_json::from_slice::<serde_json::Value>(&came.body).unwrap();
        assert_eq!(body(&lean), body(&sdk));
        for name in [
            "content-type",
            "x-amz-target",
            "user-agent",
            "x-amz-user-agent",
            "x-amz-security-token",
        ] {
            assert_eq!(lean.header(name), sdk.header(name), "{name}");
            assert!(!lean.header(name).is_empty(), "{name}");
        }
        assert_eq!(lean.header("authorization"), authorization(&lean, &both.lean.0.endpoint));
    }
}

/// The header that AWS's own crate gives such a request.
fn authorization(came: &Came, endpoint: &str) -> String {
    let at = came.header("x-amz-date");
    let number = |from: usize, to: usize| at[from..to].parse::<u8>().unwrap();
    let month = time::Month::try_from(number(4, 6)).unwrap();
    let date = time::Date::from_calendar_date(at[..4].parse().unwrap(), month, number(6, 8));
    let time = time::Time::from_hms(number(9, 11), number(11, 13), number(13, 15)).unwrap();
    let at = time::PrimitiveDateTime::new(date.unwrap(), time).assume_utc().unix_timestamp();
    let token = Some(TOKEN.to_owned());
    let identity = Credentials::new("AKIDTEST", "secret/+x", token, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-test-1")
        .name("kms")
        .time(UNIX_EPOCH + Duration::from_secs(at.try_into().unwrap()))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let own = ["content-type", "x-amz-target", "x-amz-user-agent"];
    let headers = own.iter().map(|name| (*name, came.header(name)));
    let uri = format!("{endpoint}/");
    let body = SignableBody::Bytes(&came.body);
    let request = SignableRequest::new("POST", &uri, headers, body).unwrap();
    let signed = sign(request, &params).unwrap().into_parts().0;
    let mut headers = signed.headers();
    headers.find(|(name, _)| *name == "authorization").unwrap().1.to_owned()
}

#[test]
fn both_clients_say_the_same_of_every_kind_of_answer() {
    let both = Both::new();
    let closing = |bytes: &str| Answer::Closing(bytes.as_bytes().to_vec());
    let long = format!("HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{GOOD}");
    let typed = "x-amzn-errortype: DisabledException:http://a/\r\n";
    let mut answers = vec![
        http(200, ID, GOOD),
        http(200, "x-amz-request-id: other\r\n", GOOD),
        http(200, "", "{}"),
        http(200, "", r#"{"KeyId":null,"Signature":null,"More":[1,{}]}"#),
        http(200, "", r#"{"KeyId":7}"#),
        http(200, "", r#"{"Signature":"!"}"#),
        http(200, "", r#"{"Signature":"AQ"}"#),
        http(200, "", "[]"),
        http(200, "", "not JSON"),
        http(200, "", &format!("{GOOD}x")),
        http(400, typed, "{}"),
        http(400, typed, ""),
        http(400, typed, "<html>"),
        http(400, typed, r#"{"__type":"NotFoundException"}"#),
        http(400, "", r#"{"__type":"com.amazonaws.kms#NotFoundException"}"#),
        http(400, "", r#"{"code":"Throttling","__type":"X"}"#),
        http(400, "", r#"{"code":7,"__type":"SlowDown:x#y"}"#),
        http(302, "location: http://127.0.0.1:1/\r\n", ""),
        closing(&long),
        closing("HTTP/1.1 200 x\r\n"),
        closing("junk\r\n\r\n"),
        closing(""),
        http(200, ID, GOOD),
    ];
    // Every error type of `Sign`, and those that AWS's services have in common.
    for code in [
        "DependencyTimeoutException",
        "DisabledException",
        "DryRunOperationException",
        "InvalidGrantTokenException",
        "InvalidKeyUsageException",
        "KMSInternalException",
        "KMSInvalidStateException",
        "KeyUnavailableException",
        "NotFoundException",
        "ThrottlingException",
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InternalFailure",
        "InvalidClientTokenId",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "ServiceUnavailable",
        "UnrecognizedClientException",
        "ValidationException",
        "SomethingNewException",
    ] {
        for status in [400, 403, 429, 500, 503] {
            answers.push(http(status, ID, &format!(r#"{{"__type":"{code}","message":"m"}}"#)));
        }
    }
    let failed = answers.iter().filter(|answer| both.say(answer).1.is_err()).count();
    assert_eq!(answers.len() - failed, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_clients_say_the_same_of_any_answer(
        status in prop_oneof![200..205u16, 300..308u16, 400..430u16, 500..505u16],
        body in prop_oneof![
            Just(String::new()),
            "[ -~]{0,40}",
            r#"\{"(code|__type|message|KeyId|Signature)":("[A-Za-z:#]{0,12}"|null|7|\{\})\}"#,
            r#"\{"__type":"[A-Za-z#]{1,20}"\}[ x]?"#,
        ],
        id in "[a-z0-9-]{0,40}",
    ) {
        // No content, and none after a 1xx or 304: what comes then is of the next answer.
        prop_assume!(status != 204 && status != 304);
        let both = Both::new();
        let _ = both.say(&http(status, &format!("x-amzn-requestid: {id}\r\n"), &body));
    }
}

#[test]
fn the_connections_are_kept_and_one_with_an_ill_end_is_not() {
    let both = Both::new();
    let ask = |answer: &Answer| {
        both.ask(b"m", &MessageType::Raw, answer).map(|(_, came)| came.connection)
    };
    assert_eq!(ask(&http(200, ID, GOOD)), [0, 0]);
    assert_eq!(ask(&http(400, ID, r#"{"__type":"NotFoundException"}"#)), [0, 0]);
    assert_eq!(ask(&http(503, "", "ill")), [0, 0]);
    assert_eq!(ask(&http(200, ID, GOOD)), [1, 1]);
}

#[test]
fn what_cannot_be_reached_was_not_sent() {
    let both = Both::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = [Client::Lean, Client::Sdk].map(|client| {
        let upstream = upstream(&both.runtime, client, &format!("http://{closed}"));
        let algorithm = SigningAlgorithmSpec::EcdsaSha256;
        let message = Message { bytes: b"m", kind: &MessageType::Raw, algorithm: &algorithm };
        let attempt = AttemptsId::new([7; 16]).number(1);
        both.runtime.block_on(upstream.sign_call(message, attempt)).answer.unwrap_err()
    });
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0].fault, signing_core::evidence::Fault::Unavailable);
}

#[test]
fn an_answer_without_end_is_not_taken_in() {
    let (runtime, end) = (Both::new().runtime, OtherEnd::new());
    let upstream = upstream(&runtime, Client::Lean, &end.endpoint);
    let body = format!("{GOOD}{}", " ".repeat(ANSWER_MAX_BYTES));
    end.answers.send(http(200, "", &body)).unwrap();
    let algorithm = SigningAlgorithmSpec::EcdsaSha256;
    let message = Message { bytes: b"m", kind: &MessageType::Raw, algorithm: &algorithm };
    let attempt = AttemptsId::new([7; 16]).number(1);
    let failed = runtime.block_on(upstream.sign_call(message, attempt)).answer.unwrap_err();
    assert_eq!(failed, CallFailed::unreadable());
}

#[test]
fn a_key_is_made_for_each_day_and_for_other_credentials() {
    let runtime = Both::new().runtime;
    let upstream = upstream(&runtime, Client::Lean, "https://kms.example:443");
    let calls = upstream.sign_calls.unwrap();
    assert_eq!(
        (calls.host.as_str(), calls.uri.as_str()),
        ("kms.example", "https://kms.example:443/")
    );
    let credentials = Credentials::new("A", "s", None, None, "test");
    let of = |at: &str, serial| calls.of_today(at, serial, &credentials);
    let first = of("20261125T235959Z", 1);
    assert!(Arc::ptr_eq(&first, &of("20261125T000000Z", 1)));
    let next = of("20261126T000000Z", 1);
    assert!(next.key.scope().starts_with("20261126/") && !Arc::ptr_eq(&first, &next));
    assert!(!Arc::ptr_eq(&next, &of("20261126T000000Z", 2)));
}

#[test]
fn an_endpoint_with_a_path_is_left_to_the_sdk() {
    let both = Both::new();
    let pool = crate::kms::Https::new(&Proxies::default()).pool(&Default::default());
    let of = |endpoint: &str| SignCalls::new(pool.clone(), endpoint, "r", "k").is_some();
    drop(both);
    assert!(of("https://kms.example") && of("http://[::1]:8080/"));
    assert!(!of("https://kms.example/kms") && !of("https://kms.example/?a") && !of("kms.example"));
}
