//! The way to an endpoint: its name, a connection, its certificate, its clock. Where a proxy lies in
//! between, its name, a connection to it, and what it answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host::clock::{rfc3339, wall_now};
use http::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use upstream::settings::{AwsKms, ForwardProxy};

use super::report::{Check, Checks};
use super::step::{HEAD_MAX_BYTES, Stream, step};
use super::tunnel;

/// What KMS bears: a request that is signed five minutes off is refused.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
const SKEW_MAX: Duration = Duration::from_secs(300);

/// A certificate that ends so soon should have been renewed.
const SOON: time::Duration = time::Duration::days(7);

/// Looks at the way, step by step, as far as it goes.
pub(super) async fn inspect(kms: &AwsKms, checks: &mut Checks) {
    // The configuration was checked: there are a scheme and a host.
    let uri: Uri = kms.endpoint.parse().unwrap_or_default();
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let proxy = kms.proxies.to(&uri);
    let (next, next_port) = proxy
        .as_ref()
        .map_or((host.as_str(), port), |proxy| (proxy.host.trim_matches(['[', ']']), proxy.port));
    let Some(addresses) = resolve(next, next_port, proxy.is_some(), checks).await else { return };
    let Some(stream) = connect(&addresses, proxy.is_some(), checks).await else { return };
    let mut stream: Box<dyn Stream> = Box::new(stream);
    if let Some(proxy) = &proxy {
        match tunnelled(stream, proxy, uri.host().unwrap_or_default(), port).await {
            Ok(tunnel) => stream = tunnel,
            Err(why) => return checks.turned(Check::Tcp, why),
        }
    }
    if !is_tls {
        checks.not_applicable(Check::Tls, "the endpoint is http://, for tests alone");
        clock(stream, &host, checks).await;
        return;
    }
    match handshake(stream, &host).await {
        Ok((stream, ends)) => {
            let detail = format!("the chain is trusted; it ends at {}", rfc3339(ends));
            if ends - wall_now() < SOON {
                let what = "renew it: after that time nothing is signed";
                checks.warning(Check::Tls, format!("{detail}; {what}"));
            } else {
                checks.ok(Check::Tls, detail);
            }
            clock(stream, &host, checks).await;
        }
        Err(why) => checks.failed(Check::Tls, why),
    }
}

/// A connection to KMS through a proxy, to which TLS may be spoken, too.
async fn tunnelled(
    stream: Box<dyn Stream>,
    proxy: &ForwardProxy,
    host: &str,
    port: u16,
) -> Result<Box<dyn Stream>, String> {
    let mut stream = stream;
    if proxy.is_tls {
        let name = proxy.host.trim_matches(['[', ']']);
        let (encrypted, _) =
            handshake(stream, name).await.map_err(|why| format!("the proxy {name}: {why}"))?;
        stream = Box::new(encrypted);
    }
    tunnel::through(stream, proxy, &format!("{host}:{port}")).await
}

/// The addresses of the endpoint, or of the proxy that looks the endpoint's name up itself.
async fn resolve(
    host: &str,
    port: u16,
    is_proxy: bool,
    checks: &mut Checks,
) -> Option<Vec<SocketAddr>> {
    let who = if is_proxy { "the proxy" } else { "the endpoint" };
    if let Ok(address) = host.parse::<IpAddr>() {
        checks.not_applicable(Check::Dns, &format!("{who} is an address"));
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let failed = match step(tokio::net::lookup_host((host, port))).await {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if let Some(first) = addresses.first() {
                let proxy = if is_proxy { "the proxy " } else { "" };
                checks.ok(Check::Dns, format!("{proxy}{host} is {}", first.ip()));
                return Some(addresses);
            }
            "it has no address".to_owned()
        }
        Err(why) => why,
    };
    let what = match is_proxy {
        true => "look at the resolver, and at HTTPS_PROXY",
        false => "look at the resolver, a VPC endpoint's private DNS, and the region's name",
    };
    checks.failed(Check::Dns, format!("{who} {host}: {failed}; {what}"));
    None
}

