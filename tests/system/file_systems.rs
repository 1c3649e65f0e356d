//! Where a journal is kept: on a disk. Of every other file system both daemons say what becomes of a
//! journal there, and refuse those that forget or whose locks are another machine's.

use std::path::Path;
use std::process::{Command, Output};

use system_tests::World;
use system_tests::programs::system;

/// What is mounted at `$1`, or what the kernel says of every file system: its number as 8 bytes, the lowest first.
#[derive(Clone, Copy, Debug)]
enum On {
    Mounted(&'static str),
    Said(&'static str),
}

/// A file system, the words that name it and what is wrong with it, and whether only development may use it.
const ROWS: [(&str, On, &str, bool); 8] = [
    ("tmpfs", On::Mounted("-t tmpfs none"), "is on tmpfs, which is in memory", true),
    ("ramfs", On::Mounted("-t ramfs none"), "is on ramfs, which is in memory", true),
    ("NFS", On::Said("6969000000000000"), "is on NFS, which is on another machine: a lock", true),
    ("SMB", On::Said("424d53fe00000000"), "is on SMB, which is on another machine: a lock", true),
    ("9p", On::Said("9719020100000000"), "is on 9p, which is on another machine: a lock", true),
    (
        "overlayfs",
        On::Mounted(OVERLAY),
        "is on overlayfs: if that is the layer of a container",
        false,
    ),
    ("FUSE", On::Said("4655736500000000"), "is on FUSE: its locks and syncs", false),
    ("disk", On::Mounted("--bind \"$1\""), "", false),
];
const OVERLAY: &str =
    "-t overlay -o lowerdir=\"$1/lower\",upperdir=\"$1/upper\",workdir=\"$1/work\" overlay";

/// Runs `ours` where `place` is on that file system; what it said, and whether it ended well.
fn on(file_system: On, place: &Path, ours: &Command) -> (bool, String) {
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir_all(place.join(name)).unwrap();
    }
    let mut wrapper = match file_system {
        On::Mounted(mount) => {
            let script = format!("mount {mount} \"$1\" && shift && exec \"$@\"");
            let mut unshare = system("unshare");
            unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
            unshare.arg(place);
            unshare
        }
        On::Said(number) => {
            let mut strace = system("strace");
            let poked = format!("inject=statfs,fstatfs:poke_exit=@arg2={number}");
            strace.args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=statfs,fstatfs",
                "-e",
                &poked,
            ]);
            strace
        }
    };
    wrapper.arg(ours.get_program()).args(ours.get_args());
    wrapper.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    wrapper.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let Output { status, stdout, stderr } = wrapper.output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn a_journal_that_would_be_forgotten_or_not_locked_is_refused_by_both_daemons_with_the_reason() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).journal_in("../disk/journal");
    let signer = world.signer().min_outage_s(300).replaces("ec", &key);
    let place = world.scratch.path("disk");
    std::fs::create_dir_all(&place).unwrap();
    let proxy_config = proxy.write();
    let signer_config = signer.clone().production().write();
    // The emergency signer's journal lies beside the proxy's.
    let text = std::fs::read_to_string(&signer_config).unwrap();
    let text = text.replace("dir = \"journal\"", "dir = \"../disk/signer-journal\"");
    std::fs::write(&signer_config, text).unwrap();
    for (name, file_system, words, is_mistake) in ROWS {
        for (daemon, verb, is_signer) in [
            ("proxy", proxy.verb("check", &proxy_config), false),
            ("signer", signer.verb("check", &signer_config), true),
        ] {
            let (passed, said) = on(file_system, &place, &verb);
            let said_of_it =
                said.lines().find(|line| line.contains("audit.dir: ") && line.contains(" is on "));
            match (words, said_of_it) {
                ("", None) => {}
                ("", Some(line)) => panic!("{daemon} on {name}: {line}"),
                (words, line) => {
                    let line = line.unwrap_or_else(|| panic!("{daemon} on {name}: {said}"));
                    assert!(line.contains(words), "{daemon} on {name}: {line}");
                }
            }
            // The emergency signer has no journal yet to say more of; nothing else is wrong with the proxy.
            assert!(passed != is_mistake || is_signer, "{daemon} on {name}: {said}");
        }
        // What makes and what serves refuses too, before anything is made.
        let (made, said) = on(file_system, &place, &proxy.verb("init", &proxy_config));
        assert_eq!(made, !is_mistake, "init on {name}: {said}");
        let _ = std::fs::remove_dir_all(&place);
        let _ = std::fs::remove_dir_all(world.scratch.path("proxy/state"));
        let _ = proxy.write();
    }
    // Under development it is a note: what `dev` makes is thrown away.
    let verb = proxy.clone().environment("SIGNING_PROXY__DEPLOYMENT__ENVIRONMENT", "development");
    let (passed, said) = on(ROWS[0].1, &place, &verb.verb("check", &proxy_config));
    assert!(passed && said.contains("is on tmpfs"), "{said}");
}
