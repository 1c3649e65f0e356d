//! An HTTP proxy for tests: takes CONNECT alone, and leads every host to one place, so that a name
//! that nobody resolves is reached through it and not without it. Behind it TLS is ended.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pki::{Pki, Profile};

/// A running proxy. It ends with the process.
#[derive(Clone, Debug)]
pub struct ConnectProxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
    refuses: Arc<Mutex<Option<u16>>>,
}

impl ConnectProxy {
    /// Starts one behind which `target` answers by TLS as the host `name`; it wants
    /// `authorization` in its header of that kind, if there is some.
    #[must_use]
    pub fn start(pki: &Pki, name: &str, target: &str, authorization: Option<&str>) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxy = Self { address, asked: Arc::default(), refuses: Arc::default() };
        let tls = acceptor(pki, name);
        let (serving, authorization) = (proxy.clone(), authorization.map(str::to_owned));
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let (proxy, tls, wanted) =
                        (serving.clone(), tls.clone(), authorization.clone());
                    tokio::spawn(
                        async move { proxy.connection(stream, target, tls, wanted).await },
                    );
                }
            });
        };
        std::thread::Builder::new().name("connect-proxy".into()).spawn(body).unwrap();
        proxy
    }

    /// Which hosts and ports it was asked for, refused or not.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Answers CONNECT with that status from now on; None: leads on.
    pub fn refuses(&self, status: Option<u16>) {
        *self.refuses.lock().unwrap() = status;
    }

    async fn connection(
        &self,
        mut stream: TcpStream,
        target: SocketAddr,
        tls: TlsAcceptor,
        wanted: Option<String>,
    ) -> Option<()> {
        let head = head(&mut stream).await?;
        let line = head.lines().next()?;
        let asked = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
        self.asked.lock().unwrap().push(asked.unwrap_or(line).to_owned());
        let given = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
        });
        let refuses = *self.refuses.lock().unwrap();
        let status = match refuses {
            Some(status) => status,
            None if wanted.is_some() && given != wanted => 407,
            None if asked.is_none() => 405,
            None => 200,
        };
        stream.write_all(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes()).await.ok()?;
        if status != 200 {
            return None;
        }
        let encrypted = tls.accept(stream).await.ok()?;
        let target = TcpStream::connect(target).await.ok()?;
        pass(encrypted, target).await
    }
}

async fn pass(mut one: impl AsyncRead + AsyncWrite + Unpin, mut other: TcpStream) -> Option<()> {
    tokio::io::copy_bidirectional(&mut one, &mut other).await.ok().map(|_| ())
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn acceptor(pki: &Pki, name: &str) -> TlsAcceptor {
    let profile = Profile { dns_names: vec![name.to_owned()], ..Profile::server() };
    let certificate = pki.issue(&profile);
    let chain = CertificateDer::pem_slice_iter(certificate.certificate_pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
