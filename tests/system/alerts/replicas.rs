//! A replica that is registered for the first time, and one whose volume was emptied.

use std::fs;

use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Kind, Prometheus, World};

use crate::ALICE;

pub(super) async fn fire(prometheus: &Prometheus) {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let key = world.kms.key(Kind::P256);
    let _ = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).write();
    let registry = world.scratch.path("proxy/signers.json");
    let journal = world.scratch.path("proxy/journal");
    let mut trail = Trail::new(&[("proxy", &journal)], &registry, &postgres).replica("test/p-0");
    let answer = world.scratch.path("proxy/state/replica.json");
    let register = |trail: &Trail| {
        let mut command = trail.verb("register");
        let asked = command.args(["--journal", "proxy", "--answer"]).arg(&answer).output().unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    };
    register(&trail);
    trail.start();
    prometheus.scrape("replicas", &trail.metrics().await).await;
    prometheus.fires("SigningReplicaNew", "").await;
    fs::remove_file(&answer).unwrap();
    register(&trail);
    prometheus.fires("SigningReplicaRefused", "").await;
}
