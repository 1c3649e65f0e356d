//! The authorities of `client_ca_file`: what is no authority is a mistake, and an authority
//! admits only whom it may.

mod files;
mod names;

use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use system_tests::{
    Certificate, Client, Kind, Pki, Profile, Protocol, Proxy, ProxyBuilder, World, eventually,
};
use time::{Duration, OffsetDateTime};

use crate::ALICE;

const DAY: Duration = Duration::days(1);

/// The server's own authority, which clients trust, is not that of the clients.
struct Site {
    world: World,
}

impl Site {
    fn new() -> Self {
        Self { world: World::new() }
    }

    fn put(&self, authorities: &[&Pki]) {
        let text: String = authorities.iter().map(|authority| authority.ca_pem.as_str()).collect();
        self.world.scratch.write("proxy/ca.pem", text);
    }

    fn builder(&self) -> ProxyBuilder<'_> {
        let key = self.world.kms.key(Kind::P256);
        self.world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).caller("a.example", &["ec"])
    }

    async fn start(&self, authorities: &[&Pki]) -> Proxy<'_> {
        let builder = self.builder();
        let command = builder.command();
        self.put(authorities);
        let proxy = builder.started(command).await;
        proxy.healthy().await;
        proxy
    }

    async fn connect(
        &self,
        proxy: &Proxy<'_>,
        certificate: &Certificate,
        protocol: Protocol,
    ) -> Result<Client, String> {
        let ca_pem = &self.world.pki.ca_pem;
        let client = Client::connect(&proxy.listen, ca_pem, certificate, protocol).await?;
        // With TLS 1.3, a refusal shows here only.
        client.send(http::Method::GET, "/v1/signers", &[], "").await.map(|_| client)
    }

    /// What a client with that certificate is told: nothing, if it is let in, or the alert.
    async fn told(&self, proxy: &Proxy<'_>, certificate: &Certificate) -> String {
        self.connect(proxy, certificate, Protocol::Http1).await.err().unwrap_or_default()
    }
}

fn reload(proxy: &Proxy<'_>) {
    let (code, said, error) = proxy.signctl(&["reload"]);
    assert_eq!(code, 0, "{said}{error}");
}

fn alice(authority: &Pki) -> Certificate {
    authority.issue(&Profile::client(ALICE))
}

fn until(end: OffsetDateTime, name: &str) -> Pki {
    Pki::made(name, |params| {
        params.not_before = params.not_before.min(end - DAY);
        params.not_after = end;
    })
}

#[tokio::test]
async fn an_authority_admits_nobody_before_or_after_its_time() {
    let site = Site::new();
    let now = OffsetDateTime::now_utc();
    let (valid, expired) = (Pki::named("valid"), until(now - Duration::HOUR, "expired"));
    let early = Pki::made("early", |params| params.not_before = now + DAY);
    let proxy = site.start(&[&valid, &expired, &early]).await;
    assert_eq!(site.told(&proxy, &alice(&valid)).await, "");
    for (authority, why) in [(&expired, "certificate 2 of"), (&early, "certificate 3 of")] {
        let certificate = alice(authority);
        // Of many such lines in a second one is written.
        eventually("a line that says whose time it is", || async {
            let told = site.told(&proxy, &certificate).await;
            assert_ne!(told, "", "it is let in");
            let said = proxy.process.output();
            let mut lines = said.lines().filter(|line| line.contains("handshake failed"));
            lines.any(|line| line.contains(why)).then_some(())
        })
        .await;
    }
    // Renewed with the same name and key, whichever stands first.
    let certificate = alice(&expired);
    let renewed = expired.renewed(|_| ());
    for authorities in [[&expired, &renewed], [&renewed, &expired]] {
        site.put(&authorities);
        reload(&proxy);
        assert_eq!(site.told(&proxy, &certificate).await, "");
    }
}

