//! Who calls: the identity that a verified client certificate states.

use std::fmt;

/// The name of a service, taken from the subject alternative names of a client
/// certificate that TLS has verified: its SPIFFE URI, else its DNS name.
///
/// Policies are written with the same words, so [`Caller::parse`] reads them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(String);

/// Longest name taken, in bytes (SPIFFE ID section 2.3 allows 2048; a longer
/// one would only fill logs).
const NAME_MAX_BYTES: usize = 2048;

/// Why a certificate or a policy names no caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// Neither kind of name is there.
    #[error(
        "the certificate has no SPIFFE URI and no DNS name among its subject alternative names"
    )]
    NoName,
    /// More than one of the kind that decides.
    #[error(
        "the certificate names {count} {kind}s, so which one calls is not certain; issue it with exactly one"
    )]
    Ambiguous {
        /// How many there are.
        count: usize,
        /// `SPIFFE URI` or `DNS name`.
        kind: &'static str,
    },
    /// The name is not of its form.
    #[error(
        "{name:?} is not a caller: expected spiffe://TRUST-DOMAIN/PATH or a DNS name in lower case"
    )]
    Malformed {
        /// The name as it was found.
        name: String,
    },
}

impl Caller {
    /// Names the caller from a verified certificate's subject alternative
    /// names: `uris` and `dns_names` in the certificate's order.
    ///
    /// Exactly one SPIFFE URI decides (X.509-SVID section 2: exactly one URI
    /// SAN); without a SPIFFE URI, exactly one DNS name does.
    ///
    /// # Errors
    /// Says why no caller can be named with certainty.
    pub fn from_subject_alternative_names(
        uris: &[&str],
        dns_names: &[&str],
    ) -> Result<Self, CallerError> {
        let has_spiffe = uris.iter().any(|uri| is_spiffe_scheme(uri));
        match (has_spiffe, uris, dns_names) {
            (true, [uri], _) => Self::parse(uri),
            (true, _, _) => Err(CallerError::Ambiguous { count: uris.len(), kind: "URI" }),
            (false, _, [name]) => Self::parse(name),
            (false, _, []) => Err(CallerError::NoName),
            (false, _, _) => {
                Err(CallerError::Ambiguous { count: dns_names.len(), kind: "DNS name" })
            }
        }
    }

    /// Reads a caller's name as policies and certificates spell it.
    ///
    /// # Errors
    /// [`CallerError::Malformed`] if it is neither form.
    pub fn parse(name: &str) -> Result<Self, CallerError> {
        let well_formed = name.len() <= NAME_MAX_BYTES
            && match name.strip_prefix("spiffe://") {
                Some(rest) => is_spiffe_id(rest),
                None => is_dns_name(name),
            };
        if well_formed {
            Ok(Self(name.to_owned()))
        } else {
            Err(CallerError::Malformed { name: name.chars().take(120).collect() })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_spiffe_scheme(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// SPIFFE ID sections 2.1 and 2.2: a lower-case trust domain, then a path of
/// non-empty segments, no dot segments, no query, no fragment, no escapes.
fn is_spiffe_id(rest: &str) -> bool {
    let Some((trust_domain, path)) = rest.split_once('/') else { return false };
    let domain_ok = !trust_domain.is_empty()
        && trust_domain
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    domain_ok
        && path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(
                    |b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_'),
                )
        })
}

/// RFC 1123 names in lower case, no wildcard: a wildcard names no one.
fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spiffe_uri_wins_over_dns_names() {
        let caller =
            Caller::from_subject_alternative_names(&["spiffe://prod.example/billing"], &["a", "b"]);
        assert_eq!(caller.unwrap().as_str(), "spiffe://prod.example/billing");
    }

    #[test]
    fn without_a_spiffe_uri_the_only_dns_name_counts() {
        let caller = Caller::from_subject_alternative_names(&["https://x"], &["billing.svc"]);
        assert_eq!(caller.unwrap().as_str(), "billing.svc");
    }

    #[test]
    fn doubt_names_no_caller() {
        for (uris, names) in [
            (&[][..], &[][..]),
            (&["spiffe://a/b", "spiffe://a/c"], &[]),
            (&["spiffe://a/b", "https://x"], &[]),
            (&[], &["a.example", "b.example"]),
            (&["https://x"], &[]),
            (&["SPIFFE://a/b"], &["a.example"]),
            (&["spiffe://a"], &["a.example"]),
            (&["spiffe://a/../b"], &[]),
            (&["spiffe://a//b"], &[]),
            (&["spiffe://A/b"], &[]),
            (&["spiffe://a/b%20c"], &[]),
            (&[], &["*.example"]),
            (&[], &["Upper.example"]),
            (&[], &["nul\0.example"]),
        ] {
            assert!(Caller::from_subject_alternative_names(uris, names).is_err(), "{uris:?}");
        }
    }
}
