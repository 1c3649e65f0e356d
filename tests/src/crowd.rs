//! Those who connect and wait: strangers from many addresses, and local users at a unix socket.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::programs::system;

/// How often one of them opens a connection that was closed on it: 200 a second.
const REFILL_EVERY: Duration = Duration::from_millis(5);

/// Strangers who hold what they can until they are dropped.
#[derive(Debug)]
pub struct Strangers {
    _tasks: JoinSet<()>,
    opened: Arc<AtomicUsize>,
}

impl Strangers {
    /// `count` connections to `address`, from `sources` addresses of 127.0.0.0/8 in turn, which send
    /// `bytes` and nothing more.
    #[must_use]
    pub fn come(address: &str, count: usize, sources: usize, bytes: &[u8]) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let (opened, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        // One after the other, at most one in that time.
        let pace = Arc::new(tokio::sync::Mutex::new(tokio::time::interval(REFILL_EVERY)));
        for number in 0..count {
            let (opened, bytes, pace) = (Arc::clone(&opened), bytes.to_vec(), Arc::clone(&pace));
            let source = format!("127.0.0.{}:0", 1 + number % sources);
            tasks.spawn(async move {
                for again in 0_usize.. {
                    if again > 0 {
                        pace.lock().await.tick().await;
                    }
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(source.parse().unwrap()).unwrap();
                    let Ok(mut stream) = socket.connect(address).await else { continue };
                    opened.fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(&bytes).await.is_err() {
                        continue;
                    }
                    let mut read = [0; 4096];
                    while matches!(stream.read(&mut read).await, Ok(1..)) {}
                }
            });
        }
        Self { _tasks: tasks, opened }
    }

    /// How many connections they have opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// A process of a local user, which holds connections to a unix socket until it is dropped.
#[derive(Debug)]
pub struct LocalUser(Child);

/// Its arguments: the socket, how many connections, what it sends in hex, whether it comes again.
const HOLDS: &str = "
import select, socket, sys, time
path, count, data, again = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4]
def opened():
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    try:
        one.sendall(data)
    except OSError:
        pass
    return one
held = [opened() for _ in range(count)]
print('here', flush=True)
while True:
    for one in select.select(held, [], [])[0]:
        try:
            said = one.recv(4096)
        except OSError:
            said = b''
        if not said:
            held.remove(one)
            one.close()
            if again == 'again':
                held.append(opened())
                # A pause: of who connects again and again.
                time.sleep(0.005)
";

impl LocalUser {
    /// The user `uid` connects `count` times, sends `bytes` each time, and waits. Returns once all of
    /// them were opened.
    #[must_use]
    pub fn comes(socket: &Path, uid: u32, count: usize, bytes: &[u8]) -> Self {
        Self::start(socket, uid, count, bytes, "once")
    }

    /// The same; what is closed on it is opened anew, 200 a second.
    #[must_use]
    pub fn comes_again(socket: &Path, uid: u32, count: usize, bytes: &[u8]) -> Self {
        Self::start(socket, uid, count, bytes, "again")
    }

    fn start(socket: &Path, uid: u32, count: usize, bytes: &[u8], again: &str) -> Self {
        let mut python = system("setpriv");
        let id = uid.to_string();
        python.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            HOLDS,
        ]);
        python.arg(socket).args([&count.to_string(), &hex::encode(bytes), again]);
        let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said.trim(), "here", "uid {uid} at {}", socket.display());
        Self(child)
    }
}

impl Drop for LocalUser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
