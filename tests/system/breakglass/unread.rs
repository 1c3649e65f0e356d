//! The end of a session ends what it signed and nobody has read, whoever ends it.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::programs::ours;
use system_tests::{Deaf, Deafness, Profile, Proxy, eventually};

use super::Site;
use crate::ALICE;

const ASKS: usize = 40;

/// Who ends it.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Operator,
    OperatorOfTheSigner,
    DeathOfTheSigner,
}

/// Waits until so many signatures are on their way to their clients: the emergency signer makes them before.
async fn all_are_answered(proxy: &Proxy<'_>, count: f64) {
    eventually("all are answered", || async {
        let metrics = proxy.metrics().await;
        let signed = metrics
            .lines()
            .filter(|line| line.starts_with("signing_proxy_requests_total{result=\"signed\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        (signed.sum::<f64>() >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn i12_nothing_of_a_session_reaches_a_client_that_does_not_read_after_its_end() {
    for ends in [Ends::Operator, Ends::OperatorOfTheSigner, Ends::DeathOfTheSigner] {
        let site = Site::new();
        let (signer, proxy, _) = site.in_session().await;
        let certificate = site.world.pki.issue(&Profile::client(ALICE));
        let mut deaf = Vec::new();
        for deafness in Deafness::ALL {
            let ca_pem = &site.world.pki.ca_pem;
            deaf.push(Deaf::ask(&proxy.listen, ca_pem, &certificate, deafness, ASKS).await);
        }
        let count = (Deafness::ALL.len() * ASKS) as f64;
        all_are_answered(&proxy, count).await;
        match ends {
            Ends::Operator => {
                let ended = super::end(&proxy).await;
                assert_eq!(ended.body["connections_cut"], Deafness::ALL.len(), "{}", ended.text);
            }
            Ends::OperatorOfTheSigner => {
                let mut signctl = Command::new(ours("signctl"));
                signctl.args(["breakglass", "end", "--reason", "over", "--operator-socket"]);
                let output = signctl.arg(signer.operator_socket()).output().unwrap();
                assert!(output.status.success(), "{output:?}");
            }
            Ends::DeathOfTheSigner => signer.process.signal(Signal::SIGKILL),
        }
        eventually("the connections are gone", || async {
            let status = proxy.admin("GET", "/v1/status", Value::Null).await;
            (status.body["connections"] == 0).then_some(())
        })
        .await;
        let before: Vec<_> = deaf.iter().map(Deaf::arrived).collect();
        for ((deafness, client), before) in Deafness::ALL.iter().zip(&mut deaf).zip(before) {
            let arrived = client.everything().await;
            assert!(arrived <= before, "{ends:?}, {deafness:?}: {before}, then {arrived} bytes");
        }
    }
}
