//! What happens to the process itself: no descriptors, a wall clock that jumps, names that
//! do not resolve, credentials that end, a state directory that cannot be written.
//! `journal_faults/` has kills and disks.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use system_tests::programs::{libfaketime, system};
use system_tests::{FaultProxy, Kind, NetworkFault, Operation, Process, World, eventually};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;

use super::{asked, verified_journal};
use crate::ALICE;
use crate::doctor::agreed;

#[tokio::test]
async fn out_of_descriptors_it_signs_for_who_is_in_and_takes_others_once_there_are_some() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    let pid = proxy.process.pid().to_string();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = |most: usize| {
        let set = format!("--nofile={most}:{}", 4096);
        let set = system("prlimit").args(["--pid", &pid, &set]).status().unwrap();
        assert!(set.success());
    };
    limit(open + 4);
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(TcpStream::connect(&proxy.listen).await.unwrap());
    }
    proxy.process.says("accept failed").await;
    for _ in 0..50 {
        assert_eq!(asked(&alice).await.unwrap().status, 200, "for want of a descriptor");
    }
    drop(flood);
    proxy.healthy().await;
    assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
    limit(1024);
    assert_eq!(asked(&proxy.client(ALICE).await).await.unwrap().status, 200);
    proxy.stop().await;
    verified_journal(&world);
}

#[tokio::test]
async fn a_journal_without_descriptors_for_its_next_segment_names_them_and_not_a_full_disk() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    let pid = proxy.process.pid().to_string();
    let limit = |most: usize| {
        let set = format!("--nofile={most}:{}", 4096);
        assert!(system("prlimit").args(["--pid", &pid, &set]).status().unwrap().success());
    };
    // What is open stays open, and nothing more opens.
    limit(3);
    // Many at a look: a segment is a thousand of them.
    let refused = eventually("a signature is refused", || async {
        for _ in 0..100 {
            let answer = asked(&alice).await.unwrap();
            if answer.status != 200 {
                return Some(answer);
            }
        }
        None
    })
    .await;
    // Refused, or made and withheld.
    assert!(refused.text.contains("audit_unavailable"), "{refused:?}");
    assert!(!refused.text.contains("full"), "{refused:?}");
    // While it lasts: the log is open already.
    let said = proxy.process.says("raise LimitNOFILE").await;
    limit(1024);
    assert!(!said.contains("the journal is full"), "{said}");
    eventually("it signs again by itself", || async {
        (asked(&alice).await.unwrap().status == 200).then_some(())
    })
    .await;
    proxy.stop().await;
    verified_journal(&world);
}

#[tokio::test]
async fn i2_a_wall_clock_that_jumps_neither_shuts_a_gate_nor_keeps_one_open() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let jump = world.scratch.write("clock", "+0\n");
    let proxy = world
        .proxy()
        .environment("LD_PRELOAD", &libfaketime().display().to_string())
        .environment("FAKETIME_TIMESTAMP_FILE", &jump.display().to_string())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .environment("DONT_FAKE_MONOTONIC", "1")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let shut = "signing_proxy_gate_transitions_total{signer_kid=\"ec\",from=\"open\",to=\"shut\"}";
    for (jumped, hours) in [("+3h", 3), ("-3h", -3), ("+0", 0), ("-3h", -3), ("+3h", 3)] {
        fs::write(&jump, format!("{jumped}\n")).unwrap();
        for _ in 0..20 {
            let answer = asked(&alice).await.unwrap();
            assert_eq!(answer.status, 200, "{jumped}: {answer:?}");
            let says =
                OffsetDateTime::parse(answer.body["ts"].as_str().unwrap(), &Rfc3339).unwrap();
            let off = says - OffsetDateTime::now_utc() - time::Duration::hours(hours);
            assert!(off.abs() < time::Duration::minutes(5), "{jumped}: it says {says}");
        }
        assert_eq!(proxy.metric(shut).await, None, "{jumped}: the gate shut");
    }
    // The gate's own clock is another: with the KMS gone the lease ends, whatever the wall says.
    key.break_with(system_tests::Fault::Hang);
    fs::write(&jump, "-3h\n").unwrap();
    proxy.unhealthy_for("upstream_unhealthy").await;
    key.mend();
    proxy.healthy().await;
    proxy.stop().await;
    verified_journal(&world);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_shuts_the_gate_and_opens_it_once_it_does() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let way = FaultProxy::start(world.kms.endpoint.trim_start_matches("http://"));
    let port = way.address.rsplit(':').next().unwrap();
    let builder = world
        .proxy()
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 300")
        .endpoint(&format!("http://localhost:{port}"))
        .signer("ec", &key)
        .caller(ALICE, &["ec"]);
    // In a mount namespace of its own the names are the test's.
    let hosts = world.scratch.write("hosts", "127.0.0.1 localhost\n");
    let nsswitch = world.scratch.write("nsswitch.conf", "hosts: files\n");
    let ours = builder.command();
    let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/nsswitch.conf && \
                  shift 2 && exec \"$@\"";
    let mut command = system("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&hosts).arg(&nsswitch);
    let proxy = builder.started(with(command, &ours)).await;
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    // In place: the mount shows this file and no other. What is connected needs no name, nor
    // what had looked it up already: cut until nothing is left.
    fs::write(&hosts, "127.0.0.1 elsewhere\n").unwrap();
    eventually("its gate shut", || async {
        way.set(NetworkFault::Refuse);
        way.set(NetworkFault::None);
        let health = proxy.health().await;
        (health.body["reason"] == "upstream_unhealthy").then_some(())
    })
    .await;
    let calls = key.calls(Operation::Sign);
    for _ in 0..20 {
        assert_eq!(asked(&alice).await.unwrap().reason(), "upstream_unhealthy");
    }
    assert_eq!(key.calls(Operation::Sign), calls, "it found the KMS without its name");
    assert!(!agreed(&proxy, "a name that does not resolve").await);
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    proxy.healthy().await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    assert!(agreed(&proxy, "a name that resolves again").await);
}

