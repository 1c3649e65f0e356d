//! Who calls: the identity that a verified client certificate states, or that a local door proves.

use std::fmt;

/// The name of a service. Either it is taken from the subject alternative names of a client
/// certificate that TLS has verified: its SPIFFE URI, else its DNS name. Or a local door has proved
/// it: `local:NAME`.
///
/// Each form of name has a constructor of its own, and no name is of two forms. So a
/// name of one form in a certificate never makes a caller of another form: an authority
/// that may issue only one of them would otherwise issue the other.
///
/// Policies are written with the same words, so [`Caller::parse`] reads them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(String);

/// Longest name taken, in bytes (SPIFFE ID section 2.3 allows 2048; a longer
/// one would only fill logs).
const NAME_MAX_BYTES: usize = 2048;

/// Longest trust domain, in bytes (SPIFFE ID section 2.1).
const TRUST_DOMAIN_MAX_BYTES: usize = 255;

/// Longest DNS name, in bytes (RFC 1035 section 2.3.4).
const DNS_NAME_MAX_BYTES: usize = 253;

/// Longest name of a caller of a local door, in bytes, without `local:`.
const LOCAL_NAME_MAX_BYTES: usize = 63;

/// How the name of a caller of a local door begins.
const LOCAL: &str = "local:";

/// How a SPIFFE ID begins.
const SPIFFE: &str = "spiffe://";

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
        /// `URI` or `DNS name`.
        kind: &'static str,
    },
    /// The name is not of its form.
    #[error("{name:?} is not {}", .form.rule())]
    Malformed {
        /// The name as it was found.
        name: String,
        /// The form that it should have.
        form: Form,
    },
    /// The name is of no form.
    #[error(
        "{name:?} is neither a SPIFFE ID, spiffe://TRUST-DOMAIN/PATH, nor a DNS name, such as billing.example, nor a caller of a local door, local:NAME"
    )]
    Unknown {
        /// The name as it was found.
        name: String,
    },
}

/// The forms of names that callers have. A new kind of caller gets its variant here, a
/// constructor, and its prefix in `Form::of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `spiffe://TRUST-DOMAIN/PATH`: a URI among the subject alternative names.
    SpiffeId,
    /// A DNS name among them.
    DnsName,
    /// `local:NAME`: a caller of a local door.
    Local,
}

impl Form {
    /// The form of which a configured name has to be, by its scheme: the text before the first
    /// colon. Without a colon, it is a DNS name, which never has one.
    fn of(name: &str) -> Option<Self> {
        match name.split_once(':') {
            None => Some(Self::DnsName),
            Some(("spiffe", _)) => Some(Self::SpiffeId),
            Some(("local", _)) => Some(Self::Local),
            Some(_) => None,
        }
    }

