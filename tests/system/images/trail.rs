//! The trail's image ships what its group may read, as its own user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Engine, Kind, World};

use super::{TRAIL, WITHOUT_RIGHTS, has_no_rights};
use crate::ALICE;

const UID: u32 = 65531;

#[tokio::test]
async fn it_ships_what_its_group_may_read_as_its_own_user() {
    let engine = Engine::new();
    let _ = engine.build(TRAIL.0, TRAIL.1);
    let (world, postgres) = (World::new(), Postgres::start().await);
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("s", &key).caller(ALICE, &["s"]);
    let proxy = proxy.environment("SIGNING_PROXY__AUDIT__READER_GROUP", &UID.to_string());
    let proxy = proxy.start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("s", b"hello").await.status, 200);

    let journal = world.scratch.path("proxy/journal");
    let registry = world.scratch.path("proxy/signers.json");
    let mounted = Path::new("/journal");
    let mut trail = Trail::new(&[("proxy", mounted)], &registry, &postgres);
    let config = trail.write();
    let own = config.parent().unwrap();
    for entered in [own, postgres.directory()] {
        fs::set_permissions(entered, Permissions::from_mode(0o755)).unwrap();
    }
    chown(own.join("trail.key"), Some(UID), Some(UID)).unwrap();
    let mut run = engine.podman(&WITHOUT_RIGHTS);
    run.args(["--name", "trail"]);
    for (here, there) in
        [(own, own), (postgres.directory(), postgres.directory()), (&journal, mounted)]
    {
        run.arg("--volume").arg(format!("{}:{}:ro", here.display(), there.display()));
    }
    run.args([TRAIL.0, "serve", "--config"]).arg(&config);
    trail.start_as(run);
    let newest = audit::walk::newest(&journal).unwrap().size;
    trail.holds("signing-proxy", newest).await;
    let pid = engine.said(&["inspect", "--format", "{{.State.Pid}}", "trail"]);
    has_no_rights(pid.trim(), UID);

    // The image's own check, at the port that this test was given.
    let metrics = trail.metrics().await;
    let status = ["exec", "trail", "/usr/bin/signing-trail", "status", "--metrics", &metrics];
    let _ = engine.said(&status);
    let _ = engine.said(&["stop", "--time", "30", "trail"]);
    let process = trail.process();
    assert!(process.ended().await.success(), "{}", process.output());
}
