//! `signctl status` shows how far the trail is.

use system_tests::postgres::Postgres;
use system_tests::{Strangers, World, eventually};

use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;
use crate::shares::{no_long_head_is_answered, probe};

#[tokio::test]
async fn the_status_of_the_proxy_shows_the_lag_of_each_sink_and_journal() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let proxy = proxy_in(&world).await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hello").await.status, 200);
    trail.holds("signing-proxy", newest(&journal_of(&world))).await;
    let metrics = trail.metrics().await;
    let (code, said, _) = proxy.signctl(&["status", "--trail", &metrics]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\ntrail: postgres signing-proxy: record "), "{said}");
    let (code, said, _) = proxy.signctl(&["status", "--json", "--trail", &metrics]);
    assert_eq!(code, 0, "{said}");
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    let journal = &status["trail"]["journals"][0];
    assert_eq!(journal["sink"], "postgres");
    assert_eq!(journal["journal"], "signing-proxy");
    assert!(journal["lag_records"].is_u64() && journal["lag_seconds"].is_number(), "{journal}");
    // One that was named and does not answer is no good answer.
    trail.kill().await;
    let (code, said, _) = proxy.signctl(&["status", "--trail", &metrics]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("trail: NOT REACHED"), "{said}");
    let (code, said, _) = proxy.signctl(&["status", "--json", "--trail", &metrics]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is signing-trail running?"), "{said}");
}

#[tokio::test]
async fn i8_half_open_connections_to_the_trails_listener_keep_no_probe_out() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let _proxy = proxy_in(&world).await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    let listener = trail.metrics().await;
    no_long_head_is_answered(&listener).await;
    for (name, bytes) in
        [("silent", &b""[..]), ("nearly a head", b"GET /metrics HTTP/1.1\r\nhost: x\r\n")]
    {
        let strangers = Strangers::come(&listener, 300, 1, bytes);
        eventually("strangers", || std::future::ready((strangers.opened() >= 300).then_some(())))
            .await;
        for path in ["/livez", "/metrics", "/status"] {
            // Where they come from, and from elsewhere.
            for source in ["127.0.0.1", "127.0.1.1"] {
                let answer = probe(&listener, source, path).await;
                assert!(
                    answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
                    "{name}, {path} from {source}: {answer:?}"
                );
            }
        }
    }
}