#[tokio::test]
async fn an_authority_that_expires_ends_its_clients_connections_and_no_others() {
    let site = Site::new();
    let lasting = Pki::named("lasting");
    let proxy = site.start(&[&lasting]).await;
    let stays = site.connect(&proxy, &alice(&lasting), Protocol::Http2).await.unwrap();
    // Longer, if the machine was too busy to connect and to sign in time.
    let mut seconds = 6;
    let (end, by_short, by_below, ending) = loop {
        let end = OffsetDateTime::now_utc() + Duration::seconds(seconds);
        let (short, root) = (until(end, "short"), Pki::named("root"));
        let below = root.authority("below", |params| params.not_after = end);
        site.put(&[&short, &lasting, &root]);
        reload(&proxy);
        let (by_short, by_below) = (alice(&short), alice(&below).with(&below));
        let mut ending = Vec::new();
        for certificate in [&by_short, &by_below] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let Ok(client) = site.connect(&proxy, certificate, protocol).await else { break };
                let body = r#"{"signer_kid":"ec","message":"aGk="}"#;
                let json = [("content-type", "application/json")];
                let signed = client.send(http::Method::POST, "/v1/sign", &json, body).await;
                ending.extend(
                    signed.map(|signed| (signed.status == 200).then_some(client)).ok().flatten(),
                );
            }
        }
        if ending.len() == 4 {
            break (end, by_short, by_below, ending);
        }
        // Certificates have whole seconds.
        assert!(OffsetDateTime::now_utc() > end - Duration::SECOND, "not before their time");
        seconds *= 3;
    };
    eventually("their connections end", || async {
        for client in &ending {
            client.send(http::Method::GET, "/livez", &[], "").await.err()?;
        }
        Some(())
    })
    .await;
    assert!(OffsetDateTime::now_utc() >= end - Duration::SECOND, "not before their time");
    for certificate in [&by_short, &by_below] {
        // The alert that says why may be lost with the connection.
        assert_ne!(site.told(&proxy, certificate).await, "", "it is let in");
    }
    assert_eq!(stays.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn a_path_is_no_longer_than_its_authority_allows_and_each_link_may_sign_certificates() {
    let site = Site::new();
    let limited = |name, length| {
        Pki::made(name, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length)))
    };
    let (none, one) = (limited("none", 0), limited("one", 1));
    let below = |authority: &Pki| authority.authority("below", |_| ());
    let proxy = site.start(&[&none, &one]).await;
    let (below_none, below_one) = (below(&none), below(&one));
    let deep = below_one.authority("deep", |_| ());
    // It renews itself below another key: that does not count.
    let renewed = none.authority("none", |_| ());
    let no_signer = one.authority("no signer", |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    let no_authority = one.authority("no authority", |params| params.is_ca = IsCa::ExplicitNoCa);
    for (case, certificate, is_let_in) in [
        ("directly", alice(&none), true),
        ("one too many", alice(&below_none).with(&below_none), false),
        ("one", alice(&below_one).with(&below_one), true),
        ("two", alice(&deep).with(&deep).with(&below_one), false),
        ("renewed by itself", alice(&renewed).with(&renewed), true),
        ("a link that may not sign", alice(&no_signer).with(&no_signer), false),
        ("a link that is no authority", alice(&no_authority).with(&no_authority), false),
    ] {
        let told = site.told(&proxy, &certificate).await;
        assert_eq!(told.is_empty(), is_let_in, "{case}: {told}");
    }
}

#[tokio::test]
async fn metrics_show_when_each_authority_and_each_list_expires_and_no_others() {
    const AUTHORITY: &str = "signing_proxy_client_ca_expiry_timestamp_seconds";
    const LIST: &str = "signing_proxy_client_crl_next_update_timestamp_seconds";
    let site = Site::new();
    let pki = &site.world.pki;
    let end = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + DAY * 40;
    let (first, second) = (until(end, "one"), until(end + DAY, "two"));
    let list = |pki: &Pki, days| pki.list().between(-DAY, DAY * days).pem();
    site.world.scratch.write("proxy/a.crl", list(&first, 3) + &list(&second, 5));
    site.world.scratch.write("proxy/b.crl", list(pki, 7));
    let builder = site.builder().tls("client_crl_files = [\"a.crl\", \"b.crl\"]");
    let command = builder.command();
    site.put(&[&first, &second, pki]);
    let proxy = builder.started(command).await;
    let samples = async |name: &str| -> Vec<(String, f64)> {
        let text = proxy.metrics().await;
        crate::metrics::promtool_accepts(&text);
        assert!(text.contains(&format!("# TYPE {name} gauge")), "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let samples = lines.map(|line| line.split_once("} ").unwrap());
        samples.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
    };
    let shown = samples(AUTHORITY).await;
    assert_eq!(shown.len(), 3, "{shown:?}");
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    let seconds = |at: OffsetDateTime| at.unix_timestamp() as f64;
    for (index, ends) in [end, end + DAY].into_iter().enumerate() {
        let (labels, value) = &shown[index];
        let (position, key) = labels.split_once(",spki_sha256=").unwrap();
        assert_eq!(position, format!("authority=\"{}\"", index + 1));
        assert_eq!(key.trim_matches('"').len(), 16, "{labels}");
        assert!((value - seconds(ends)).abs() < 1.0, "{shown:?}");
    }
    let lists: Vec<_> = samples(LIST).await.into_iter().map(|(labels, _)| labels).collect();
    let expected = [("1", "1"), ("1", "2"), ("2", "1")];
    let expected = expected.map(|(file, list)| format!("file=\"{file}\",list=\"{list}\""));
    assert_eq!(lists, expected);

    // What a reload takes out is not shown any more.
    site.put(&[&second]);
    site.world.scratch.write("proxy/a.crl", list(&second, 5));
    reload(&proxy);
    let shown = samples(AUTHORITY).await;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!((shown[0].1 - seconds(end + DAY)).abs() < 1.0, "{shown:?}");
    assert_eq!(samples(LIST).await.len(), 2);
}