    fn holds(self, name: &str) -> bool {
        match self {
            Self::SpiffeId => is_spiffe_id(name),
            Self::DnsName => is_dns_name(name),
            Self::Local => name.strip_prefix(LOCAL).is_some_and(is_local_name),
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::SpiffeId => {
                "a SPIFFE ID: spiffe://TRUST-DOMAIN/PATH, with a trust domain in lower case and no \
                 empty, `.` or `..` segment"
            }
            Self::DnsName => {
                "a DNS name: labels of a-z, 0-9 and inner hyphens with dots between them, the last \
                 label not a number"
            }
            Self::Local => {
                "a caller of a local door: local:NAME, where NAME has 1 to 63 of a-z, 0-9, `.`, `_` and \
                 `-`, and begins with a letter or a digit"
            }
        }
    }
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
            (true, [uri], _) => Self::from_spiffe_id(uri),
            (true, _, _) => Err(CallerError::Ambiguous { count: uris.len(), kind: "URI" }),
            (false, _, [name]) => Self::from_dns_name(name),
            (false, _, []) => Err(CallerError::NoName),
            (false, _, _) => {
                Err(CallerError::Ambiguous { count: dns_names.len(), kind: "DNS name" })
            }
        }
    }

    /// The caller of a certificate whose URI this is.
    ///
    /// # Errors
    /// [`CallerError::Malformed`] if it is not a SPIFFE ID of a workload.
    pub fn from_spiffe_id(uri: &str) -> Result<Self, CallerError> {
        Self::of_form(Form::SpiffeId, uri)
    }

    /// The caller of a certificate whose DNS name this is.
    ///
    /// # Errors
    /// [`CallerError::Malformed`] if it is not a DNS name of LDH labels in lower case.
    pub fn from_dns_name(name: &str) -> Result<Self, CallerError> {
        Self::of_form(Form::DnsName, name)
    }

    /// The caller `local:NAME` of a local door, which alone may prove it.
    ///
    /// # Errors
    /// [`CallerError::Malformed`] if `name` is no such NAME.
    pub fn from_local_name(name: &str) -> Result<Self, CallerError> {
        Self::of_form(Form::Local, &format!("{LOCAL}{name}"))
    }

    /// Reads a caller's name as policies spell it: by its scheme it is of one form.
    ///
    /// # Errors
    /// [`CallerError::Malformed`] if it is not of its form, [`CallerError::Unknown`] if it is of
    /// none.
    pub fn parse(name: &str) -> Result<Self, CallerError> {
        match Form::of(name) {
            Some(form) => Self::of_form(form, name),
            None => Err(CallerError::Unknown { name: shown(name) }),
        }
    }

    fn of_form(form: Form, name: &str) -> Result<Self, CallerError> {
        if form.holds(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(CallerError::Malformed { name: shown(name), form })
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

/// What stands behind `local:`.
fn is_local_name(name: &str) -> bool {
    let is_alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    (1..=LOCAL_NAME_MAX_BYTES).contains(&name.len())
        && name.bytes().next().is_some_and(is_alphanumeric)
        && name.bytes().all(|b| is_alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
}

/// As much of a name as an error shows.
fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}

/// Whatever its case: a URI that only nearly is a SPIFFE ID must not leave the decision to
/// a DNS name.
fn is_spiffe_scheme(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// SPIFFE ID sections 2.1 and 2.2: a lower-case trust domain, then a path of
/// non-empty segments, no dot segments, no query, no fragment, no escapes.
fn is_spiffe_id(name: &str) -> bool {
    let rest = name.strip_prefix(SPIFFE).filter(|_| name.len() <= NAME_MAX_BYTES);
    let Some((trust_domain, path)) = rest.and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let domain_ok = (1..=TRUST_DOMAIN_MAX_BYTES).contains(&trust_domain.len())
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

/// RFC 1123 names of LDH labels in lower case, no wildcard: a wildcard names no one. The last
/// label is not a number, so an IP address is no DNS name.
fn is_dns_name(name: &str) -> bool {
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= DNS_NAME_MAX_BYTES
        && !name.rsplit('.').next().is_some_and(is_number)
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
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
            (&["billing.svc"], &[]),
        ] {
            assert!(Caller::from_subject_alternative_names(uris, names).is_err(), "{uris:?}");
        }
    }

    /// Names, and of which form each is.
    const NAMES: [(&str, Option<Form>); 43] = [
        ("spiffe://t/a", Some(Form::SpiffeId)),
        ("spiffe://t.example_1/a/B-c._", Some(Form::SpiffeId)),
        ("billing", Some(Form::DnsName)),
        ("billing.svc", Some(Form::DnsName)),
        ("1.2.3.4.example", Some(Form::DnsName)),
        ("xn--bcher-kva.example", Some(Form::DnsName)),
        ("", None),
        ("spiffe", Some(Form::DnsName)),
        ("spiffe:", None),
        ("spiffe:t/a", None),
        ("spiffe://", None),
        ("spiffe://t", None),
        ("spiffe://t/", None),
        ("spiffe:///a", None),
        ("spiffe://t//a", None),
        ("spiffe://t/../a", None),
        ("spiffe://t/a/", None),
        ("spiffe://T/a", None),
        ("spiffe://t:1/a", None),
        ("spiffe://u@t/a", None),
        ("spiffe://t/a?b", None),
        ("spiffe://t/a%20b", None),
        ("SPIFFE://t/a", None),
        ("https://t/a", None),
        ("local:billing", Some(Form::Local)),
        ("local:7-billing_eu.1", Some(Form::Local)),
        ("local://billing", None),
        ("local:", None),
        ("local:-a", None),
        ("local:Billing", None),
        ("local", Some(Form::DnsName)),
        ("Upper.example", None),
        ("*.example", None),
        ("under_score.example", None),
        ("-a.example", None),
        ("a-.example", None),
        ("a..example", None),
        (".example", None),
        ("a.example.", None),
        ("a/b.example", None),
        ("nul\0.example", None),
        ("b\u{fc}cher.example", None),
        ("10.0.0.1", None),
    ];

    #[test]
    fn each_form_of_name_makes_only_its_own_kind_of_caller() {
        for (name, form) in NAMES {
            let makes = |made: Result<Caller, CallerError>| {
                made.is_ok_and(|caller| {
                    assert_eq!(caller.as_str(), name);
                    assert_eq!(Caller::parse(name), Ok(caller), "policies spell it so");
                    true
                })
            };
            let spiffe = form == Some(Form::SpiffeId);
            let dns = form == Some(Form::DnsName);
            assert_eq!(makes(Caller::from_spiffe_id(name)), spiffe, "{name:?} as a URI");
            assert_eq!(makes(Caller::from_dns_name(name)), dns, "{name:?} as a DNS name");
            let local = form == Some(Form::Local);
            let behind = name.strip_prefix(LOCAL).unwrap_or(name);
            let at_a_door = Caller::from_local_name(behind).is_ok_and(|made| made.as_str() == name);
            assert_eq!(at_a_door, local, "{name:?} at a local door");
            assert_eq!(makes(Caller::parse(name)), spiffe || dns || local, "{name:?} in a policy");
            let san = |uris: &[&str], names: &[&str]| {
                makes(Caller::from_subject_alternative_names(uris, names))
            };
            assert_eq!(san(&[name], &[]), spiffe, "{name:?} as the only name, a URI");
            assert_eq!(san(&[], &[name]), dns, "{name:?} as the only name, a DNS name");
        }
    }

    #[test]
    fn too_long_a_name_is_none() {
        let label = "a".repeat(63);
        let name = [label.as_str(); 4].join(".");
        assert!(Caller::from_dns_name(&name[2..]).is_ok());
        assert!(Caller::from_dns_name(&name).is_err(), "254 and more bytes");
        assert!(Caller::from_dns_name(&"a".repeat(64)).is_err());
        assert!(Caller::from_spiffe_id(&format!("spiffe://{}/a", "a".repeat(256))).is_err());
        assert!(Caller::from_spiffe_id(&format!("spiffe://t/{}", "a".repeat(2048))).is_err());
        assert!(Caller::from_local_name(&"a".repeat(63)).is_ok());
        assert!(Caller::from_local_name(&"a".repeat(64)).is_err());
    }
}
