//! Through which HTTP proxy the AWS SDK goes, by the environment's variables. Decided here alone,
//! so that whoever serves, whoever diagnoses and `check` go the same way:
//!
//! - `https://` (KMS and STS) goes through the first of `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY`
//!   and `all_proxy` that is set, by CONNECT, unless `NO_PROXY` or `no_proxy` lists the host. It
//!   stays encrypted up to KMS.
//! - `http://` never goes through one: it is allowed on loopback alone (I3), and through a proxy it
//!   would leave the machine. Metadata of instances and containers, which gives credentials away,
//!   is `http://`, too. So `HTTP_PROXY` has no use.

use std::fmt;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use host::environment::Environment;
use host::identifier;

const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];

/// The proxies of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<Proxy>,
    except: Option<(&'static str, String)>,
    /// Set, and without use.
    http: Option<(&'static str, String)>,
}

/// A proxy as its variable names it, perhaps with a user and a password.
#[derive(Clone, PartialEq, Eq)]
struct Proxy {
    variable: &'static str,
    url: String,
}

/// A proxy on the way to an endpoint.
pub struct ForwardProxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is itself spoken to by TLS.
    pub is_tls: bool,
    /// What it wants to know who asks by.
    pub authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.variable, shown(&self.url))
    }
}

impl Proxies {
    /// Every variable that is read here.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        HTTPS.into_iter().chain(EXCEPT).chain(HTTP)
    }

    /// By the variables of this environment.
    pub fn of(environment: &Environment) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, environment.get(name)?.to_owned())))
        };
        let https = first(&HTTPS).map(|(variable, url)| {
            // As curl reads it: without a scheme it is http://.
            let url = if url.contains("://") { url } else { format!("http://{url}") };
            Proxy { variable, url }
        });
        Self { https, except: first(&EXCEPT), http: first(&HTTP) }
    }

    /// The URL of the proxy for `https://`, which may hold a password, and the hosts that are
    /// reached without it.
    #[must_use]
    pub fn of_https(&self) -> Option<(&str, &str)> {
        let except = self.except.as_ref().map(|(_, hosts)| hosts.as_str()).unwrap_or_default();
        self.https.as_ref().map(|proxy| (proxy.url.as_str(), except))
    }

    /// The proxy on the way to `endpoint`; None: there is none.
    #[must_use]
    pub fn to(&self, endpoint: &Uri) -> Option<ForwardProxy> {
        let (url, except) = self.of_https()?;
        let matcher = Matcher::builder().https(url.to_owned()).no(except.to_owned()).build();
        let proxy = matcher.intercept(endpoint)?;
        let is_tls = proxy.uri().scheme_str() == Some("https");
        Some(ForwardProxy {
            host: proxy.uri().host()?.to_owned(),
            port: proxy.uri().port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            authorization: proxy.basic_auth().cloned(),
        })
    }

    /// What is wrong with the proxy, where one of `endpoints` is `https://`.
    pub fn mistake<'e>(&self, mut endpoints: impl Iterator<Item = &'e str>) -> Option<String> {
        let Proxy { variable, url } = self.https.as_ref()?;
        let is_proxy = |uri: Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        let matters = endpoints.any(|endpoint| endpoint.starts_with("https://"));
        (matters && !url.parse().is_ok_and(is_proxy)).then(|| {
            format!(
                "{variable}: is {}, expected http://HOST:PORT or https://HOST:PORT of the HTTP proxy \
                 through which KMS is asked; correct or unset it",
                identifier::quoted(&shown(url))
            )
        })
    }

    /// What deserves attention, where KMS is asked at `endpoints`.
    pub fn notes<'e>(&self, endpoints: impl Iterator<Item = &'e str>) -> Vec<String> {
        let mut endpoints: Vec<&str> = endpoints.collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints.is_empty() {
            return Vec::new();
        }
        let Some(proxy) = &self.https else {
            let unused = |(variable, url): &(&str, String)| {
                format!(
                    "{variable}: is {}, which has no use here: KMS and STS are asked by https://, which \
                     HTTPS_PROXY is for",
                    shown(url)
                )
            };
            return self.http.iter().map(unused).collect();
        };
        let is_through = |endpoint: &&&str| {
            endpoint.parse().is_ok_and(|endpoint: Uri| self.to(&endpoint).is_some())
        };
        let through: Vec<_> = endpoints.iter().filter(is_through).copied().collect();
        let asked = match through.as_slice() {
            [] => "no KMS endpoint is asked through it, but STS may be".to_owned(),
            through => format!("{} and STS are asked through it", through.join(", ")),
        };
        let except = self.except.as_ref().map(|(variable, hosts)| {
            format!(", except what {variable} lists: {}", identifier::quoted(hosts))
        });
        vec![format!(
            "{}: is {}: {asked}{}; metadata of instances and containers never is",
            proxy.variable,
            shown(&proxy.url),
            except.unwrap_or_default()
        )]
    }
}

