//! The end of a process takes nothing down under its own threads. At an orderly exit C libraries run what they have
//! registered, while a thread that waits for a far side still runs: AWS-LC then aborted the proxy, which had stopped
//! in order. Here a library that would abort is loaded into each program.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use system_tests::breakglass::succeeds;
use system_tests::programs::{ours, system};
use system_tests::{Process, Scratch, World};

use crate::ALICE;
use crate::breakglass::Site;

/// Aborts whoever runs what libraries do at an orderly exit.
fn library(scratch: &Scratch) -> PathBuf {
    let source = scratch.write(
        "aborts.c",
        "#include <stdlib.h>\n__attribute__((destructor)) static void ends(void) { abort(); }\n",
    );
    let library = scratch.path("aborts.so");
    succeeds(system("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source));
    library
}

#[tokio::test]
async fn no_program_runs_at_its_end_what_libraries_registered() {
    let scratch = Scratch::new();
    let aborts = library(&scratch).display().to_string();
    // It does what it is here for.
    let status = system("sleep").arg("0").env("LD_PRELOAD", &aborts).status().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status}");

    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).environment("LD_PRELOAD", &aborts).start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    for (arguments, expected) in [
        (&["status"][..], 0),
        (&["freeze", "--reason", "a test"], 0),
        (&["unseal", "ec", "--reason", "a test"], 1),
    ] {
        let mut signctl = std::process::Command::new(ours("signctl"));
        signctl.arg("--socket").arg(&proxy.socket).args(arguments).env("LD_PRELOAD", &aborts);
        let output = signctl.output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {output:?}");
    }
    let mut tail = std::process::Command::new(ours("signctl"));
    tail.args(["audit", "tail", "--follow", "--journal"]).arg(world.scratch.path("proxy/journal"));
    tail.env("LD_PRELOAD", &aborts);
    let mut tail = Process::start(tail);
    tail.says("freeze").await;
    tail.signal(Signal::SIGTERM);
    assert_eq!(tail.ended().await.code(), Some(0), "{}", tail.output());
    proxy.stop().await;

    let site = Site::new();
    site.signer().environment("LD_PRELOAD", &aborts).start().await.stop().await;

    let file = scratch.write("signing-trail.toml", "x = 1\n");
    let mut check = std::process::Command::new(ours("signing-trail"));
    check.arg("check").arg("--config").arg(file).env("LD_PRELOAD", &aborts);
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn a_stop_succeeds_while_spans_are_on_their_way() {
    let world = World::new();
    let key = world.kms.key(system_tests::Kind::P256);
    // Nobody listens there.
    let traces = "[traces]\nendpoint = \"http://127.0.0.1:1/v1/traces\"";
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).tables(traces);
    for _ in 0..8 {
        let proxy = builder.clone().start().await;
        assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
        proxy.stop().await;
    }
}
