//! A TCP proxy that makes trouble, switchable while it runs: between our proxy and its
//! KMS, or between a client and our proxy. It has a thread and a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::wait::eventually;

/// What happens to connections; what comes back from the target is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// Nothing: every byte passes.
    None,
    /// Every piece of an answer comes later by this.
    Delay(Duration),
    /// Answers come byte by byte, one in this time.
    Drip(Duration),
    /// Both ends are closed after so many bytes of an answer.
    Truncate(usize),
    /// Both ends are reset after so many bytes of an answer.
    Reset(usize),
    /// So many pieces of answers pass from here on in each connection; both ends are reset in place of the next.
    Lose(usize),
    /// Connections are made, and nothing passes in either direction.
    BlackHole,
    /// Nobody listens, and what was connected is reset.
    Refuse,
    /// No connection is ever made, as where packets are dropped; what was connected is reset.
    NoConnect,
}

/// A running fault proxy.
#[derive(Debug)]
pub struct FaultProxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    hits: Arc<AtomicU64>,
    /// A dropped sender ends its thread.
    commands: mpsc::Sender<(NetworkFault, SyncSender<()>)>,
}

impl FaultProxy {
    /// Starts one in front of `target`, an address and port.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let (commands, received) = mpsc::channel(1);
        let (started, has_started) = sync_channel(1);
        let hits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&hits);
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // Bound for as long as it lives: nobody else is given the port while it does
                // not listen.
                // Alone at first: of two that may share a port the kernel gives the same one to both.
                let keeper = TcpSocket::new_v4().unwrap();
                keeper.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                keeper.set_reuseaddr(true).unwrap();
                let address = keeper.local_addr().unwrap();
                let listener = listen(address, 1024).await;
                started.send(address).unwrap();
                Serving { address, target, hits: counted }.run(listener, received).await;
                drop(keeper);
            });
        };
        std::thread::Builder::new().name("fault-proxy".into()).spawn(body).unwrap();
        let address = has_started.recv().unwrap().to_string();
        Self { address, hits, commands }
    }

    /// Makes this trouble from now on, also to what is connected already.
    pub fn set(&self, trouble: NetworkFault) {
        let (done, is_done) = sync_channel(1);
        self.commands.try_send((trouble, done)).unwrap();
        is_done.recv_timeout(Duration::from_secs(90)).unwrap();
    }

    /// How often trouble was made: pieces of answers delayed or dripped, connections cut or
    /// held up. Connections that were not made cannot be counted.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

struct Serving {
    address: SocketAddr,
    target: SocketAddr,
    hits: Arc<AtomicU64>,
}

impl Serving {
    async fn run(
        self,
        listener: TcpListener,
        mut commands: mpsc::Receiver<(NetworkFault, SyncSender<()>)>,
    ) {
        let (trouble, watched) = watch::channel(NetworkFault::None);
        let mut listener = Some(listener);
        // Connections that nobody accepts: the kernel drops what comes after them.
        let mut filling = Vec::new();
        loop {
            let accepts = *trouble.borrow() != NetworkFault::NoConnect;
            let accepting = async {
                match &listener {
                    Some(listener) if accepts => listener.accept().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = accepting => {
                    if let Ok((client, _)) = accepted {
                        let passing = Passing { hits: Arc::clone(&self.hits), trouble: watched.clone() };
                        tokio::spawn(passing.run(client, self.target));
                    }
                }
                command = commands.recv() => {
                    let Some((next, done)) = command else { return };
                    filling.clear();
                    let before = trouble.send_replace(next);
                    let listens = |trouble| !matches!(trouble, NetworkFault::Refuse | NetworkFault::NoConnect);
                    if before != next && !(listens(before) && listens(next)) {
                        // Two cannot listen on it.
                        drop(listener.take());
                        listener = match next {
                            NetworkFault::Refuse => None,
                            NetworkFault::NoConnect => Some(listen(self.address, 0).await),
                            _ => Some(listen(self.address, 1024).await),
                        };
                    }
                    if next == NetworkFault::NoConnect {
                        filling = fill(self.address).await;
                    }
                    done.send(()).unwrap();
                }
            }
        }
    }
}

/// Listens there. Others that are bound there and do not listen are no obstacle. A connection out of another test that
/// was given this port is one, for as long as it lasts.
async fn listen(address: SocketAddr, backlog: u32) -> TcpListener {
    eventually("the fault proxy listens again", || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        std::future::ready(socket.bind(address).and_then(|()| socket.listen(backlog)).ok())
    })
    .await
}

