//! Whoever is in already, when lists come, go and expire.

use system_tests::{Client, eventually};
use time::{Duration, OffsetDateTime};

use super::{DAY, Site, reload};
use crate::ALICE;

async fn is_cut(client: &Client) -> bool {
    client.send(http::Method::GET, "/v1/signers", &[], "").await.is_err()
}

#[tokio::test]
async fn a_list_that_comes_or_goes_by_a_reload_cuts_those_that_it_concerns() {
    let site = Site::new();
    let proxy = site.start().await;
    let pki = &site.world.pki;
    let (good, bad) = (site.issue(), site.issue());
    let connect = |certificate| proxy.client_with(certificate, system_tests::Protocol::Http1);

    // The newer list comes, whichever file it is in.
    for newest_first in [false, true] {
        let older = pki.list().between(-DAY * 3, DAY);
        site.put([&[&older], &[&older]], &[pki]);
        reload(&proxy);
        let (alice, mallory) = (connect(&good).await, connect(&bad).await);
        assert_eq!(mallory.sign_message("ec", b"hi").await.status, 200);
        let newer = pki.list().revoking(&bad);
        let (one, two) = if newest_first { (&newer, &older) } else { (&older, &newer) };
        site.put([&[one], &[two]], &[pki]);
        let reloaded = proxy.admin("POST", "/v1/reload", serde_json::json!({})).await;
        assert_eq!(reloaded.body["connections_cut"], 1, "{reloaded:?}");
        assert!(is_cut(&mallory).await);
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }

    // The list that vouched for them goes.
    let alice = connect(&good).await;
    let expired = pki.list().between(-DAY * 9, -DAY);
    site.put([&[&expired], &[&expired]], &[pki]);
    reload(&proxy);
    assert!(is_cut(&alice).await);
    assert_eq!(proxy.metric("signing_proxy_connections").await, Some(0.0));
}

#[tokio::test]
async fn a_connection_ends_with_the_list_that_vouched_for_it_unless_a_newer_one_came() {
    let site = Site::new();
    let proxy = site.start().await;
    let pki = &site.world.pki;
    let short = || pki.list().between(-DAY, Duration::seconds(5));
    let certificate = site.issue();
    let client = async || proxy.client(ALICE).await;

    // A newer list comes before the old one expires.
    let short_until = OffsetDateTime::now_utc() + Duration::seconds(6);
    site.put([&[&short()], &[&short()]], &[pki]);
    reload(&proxy);
    let stays = client().await;
    site.put([&[&pki.list()], &[&pki.list()]], &[pki]);
    reload(&proxy);
    eventually("the old list has expired, and a look at connections came after", || async {
        (OffsetDateTime::now_utc() > short_until + Duration::seconds(2)).then_some(())
    })
    .await;
    assert_eq!(stays.sign_message("ec", b"hi").await.status, 200);

    // It does not.
    let lasting = pki.list().at(&system_tests::Point::uris(&["http://elsewhere"]));
    site.put([&[&short()], &[&lasting]], &[pki]);
    reload(&proxy);
    let goes = client().await;
    assert_eq!(goes.sign_message("ec", b"hi").await.status, 200);
    eventually("the connection ends with the list", || async { is_cut(&goes).await.then_some(()) })
        .await;
    // Of many such lines in a second one is written.
    eventually("a line that says which list has expired", || async {
        let told = super::told(&proxy, &pki.ca_pem, &certificate).await;
        assert!(told.contains(super::UNKNOWN), "{told}");
        let said = proxy.process.output();
        let mut lines = said.lines().filter(|line| line.contains("handshake failed"));
        lines
            .any(|line| line.contains("list 1 of") && line.contains("one.crl expired at"))
            .then_some(())
    })
    .await;
}
