//! `audit.reader_group`: one group reads both journals, and nobody else does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use system_tests::journal::segments;
use system_tests::programs::{ours, system};
use system_tests::{Kind, Scratch, World};

use crate::ALICE;

/// Nobody's on this machine.
const READERS: u32 = 64_999;
const STRANGERS: u32 = 64_998;

/// Whether somebody of that group, and of no other right, can verify the journal; what was said.
fn reads(journal: &Path, group: u32) -> (bool, String) {
    let mut signctl = system("setpriv");
    signctl.args(["--reuid=64997", &format!("--regid={group}"), "--clear-groups"]);
    signctl.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(ours("signctl"));
    let output = signctl.args(["audit", "verify", "--journal"]).arg(journal).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Lets everybody through the directories above the journal, but into none of its files.
fn open_the_way(scratch: &Scratch, journal: &Path) {
    for above in journal.ancestors().skip(1).take_while(|path| path.starts_with(scratch.dir())) {
        fs::set_permissions(above, Permissions::from_mode(0o711)).unwrap();
    }
}

#[test]
fn the_group_reads_a_journal_that_nobody_has_served_yet() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let group = READERS.to_string();
    let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
    let proxy = proxy.environment("SIGNING_PROXY__AUDIT__READER_GROUP", &group);
    let signer = world.signer().replaces("payments", &key);
    let signer = signer.environment("BREAKGLASS_SIGNER__AUDIT__READER_GROUP", &group);
    for journal in [proxy.journal(), signer.journal()] {
        assert!(!journal.exists());
    }
    // The commands that would serve them make the journals, and are not run.
    let _ = (proxy.command(), signer.command());
    for journal in [proxy.journal(), signer.journal()] {
        open_the_way(&world.scratch, &journal);
        let (read, said) = reads(&journal, READERS);
        assert!(read, "{}: {said}", journal.display());
        let (read, said) = reads(&journal, STRANGERS);
        assert!(!read, "{}: {said}", journal.display());
    }
}

#[tokio::test]
async fn a_group_of_readers_reads_what_was_written_before_and_after_and_nobody_else_does() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let signer = world.signer().replaces("payments", &key);
    let group = READERS.to_string();
    let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
    let proxy = proxy.segment_bytes(1 << 20);
    let journals: [PathBuf; 2] = [world.scratch.path("proxy/journal"), signer.journal()];

    // Begun without readers.
    let before = [proxy.clone().start().await];
    let signers = signer.clone().start().await;
    for journal in &journals {
        open_the_way(&world.scratch, journal);
        let (read, said) = reads(journal, READERS);
        assert!(!read && said.contains("ermission denied"), "{}: {said}", journal.display());
    }
    drop(signers);
    for proxy in before {
        proxy.stop().await;
    }

    let proxy = proxy.environment("SIGNING_PROXY__AUDIT__READER_GROUP", &group).start().await;
    let signer = signer.environment("BREAKGLASS_SIGNER__AUDIT__READER_GROUP", &group).start().await;
    let alice = proxy.client(ALICE).await;
    while segments(&journals[0]).len() < 3 {
        assert_eq!(alice.sign_message("payments", b"hello").await.status, 200);
    }
    for journal in &journals {
        let (read, said) = reads(journal, READERS);
        assert!(read, "{}: {said}", journal.display());
        let (read, said) = reads(journal, STRANGERS);
        assert!(!read, "{}: {said}", journal.display());
        assert_eq!(fs::metadata(journal).unwrap().permissions().mode() & 0o7777, 0o2750);
        // What an idle writer states beside its segments, too.
        for file in fs::read_dir(journal).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o640, "{}", file.path().display());
        }
    }
    drop(signer);
    proxy.stop().await;
}
