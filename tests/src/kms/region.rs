//! A region of the KMS for tests: how it is reached, and how it is cut off.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Kms;
use super::clients::Clients;
use super::cut::Cut;

impl Kms {
    /// Starts one on loopback, in the region `eu-test-1`. It ends with the process.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in("eu-test-1")
    }

    /// Starts one for another region.
    #[must_use]
    pub fn start_in(region: &'static str) -> Self {
        // Where a machine has IPv6 only, on that.
        let loopback = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap());
        let listener = std::net::TcpListener::bind(&loopback[..]).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (reachable, told) = watch::channel(true);
        let (done, settled) = watch::channel(true);
        let endpoint = format!("http://{address}");
        let clients = Clients::default();
        let (keys, date) = (Arc::default(), Arc::default());
        let kms = Self { endpoint, region, keys, clients, date, reachable, settled };
        let serving = kms.clone();
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serving.serve(listener, told, done));
        };
        std::thread::Builder::new().name("kms".into()).spawn(body).unwrap();
        kms
    }

    /// Cuts the region off: its connections end, and no new ones are accepted.
    pub async fn cut(&self) {
        self.tell(false).await;
    }

    /// Ends that.
    pub async fn reconnect(&self) {
        self.tell(true).await;
    }

    async fn tell(&self, reachable: bool) {
        self.reachable.send_replace(reachable);
        self.settled.clone().wait_for(|settled| *settled == reachable).await.unwrap();
    }

    async fn serve(
        self,
        listener: std::net::TcpListener,
        mut told: watch::Receiver<bool>,
        done: watch::Sender<bool>,
    ) {
        let address = listener.local_addr().unwrap();
        let mut listener = TcpListener::from_std(listener).unwrap();
        loop {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let _ = stream.set_nodelay(true);
                        connections.spawn(self.clone().connection(stream));
                    }
                    _ = connections.join_next(), if !connections.is_empty() => {}
                    _ = told.wait_for(|reachable| !reachable) => break,
                }
            }
            drop(listener);
            connections.shutdown().await;
            done.send_replace(false);
            told.wait_for(|reachable| *reachable).await.unwrap();
            listener = TcpListener::bind(address).await.unwrap();
            done.send_replace(true);
        }
    }

    async fn connection(self, stream: tokio::net::TcpStream) {
        let service = service_fn(move |request| {
            let kms = self.clone();
            async move { kms.answered(request).await }
        });
        // A reset is an error of the service: hyper closes the connection.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(Cut(stream)), service).await;
    }
}
