//! What comes over HTTP beside what is to be signed: operators' bodies, paths, the answers of others.

use std::str::from_utf8;

use http::{Request, Uri};
use serde_json::Value;
use server::untrusted_input;
use signctl::cloudtrail::event::{self, Event, Logged};
use signctl::cloudtrail::read::{NotRead, RECORD_MAX_BYTES, records};
use signctl::endpoint::{self, Verdict};
use signctl::failure::Failure;
use signctl::judge::judge;
use signctl::target::Target;
use signing_core::Kid;
use signing_proxy::admin::untrusted_input as admin;
use time::OffsetDateTime;

use super::{breakglass, choose, header_map};

/// A body on the admin socket: what is recorded of it is one line, and names what can be named.
pub(super) fn admin_body(bytes: &[u8]) {
    const PATHS: [&str; 6] = [
        "/v1/freeze",
        "/v1/unseal",
        "/v1/drill",
        "/v1/breakglass/activate",
        "/v1/breakglass/end",
        "/v1/breakglass/destroy",
    ];
    let Some((path, body)) = choose(&PATHS, bytes) else { return };
    let Ok(asked) = admin::asked(path, body) else { return };
    if let Some(reason) = &asked.reason {
        assert!((1..=1024).contains(&reason.chars().count()) && reason.trim() == reason);
        assert!(!reason.contains(char::is_control));
    }
    assert!(asked.kid.is_none_or(|kid| Kid::parse(kid.as_str()).as_ref() == Ok(&kid)));
    asked.request.iter().for_each(breakglass::within_limits);
}

/// The target of a request: a kid in it is the same however it is written.
pub(super) fn resource(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    let Ok((method, Some(kid))) = untrusted_input::resource(&uri) else { return };
    let encoded: String = kid.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = if uri.path().starts_with("/publicKeys/") {
        format!("/publicKeys/{encoded}")
    } else {
        format!("/public-key?kid={encoded}")
    };
    let again = path.parse().map(|uri| untrusted_input::resource(&uri));
    let again = again.unwrap_or_else(|error| panic!("{error}: {path}"));
    assert_eq!(again, Ok((method, Some(kid))));
}

/// What a pipeline is told: healthy only if nothing in the answer says otherwise. And where it asks.
pub(super) fn gate_answer(bytes: &[u8]) {
    const STATUS: [u16; 6] = [200, 201, 302, 403, 500, 503];
    let Some((status, body)) = choose(&STATUS, bytes) else { return };
    if let Some(target) = from_utf8(body).ok().and_then(|url| Target::parse(url, "/health").ok()) {
        assert!(!target.host.is_empty() && !target.authority.contains('@'));
        assert!(target.path.starts_with('/') && target.path.ends_with("/health"));
    }
    let body: Option<Value> = serde_json::from_slice(body).ok();
    match endpoint::judge(*status, false, body.as_ref()) {
        Verdict::Reachable(_) => {
            let says_no =
                body.as_ref().and_then(|body| body.get("ok")).is_some_and(|ok| ok != true);
            assert!(*status < 500 && !says_no, "{status} {body:?}");
        }
        Verdict::Fails(failure) | Verdict::NoEvidence(failure) => is_word(&failure),
    }
    match judge(*status, body.as_ref()) {
        Ok(_) => is_healthy(*status, &body.unwrap_or_default()),
        Err(failure) => is_word(&failure),
    }
}

fn is_word(failure: &Failure) {
    let is_word = failure.reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(is_word && (1..=64).contains(&failure.reason.len()), "{failure:?}");
}

fn is_healthy(status: u16, body: &Value) {
    let signers = body.get("signers").and_then(Value::as_array);
    let signers = signers.unwrap_or_else(|| panic!("healthy without signers"));
    assert_eq!(status, 200);
    assert_eq!(body.get("ok"), Some(&Value::Bool(true)));
    assert_eq!(body.get("mode"), Some(&Value::from("normal")));
    assert!(matches!(body.get("frozen"), None | Some(Value::Bool(false))));
    assert!(!signers.is_empty());
    for signer in signers {
        assert_eq!(signer.get("state"), Some(&Value::from("open")));
        assert_eq!(signer.get("reason"), None);
    }
}

/// The `Date` of an endpoint's answer: once it is there, nothing that follows changes it.
pub(super) fn upstream_date(bytes: &[u8]) {
    let date = signing_proxy::doctor::date(bytes);
    let Some(whole) = date else { return };
    let more = [bytes, b"\r\nDate: Tue, 24 Nov 2026 22:18:59 GMT\r\n\r\n"].concat();
    assert_eq!(signing_proxy::doctor::date(&more), Some(whole));
}

/// A request with a signature of AWS: a line with its method and target, its headers, an empty line,
/// its body.
pub(super) fn aws_signature(bytes: &[u8]) {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(at);
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.splitn(2, |byte| *byte == b'\n');
    let first = lines.next().and_then(|first| from_utf8(first).ok()).unwrap_or_default();
    let (method, target) = first.split_once(' ').unwrap_or((first, ""));
    let Ok(request) = Request::builder().method(method).uri(target).body(()) else { return };
    let (mut head, ()) = request.into_parts();
    head.headers = header_map(lines.next().unwrap_or_default());
    // When the signatures of the corpus were made.
    let Ok(now) = OffsetDateTime::from_unix_timestamp(1_795_615_391) else { return };
    if let Ok(Some((id, holds))) = untrusted_input::aws_signature(&head, body, now) {
        assert!(!holds, "a secret that nobody has made it");
        assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// A file of CloudTrail: each record is within its bound, and what is read of one reads the same after it was sorted.
pub(super) fn cloudtrail(bytes: &[u8]) {
    let _ = records(bytes, |record| {
        assert!(!record.is_empty() && record.len() <= RECORD_MAX_BYTES);
        if let Ok(Logged::Sign(event)) = event::read(record) {
            assert!(event.principal.len() <= 256 && event.agent.len() <= 256);
            assert!(event.attempt.is_none_or(|attempt| attempt.number > 0));
            let kept = serde_json::to_vec(&event).unwrap();
            let again: Event = signing_core::json::from_slice(&kept).unwrap();
            assert_eq!(again, *event);
        }
        Ok::<_, NotRead>(())
    });
}
