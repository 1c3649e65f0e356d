//! Certificates and lists that expire, a reload that is refused, a socket that is lost, clients that
//! cannot connect.

use serde_json::json;
use system_tests::{Pki, Profile, Prometheus, Proxy, World};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::reload::edit_registry;

const INSTANCE: &str = "own-side";

fn reload(proxy: &Proxy<'_>) {
    let (code, _, said) = proxy.signctl(&["reload"]);
    assert_eq!(code, 0, "{said}");
}

pub(super) async fn fire(prometheus: &Prometheus) {
    let (world, key) = World::one_signer();
    let now = OffsetDateTime::now_utc();
    let list = world.pki.revocation_list_until(&[], now + Duration::days(3));
    world.scratch.write("proxy/clients.crl", list);
    let builder = world.proxy_of(&key);
    let proxy = builder.tls("client_crl_files = [\"clients.crl\"]").start().await;
    prometheus.scrape(INSTANCE, &proxy.metrics).await;
    prometheus
        .fires_while("TlsHandshakesFail", INSTANCE, async || {
            let mut stream = TcpStream::connect(&proxy.listen).await.unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        })
        .await;

    let list = world.pki.revocation_list_until(&[], now + Duration::hours(5));
    world.scratch.write("proxy/clients.crl", list);
    let short = Pki::made("short", |params| params.not_after = now + Duration::days(3));
    let gone = Pki::made("gone", |params| params.not_after = now - Duration::minutes(1));
    let all = [&world.pki, &short, &gone].map(|authority| authority.ca_pem.as_str()).concat();
    world.scratch.write("proxy/ca.pem", all);
    serves(&world, Duration::days(1));
    reload(&proxy);
    for alert in [
        "RevocationListExpiresSoon",
        "ClientAuthorityExpired",
        "ClientAuthorityExpiresSoon",
        "ServerCertificateExpiresSoon",
    ] {
        prometheus.fires(alert, INSTANCE).await;
    }
    let list = world.pki.revocation_list_until(&[], now - Duration::minutes(1));
    world.scratch.write("proxy/clients.crl", list);
    reload(&proxy);
    prometheus.fires("RevocationListExpired", INSTANCE).await;
    for (ends, alert) in
        [(Duration::days(1), "SignerKeyEndsSoon"), (-Duration::minutes(1), "SignerKeyEnded")]
    {
        let ends = (now + ends).format(&Rfc3339).unwrap();
        edit_registry(&world, "ec", "notAfter", json!(ends));
        reload(&proxy);
        prometheus.fires(alert, INSTANCE).await;
    }
    // From here on no reload is taken.
    serves(&world, Duration::seconds(3));
    reload(&proxy);
    prometheus.fires("ServerCertificateExpired", INSTANCE).await;

    world.scratch.write("proxy/signers.json", "{");
    assert_ne!(proxy.signctl(&["reload"]).0, 0);
    prometheus.fires("ReloadRefused", INSTANCE).await;
    std::fs::remove_file(&proxy.socket).unwrap();
    std::fs::create_dir(&proxy.socket).unwrap();
    prometheus.fires("ComponentDegraded", INSTANCE).await;

    let table = "[trail]\nrequired_socket = \"trail.sock\"\nuid = 0\n";
    let builder = world.proxy_of(&key).directory("requiring");
    let requiring = builder.tables(table).start_shut().await;
    prometheus.scrape("requiring", &requiring.metrics).await;
    prometheus.fires("RequiredTrailDown", "requiring").await;
}

/// Puts a server certificate there that ends after so long.
fn serves(world: &World, until: Duration) {
    let certificate = world.pki.issue_with(&Profile::server(), |params| {
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + until;
    });
    world.scratch.write("proxy/server.pem", &certificate.certificate_pem);
    world.scratch.write("proxy/server.key", &certificate.key_pem);
}
