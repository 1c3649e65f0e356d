//! Requests that somebody else sends through a program of this machine: a page through its
//! browser, another host through a reverse proxy. They come from a loopback address like any
//! caller's, and are none.

use http::HeaderMap;
use http::header::HOST;
use http::request::Parts;
use signing_core::{Reason, Refusal};

/// What browsers and reverse proxies add, and callers do not.
const NAMES: [&str; 3] = ["origin", "forwarded", "via"];
/// How other such headers begin.
const PREFIXES: [&str; 2] = ["sec-fetch-", "x-forwarded-"];

/// Refuses what did not come from a program of this machine by itself.
///
/// # Errors
/// `unauthenticated`, which says by what it showed.
pub(super) fn refuse(head: &Parts) -> Result<(), Refusal> {
    if let Some(name) = foreign_header(&head.headers) {
        return Err(refused(format!(
            "the header `{name}` is one of a browser or of a reverse proxy, through which another \
             host may ask; a local door takes requests of this machine's programs only, without it"
        )));
    }
    // A page of another host whose name was made to lead here says that name.
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if authority.is_none_or(is_loopback) && sole_host(&head.headers).is_some_and(is_loopback) {
        return Ok(());
    }
    Err(refused(
        "the `Host` is not one of this machine; ask for localhost, 127.0.0.1 or [::1], and send it \
         once"
            .to_owned(),
    ))
}

fn foreign_header(headers: &HeaderMap) -> Option<&str> {
    let is_foreign = |name: &&str| {
        NAMES.contains(name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    headers.keys().map(http::HeaderName::as_str).find(is_foreign)
}

/// The only `Host`.
fn sole_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (..) => None,
    }
}

/// Whether `HOST` or `HOST:PORT` is this machine's own.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some(("::1", port)) => ("localhost", port),
        Some(_) => return false,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|digit| digit.is_ascii_digit())
    };
    let is_v4 = |host: &str| host.parse().is_ok_and(|v4: std::net::Ipv4Addr| v4.is_loopback());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        && (host.eq_ignore_ascii_case("localhost") || is_v4(host))
}

fn refused(detail: String) -> Refusal {
    Refusal::new(Reason::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_refused(uri: &str, headers: &[(&str, &str)]) -> bool {
        let request = Request::builder().uri(uri);
        let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        let (head, ()) = headers.iter().fold(request, add).body(()).unwrap().into_parts();
        refuse(&head).is_err()
    }

    #[test]
    fn a_host_is_this_machine_or_refused() {
        for host in [
            "localhost",
            "LocalHost:8444",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9:65535",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(!is_refused("/v1/sign", &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:127",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost:80@evil.example",
            "localhost:",
            "localhost:x",
            "localhost:123456",
            "10.0.0.1",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "[::]",
            "[::1",
            "[::1]x",
            "[::ffff:127.0.0.1]",
            "::1",
            "localhost,evil.example",
        ] {
            assert!(is_refused("/v1/sign", &[("host", host)]), "{host:?}");
        }
        assert!(is_refused("/v1/sign", &[]), "none");
        assert!(is_refused("/v1/sign", &[("host", "localhost"), ("host", "localhost")]), "two");
        let local = [("host", "localhost")];
        assert!(!is_refused("http://localhost:1/v1/sign", &local));
        assert!(is_refused("http://evil.example/v1/sign", &local), "in the target");
    }

    #[test]
    fn what_a_browser_or_a_reverse_proxy_adds_is_refused() {
        for name in [
            "Origin",
            "Sec-Fetch-Site",
            "Sec-Fetch-Mode",
            "Sec-Fetch-Dest",
            "Forwarded",
            "Via",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
        ] {
            for value in ["", "null", "same-origin", "http://localhost"] {
                let headers = [("host", "localhost"), (name, value)];
                assert!(is_refused("/v1/sign", &headers), "{name}: {value}");
            }
        }
        assert!(!is_refused("/v1/sign", &[("host", "localhost"), ("user-agent", "x")]));
    }
}