/// A proxy's URL without user and password. A password that was not escaped may hold anything, so
/// all before the last @ is left out.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.rsplit('@').next().unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let variables = variables.iter();
        let environment: Environment =
            variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxies::of(&environment)
    }

    fn way(proxies: &Proxies, endpoint: &str) -> Option<String> {
        let through = proxies.to(&endpoint.parse().unwrap())?;
        Some(format!("{}:{}", through.host, through.port))
    }

    const KMS: &str = "https://kms.eu-central-1.amazonaws.com";

    #[test]
    fn https_goes_through_the_first_variable_that_is_set_unless_its_host_is_excepted() {
        for (variables, expected) in [
            (&[][..], None),
            (&[("HTTPS_PROXY", "http://a:1")], Some("a:1")),
            (&[("https_proxy", "http://a:1")], Some("a:1")),
            (&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:2")], Some("a:1")),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "b:2")], Some("b:2")),
            (&[("ALL_PROXY", "http://a:1")], Some("a:1")),
            (&[("all_proxy", "http://c:3"), ("HTTPS_PROXY", "http://a:1")], Some("a:1")),
            (&[("HTTPS_PROXY", "http://a")], Some("a:80")),
            (&[("HTTPS_PROXY", "https://a")], Some("a:443")),
            (&[("HTTPS_PROXY", " http://a:1\n")], Some("a:1")),
            (&[("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://a:1")], None),
            (&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "amazonaws.com")], None),
            (&[("HTTPS_PROXY", "http://a:1"), ("no_proxy", ".amazonaws.com")], None),
            (&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "example.com, *")], None),
            (&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "example.com")], Some("a:1")),
        ] {
            assert_eq!(way(&proxies(variables), KMS).as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn i3_what_is_not_encrypted_never_goes_through_a_proxy() {
        let all =
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
        let all = proxies(&all.map(|variable| (variable, "http://a:1")));
        for endpoint in ["http://127.0.0.1:4600", "http://169.254.169.254", "http://localhost"] {
            assert_eq!(way(&all, endpoint), None, "{endpoint}");
        }
        assert_eq!(way(&all, KMS).as_deref(), Some("a:1"));
    }

    #[test]
    fn user_and_password_are_sent_and_never_shown() {
        for url in [
            "http://user:pass%2Fword@proxy:3128",
            "user:pass@proxy:3128",
            "http://us/er:pa@ss@proxy:3128",
            "socks5://user:pass@proxy:3128/",
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", url)]);
            let notes = proxies.notes([KMS].into_iter()).concat();
            let mistake = proxies.mistake([KMS].into_iter()).unwrap_or_default();
            let all = format!("{proxies:?}{notes}{mistake}");
            assert!(!all.contains("user") && !all.contains("pa"), "{all}");
            assert!(all.contains("proxy:3128"), "{all}");
        }
        let through = proxies(&[("HTTPS_PROXY", "http://Aladdin:opensesame@proxy:3128")]);
        let through = through.to(&KMS.parse().unwrap()).unwrap();
        assert_eq!(through.authorization.unwrap(), "Basic QWxhZGRpbjpvcGVuc2VzYW1l");
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_a_mistake_where_it_would_be() {
        for url in ["socks5h://proxy:1080", "http://", "ht tp", "://"] {
            let proxies = proxies(&[("ALL_PROXY", url)]);
            let mistake = proxies.mistake([KMS].into_iter()).unwrap();
            assert!(mistake.starts_with("ALL_PROXY: is \"") && mistake.contains("unset it"));
            assert_eq!(proxies.mistake(["http://127.0.0.1:1"].into_iter()), None);
        }
        assert_eq!(proxies(&[("ALL_PROXY", "proxy")]).mistake([KMS].into_iter()), None);
    }

    #[test]
    fn a_note_says_what_goes_through_it() {
        let both = ["http://127.0.0.1:1", KMS];
        let notes = |variables: &[_]| proxies(variables).notes(both.into_iter());
        assert_eq!(
            notes(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "internal")]),
            [format!(
                "HTTPS_PROXY: is http://proxy:3128: {KMS} and STS are asked through it, except what \
                 NO_PROXY lists: \"internal\"; metadata of instances and containers never is"
            )]
        );
        let none = notes(&[("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", "amazonaws.com")]);
        assert!(none.concat().contains("no KMS endpoint is asked through it"), "{none:?}");
        let unused = notes(&[("http_proxy", "http://proxy:3128")]);
        assert!(unused.concat().starts_with("http_proxy: is http://proxy:3128, which has no use"));
        assert_eq!(notes(&[]), Vec::<String>::new());
        assert_eq!(proxies(&[("HTTPS_PROXY", "http://a:1")]).notes([].into_iter()), [""; 0]);
    }
}
