//! Requests that AWS's own signer signed are taken, and no change of one is.

use std::time::{Duration as Span, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::Request;
use http::header::HeaderName;
use proptest::prelude::*;

use super::*;

const ID: &str = "AKIALOCALCALLER00001";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const AT: i64 = 1_795_615_391;
/// Tried of each request: times the cases of a campaign that is a million.
const MUTATIONS: usize = 20;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(AT).unwrap()
}

/// A request of KMS's clients, signed by the signer of AWS's own SDK.
fn signed(region: &str, target: &str, host: &str, body: &[u8], token: Option<&str>) -> Parts {
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://{host}/"))
        .header("host", host)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", target)
        .body(())
        .unwrap();
    let credentials = Credentials::new(ID, SECRET, token.map(str::to_owned), None, "test");
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(UNIX_EPOCH + Span::from_secs(u64::try_from(AT).unwrap()))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = request.uri().to_string();
    let headers = request.headers().iter();
    let headers: Vec<_> =
        headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let signable =
        SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    // As it arrives over HTTP/1.1.
    *request.uri_mut() = "/".parse().unwrap();
    request.into_parts().0
}

fn plain() -> (Parts, Vec<u8>) {
    let body = br#"{"KeyId":"ec","Message":"aGk=","SigningAlgorithm":"ECDSA_SHA_256"}"#.to_vec();
    (signed("eu-central-1", "TrentService.Sign", "localhost:8444", &body, None), body)
}

fn check(head: &Parts, body: &[u8], now: OffsetDateTime) -> Result<(), NotProven> {
    match Claim::read(head)? {
        Some(claim) if claim.access_key_id == ID => {
            claim.check(&Secret::new(SECRET), head, body, now)
        }
        Some(_) | None => Err(NotProven::new(Fault::Unknown, "nobody's")),
    }
}

fn set(head: &mut Parts, name: &str, value: &str) {
    let name: HeaderName = name.parse().unwrap();
    head.headers.insert(name, value.parse().unwrap());
}

fn text(head: &Parts, name: &str) -> String {
    head.headers[name].to_str().unwrap().to_owned()
}

