//! The same signature by KMS's wire form: with a certificate, and at a local door with a signature
//! of AWS, as an SDK asks for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sigv4::{ALGORITHM, DAY_CHARS, Secret, SigningKey, canonical_request, hex_of_sha256};
use time::OffsetDateTime;

use crate::parts::Part;
use crate::stage::DIGEST;

/// Who asks at the local door.
pub const LOCAL_CALLER: &str = "sdk";
/// The key pair of that caller.
pub const ACCESS_KEY_ID: &str = "AKIABENCHCALLER00001";
/// Its other half.
pub const SECRET_ACCESS_KEY: &str = "bench-secret-access-key-of-the-harness";

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const TARGET: &str = "TrentService.Sign";
const SIGNED_HEADERS: &str = "content-type;host;x-amz-date;x-amz-target";

/// A request to sign by KMS's wire form, with a certificate.
#[must_use]
pub fn with_certificate(part: Part) -> Vec<u8> {
    post("localhost", "", &body(part))
}

/// The same for the local door at `host` (`127.0.0.1:PORT`), signed at `now`. A door takes it for
/// five minutes.
#[must_use]
pub fn with_key_pair(part: Part, host: &str, now: OffsetDateTime) -> Vec<u8> {
    // Of `2026-11-23T15:07:23.042Z`, without what stands between the numbers.
    let at: String =
        host::clock::rfc3339(now).chars().filter(|sign| !"-:".contains(*sign)).collect();
    let at = format!("{}Z", at.split('.').next().unwrap_or_default());
    let day = at.get(..DAY_CHARS).unwrap_or_default();
    let key = SigningKey::new(&Secret::new(SECRET_ACCESS_KEY), day, "eu-test-1", "kms");
    let body = body(part);
    let headers = [
        ("content-type", CONTENT_TYPE),
        ("host", host),
        ("x-amz-date", &at),
        ("x-amz-target", TARGET),
    ];
    let canonical = canonical_request(headers.iter().copied(), &hex_of_sha256(body.as_bytes()));
    let signature = key.sign(&at, &canonical);
    let scope = key.scope();
    let proof = format!(
        "x-amz-date: {at}\r\nauthorization: {ALGORITHM} Credential={ACCESS_KEY_ID}/{scope}, \
         SignedHeaders={SIGNED_HEADERS}, Signature={signature}\r\n"
    );
    post(host, &proof, &body)
}

fn body(part: Part) -> String {
    json!({
        "KeyId": part.kid(),
        "Message": STANDARD.encode(DIGEST),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    })
    .to_string()
}

fn post(host: &str, proof: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: {CONTENT_TYPE}\r\nx-amz-target: {TARGET}\r\n\
         {proof}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
