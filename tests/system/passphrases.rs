//! The passphrase of the emergency key on its way: the process that holds it is closed to others,
//! nobody but the signer is sent it, and a prompt that is left shows again what is typed.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use system_tests::programs::{ours, system};
use system_tests::{Scratch, eventually};

/// Nobody.
const STRANGER: u32 = 65_534;

/// A directory that everyone may enter, and a copy of `signctl` in it.
fn open_to_all() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let anyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scratch.dir(), anyone).unwrap();
    let copy = scratch.path("signctl");
    std::fs::copy(ours("signctl"), &copy).unwrap();
    (scratch, copy)
}

fn stranger(program: &Path) -> Command {
    let mut command = system("setpriv");
    let id = STRANGER.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ends(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn while_a_passphrase_is_awaited_there_is_no_core_dump_and_no_look_into_the_process() {
    let (_scratch, signctl) = open_to_all();
    let mut child = stranger(&signctl).args(["breakglass", "unlock"]).spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    eventually("a process that is closed", || {
        // What cannot be dumped belongs to root in /proc, whoever runs it.
        let is_copy = std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == signctl);
        let owner = std::fs::metadata(process.join("limits")).map(|limits| limits.uid());
        std::future::ready((is_copy && owner.is_ok_and(|uid| uid == 0)).then_some(()))
    })
    .await;
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    drop(child.stdin.take());
    assert!(!ends(child).0);
}

/// Listens at an argument as the user that is the other one, says so, and says how much it is sent.
const LISTENER: &str = "import os, signal, socket, sys
signal.alarm(60)
os.setuid(int(sys.argv[2]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print('listens', flush=True)
peer, _ = listener.accept()
print(len(peer.recv(4096)), flush=True)
";

/// What becomes of a passphrase that is brought to a socket of a stranger's, in a directory that
/// belongs to `owner`: what `signctl` said, and how many bytes came.
fn brought(owner: u32) -> (String, String) {
    use std::io::{BufRead as _, BufReader};
    let (scratch, signctl) = open_to_all();
    let directory = scratch.path("run");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    chown(&directory, Some(owner), None).unwrap();
    let socket = directory.join("operator.sock");
    let mut listener = system("python3");
    listener.args(["-c", LISTENER]).arg(&socket).arg(STRANGER.to_string());
    let mut listener = listener.stdout(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(listener.stdout.take().unwrap()).lines();
    assert_eq!(words.next().unwrap().unwrap(), "listens");
    let mut unlock = Command::new(signctl);
    unlock.args(["breakglass", "unlock", "--operator-socket"]).arg(&socket);
    unlock.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut unlock = unlock.spawn().unwrap();
    unlock.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let bytes = words.next().unwrap().unwrap();
    let said = ends(unlock).1;
    ends(listener);
    (said, bytes)
}

#[test]
fn a_passphrase_goes_to_root_or_the_owner_of_the_sockets_directory_and_to_nobody_else() {
    let (said, bytes) = brought(0);
    assert_eq!(bytes, "0", "{said}");
    assert!(said.contains("nothing was sent") && said.contains("listens uid 65534"), "{said}");
    let (said, bytes) = brought(STRANGER);
    assert_ne!(bytes, "0", "the signer runs as a user of its own: {said}");
}

/// Runs ARGUMENTS on a terminal of its own, waits for the prompt without echo, presses Ctrl-C, and
/// says whether the terminal echoed then and echoes after.
const TERMINAL: &str = "import os, pty, signal, sys, termios, time
signal.alarm(60)
# It may be ignored where the tests run.
signal.signal(signal.SIGINT, signal.SIG_DFL)
pid, terminal = pty.fork()
if pid == 0:
    # Held open by a parent, as a shell does.
    if os.fork() == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.wait()
    print('ended by', os.WTERMSIG(status), 'echo', bool(termios.tcgetattr(0)[3] & termios.ECHO), flush=True)
    sys.stdin.read()
    os._exit(0)
seen = b''
while b'Passphrase' not in seen:
    seen += os.read(terminal, 4096)
end = time.monotonic() + 20
while termios.tcgetattr(terminal)[3] & termios.ECHO:
    assert time.monotonic() < end, 'it echoes'
os.write(terminal, b'\\x03')
while b'echo ' not in seen or not seen.rstrip().endswith((b'True', b'False')):
    seen += os.read(terminal, 4096)
print(seen.decode())
";

#[test]
fn a_prompt_that_is_left_by_ctrl_c_leaves_a_terminal_that_shows_what_is_typed() {
    let mut python = system("python3");
    python.args(["-c", TERMINAL]).arg(ours("signctl")).args(["breakglass", "unlock"]);
    let output = python.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("ended by 2 echo True"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