#[test]
fn what_the_sdks_own_signer_signs_is_taken() {
    for region in ["eu-central-1", "us-gov-west-1", "local"] {
        for target in ["TrentService.Sign", "TrentService.DescribeKey"] {
            for host in ["localhost", "127.0.0.1:8444", "[::1]:8444"] {
                for body in [&b""[..], b"{}", &[0xff; 4096]] {
                    for token in [None, Some("a/session+token==")] {
                        let head = signed(region, target, host, body, token);
                        assert_eq!(check(&head, body, now()), Ok(()), "{region} {target} {host}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_clocks_may_be_five_minutes_apart() {
    let (head, body) = plain();
    for (seconds, taken) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
        let at = now() + Duration::seconds(seconds);
        assert_eq!(check(&head, &body, at).is_ok(), taken, "{seconds} s");
    }
    let fault = check(&head, &body, now() + Duration::hours(1)).unwrap_err();
    assert_eq!(fault.fault, Fault::Invalid);
    assert!(fault.refusal.detail.contains("3600 s"), "{fault:?}");
}

/// What of a request is changed, each with the fault that shows.
type Change = (&'static str, fn(&mut Parts), Fault);

#[test]
fn other_forms_of_signatures_are_refused_by_name() {
    fn authorization(head: &mut Parts, change: impl Fn(String) -> String) {
        let changed = change(text(head, "authorization"));
        set(head, "authorization", &changed);
    }
    let changes: [Change; 14] = [
        ("presigned", |head| head.uri = "/?X-Amz-Signature=00".parse().unwrap(), Fault::Incomplete),
        (
            "SigV4a",
            |head| {
                authorization(head, |text| {
                    text.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
                });
            },
            Fault::Incomplete,
        ),
        ("unsigned payload", |head| set(head, CONTENT_SHA256, "UNSIGNED-PAYLOAD"), Fault::Invalid),
        (
            "streaming",
            |head| {
                set(head, CONTENT_SHA256, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
            },
            Fault::Invalid,
        ),
        ("a path", |head| head.uri = "/v1/sign".parse().unwrap(), Fault::Invalid),
        ("a query", |head| head.uri = "/?x=1".parse().unwrap(), Fault::Invalid),
        ("a method", |head| head.method = Method::PUT, Fault::Invalid),
        (
            "another service",
            |head| {
                authorization(head, |text| text.replace("/kms/", "/sts/"));
            },
            Fault::Invalid,
        ),
        (
            "no date",
            |head| {
                head.headers.remove(DATE);
            },
            Fault::Incomplete,
        ),
        (
            "another day",
            |head| {
                authorization(head, |text| text.replace("/20261125/", "/20261124/"));
            },
            Fault::Invalid,
        ),
        (
            "an unsigned target",
            |head| {
                authorization(head, |text| text.replace(";x-amz-target", ""));
            },
            Fault::Incomplete,
        ),
        (
            "unsorted headers",
            |head| {
                authorization(head, |text| text.replace("content-type;host", "host;content-type"));
            },
            Fault::Incomplete,
        ),
        (
            "a field twice",
            |head| {
                authorization(head, |text| format!("{text}, Signature=00"));
            },
            Fault::Incomplete,
        ),
        (
            "two headers",
            |head| {
                let value = head.headers[AUTHORIZATION].clone();
                head.headers.append(AUTHORIZATION, value);
            },
            Fault::Incomplete,
        ),
    ];
    for (name, change, fault) in changes {
        let (mut head, body) = plain();
        assert_eq!(check(&head, &body, now()), Ok(()));
        change(&mut head);
        assert_eq!(check(&head, &body, now()).unwrap_err().fault, fault, "{name}");
    }
    let (mut head, body) = plain();
    head.headers.remove(AUTHORIZATION);
    assert_eq!(Claim::read(&head), Ok(None));
    let (mut head, _) = plain();
    set(&mut head, "x-amz-content-sha256", &sigv4::hex_of_sha256(&body));
    assert!(check(&head, &body, now()).is_ok(), "a hash that is right may stand there unsigned");
}

/// One change of a text: a character replaced, removed, or added.
fn mutated(text: &str, at: usize, with: u8, how: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % (bytes.len() + 1);
    let with = b'!' + with % 94;
    match how % 3 {
        0 if at < bytes.len() => bytes[at] = with,
        1 if at < bytes.len() => {
            bytes.remove(at);
        }
        _ => bytes.insert(at, with),
    }
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #[test]
    fn no_change_of_a_signed_request_is_taken(
        region in "[a-z]{2}-[a-z]{4,9}-[1-9]",
        host in "(localhost|127\\.0\\.0\\.1)(:[1-9][0-9]{3})?",
        body in prop::collection::vec(any::<u8>(), 0..200),
        token in prop::option::of("[a-zA-Z0-9/+=]{1,64}"),
        changes in prop::collection::vec(
            (0_u8..12, any::<usize>(), any::<u8>(), any::<u8>()), MUTATIONS),
    ) {
        let head = signed(&region, "TrentService.Sign", &host, &body, token.as_deref());
        prop_assert!(check(&head, &body, now()).is_ok());
        for (part, at, with, how) in changes {
            let (mut other, mut other_body) = (head.clone(), body.clone());
            let header = match part {
                0..=3 => Some("authorization"),
                4 => Some("host"),
                5 => Some(DATE),
                6 => Some("x-amz-target"),
                7 => Some("content-type"),
                8 => Some("x-amz-security-token").filter(|_| token.is_some()),
                _ => None,
            };
            if let Some(name) = header {
                let value = text(&head, name);
                // The scope, the names and the signature by turns.
                let from = if part == 0 { value.rfind('=').unwrap() + 1 } else { 0 };
                let changed = mutated(&value[from..], at, with, how);
                set(&mut other, name, &format!("{}{changed}", &value[..from]));
            } else if part == 9 {
                let methods = [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS];
                other.method = methods[at % methods.len()].clone();
            } else if part == 10 {
                let target = format!("/{}", mutated("", at, with, 2));
                let Ok(target) = target.parse() else { continue };
                other.uri = target;
            } else if other_body.is_empty() || how % 3 == 2 {
                other_body.insert(at % (other_body.len() + 1), with);
            } else if how % 3 == 1 {
                other_body.remove(at % other_body.len());
            } else {
                let length = other_body.len();
                other_body[at % length] ^= with.max(1);
            }
            // A blank between the fields of `Authorization` claims nothing.
            let claims_the_same = Claim::read(&other) == Claim::read(&head);
            let without = |head: &Parts| {
                let mut headers = head.headers.clone();
                headers.remove(AUTHORIZATION);
                headers
            };
            let is_the_same = claims_the_same
                && without(&other) == without(&head)
                && other.method == head.method
                && other.uri == head.uri
                && other_body == body;
            let taken = check(&other, &other_body, now());
            prop_assert!(taken.is_err() || is_the_same, "{other:?}");
        }
    }
}
