//! Where to ask: a URL, read so that nothing of it is sent that should not be.

use http::Uri;

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether over TLS.
    pub encrypted: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, or the scheme's own.
    pub port: u16,
    /// Host and port as they were given.
    pub authority: String,
    /// What is asked for there.
    pub path: String,
}

impl Target {
    /// Reads a URL, to whose path `path` is added.
    ///
    /// # Errors
    /// A sentence that does not repeat the URL where it may hold a secret.
    pub fn parse(url: &str, path: &str) -> Result<Self, String> {
        let expected = "expected a URL such as https://host:8443";
        let uri: Uri = url.parse().map_err(|_| format!("is no URL; {expected}"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("does not begin with https:// or http://; {expected}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("names no host; {expected}"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(format!("holds a user name or a query, which is never sent; {expected}"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        // A port that is no number is no port to `http`, and is not to become the default.
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
            (None, true) => return Err(format!("has a port that is no number; {expected}")),
        };
        if host.is_empty() {
            return Err(format!("names no host; {expected}"));
        }
        let path = format!("{}{path}", uri.path().trim_end_matches('/'));
        Ok(Self {
            encrypted,
            host: host.to_owned(),
            port,
            authority: authority.to_string(),
            path: if path.is_empty() { "/".to_owned() } else { path },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_ask() {
        for (url, encrypted, host, port, path) in [
            ("https://proxy:8443", true, "proxy", 8443, "/health"),
            ("https://proxy/", true, "proxy", 443, "/health"),
            ("http://[::1]:9464/base/", false, "::1", 9464, "/base/health"),
            ("http://127.0.0.1", false, "127.0.0.1", 80, "/health"),
        ] {
            let target = Target::parse(url, "/health").unwrap();
            let found = (target.encrypted, target.host.as_str(), target.port, target.path.as_str());
            assert_eq!(found, (encrypted, host, port, path), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_or_holds_a_secret_is_refused_without_repeating_it() {
        for url in [
            "",
            "proxy:8443",
            "ftp://proxy",
            "https://",
            "https://proxy:port",
            "https://proxy:99999",
            "https://user:secret@proxy",
            "https://proxy?token=secret",
        ] {
            let why = Target::parse(url, "/health").unwrap_err();
            assert!(why.contains("expected a URL such as") && !why.contains("secret"), "{why}");
        }
    }
}
