//! The agent runs as a user of its own, who has the role `fleet` and no other right: what it can do, what
//! else that user can do at the admin socket, and what its metrics say.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use system_tests::client::plain;
use system_tests::fleet::{FINANCE, People, SECURITY};
use system_tests::postgres::Postgres;
use system_tests::programs::system;
use system_tests::trail::Trail;
use system_tests::{Kind, World, eventually};

use super::{signctl, who};
use crate::ALICE;

const AGENT: u32 = 7004;
/// The group of the admin socket, and the group that reads the journal.
const SOCKET: u32 = 7010;
const READERS: u32 = 7011;

/// A command as that user, in these groups besides its own.
fn as_agent(groups: &[u32], command: &Command) -> Command {
    let mut setpriv = system("setpriv");
    setpriv.args([&format!("--reuid={AGENT}"), &format!("--regid={AGENT}")]);
    let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
    setpriv.arg(format!("--groups={}", groups.join(",")));
    setpriv.args(["--inh-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL"]);
    setpriv.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        setpriv.env(name, value.unwrap_or_default());
    }
    setpriv
}

/// Gives a trail's own files to that user.
fn give(trail: &Trail) {
    let config = trail.write();
    for file in [config.parent().unwrap(), &config, &trail.path("trail.key"), &trail.registry()] {
        chown(file, Some(AGENT), Some(AGENT)).unwrap();
    }
}

/// What that user hears at the admin socket.
fn asks(socket: &Path, path: &str, body: &str) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--unix-socket"]).arg(socket);
    if !body.is_empty() {
        curl.args(["-d", body]);
    }
    curl.arg(format!("http://admin{path}"));
    let output = as_agent(&[SOCKET], &curl).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{path}: {output:?}"))
}

/// A series of the trail's metrics.
async fn metric(trail: &Trail, series: &str) -> u64 {
    let metrics = plain(&trail.metrics().await, "/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series}: {metrics}")).parse().unwrap()
}

#[tokio::test]
async fn an_agent_of_another_user_carries_the_fleet_and_that_user_can_do_nothing_else() {
    let (world, people) = (World::new(), People::new());
    let postgres = Postgres::start().await;
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .development("ec", &key)
        .caller(ALICE, &["ec"])
        .admin(&format!("fleet_uids = [{AGENT}]"))
        .environment("SIGNING_PROXY__AUDIT__READER_GROUP", &READERS.to_string())
        .sections(&people.section(""))
        .start_shut()
        .await;
    let directory = world.scratch.path("proxy");
    for path in [world.scratch.dir(), &directory] {
        fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(directory.join("signers.json"), Permissions::from_mode(0o644)).unwrap();
    let journal = directory.join("journal");
    let mut trail = Trail::new(&[("proxy", &journal)], &directory.join("signers.json"), &postgres)
        .fleet(&proxy.socket, &["at=0"]);
    give(&trail);
    let serve = trail.verb("serve");

    // In no group of the socket: it reads the database, and reaches no proxy.
    trail.start_as(as_agent(&[READERS], &serve));
    eventually("it cannot reach the socket, and says so", || async {
        let is_blocked = metric(&trail, "audit_trail_fleet_blocked").await == 1;
        let has_read = metric(&trail, "audit_trail_fleet_read_timestamp_seconds").await > 1;
        (is_blocked && has_read).then_some(())
    })
    .await;
    assert_eq!(metric(&trail, "audit_trail_fleet_told_timestamp_seconds").await, 0);
    trail.kill().await;

    // In its group, and nothing more.
    chown(&proxy.socket, None, Some(SOCKET)).unwrap();
    trail.start_as(as_agent(&[SOCKET, READERS], &serve));
    proxy.healthy().await;
    eventually("it says that the proxy hears it", || async {
        let told = metric(&trail, "audit_trail_fleet_told_timestamp_seconds").await > 1;
        let is_blocked = metric(&trail, "audit_trail_fleet_blocked").await == 1;
        let (code, said) = signctl(&postgres, &["status"]);
        (told && !is_blocked && code == 0 && who(&said, "signs").len() == 1).then_some(())
    })
    .await;
    let (code, said) = signctl(&postgres, &["freeze", "--reason", "INC-42"]);
    assert_eq!((code, who(&said, "frozen").len()), (0, 1), "{said}");
    let id = said["id"].as_str().unwrap().to_owned();

    // Whoever has this user can end nothing, change nothing, and begin nothing.
    for (path, body) in [
        ("/v1/unfreeze", "{\"reason\": \"over\"}"),
        ("/v1/unseal", "{\"signer_kid\": \"ec\", \"reason\": \"x\"}"),
        ("/v1/reload", "{}"),
        ("/v1/drill", "{\"seconds\": 1}"),
        ("/v1/doctor", "{}"),
        ("/v1/breakglass/activate", "{}"),
        ("/v1/breakglass/end", "{\"reason\": \"x\"}"),
        ("/v1/breakglass/accept-signer", "{}"),
        ("/v1/breakglass/destroy", "{}"),
        ("/v1/incident/begin", "{\"incident\": \"INC-1\", \"reason\": \"x\"}"),
        ("/v1/incident/captured", "{}"),
        ("/v1/incident/item", "{}"),
        ("/v1/incident/end", "{\"reason\": \"x\"}"),
    ] {
        let refused = asks(&proxy.socket, path, body);
        assert_eq!(refused["reason"], "caller_not_authorized", "{path}: {refused}");
    }
    let nothing = json!({"statement_b64": "e30=", "signature_b64": "e30="}).to_string();
    let refused = asks(&proxy.socket, "/v1/fleet/statement", &nothing);
    assert!(refused["note"].as_str().unwrap().contains("does not count"), "{refused}");
    let signed = asks(&proxy.socket, "/sign", "{}");
    assert!(signed["signature"].is_null(), "{signed}");
    assert_eq!(asks(&proxy.socket, "/v1/status", "")["frozen"], true);

    // A person's word goes through it, and counts by who signed.
    let by = |name: &str| people.files(name, &people.statement(&[&id], 0));
    let (code, said) = signctl(&postgres, &["unfreeze", "--statement", &by(FINANCE)]);
    assert_eq!((code, who(&said, "refused").len()), (1, 1), "{said}");
    assert!(metric(&trail, "audit_trail_fleet_refused_total{word=\"statement\"}").await >= 1);
    assert_eq!(metric(&trail, "audit_trail_fleet_refused_total{word=\"freeze\"}").await, 0);
    let (code, said) = signctl(&postgres, &["unfreeze", "--statement", &by(SECURITY)]);
    assert_eq!((code, who(&said, "ended").len()), (0, 1), "{said}");
    proxy.healthy().await;
    trail.kill().await;
    proxy.stop().await;
}
