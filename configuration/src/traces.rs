//! `[traces]`: where the spans of requests go, if anywhere.

use std::fmt;
use std::time::Duration;

use host::identifier;
use host::section::Section;

/// What is said of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector; none: there are no traces.
    pub endpoint: Option<TracesEndpoint>,
    /// How many in a hundred of the requests that come without a trace.
    pub sample_percent: u64,
    /// Requests whose spans wait for the collector.
    pub queue_max: usize,
    /// How long the collector may take for a batch.
    pub timeout: Duration,
}

/// Where a collector takes spans, over HTTP without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesEndpoint {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// 80 unless it is named.
    pub port: u16,
    /// `/v1/traces` unless it is named.
    pub path: String,
}

pub(super) fn read(mut section: Section) -> Traces {
    let text = section.text("endpoint").filter(|text| !text.is_empty());
    let endpoint = text.and_then(|text| {
        let endpoint = TracesEndpoint::parse(&text);
        if endpoint.is_none() {
            section.mistake(
                "endpoint",
                format!(
                    "is {}, expected http://HOST:PORT/v1/traces, without TLS, user or query: name a collector beside \
                     the proxy, which forwards over TLS",
                    identifier::quoted_address(&text)
                ),
            );
        }
        endpoint
    });
    let sample_percent = section.number("sample_percent", 100, 0..=100);
    let queue_max = section.number("queue_max", 4096, 1..=1_000_000);
    let timeout = section.millis("timeout_ms", 5_000);
    section.finish();
    let queue_max = usize::try_from(queue_max).unwrap_or(usize::MAX);
    Traces { endpoint, sample_percent, queue_max, timeout }
}

impl TracesEndpoint {
    fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@'))?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() || authority.host().is_empty()
        {
            return None;
        }
        let port = match authority.as_str().strip_prefix(authority.host())?.strip_prefix(':') {
            None => 80,
            Some(port) => port.parse().ok()?,
        };
        let path = if matches!(uri.path(), "" | "/") { "/v1/traces" } else { uri.path() };
        Some(Self { host: authority.host().to_owned(), port, path: path.to_owned() })
    }

    /// Whether what is sent stays on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for TracesEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        write!(f, "http://{host}:{port}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_http_with_a_host_and_nothing_that_is_not_sent() {
        for (text, read) in [
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
            ("http://collector/otlp", "http://collector:80/otlp"),
        ] {
            let endpoint = TracesEndpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), read);
            assert_eq!(endpoint.is_loopback(), !text.contains("collector"), "{text}");
        }
        for text in [
            "https://127.0.0.1:4318/v1/traces",
            "127.0.0.1:4318",
            "/v1/traces",
            "http://user@host:4318",
            "http://host/v1/traces?token=x",
            "http://host:99999",
            "grpc://host:4317",
            "",
        ] {
            assert_eq!(TracesEndpoint::parse(text), None, "{text}");
        }
    }
}