#[tokio::test]
async fn credentials_that_end_shut_the_gate_and_new_ones_open_it() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let credentials = world.scratch.path("credentials.json");
    let of = |seconds: i64| {
        let ends = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let ends = ends.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
        json!({"Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test",
               "SessionToken": "test", "Expiration": ends})
        .to_string()
    };
    // Renewed ten seconds before their end, and there are no others then.
    fs::write(&credentials, of(13)).unwrap();
    let profile = format!("[default]\ncredential_process = cat {}\n", credentials.display());
    let profile = world.scratch.write("aws.conf", profile);
    let proxy = world
        .proxy()
        .without_credentials()
        .environment("AWS_CONFIG_FILE", &profile.display().to_string())
        .environment("PATH", "/usr/bin:/bin")
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 300")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    fs::remove_file(&credentials).unwrap();
    let refused = eventually("credentials that ended", || async {
        let answer = asked(&alice).await.unwrap();
        (answer.status != 200).then_some(answer)
    })
    .await;
    println!("{refused:?}");
    eventually("unhealthy", || async { (proxy.health().await.status == 503).then_some(()) }).await;
    let calls = key.calls(Operation::Sign);
    for _ in 0..20 {
        assert_eq!(asked(&alice).await.unwrap().status, 503);
    }
    assert_eq!(key.calls(Operation::Sign), calls, "asked without credentials");
    assert!(!agreed(&proxy, "credentials that ended").await);
    fs::write(&credentials, of(3600)).unwrap();
    proxy.healthy().await;
    assert_eq!(asked(&alice).await.unwrap().status, 200);
    assert!(agreed(&proxy, "new credentials").await);
}

#[tokio::test]
async fn a_state_directory_that_can_not_be_written_refuses_the_start() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let ours = builder.command();
    let state = world.scratch.path("proxy/state");
    let script =
        "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let mut command = system("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&state);
    let mut process = Process::start(with(command, &ours));
    let status = process.ended().await;
    assert!(!status.success());
    let said = process.says("state").await;
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    // It did not: the same files without the mount.
    let proxy = builder.start().await;
    assert_eq!(asked(&proxy.client(ALICE).await).await.unwrap().status, 200);
}

#[tokio::test]
async fn i6_a_freeze_that_can_not_be_stored_is_in_force_and_stored_once_it_can_be() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    let alice = proxy.client(ALICE).await;
    let stored = world.scratch.path("proxy/state/freeze-and-seals.json");
    let aside = world.scratch.path("proxy/aside.json");
    block(&stored, &aside);
    let (code, said, errors) = proxy.signctl(&["freeze", "--reason", "INC-9"]);
    assert_eq!(code, 1, "{said}{errors}");
    assert_eq!(asked(&alice).await.unwrap().reason(), "frozen");
    fs::remove_dir_all(&stored).unwrap();
    eventually("the freeze on disk", || {
        let text = fs::read_to_string(&stored).unwrap_or_default();
        std::future::ready(text.contains("INC-9").then_some(()))
    })
    .await;
    drop(proxy); // kill -9
    let proxy = builder.start_shut().await;
    proxy.unhealthy_for("frozen").await;
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    proxy.healthy().await;
}

/// Puts a directory where the state's file is: nothing can be renamed onto it.
fn block(stored: &Path, aside: &Path) {
    fs::rename(stored, aside).unwrap();
    fs::create_dir_all(stored.join("full")).unwrap();
}

/// `wrapper`, around our command and its environment.
fn with(mut wrapper: Command, ours: &Command) -> Command {
    wrapper.arg(ours.get_program()).args(ours.get_args());
    wrapper.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    wrapper.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
    wrapper
}
