//! TLS in front of a server without it, with a certificate that can be replaced while it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::pki::Certificate;

/// A running front. It has a thread and a runtime of its own, and ends with the process.
#[derive(Debug)]
pub struct TlsFront {
    /// Its port on loopback.
    pub port: u16,
    shown: watch::Sender<Arc<ServerConfig>>,
}

impl TlsFront {
    /// Starts one in front of `target`, an address and port, which shows that certificate.
    #[must_use]
    pub fn start(target: &str, certificate: &Certificate) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (shown, watched) = watch::channel(config(certificate));
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, target, watched));
        };
        std::thread::Builder::new().name("tls-front".into()).spawn(body).unwrap();
        Self { port, shown }
    }

    /// Shows that certificate from now on. Whoever is connected has to connect again.
    pub fn show(&self, certificate: &Certificate) {
        self.shown.send_replace(config(certificate));
    }
}

async fn serve(
    listener: std::net::TcpListener,
    target: SocketAddr,
    watched: watch::Receiver<Arc<ServerConfig>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(pass(client, target, watched.clone()));
    }
}

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    mut watched: watch::Receiver<Arc<ServerConfig>>,
) {
    let config = Arc::clone(&watched.borrow_and_update());
    let passing = async {
        let mut client = TlsAcceptor::from(config).accept(client).await?;
        let mut server = TcpStream::connect(target).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        // However it ends, it has ended.
        _ = passing => {}
        _ = watched.changed() => {}
    }
}

fn config(certificate: &Certificate) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.certificate_pem.as_bytes());
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}