async fn connect(
    addresses: &[SocketAddr],
    is_proxy: bool,
    checks: &mut Checks,
) -> Option<TcpStream> {
    let proxy = if is_proxy { "the proxy " } else { "" };
    match step(TcpStream::connect(addresses)).await {
        Ok(stream) => {
            let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
            checks.ok(Check::Tcp, format!("{proxy}{peer} accepts"));
            Some(stream)
        }
        Err(why) => {
            let first = addresses.first().map(ToString::to_string).unwrap_or_default();
            let what = "look at security groups, network policies, routes and proxies";
            checks.failed(Check::Tcp, format!("{proxy}{first}: {why}; {what}"));
            None
        }
    }
}

async fn handshake(
    stream: Box<dyn Stream>,
    host: &str,
) -> Result<(Box<dyn Stream>, OffsetDateTime), String> {
    let mut roots = RootCertStore::empty();
    // On a thread that may block: it reads files.
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    roots.add_parsable_certificates(native.map(|native| native.certs).unwrap_or_default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = step(connecting).await.map_err(|why| {
        format!(
            "{why}; look at the platform's authorities (SSL_CERT_FILE), at what intercepts TLS on \
             the way, and at the clock"
        )
    })?;
    let ends = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.iter().filter_map(|certificate| ends(certificate)).min())
        .ok_or("its certificate does not say when it ends")?;
    Ok((Box::new(stream), ends))
}

fn ends(certificate: &[u8]) -> Option<OffsetDateTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.to_datetime())
}

/// Compares our clock with the `Date` of an answer, whatever it answers.
async fn clock(mut stream: Box<dyn Stream>, host: &str, checks: &mut Checks) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let asking = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let mut piece = [0; 2048];
        while head.len() < HEAD_MAX_BYTES && date(&head).is_none() {
            match stream.read(&mut piece).await? {
                0 => break,
                length => head.extend_from_slice(piece.get(..length).unwrap_or_default()),
            }
        }
        std::io::Result::Ok(head)
    };
    let theirs = match step(asking).await {
        Ok(head) => date(&head),
        Err(why) => {
            let what = "the other end, or a proxy before it, does not speak HTTP";
            return checks.failed(Check::Clock, format!("no answer to GET /: {why}; {what}"));
        }
    };
    let Some(theirs) = theirs else {
        return checks.not_applicable(Check::Clock, "the answer has no Date header");
    };
    let skew = (wall_now() - theirs).unsigned_abs();
    let seconds = skew.as_secs();
    if skew > SKEW_MAX {
        checks.failed(
            Check::Clock,
            format!(
                "this machine's clock differs by {seconds} s from KMS's; at most {} s are accepted; set it by NTP",
                SKEW_MAX.as_secs()
            ),
        );
    } else {
        checks.ok(Check::Clock, format!("differs by less than {} s from KMS's", seconds + 1));
    }
}

/// The `Date` of a head, once its line is whole.
#[must_use]
pub fn date(head: &[u8]) -> Option<OffsetDateTime> {
    let head = String::from_utf8_lossy(head);
    head.split_inclusive("\r\n").find_map(|line| {
        let (name, value) = line.strip_suffix("\r\n")?.split_once(':')?;
        name.eq_ignore_ascii_case("date")
            .then(|| OffsetDateTime::parse(value.trim(), &Rfc2822).ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_once_it_is_whole() {
        let head = b"HTTP/1.1 404 Not Found\r\nDATE: Tue, 24 Nov 2026 22:18:59 GMT\r\n";
        let expected = OffsetDateTime::from_unix_timestamp(1_795_558_739).unwrap();
        assert_eq!(date(head), Some(expected));
        assert_eq!(date(&head[..head.len() - 1]), None);
        assert_eq!(date(b"HTTP/1.1 200 OK\r\nDate: soon\r\n"), None);
    }
}
