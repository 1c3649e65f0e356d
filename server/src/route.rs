//! What may be asked for, and by which method.

use std::borrow::Cow;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use signing_core::{Reason, Refusal};

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Sign,
    Verify,
    /// KMS's own wire form, whatever its target.
    Kms,
    Signers,
    PublicKeyPem,
    PublicKeyDer {
        kid: String,
    },
    /// Its kid is in the body.
    PublicKeyAsked,
    Health,
    Live,
    Ready,
    /// What all of this is, for programs.
    OpenApi,
}

/// The resource of a path and the one method it takes.
pub(super) fn route(path: &str) -> Result<(Resource, Method), Refusal> {
    Ok(match path {
        "/v1/sign" | "/sign" | "/signData" | "/sign/hash" | "/sign/canonical" => {
            (Resource::Sign, Method::POST)
        }
        "/v1/verify" | "/verify" => (Resource::Verify, Method::POST),
        "/" => (Resource::Kms, Method::POST),
        "/v1/signers" => (Resource::Signers, Method::GET),
        "/publicKey" => (Resource::PublicKeyAsked, Method::POST),
        "/public-key" => (Resource::PublicKeyPem, Method::GET),
        "/health" | "/ping" => (Resource::Health, Method::GET),
        "/livez" => (Resource::Live, Method::GET),
        "/readyz" => (Resource::Ready, Method::GET),
        "/openapi.json" => (Resource::OpenApi, Method::GET),
        _ => match path.strip_prefix("/publicKeys/") {
            Some(kid) if !kid.is_empty() => {
                (Resource::PublicKeyDer { kid: decoded(kid)?.into_owned() }, Method::GET)
            }
            _ => {
                return Err(Refusal::new(
                    Reason::NotFound,
                    "no such path; POST /v1/sign, POST /v1/verify, GET /v1/signers, GET /health, GET /openapi.json",
                ));
            }
        },
    })
}

/// The value of `kid` in a query; None if it is not there.
pub(super) fn kid_of_query(uri: &Uri) -> Result<Option<String>, Refusal> {
    let mut kids = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("kid="))
        .map(|kid| decoded(kid).map(Cow::into_owned));
    match (kids.next(), kids.next()) {
        (None, _) => Ok(None),
        (Some(kid), None) => kid.map(Some),
        (Some(_), Some(_)) => Err(invalid("\"kid\" is given twice")),
    }
}

/// Undoes percent-encoding (RFC 3986 2.1). A plus stands for itself.
fn decoded(text: &str) -> Result<Cow<'_, str>, Refusal> {
    percent_decode_str(text).decode_utf8().map_err(|_| invalid("the kid is not UTF-8"))
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_may_hold_whatever_a_kid_may_hold() {
        let kid = |path: &str| match route(path).unwrap().0 {
            Resource::PublicKeyDer { kid } => kid,
            other => panic!("{other:?}"),
        };
        assert_eq!(kid("/publicKeys/a"), "a");
        assert_eq!(kid("/publicKeys/arn:aws:kms:eu:1:key/2"), "arn:aws:kms:eu:1:key/2");
        assert_eq!(kid("/publicKeys/a%2Fb+c"), "a/b+c");
        assert!(route("/publicKeys/").is_err());
        assert!(route("/publicKeys/%ff").is_err());
        let query = |uri: &str| kid_of_query(&uri.parse().unwrap());
        assert_eq!(query("/public-key").unwrap(), None);
        assert_eq!(query("/public-key?x=1&kid=a%3Ab").unwrap(), Some("a:b".to_owned()));
        assert!(query("/public-key?kid=a&kid=b").is_err());
    }
}
