//! Where a request goes: a URL, read so that no error repeats it, since a URL can be a secret.

use http::Uri;

/// Where a request goes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether over TLS.
    pub(crate) encrypted: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host and port as they were given.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Reads a URL, to whose path `path` is added.
    pub(crate) fn parse(url: &str, path: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a URL such as https://host/path";
        let uri: Uri = url.parse().map_err(|_| format!("is no URL; {EXPECTED}"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("does not begin with https://; {EXPECTED}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("names no host; {EXPECTED}"))?;
        if authority.as_str().contains('@') {
            return Err("holds a user name, which is never sent; a token is for bearer_token_file"
                .to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(format!("names no host; {EXPECTED}"));
        }
        if !encrypted && !["127.0.0.1", "::1", "localhost"].contains(&host) {
            return Err(
                "begins with http://, which is taken only for this machine (127.0.0.1, ::1 or \
                        localhost), since whoever stands between could read it; write https://"
                    .to_owned(),
            );
        }
        let after =
            authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, port)| port);
        let port = match (authority.port_u16(), after.contains(':')) {
            (Some(port), _) => port,
            (None, false) => {
                if encrypted {
                    443
                } else {
                    80
                }
            }
            (None, true) => return Err(format!("has a port that is no number; {EXPECTED}")),
        };
        let own = uri.path().trim_end_matches('/');
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if path.is_empty() { uri.path() } else { &format!("{own}{path}") };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            encrypted,
            host: host.to_owned(),
            port,
            authority: authority.to_string(),
            path: format!("{path}{query}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_a_request_goes() {
        for (url, more, encrypted, host, port, path) in [
            (
                "https://hooks.example/services/T/B?x=1",
                "",
                true,
                "hooks.example",
                443,
                "/services/T/B?x=1",
            ),
            ("https://hooks.example/a/", "", true, "hooks.example", 443, "/a/"),
            (
                "https://policy:8443/base/",
                "/sentinelnet/check",
                true,
                "policy",
                8443,
                "/base/sentinelnet/check",
            ),
            ("https://policy", "/sentinelnet/check", true, "policy", 443, "/sentinelnet/check"),
            ("http://[::1]:9000", "", false, "::1", 9000, "/"),
            ("http://127.0.0.1/x", "", false, "127.0.0.1", 80, "/x"),
        ] {
            let target = Target::parse(url, more).ok().unwrap();
            let found = (target.encrypted, &*target.host, target.port, &*target.path);
            assert_eq!(found, (encrypted, host, port, path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_without_repeating_it() {
        for url in [
            "",
            "secret",
            "ftp://secret/",
            "https://",
            "https://secret:port/",
            "https://user:secret@host/",
            "http://secret.example/",
            "http://127.0.0.1.secret.example/",
        ] {
            let why = Target::parse(url, "").err().unwrap();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
