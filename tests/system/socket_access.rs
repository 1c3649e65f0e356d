//! Who is allowed and cannot connect: what `check` says is what connecting shows.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use system_tests::programs::system;
use system_tests::{World, eventually};

/// A user of the machine that `check` runs on: name, user id, primary group, and whether `ops` lists it.
type User = (&'static str, u32, u32, bool);

const USERS: [User; 4] = [
    ("owner", 7000, 7000, false),
    ("listed", 7001, 7001, true),
    ("primary", 7002, OPS, false),
    ("stranger", 7003, 7003, false),
];
const OPS: u32 = 7100;

const CONNECT: &str = "import socket, sys\n\
                       try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n\
                       except PermissionError: sys.exit(7)\n";

/// `command` on a machine with these users and groups besides root.
fn on_that_machine(world: &World, command: &Command) -> Command {
    let users = USERS.map(|(name, uid, gid, _)| format!("{name}:x:{uid}:{gid}::/:/bin/sh\n"));
    let listed: Vec<_> = USERS.iter().filter(|(.., is)| *is).map(|(name, ..)| *name).collect();
    let passwd = format!("root:x:0:0::/root:/bin/sh\n{}", users.concat());
    let group = format!("root:x:0:\nops:x:{OPS}:{}\nothers:x:7001:\n", listed.join(","));
    let mut unshare = system("unshare");
    unshare.args(["--mount", "sh", "-ec"]);
    unshare
        .arg("mount --bind \"$0\" /etc/passwd\nmount --bind \"$1\" /etc/group\nshift\nexec \"$@\"");
    unshare.args([world.scratch.write("passwd", passwd), world.scratch.write("group", group)]);
    unshare.arg(command.get_program()).args(command.get_args());
    unshare
}

/// The notes of `check` there about who cannot connect.
fn notes(world: &World, config: &Path) -> Vec<String> {
    let mut check = world.proxy().verb("check", config);
    check.arg("--json");
    let output = on_that_machine(world, &check).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    let notes: Vec<String> = serde_json::from_value(found["notes"].clone()).unwrap();
    notes.into_iter().filter(|note| note.starts_with("admin.allowed_")).collect()
}

/// `command` as that user, with the groups that it gets at a login.
fn as_user((_, uid, gid, is_listed): User) -> Command {
    let mut setpriv = system("setpriv");
    setpriv.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
    match is_listed {
        true => setpriv.arg(format!("--groups={OPS}")),
        false => setpriv.arg("--clear-groups"),
    };
    setpriv
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn allow(config: &Path, lines: &str) {
    let text = fs::read_to_string(config).unwrap();
    let (before, rest) = text.split_once("[admin]\n").unwrap();
    let (_, after) = rest.split_once("[state]").unwrap();
    fs::write(
        config,
        format!("{before}[admin]\nsocket = \"run/admin.sock\"\n{lines}\n[state]{after}"),
    )
    .unwrap();
}

#[tokio::test]
async fn whom_check_says_to_be_kept_out_cannot_connect_and_everybody_else_can() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let config = builder.write();
    let directory = config.with_file_name("run");
    fs::create_dir(&directory).unwrap();
    allow(&config, "allowed_uids = [0, 7000, 7001, 7002, 7003]");
    assert!(builder.verb("init", &config).output().unwrap().status.success());
    let command = builder.verb("serve", &config);
    let proxy = builder.started(command).await;
    let socket = directory.join("admin.sock");
    for path in [&directory, &socket] {
        chown(path, Some(7000), Some(OPS)).unwrap();
    }
    for (of_directory, of_socket) in [
        (0o755, 0o660),
        (0o750, 0o660),
        (0o700, 0o660),
        (0o711, 0o606),
        (0o755, 0o060),
        (0o755, 0o600),
        (0o050, 0o666),
    ] {
        chmod(&directory, of_directory);
        chmod(&socket, of_socket);
        let notes = notes(&world, &config);
        for user in USERS {
            let mut connect = as_user(user);
            connect.args(["/usr/bin/python3", "-c", CONNECT]).arg(&socket);
            let connects = connect.status().unwrap().code();
            let note = notes.iter().find(|note| note.contains(&format!(" ({}) ", user.0)));
            let expected = if note.is_some() { Some(7) } else { Some(0) };
            assert_eq!(connects, expected, "{user:?} {of_directory:o} {of_socket:o}: {notes:#?}");
        }
        assert!(!notes.iter().any(|note| note.contains("(root) cannot")), "{notes:#?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn before_the_socket_is_there_check_says_what_keeps_out_and_what_to_do() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let directory = config.with_file_name("run");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(7000), Some(OPS)).unwrap();
    for (mode, allowed, expected) in [
        (0o755, "allowed_uids = [0, 7000, 7001, 7002]", &[][..]),
        (
            0o755,
            "allowed_uids = [7003]",
            &[
                "uid 7003 (stranger) cannot",
                "group 7100 (ops), mode 0660",
                "usermod -aG ops stranger",
            ],
        ),
        (
            0o750,
            "allowed_uids = [7003]",
            &["may not enter", "mode 0750", "usermod -aG ops stranger"],
        ),
        (0o700, "allowed_uids = [7001]", &["uid 7001 (listed) cannot", "mode 0700", "chmod g+x "]),
        (0o700, "allowed_uids = [7003]", &["uid 7003 (stranger) cannot", "chmod o+x "]),
        (
            0o755,
            "allowed_uids = [4711]",
            &["uid 4711 (no name)", "correct the number", "--group-add 7100"],
        ),
        (0o755, "allowed_uids = [0]\nallowed_gids = [7100]", &[]),
        (
            0o755,
            "allowed_uids = [0]\nallowed_gids = [7001]",
            &[
                "whose primary group is 7001 (others)",
                "the group 7100 (ops)",
                "chgrp 7001 ",
                "chmod g+xs ",
            ],
        ),
    ] {
        allow(&config, allowed);
        chmod(&directory, mode);
        let notes = notes(&world, &config);
        assert_eq!(notes.len(), usize::from(!expected.is_empty()), "{allowed}: {notes:#?}");
        for words in expected {
            assert!(notes[0].contains(words), "{allowed}: {words}: {notes:#?}");
        }
    }
}

#[tokio::test]
async fn a_service_has_the_groups_of_its_unit_which_only_its_processes_show() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let directory = config.with_file_name("run");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(7000), Some(OPS)).unwrap();
    allow(&config, "allowed_uids = [7009]");
    assert_eq!(notes(&world, &config).len(), 1);
    let mut service = as_user(("service", 7009, 7009, true))
        .args(["sleep", "600"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its groups are seen", || async { notes(&world, &config).is_empty().then_some(()) })
        .await;
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!(notes(&world, &config).len(), 1);
}