/// Connects until no connection is made any more.
async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut filling = Vec::new();
    for _ in 0..16 {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(100), connecting).await {
            Ok(Ok(stream)) => filling.push(stream),
            Ok(Err(_)) | Err(_) => return filling,
        }
    }
    panic!("the kernel makes connections that nobody accepts without end");
}

/// One connection, both ends.
struct Passing {
    hits: Arc<AtomicU64>,
    trouble: watch::Receiver<NetworkFault>,
}

impl Passing {
    async fn run(self, client: TcpStream, target: SocketAddr) {
        let Ok(server) = TcpStream::connect(target).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, mut to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let mut trouble = self.trouble.clone();
        tokio::select! {
            () = self.asks(from_client, &mut to_server) => {}
            () = self.answers(from_server, &mut to_client) => {}
            _ = trouble.wait_for(|now| matches!(now, NetworkFault::Refuse | NetworkFault::NoConnect)) => {
                self.hit();
                reset(&to_client, &to_server);
            }
        }
    }

    async fn asks(&self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            self.out_of_the_hole().await;
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut buffer = vec![0; 16 << 10];
        // Pieces that passed since there is this trouble.
        let mut pieces = (NetworkFault::None, 0);
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            self.out_of_the_hole().await;
            let trouble = *self.trouble.borrow();
            pieces = (trouble, if pieces.0 == trouble { pieces.1 + 1 } else { 1 });
            let bytes = &buffer[..count];
            let passed = match trouble {
                NetworkFault::None
                | NetworkFault::BlackHole
                | NetworkFault::Refuse
                | NetworkFault::NoConnect => to.write_all(bytes).await,
                NetworkFault::Delay(delay) => {
                    self.hit();
                    // A pause: this network is slow on purpose.
                    tokio::time::sleep(delay).await;
                    to.write_all(bytes).await
                }
                NetworkFault::Drip(pace) => {
                    self.hit();
                    drip(bytes, pace, to).await
                }
                NetworkFault::Lose(after) if pieces.1 <= after => to.write_all(bytes).await,
                NetworkFault::Lose(_) => {
                    self.hit();
                    reset(to, from.as_ref());
                    return;
                }
                NetworkFault::Truncate(after) => {
                    self.hit();
                    let _ = to.write_all(&bytes[..after.min(count)]).await;
                    return;
                }
                NetworkFault::Reset(after) => {
                    self.hit();
                    let _ = to.write_all(&bytes[..after.min(count)]).await;
                    reset(to, from.as_ref());
                    return;
                }
            };
            if passed.is_err() {
                return;
            }
        }
    }

    /// Waits while nothing passes.
    async fn out_of_the_hole(&self) {
        let mut trouble = self.trouble.clone();
        if *trouble.borrow() == NetworkFault::BlackHole {
            self.hit();
            // Ended by the end of the proxy, too.
            let _ = trouble.wait_for(|now| *now != NetworkFault::BlackHole).await;
        }
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::SeqCst);
    }
}

async fn drip(bytes: &[u8], pace: Duration, to: &mut OwnedWriteHalf) -> std::io::Result<()> {
    for byte in bytes {
        to.write_all(std::slice::from_ref(byte)).await?;
        // A pause: this network is slow on purpose.
        tokio::time::sleep(pace).await;
    }
    Ok(())
}

/// Both ends see a reset once they are dropped.
fn reset(one: impl AsRef<TcpStream>, other: impl AsRef<TcpStream>) {
    // On a connection that has ended already there is nothing to reset.
    let _ = (one.as_ref().set_zero_linger(), other.as_ref().set_zero_linger());
}
