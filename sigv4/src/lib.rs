//! AWS Signature Version 4 of a POST without a query, which is all that clients of KMS send. The
//! proxy makes such signatures for KMS, and checks those of its callers.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
//!
//! No clock and no randomness: times are arguments.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The algorithm: not the asymmetric `AWS4-ECDSA-P256-SHA256`, nor a streaming one.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How a scope ends.
pub const TERMINATOR: &str = "aws4_request";
/// So many characters of a time are its day: `20261125` of `20261125T140311Z`.
pub const DAY_CHARS: usize = 8;

/// A secret access key, as HMAC begins with it. Never printed; wiped on drop.
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Takes a copy of `secret`.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let mut key = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        key.extend_from_slice(b"AWS4");
        key.extend_from_slice(secret.as_bytes());
        Self(key)
    }
}

/// What signs the requests of one day, in one region, for one service. Never printed.
pub struct SigningKey {
    scope: String,
    key: hmac::Key,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Derives it. `day` is `20261125`.
    #[must_use]
    pub fn new(secret: &Secret, day: &str, region: &str, service: &str) -> Self {
        let of_secret = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
        let key = [day, region, service, TERMINATOR].iter().fold(of_secret, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        });
        Self { scope: format!("{day}/{region}/{service}/{TERMINATOR}"), key }
    }

    /// What it signs for: `20261125/eu-central-1/kms/aws4_request`.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The signature of a canonical request, in hex. `at` is its time: `20261125T140311Z`.
    #[must_use]
    pub fn sign(&self, at: &str, canonical_request: &str) -> String {
        hex::encode(hmac::sign(&self.key, self.to_sign(at, canonical_request).as_bytes()))
    }

    /// Whether `signature` is that of the request. The time that it takes says nothing of where
    /// it differs.
    #[must_use]
    pub fn has_signed(&self, at: &str, canonical_request: &str, signature: &[u8; 32]) -> bool {
        let to_sign = self.to_sign(at, canonical_request);
        hmac::verify(&self.key, to_sign.as_bytes(), signature).is_ok()
    }

    fn to_sign(&self, at: &str, canonical_request: &str) -> String {
        let hash = hex_of_sha256(canonical_request.as_bytes());
        format!("{ALGORITHM}\n{at}\n{}\n{hash}", self.scope)
    }
}

/// A POST to `/` without a query, as it is signed. `headers` are in lower case and sorted; each
/// occurs once. `body_hash` is [`hex_of_sha256`] of the body.
#[must_use]
pub fn canonical_request<'n, 'v>(
    headers: impl Iterator<Item = (&'n str, &'v str)> + Clone,
    body_hash: &str,
) -> String {
    let mut text = String::with_capacity(512);
    text.push_str("POST\n/\n\n");
    for (name, value) in headers.clone() {
        text.push_str(name);
        text.push(':');
        // Blanks around and between words count as one.
        let words = value.split(' ').filter(|word| !word.is_empty());
        push_joined(&mut text, words, ' ');
        text.push('\n');
    }
    text.push('\n');
    push_joined(&mut text, headers.map(|(name, _)| name), ';');
    // Writing into a string does not fail.
    let _ = write!(text, "\n{body_hash}");
    text
}

/// SHA-256 in hex, as it stands in signed texts.
#[must_use]
pub fn hex_of_sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

fn push_joined<'p>(text: &mut String, parts: impl Iterator<Item = &'p str>, between: char) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            text.push(between);
        }
        text.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use proptest::prelude::*;

    use super::*;

    const AT: &str = "20261125T140311Z";

    /// The signature that AWS's own crate makes.
    fn of_aws(secret: &str, region: &str, headers: &[(String, String)], body: &[u8]) -> String {
        let identity = Credentials::new("AKID", secret, None, None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("kms")
            .time(UNIX_EPOCH + Duration::from_secs(1_795_615_391))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = SignableBody::Bytes(body);
        let request = SignableRequest::new("POST", "https://kms.example/", pairs, body).unwrap();
        sign(request, &params).unwrap().into_parts().1
    }

    proptest! {
        #[test]
        fn signatures_are_those_of_awss_own_crate(
            secret in "[!-~]{1,60}",
            region in "[a-z0-9-]{1,20}",
            target in "[A-Za-z.]{1,30}",
            agent in "[a-z/0-9]{1,9}( {1,3}[a-z/0-9]{1,9}){0,3}",
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let own = [("x-amz-target".to_owned(), target), ("x-amz-user-agent".to_owned(), agent)];
            let expected = of_aws(&secret, &region, &own, &body);
            let mut headers = vec![("host", "kms.example"), ("x-amz-date", AT)];
            headers.extend(own.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let hash = hex_of_sha256(&body);
            let request = canonical_request(headers.iter().copied(), &hash);
            let key = SigningKey::new(&Secret::new(&secret), &AT[..DAY_CHARS], &region, "kms");
            prop_assert_eq!(key.sign(AT, &request), expected);
        }
    }

    #[test]
    fn the_example_of_awss_reference_has_its_signing_key() {
        // "Deriving the signing key", AWS General Reference: the key for 20120215, us-east-1, iam.
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let derived = SigningKey::new(&secret, "20120215", "us-east-1", "iam").key;
        let known = "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d";
        let known = hmac::Key::new(hmac::HMAC_SHA256, &hex::decode(known).unwrap());
        assert_eq!(hmac::sign(&derived, b"a").as_ref(), hmac::sign(&known, b"a").as_ref());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = Secret::new("wJalrXUtnFEMI");
        let key = SigningKey::new(&secret, "20261125", "eu-central-1", "kms");
        let said = format!("{secret:?} {key:?}");
        assert_eq!(
            said,
            r#"Secret(..) SigningKey { scope: "20261125/eu-central-1/kms/aws4_request", .. }"#
        );
    }
}
