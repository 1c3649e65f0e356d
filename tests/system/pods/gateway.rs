//! A replica of a gateway, whose callers come over mutual TLS.

use system_tests::{Client, Fault, Profile, Protocol, eventually};

use super::site::{KID, Site};
use crate::ALICE;

const POD: &str = "signing-proxy-0";

async fn signs(site: &Site) {
    let certificate = site.world.pki.issue(&Profile::client(ALICE));
    eventually("a signature over TLS", || async {
        let listen = site.serving("signing-proxy", "listen").await;
        let connected =
            Client::connect(&listen, &site.world.pki.ca_pem, &certificate, Protocol::Http1);
        let answer = connected.await.ok()?.sign_message(KID, b"hello").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_is_ready_while_it_signs_and_leaves_in_order() {
    let mut site = Site::new("gateway.yaml", POD).await;
    let _ = site.starts_first();
    signs(&site).await;
    site.answers("/readyz", 200).await;
    // An outage takes it out of the Service, and does not restart it.
    site.key.break_with(Fault::Bare503);
    site.answers("/readyz", 503).await;
    site.answers("/livez", 200).await;
    site.key.mend();
    site.answers("/readyz", 200).await;
    signs(&site).await;

    let proxy = site.container("signing-proxy");
    let _ = site.podman(&["stop", "--time", "30", &proxy]);
    assert!(site.logs("signing-proxy").contains("\"stopped\""), "{}", site.logs("signing-proxy"));
    let _ = site.podman(&["start", &proxy]);
    signs(&site).await;

    // The database is away: the replica has its journal, and starts.
    site.down();
    site.postgres.kill().await;
    site.starts();
    signs(&site).await;
    assert!(
        site.logs("signing-trail").contains("the sink failed"),
        "{}",
        site.logs("signing-trail")
    );
}
